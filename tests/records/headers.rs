//! The context headers of `retry.<delay>`, `undelivered` and `dlq`: a promise to tools, though no reader of ours trusts them. The value
//! of `dlq` is somebody else's, so these are all of that topic that a schema can hold.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::Header;
use tidings_core::record::context::{Blamed, CONTEXT_VERSION, Context, Failure, Original};
use tidings_core::record::dead_letter::{DeadLetter, Extent};
use tidings_core::record::retry::{Delivery, Outcome};
use tidings_core::record::trace::TraceContext;
use tidings_core::time::Timestamp;

use crate::any;
use crate::kinds::{files, json, top};
use crate::schema::{fits, named};
use crate::strict::strict;

/// What schema and golden files are called.
pub(crate) const NAME: &str = "headers";

/// What tools see: of several of a name the last.
fn seen(headers: Vec<Header>) -> Map<String, Value> {
    let text = |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned().into();
    headers.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn delivery(file: &str) -> Delivery {
    serde_json::from_value(json(&top().join("tests/golden").join(file))).unwrap()
}

/// The headers of a record of each kind, by the name of its golden file.
fn written_today() -> Vec<(&'static str, Map<String, Value>)> {
    let node: NodeId = "node-a".parse().unwrap();
    let trace =
        TraceContext::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(b"congo=t61rcWkgMzE")).unwrap();
    let (at, tried) = (("tidings.notifications", 2), delivery("retry/v1/appended_at.json"));
    let waits = tried.context(at, Outcome::Unacknowledged, Some(&trace), &node).headers();
    let not_tried = delivery("retry/v1/not_tried.json");
    let ended = not_tried.context(at, Outcome::Offline, None, &node).headers();
    let original = Original {
        topic: "payments",
        partition: 2,
        offset: 17,
        timestamp: Some(Timestamp::from_millis(1_769_860_800_250)),
        key: Some(b"p-1"),
    };
    let (cause, message) = (Cause::Poison, "the value is not JSON");
    let failure = Failure { stage: "decode", cause, class: "not_json", message, rule: None };
    let context = Context { original, failure, attempt: None, trace: Some(&trace), node: &node };
    let dead = DeadLetter { context, value: Some(b"not json"), headers: 1 };
    let blamed = Blamed { rule: "payment-due".into(), line: "rules/payment.toml:7".into() };
    let message = "rule `payment-due`, field `message`: `dueDate` is undefined, line 1 of the template";
    let failure = Failure { stage: "render", cause, class: "template_undefined", message, rule: Some(&blamed) };
    let unrendered = DeadLetter { context: Context { failure, ..context }, ..dead };
    vec![
        ("retry", seen(waits)),
        ("undelivered", seen(ended)),
        ("dlq", seen(dead.record(Extent::Whole).headers)),
        ("dlq_rule", seen(unrendered.record(Extent::Whole).headers)),
        ("dlq_stub", seen(dead.record(Extent::Stub).headers)),
    ]
}

#[test]
fn every_released_header_is_written_as_it_was() {
    let golden = files(&format!("tests/golden/{NAME}/v{CONTEXT_VERSION}"));
    let written = written_today();
    assert_eq!(golden.len(), written.len());
    for (name, headers) in written {
        let file =
            golden.iter().find(|file| file.file_stem().unwrap() == name).unwrap_or_else(|| panic!("no golden file of {name}"));
        for (header, content) in json(file).as_object().unwrap() {
            assert_eq!(headers.get(header), Some(content), "{name}: {header}");
        }
    }
}

#[test]
fn golden_headers_fit_their_schema_which_names_every_one() {
    for version in 1..=CONTEXT_VERSION {
        for file in files(&format!("tests/golden/{NAME}/v{version}")) {
            fits(&named(NAME, version, strict), &file.display().to_string(), &json(&file));
        }
    }
}

#[test]
fn every_header_that_is_always_there_is_required_by_the_schema() {
    let validator = named(NAME, CONTEXT_VERSION, Value::clone);
    for (name, headers) in written_today() {
        let always = |header: &str| written_today().iter().all(|(_, headers)| headers.contains_key(header));
        for header in headers.keys().filter(|header| always(header)) {
            let mut less = headers.clone();
            less.remove(header);
            let optional = ["tidings-original-timestamp", "tidings-original-key"].contains(&header.as_str());
            assert_eq!(validator.is_valid(&less.into()), optional, "{name} without {header}");
        }
    }
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![Just(Cause::Poison), Just(Cause::Dependency), Just(Cause::Recipient), Just(Cause::Refused), Just(Cause::Bug)]
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![Just(Extent::Whole), Just(Extent::Stub), Just(Extent::Bare)]
}

fn key_and_value() -> impl Strategy<Value = (Option<Vec<u8>>, Option<Vec<u8>>)> {
    let bytes = || option::of(vec(any::<u8>(), 0..9));
    (bytes(), bytes())
}

#[test]
fn whatever_is_said_of_a_dead_letter_fits_the_schema() {
    let validator = named(NAME, CONTEXT_VERSION, strict);
    let node = "node-a".parse().unwrap();
    let place = (".{1,10}", 0..i32::MAX, 0..i64::MAX, option::of(any::<i64>()));
    let said = (cause(), ".{0,20}", option::of(any::<u32>()));
    let blamed = option::of((".{1,9}", ".{1,9}:[0-9]").prop_map(|(rule, line)| Blamed { rule, line }));
    proptest!(|(
        (topic, partition, offset, millis) in place,
        ((key, value), headers, extent) in (key_and_value(), 0..2_usize, extent()),
        (cause, message, attempt) in said,
        blamed in blamed,
    )| {
        let timestamp = millis.map(Timestamp::from_millis);
        let original = Original { topic: &topic, partition, offset, timestamp, key: key.as_deref() };
        let failure = Failure { stage: "decode", cause, class: "not_json", message: &message, rule: blamed.as_ref() };
        let context = Context { original, failure, attempt, trace: None, node: &node };
        let dead = DeadLetter { context, value: value.as_deref(), headers }.record(extent);
        fits(&validator, NAME, &seen(dead.headers).into());
    });
}

#[test]
fn whatever_is_said_of_a_delivery_fits_the_schema() {
    let validator = named(NAME, CONTEXT_VERSION, strict);
    let node = "node-a".parse().unwrap();
    proptest!(|(retry in any::retry(), partition in 0..i32::MAX)| {
        let headers = retry.0.context(("tidings.notifications", partition), Outcome::Offline, None, &node).headers();
        fits(&validator, NAME, &seen(headers).into());
    });
}
