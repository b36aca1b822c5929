//! The schemas of the document: those of `schemas/`, with their references pointing into it.
//!
//! Owns: which files there are, and the names that their definitions have in the document: `notification` for a file, `notification.channel` for
//! a definition in it. Refuses nothing: tests hold the files against the types.

use serde_json::{Map, Value, json};
use tidings_core::record::context::CONTEXT_VERSION;
use tidings_core::rules::shipped_schemas;

/// The name of the schema of what stands in the headers of records that failed.
const HEADERS: &str = "headers";

macro_rules! schema {
    ($folder:literal, $name:literal) => {
        ($name, include_str!(concat!("../../../schemas/", $folder, "/", $name, ".v1.json")))
    };
}

/// The schemas of what lies on our own topics, by name.
const RECORDS: [(&str, &str); 10] = [
    schema!("records", "audit"),
    schema!("records", "cursor"),
    schema!("records", "epoch"),
    schema!("records", "headers"),
    schema!("records", "notification"),
    schema!("records", "receipt"),
    schema!("records", "request"),
    schema!("records", "retry"),
    schema!("records", "signal"),
    schema!("records", "undelivered"),
];
const FRAMES: [(&str, &str); 2] = [schema!("frames", "client"), schema!("frames", "server")];

/// A side of the WebSocket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frames {
    Client,
    Server,
}

/// A type of frame.
pub(super) struct Frame {
    /// The `type` that it has; several where one schema is for several.
    pub(super) kind: String,
    pub(super) summary: String,
    /// The name of its schema in the document.
    pub(super) schema: String,
}

/// A type of event.
pub(super) struct Event {
    pub(super) kind: String,
    /// The name of its file, without folder and ending.
    pub(super) file: String,
    pub(super) summary: Value,
    pub(super) data: Value,
    pub(super) samples: Vec<Value>,
}

/// Where a schema lies in the document.
pub(super) fn pointer(name: &str) -> String {
    format!("components/schemas/{name}")
}

/// The frames of one side; their schemas, and those they refer to, come to `schemas`.
pub(super) fn frames(side: Frames, schemas: &mut Map<String, Value>) -> Result<Vec<Frame>, serde_json::Error> {
    let (name, text) = match side {
        Frames::Client => FRAMES[0],
        Frames::Server => FRAMES[1],
    };
    let file = lift((name, text), schemas)?;
    let ways = file["oneOf"].as_array().cloned().unwrap_or_default();
    let frame = |way: &Value| {
        let schema = format!("{name}.{}", way["$ref"].as_str()?.strip_prefix("#/$defs/")?);
        let described = schemas.get(&schema)?;
        let kind = &described["properties"]["type"];
        let kinds = kind["enum"].as_array().map_or_else(|| vec![kind["const"].clone()], Clone::clone);
        let kind = kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        Some(Frame { kind, summary: described["description"].as_str().unwrap_or_default().to_owned(), schema })
    };
    Ok(ways.iter().filter_map(frame).collect())
}

/// The message of a record; its schema comes to `schemas`.
pub(super) fn record(name: &str, schemas: &mut Map<String, Value>) -> Result<Value, serde_json::Error> {
    let mut file = file(name, schemas)?;
    let summary = file["description"].take();
    let version = json!({"type": "object", "properties": {"tidings-version": {"const": "1"}}});
    schemas.insert(name.to_owned(), bare(name, file));
    Ok(
        json!({"name": name, "title": name, "description": summary, "contentType": "application/json", "headers": version, "payload": {"$ref": format!("#/{}", pointer(name))}}),
    )
}

/// What was buried lies on `dlq` as it was; only its headers are ours.
pub(super) fn dead_letter(schemas: &mut Map<String, Value>) -> Result<Value, serde_json::Error> {
    let headers = file(HEADERS, schemas)?;
    schemas.insert(HEADERS.to_owned(), bare(HEADERS, headers));
    Ok(json!({
        "name": "deadLetter", "title": "deadLetter", "contentType": "application/octet-stream",
        "description": format!("The record as it was, key and value; behind its own headers those of version {CONTEXT_VERSION} that say why."),
        "headers": {"$ref": format!("#/{}", pointer(HEADERS))}, "payload": {"description": "Any bytes."},
    }))
}

