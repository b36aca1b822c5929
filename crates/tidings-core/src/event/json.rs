//! JSON: the value of a record as a tree, parsed once, and fields taken out of it with their types checked.
//!
//! Owns: the depth limit, the Connect wrapper `{schema, payload}` and values that are JSON inside a JSON string, as Connect's
//! converters write them. Of a key that stands twice the last one counts. `null` in place of an optional field is the same as
//! leaving it out. An id that is a number is the same id as its digits in a string.

use serde_json::{Map, Value};

use super::{EventError, Part};
use crate::ids::EventId;
use crate::time::Timestamp;

/// How deep serde_json follows arrays and objects before it refuses.
pub(super) const LIMIT_DEPTH: usize = 128;

const VALUE: &str = "the value";
const INNER: &str = "the text in the value";

/// The record's value.
pub(super) fn parse(value: &[u8]) -> Result<Value, EventError> {
    let text = std::str::from_utf8(value).map_err(|error| EventError::InvalidUtf8 { byte: error.valid_up_to() })?;
    parse_text(text, VALUE)
}

fn parse_text(text: &str, what: &'static str) -> Result<Value, EventError> {
    serde_json::from_str(text).map_err(|source| {
        // serde_json has no other way to tell its depth limit from bad syntax than the text.
        if source.to_string().starts_with("recursion limit exceeded") {
            EventError::TooDeep { what, line: source.line(), column: source.column() }
        } else {
            EventError::NotJson { what, source }
        }
    })
}

/// The value as an object, with the Connect wrapper taken off if it has one.
pub(super) fn object(value: Value) -> Result<Map<String, Value>, EventError> {
    match value {
        Value::Object(fields) if is_wrapped(&fields) => unwrap(fields),
        Value::Object(fields) => Ok(fields),
        other => Err(EventError::NotAnObject { what: VALUE, found: describe(&other) }),
    }
}

/// The same, where the object may also be the content of a string, inside the wrapper or without one.
pub(super) fn inner_object(value: Value) -> Result<Map<String, Value>, EventError> {
    match value {
        Value::String(text) => bare(parse_text(&text, INNER)?, INNER),
        other => object(other),
    }
}

/// Whether these are the fields of Connect's JSON converter with schemas, and no others.
pub(super) fn is_wrapped(fields: &Map<String, Value>) -> bool {
    fields.len() == 2 && fields.contains_key("schema") && fields.contains_key("payload")
}

/// What the Connect wrapper holds.
pub(super) fn unwrap(mut fields: Map<String, Value>) -> Result<Map<String, Value>, EventError> {
    match fields.remove("payload") {
        // A tombstone with a schema.
        None | Some(Value::Null) => Err(EventError::Empty),
        Some(Value::String(text)) if text.is_empty() => Err(EventError::Empty),
        Some(Value::String(text)) => bare(parse_text(&text, INNER)?, INNER),
        Some(payload) => bare(payload, "`payload`"),
    }
}

fn bare(value: Value, what: &'static str) -> Result<Map<String, Value>, EventError> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(EventError::NotAnObject { what, found: describe(&other) }),
    }
}

/// The text at `field`, which must be there.
pub(super) fn take_text(fields: &mut Map<String, Value>, field: &'static str) -> Result<String, EventError> {
    match fields.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(field, &other, "a string")),
        None => Err(EventError::Missing { part: Part::field(field) }),
    }
}

/// The object at `field`, if it is there.
pub(super) fn take_object(
    fields: &mut Map<String, Value>,
    field: &'static str,
) -> Result<Option<Map<String, Value>>, EventError> {
    match fields.remove(field) {
        None => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(other) => Err(wrong(field, &other, "an object")),
    }
}

/// The instant at `time`, if it is there.
pub(super) fn take_time(fields: &mut Map<String, Value>) -> Result<Option<Timestamp>, EventError> {
    let part = Part::field("time");
    match fields.remove("time") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|source| EventError::Time { part, source }),
        Some(other) => Err(wrong("time", &other, "a string with an RFC 3339 time")),
    }
}

/// An id, if the value is not null.
pub(super) fn id(value: &Value, part: impl Fn() -> Part) -> Result<Option<EventId>, EventError> {
    let parsed = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse(),
        Value::Number(number) if !number.is_f64() => number.to_string().parse(),
        other => {
            let found = if other.is_number() { "a number with a fraction" } else { describe(other) };
            return Err(EventError::WrongType { part: part(), found, expected: "a string or an integer" });
        }
    };
    parsed.map(Some).map_err(|source| EventError::Name { part: part(), source })
}

fn wrong(field: &'static str, found: &Value, expected: &'static str) -> EventError {
    EventError::WrongType { part: Part::field(field), found: describe(found), expected }
}

/// What a JSON value is, with its article.
pub(crate) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
