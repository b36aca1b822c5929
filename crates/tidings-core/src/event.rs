//! Events: what a service said, read from the bytes of a record on a domain topic.
//!
//! Owns: the record as it was handed out, the event, and every reason why bytes are none; one file under `event/` per
//! envelope. Refuses to guess: a field of the wrong type is an error that names it. Neighbours: `rules` matches and renders
//! events, `pipeline` hands out records and buries what is refused here.

mod identity;
mod plain;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::fate::Cause;
use crate::ids::{EventId, IdError};
use crate::record::notified::Origin;
use crate::time::{Timestamp, TimestampError};

pub use identity::Identity;
pub(crate) use plain::identify;

/// A record of a domain topic, as the consumer hands it out.
#[derive(Debug, Clone, Copy)]
pub struct SourceRecord<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp on Kafka.
    pub timestamp: Timestamp,
    /// Its value; absent in a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What a service said.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its type, for instance `booking:confirmed`.
    pub kind: String,
    /// What it says; the fields that templates see. Shared, so that rendering need not copy it.
    pub data: Arc<Map<String, Value>>,
    /// What makes it the same event when it is read again.
    pub identity: Identity,
    /// The id that clients are shown: the producer's, else the record's coordinates.
    pub event_id: EventId,
    /// When it was said: the envelope's `time`, else the record's timestamp.
    pub time: Timestamp,
    /// Where it lies on Kafka.
    pub origin: Origin,
}

/// Why a record is no event. The bytes are at fault, always.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// There are no bytes to read.
    #[error("the value is empty")]
    Empty,
    /// The bytes are no text.
    #[error("the value is not UTF-8: the byte at {byte} fits no character")]
    InvalidUtf8 {
        /// How many bytes before it are well formed.
        byte: usize,
    },
    /// The text is no JSON. The source's text names line and column.
    #[error("the value is not JSON: {source}")]
    NotJson {
        /// Where it departs from JSON.
        source: serde_json::Error,
    },
    /// Arrays or objects lie in each other too deep to be read safely.
    #[error("the value nests deeper than {} levels at line {line}, column {column}", plain::LIMIT_DEPTH)]
    TooDeep {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("the value is {found}; an event is a JSON object with `type` and `data`")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// A field without which there is no event.
    #[error("the field `{field}` is missing; an event is a JSON object with `type` and `data`")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// A field of another type than it must have.
    #[error("the field `{field}` is {found}, it must be {expected}")]
    WrongType {
        /// Which field.
        field: &'static str,
        /// What it is.
        found: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A `type` or an id whose text is no name.
    #[error("the field `{field}` cannot be used: {source}")]
    Name {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        source: IdError,
    },
    /// A `time` that is no instant.
    #[error("the field `time` cannot be used: {source}")]
    Time {
        /// What is wrong with it.
        #[from]
        source: TimestampError,
    },
}

impl EventError {
    /// Always [`Cause::Poison`]: reading the same bytes again gives the same.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Poison
    }

    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Empty => "empty_payload",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::NotJson { .. } => "not_json",
            Self::TooDeep { .. } => "too_deep",
            Self::NotAnObject { .. } => "not_an_object",
            Self::Missing { .. } => "field_missing",
            Self::WrongType { .. } => "field_wrong_type",
            Self::Name { .. } => "field_invalid",
            Self::Time { .. } => "time_invalid",
        }
    }
}

/// Reads the event in a record.
///
/// # Errors
/// If the value is empty, no UTF-8, no JSON, nested too deep, or no object with a text `type` and an object `data`; or if its
/// id or time is there and of the wrong type.
pub fn decode(record: &SourceRecord<'_>) -> Result<Event, EventError> {
    match record.value {
        None | Some([]) => Err(EventError::Empty),
        Some(value) => plain::decode(record, value),
    }
}

/// What a JSON value is, with its article.
fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_bytes(value: &[u8]) -> Result<Event, EventError> {
        let timestamp = Timestamp::from_millis(1_769_860_800_000);
        decode(&SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, value: Some(value) })
    }

    #[test]
    fn every_refusal_says_what_is_wrong_and_where() {
        let long = format!(r#"{{"type":"{}","data":{{}}}}"#, "x".repeat(300));
        let values: [&[u8]; 19] = [
            b"",
            b"{\"type\":\"a\xff\"}",
            b"{\"type\": \"a\",\n \"data\": }",
            b"{\"type\":\"a\",\"data\":{}} trailing",
            b"{\"type\":\"a\",\"data\":{",
            b"null",
            b"[\"a\", {}]",
            b"{}",
            b"{\"type\":null,\"data\":{}}",
            b"{\"type\":7,\"data\":{}}",
            b"{\"type\":\"\",\"data\":{}}",
            long.as_bytes(),
            b"{\"type\":\"a\"}",
            b"{\"type\":\"a\",\"data\":[1]}",
            b"{\"type\":\"a\",\"data\":{},\"id\":{}}",
            b"{\"type\":\"a\",\"data\":{},\"id\":\"\"}",
            b"{\"type\":\"a\",\"data\":{},\"eventId\":1.5}",
            b"{\"type\":\"a\",\"data\":{},\"time\":1769860800}",
            b"{\"type\":\"a\",\"data\":{},\"time\":\"yesterday\"}",
        ];
        let lines: Vec<String> = values
            .iter()
            .map(|value| {
                let error = decode_bytes(value).unwrap_err();
                assert_eq!(error.cause(), Cause::Poison);
                let shown: String = String::from_utf8_lossy(value).chars().take(50).collect();
                format!("{shown:?}\n  {}: {error}", error.class())
            })
            .collect();
        insta::with_settings!({snapshot_path => "../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("event_errors", lines.join("\n"));
        });
    }

    #[test]
    fn a_mebibyte_of_brackets_is_an_error_and_no_overflow() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let half = (1 << 20) / (open.len() + close.len());
            let nested = format!(r#"{{"type":"a","data":{}1{}}}"#, open.repeat(half), close.repeat(half));
            assert!(matches!(decode_bytes(nested.as_bytes()), Err(EventError::TooDeep { line: 1, .. })));
            assert!(matches!(decode_bytes(open.repeat(1 << 20).as_bytes()), Err(EventError::TooDeep { line: 1, .. })));
        }
    }

    #[test]
    fn a_record_without_a_value_is_no_event() {
        let timestamp = Timestamp::from_millis(0);
        let tombstone = SourceRecord { topic: "bookings", partition: 0, offset: 0, timestamp, value: None };
        assert!(matches!(decode(&tombstone), Err(EventError::Empty)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(value: Vec<u8>) {
            let _ = decode_bytes(&value);
        }

        #[test]
        fn no_broken_event_makes_the_decoder_panic(at in 0_usize..60, byte: u8) {
            let mut value = br#"{"type":"a","id":12,"time":"2026-01-31T12:00:00Z","data":{"b":1}}"#.to_vec();
            value[at] = byte;
            let _ = decode_bytes(&value);
        }
    }
}
