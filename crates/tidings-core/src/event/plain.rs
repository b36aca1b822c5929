//! Plain JSON: an object with a text `type` and a nested object `data`, and perhaps an id and a time beside them.
//!
//! Of a key that stands twice the last one counts. `null` in place of an optional field is the same as leaving it out. An id
//! that is a number is the same id as its digits in a string.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Event, EventError, Identity, SourceRecord, describe};
use crate::ids::{self, EventId, IdError, LIMIT_TYPE_BYTES};
use crate::record::notified::Origin;
use crate::time::Timestamp;

/// How deep serde_json follows arrays and objects before it refuses.
pub(super) const LIMIT_DEPTH: usize = 128;

pub(super) fn decode(record: &SourceRecord<'_>, value: &[u8]) -> Result<Event, EventError> {
    let mut envelope = parse(value)?;
    let kind = take_type(&mut envelope)?;
    let data = match envelope.remove("data") {
        Some(Value::Object(data)) => Arc::new(data),
        Some(other) => return Err(EventError::WrongType { field: "data", found: describe(&other), expected: "an object" }),
        None => return Err(EventError::Missing { field: "data" }),
    };
    let time = take_time(&mut envelope)?.unwrap_or(record.timestamp);
    let id = match take_id(&mut envelope, "id")? {
        Some(id) => Some(id),
        None => take_id(&mut envelope, "eventId")?,
    };
    let (identity, event_id) = identify(record, value, id)?;
    let origin = Origin { topic: record.topic.to_owned(), partition: record.partition, offset: record.offset };
    Ok(Event { kind, data, identity, event_id, time, origin })
}

fn parse(value: &[u8]) -> Result<Map<String, Value>, EventError> {
    let text = std::str::from_utf8(value).map_err(|error| EventError::InvalidUtf8 { byte: error.valid_up_to() })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(envelope)) => Ok(envelope),
        Ok(other) => Err(EventError::NotAnObject { found: describe(&other) }),
        // serde_json has no other way to tell its depth limit from bad syntax than the text.
        Err(source) if source.to_string().starts_with("recursion limit exceeded") => {
            Err(EventError::TooDeep { line: source.line(), column: source.column() })
        }
        Err(source) => Err(EventError::NotJson { source }),
    }
}

fn take_type(envelope: &mut Map<String, Value>) -> Result<String, EventError> {
    let field = "type";
    match envelope.remove(field) {
        Some(Value::String(kind)) => match ids::check("type", &kind, LIMIT_TYPE_BYTES) {
            Ok(()) => Ok(kind),
            Err(source) => Err(EventError::Name { field, source }),
        },
        Some(other) => Err(EventError::WrongType { field, found: describe(&other), expected: "a string" }),
        None => Err(EventError::Missing { field }),
    }
}

fn take_time(envelope: &mut Map<String, Value>) -> Result<Option<Timestamp>, EventError> {
    match envelope.remove("time") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.parse()?)),
        Some(other) => {
            Err(EventError::WrongType { field: "time", found: describe(&other), expected: "a string with an RFC 3339 time" })
        }
    }
}

fn take_id(envelope: &mut Map<String, Value>, field: &'static str) -> Result<Option<EventId>, EventError> {
    let text = match envelope.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
        Some(other) => {
            let found = if other.is_number() { "a number with a fraction" } else { describe(&other) };
            return Err(EventError::WrongType { field, found, expected: "a string or an integer" });
        }
    };
    text.parse().map(Some).map_err(|source| EventError::Name { field, source })
}

/// The identity of the event in a record, and the id that clients are shown: its own, else the record's coordinates.
pub(crate) fn identify(record: &SourceRecord<'_>, value: &[u8], id: Option<EventId>) -> Result<(Identity, EventId), EventError> {
    if let Some(id) = id {
        return Ok((Identity::Named { source: record.topic.to_owned(), id: id.clone() }, id));
    }
    let identity = Identity::Coordinates {
        topic: record.topic.to_owned(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        value_hash: Identity::hash(value),
    };
    let shown = format!("{}:{}:{}", record.topic, record.partition, record.offset);
    let event_id = shown.parse().map_err(|source: IdError| EventError::Name { field: "id", source })?;
    Ok((identity, event_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: &str) -> Event {
        let timestamp = Timestamp::from_millis(1_769_860_800_000);
        let record = SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, value: None };
        decode(&record, value.as_bytes()).unwrap()
    }

    #[test]
    fn the_fields_of_the_envelope_become_the_event() {
        let event = event(r#"{"id":"e-1","type":"booking:confirmed","time":"2026-02-01T08:00:00+01:00","data":{"userId":7}}"#);
        assert_eq!(event.kind, "booking:confirmed");
        assert_eq!(event.data["userId"], 7);
        assert_eq!(event.event_id.as_str(), "e-1");
        assert_eq!(event.time.to_string(), "2026-02-01T07:00:00.000Z");
        assert_eq!(event.origin, Origin { topic: "bookings".to_owned(), partition: 3, offset: 42 });
    }

    #[test]
    fn without_an_id_the_coordinates_are_shown_and_without_a_time_the_records_counts() {
        for absent in ["", r#","id":null,"eventId":null,"time":null"#] {
            let event = event(&format!(r#"{{"type":"a","data":{{}}{absent}}}"#));
            assert_eq!(event.event_id.as_str(), "bookings:3:42");
            assert_eq!(event.time.to_string(), "2026-01-31T12:00:00.000Z");
            assert!(matches!(event.identity, Identity::Coordinates { offset: 42, .. }));
        }
    }

    #[test]
    fn an_id_is_named_id_or_event_id_and_its_digits_count_whether_quoted_or_not() {
        let ids = [r#""id":7"#, r#""id":"7""#, r#""eventId":7"#, r#""eventId":"7""#, r#""eventId":8,"id":7"#];
        for id in ids {
            let event = event(&format!(r#"{{"type":"a",{id},"data":{{"id":9}}}}"#));
            assert_eq!(event.identity, Identity::Named { source: "bookings".to_owned(), id: "7".parse().unwrap() }, "{id}");
        }
    }

    #[test]
    fn an_id_inside_the_data_is_not_the_events() {
        assert!(matches!(event(r#"{"type":"a","data":{"id":"b-1"}}"#).identity, Identity::Coordinates { .. }));
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_one_counts() {
        assert_eq!(event(r#"{"type":"a","type":"b","data":{}}"#).kind, "b");
    }

    #[test]
    fn what_nests_as_deep_as_allowed_is_read() {
        let (open, close) = ("[".repeat(LIMIT_DEPTH - 3), "]".repeat(LIMIT_DEPTH - 3));
        assert_eq!(event(&format!(r#"{{"type":"a","data":{{"deep":{open}{close}}}}}"#)).kind, "a");
    }
}
