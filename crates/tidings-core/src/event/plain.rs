//! Plain JSON: a type in the value or in a header, and the data nested in `data` or flat beside it.
//!
//! Owns: where the type is looked for, and what belongs to the envelope. Beside a nested `data` stand `id` or `eventId` and
//! `time`. In a flat value everything but the type is the service's own: an `id` there is that of a booking, not of the event.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::{self, describe};
use super::{EventError, Part, Reading, Said, SourceRecord};
use crate::ids::{self, LIMIT_TYPE_BYTES};

/// Headers that say a type, without being configured. `type` alone is not among them: it may say anything.
const TYPE_HEADERS: [&str; 2] = ["eventType", "event-type"];
/// Fields that say a type. The first one that is there counts.
const TYPE_FIELDS: [&str; 3] = ["type", "event", "eventType"];

/// Where the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// In an object `data` if there is one, else the whole value.
    Either,
    /// In an object `data`.
    Nested,
    /// The whole value.
    Flat,
}

pub(super) fn read(
    record: &SourceRecord<'_>,
    reading: &Reading,
    mut fields: Map<String, Value>,
    (shape, name): (Shape, Option<&str>),
) -> Result<Said, EventError> {
    let configured = reading.id_of(record, &fields)?;
    let kind = kind(record, reading, (&fields, name))?;
    let nested = if shape == Shape::Flat { None } else { json::take_object(&mut fields, "data")? };
    let Some(data) = nested else {
        if shape == Shape::Nested {
            return Err(EventError::Missing { part: Part::field("data") });
        }
        return Ok(Said { kind, data: Arc::new(fields), time: None, source: None, id: configured });
    };
    let time = json::take_time(&mut fields)?;
    let beside = |field: &'static str| fields.get(field).map_or(Ok(None), |value| json::id(value, || Part::field(field)));
    let id = match configured {
        Some(id) => Some(id),
        None => beside("id")?.map_or_else(|| beside("eventId"), |id| Ok(Some(id)))?,
    };
    Ok(Said { kind, data: Arc::new(data), time, source: None, id })
}

/// The type: from where the configuration says, else from a header or a field that says types, else what the value's schema calls it.
fn kind(
    record: &SourceRecord<'_>,
    reading: &Reading,
    (fields, name): (&Map<String, Value>, Option<&str>),
) -> Result<String, EventError> {
    if let Some(header) = &reading.type_header {
        let part = || Part::Header(header.clone().into());
        let text = record.text(header, part)?.ok_or_else(|| EventError::Missing { part: part() })?;
        return checked(text, part);
    }
    for header in TYPE_HEADERS {
        if let Some(text) = record.text(header, || Part::header(header))? {
            return checked(text, || Part::header(header));
        }
    }
    let found = TYPE_FIELDS.into_iter().find_map(|field| Some((field, fields.get(field)?)));
    match found {
        Some((field, Value::String(kind))) => checked(kind, || Part::field(field)),
        Some((field, other)) => {
            Err(EventError::WrongType { part: Part::field(field), found: describe(other), expected: "a string" })
        }
        None => match name {
            Some(name) => checked(name, || Part::field(TYPE_FIELDS[0])),
            None => Err(EventError::Missing { part: Part::field(TYPE_FIELDS[0]) }),
        },
    }
}

/// A type that is one.
pub(super) fn checked(kind: &str, part: impl Fn() -> Part) -> Result<String, EventError> {
    match ids::check("type", kind, LIMIT_TYPE_BYTES) {
        Ok(()) => Ok(kind.to_owned()),
        Err(source) => Err(EventError::Name { part: part(), source }),
    }
}