/// The shipped types of events.
pub(super) fn events() -> Result<Vec<Event>, serde_json::Error> {
    let event = |file: &tidings_core::rules::File<'_>| {
        let mut data = serde_json::from_str::<Value>(file.text)?;
        let kind = data["title"].as_str().unwrap_or_default().to_owned();
        let samples = data["examples"].as_array().cloned().unwrap_or_default();
        let name = file.name.rsplit('/').next().unwrap_or(file.name);
        let name = name.strip_suffix(".json").unwrap_or(name).to_owned();
        let summary = data["description"].take();
        Ok(Event { kind, file: name.clone(), summary, data: bare(&name, data), samples })
    };
    shipped_schemas().iter().map(event).collect()
}

/// Brings in what is referred to of files that nothing else brings in.
pub(super) fn referred(schemas: &mut Map<String, Value>) -> Result<(), serde_json::Error> {
    for known in RECORDS {
        lift(known, schemas)?;
    }
    Ok(())
}

/// The file of a record, with its definitions among the schemas. Of a name that has none it is empty, which a test would see.
fn file(name: &str, schemas: &mut Map<String, Value>) -> Result<Value, serde_json::Error> {
    RECORDS.into_iter().find(|(known, _)| *known == name).map_or(Ok(Value::Null), |known| lift(known, schemas))
}

/// Puts the definitions of a file among the schemas, and gives back the file.
fn lift((name, text): (&str, &str), schemas: &mut Map<String, Value>) -> Result<Value, serde_json::Error> {
    let mut file = serde_json::from_str::<Value>(text)?;
    if let Value::Object(definitions) = file["$defs"].take() {
        for (definition, schema) in definitions {
            schemas.insert(format!("{name}.{definition}"), pointed(name, schema));
        }
    }
    Ok(file)
}

/// A file's schema without what belongs to the file.
fn bare(name: &str, file: Value) -> Value {
    let mut schema = pointed(name, file);
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|key, value| key != "$schema" && key != "$defs" && !value.is_null());
    }
    schema
}

/// The schema with its references pointing into the document.
fn pointed(name: &str, schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| match value.as_str().filter(|_| key == "$ref") {
                Some(target) => (key, format!("#/{}", pointer(&named(name, target))).into()),
                None => (key, pointed(name, value)),
            };
            fields.into_iter().map(field).collect()
        }
        Value::Array(items) => items.into_iter().map(|item| pointed(name, item)).collect(),
        other => other,
    }
}

/// The name in the document of what a file called `name` refers to.
fn named(name: &str, target: &str) -> String {
    let (file, inside) = target.split_once('#').unwrap_or((target, ""));
    let file = file.rsplit('/').next().unwrap_or_default().split('.').next().filter(|file| !file.is_empty()).unwrap_or(name);
    match inside.strip_prefix("/$defs/") {
        Some(definition) => format!("{file}.{definition}"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_a_message_and_nothing_else_has() {
        for (name, _) in RECORDS.into_iter().filter(|(name, _)| *name != HEADERS) {
            let mut schemas = Map::new();
            let message = record(name, &mut schemas).unwrap();
            assert!(message["description"].is_string() && schemas[name]["title"] == name, "{name}: {message}");
        }
    }

    #[test]
    fn a_reference_has_the_name_of_its_file_and_definition() {
        for (target, expected) in [
            ("#/$defs/position", "client.position"),
            ("../records/notification.v1.json#/$defs/channel", "notification.channel"),
            ("retry.v1.json", "retry"),
        ] {
            assert_eq!(named("client", target), expected, "{target}");
        }
    }
}
