//! Whatever a server says in any test, held against the schema of its frames: a field that is not described is a fault.

use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

#[path = "../../records/strict.rs"]
mod strict;

const FRAMES: &str = include_str!("../../../schemas/frames/server.v1.json");
const NOTIFICATIONS: &str = include_str!("../../../schemas/records/notification.v1.json");
/// What a notification that was carried over refers to.
const RETRIES: &str = include_str!("../../../schemas/records/retry.v1.json");

static SERVER: LazyLock<Validator> = LazyLock::new(|| {
    let strict = |text: &str| strict::strict(&serde_json::from_str(text).unwrap());
    let registry = Registry::new().add("tidings:///frames/server.v1.json", strict(FRAMES)).unwrap();
    let registry = registry.add("tidings:///records/notification.v1.json", strict(NOTIFICATIONS)).unwrap();
    let registry = registry.add("tidings:///records/retry.v1.json", strict(RETRIES)).unwrap().prepare().unwrap();
    let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "tidings:///frames/server.v1.json"});
    jsonschema::options().should_validate_formats(true).with_registry(&registry).build(&schema).unwrap()
});

/// The frame in a text of the server.
pub(crate) fn of_server(text: &[u8]) -> Value {
    let frame = serde_json::from_slice(text).unwrap();
    let faults = SERVER.iter_errors(&frame).map(|fault| format!("{}: {fault}", fault.instance_path())).collect::<Vec<_>>();
    assert!(
        faults.is_empty(),
        "the server says what schemas/frames/server.v1.json does not take: {}\n{frame}",
        faults.join("\n")
    );
    frame
}
