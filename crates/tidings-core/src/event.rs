//! Events: what a service said, read from the bytes of a record on a domain topic.
//!
//! Owns: the record as it was handed out, the event, and which envelope a record is in; one file under `event/` per envelope.
//! Refuses to guess: a field of the wrong type is an error that names it. Neighbours: `rules` matches and renders
//! events, `pipeline` hands out records and buries what is refused here.

mod cloudevents;
mod error;
mod identity;
mod json;
mod outbox;
mod plain;
mod reading;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ids::EventId;
use crate::record::notified::Origin;
use crate::schema::Read;
use crate::time::Timestamp;

pub use error::{EventError, Part};
pub use identity::Identity;
pub(crate) use identity::identify;
pub(crate) use json::describe;
use plain::Shape;
pub use reading::{Envelope, IdPlace, IdPlaceError, Reading, Written};

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
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; absent in a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order; those whose names are no text are left out.
    pub headers: &'a [SourceHeader<'a>],
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceHeader<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, which may be any bytes.
    pub value: Option<&'a [u8]>,
}

impl<'a> SourceRecord<'a> {
    /// The value of a header. Of a name that stands twice the last one counts, as Kafka's own clients have it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rev().find(|header| header.name == name)?.value
    }

    /// The same as text.
    fn text(&self, name: &str, part: impl Fn() -> Part) -> Result<Option<&'a str>, EventError> {
        let text = self.header(name).map(std::str::from_utf8).transpose();
        text.map_err(|error| EventError::HeaderNotText { part: part(), byte: error.valid_up_to() })
    }

    /// Its coordinates, as records made from it carry them.
    #[must_use]
    pub fn origin(&self) -> Origin {
        // A record without a timestamp is handed out as one of 1970.
        let timestamp = (self.timestamp.as_millis() > 0).then_some(self.timestamp);
        Origin { topic: self.topic.to_owned(), partition: self.partition, offset: self.offset, timestamp }
    }
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
    /// The record's key: what its schema makes of it, else its text; none if it has no key, or one that is no text.
    pub key: Option<Value>,
}

/// What schemas made of a record's parts.
#[derive(Debug, Clone, Default)]
pub struct Explained {
    /// Its value, if that has a schema.
    pub value: Option<Read>,
    /// Its key, likewise.
    pub key: Option<Value>,
}

/// What an envelope is looked for in.
enum Content<'a> {
    /// The value's bytes, which are JSON if they are anything.
    Bytes(&'a [u8]),
    /// What a schema made of them.
    Read(Read),
}

impl Content<'_> {
    fn parse(self) -> Result<Value, EventError> {
        match self {
            Self::Bytes(bytes) => json::parse(bytes),
            Self::Read(read) => Ok(read.value),
        }
    }

    /// What a value is called whose envelope does not say its type: by its schema.
    fn name(&self) -> Option<Arc<str>> {
        match self {
            Self::Bytes(_) => None,
            Self::Read(read) => read.name.clone(),
        }
    }
}

/// What an envelope holds.
struct Said {
    kind: String,
    data: Arc<Map<String, Value>>,
    time: Option<Timestamp>,
    /// Within which the id is unique, if that is not the topic.
    source: Option<String>,
    id: Option<EventId>,
}

/// Reads the event in a record, as `reading` says.
///
/// # Errors
/// If the value is empty, no UTF-8, no JSON, nested too deep, or no event in the envelope it is taken for; or if a part of the
/// envelope is there and of the wrong type.
pub fn decode(record: &SourceRecord<'_>, reading: &Reading) -> Result<Event, EventError> {
    decode_explained(record, Explained::default(), reading)
}

/// The same of a record whose value or key has a schema.
///
/// # Errors
/// As [`decode`].
pub fn decode_explained(record: &SourceRecord<'_>, explained: Explained, reading: &Reading) -> Result<Event, EventError> {
    let value = match record.value {
        None | Some([]) => return Err(EventError::Empty),
        Some(value) => value,
    };
    let content = explained.value.map_or(Content::Bytes(value), Content::Read);
    let said = match reading.envelope {
        Envelope::Detect => detect(record, reading, content)?,
        Envelope::CloudEvents => cloudevents::read(record, reading, content)?,
        Envelope::Outbox => outbox::read(record, reading, content)?,
        Envelope::Plain => bare(record, reading, (content, Shape::Nested))?,
        Envelope::Flat => bare(record, reading, (content, Shape::Flat))?,
    };
    let key = explained.key.or_else(|| std::str::from_utf8(record.key?).ok().map(Value::from));
    let (identity, event_id) = match (said.source, said.id) {
        (Some(source), Some(id)) => (Identity::Named { source, id: id.clone() }, id),
        (_, id) => identify(record, value, id)?,
    };
    let time = said.time.unwrap_or(record.timestamp);
    let origin = record.origin();
    Ok(Event { kind: said.kind, data: said.data, identity, event_id, time, origin, key })
}

fn bare(record: &SourceRecord<'_>, reading: &Reading, (content, shape): (Content<'_>, Shape)) -> Result<Said, EventError> {
    let name = content.name();
    plain::read(record, reading, json::object(content.parse()?)?, (shape, name.as_deref()))
}

/// Headers tell first, since they need no look at the value; then what stands in the value.
fn detect(record: &SourceRecord<'_>, reading: &Reading, content: Content<'_>) -> Result<Said, EventError> {
    if !record.headers.is_empty() {
        if cloudevents::mode(record)?.is_some() {
            return cloudevents::read(record, reading, content);
        }
        if outbox::is_one(record) {
            return outbox::read(record, reading, content);
        }
    }
    let name = content.name();
    let fields = json::object(content.parse()?)?;
    if fields.contains_key("specversion") {
        return cloudevents::structured(record, reading, fields);
    }
    plain::read(record, reading, fields, (Shape::Either, name.as_deref()))
}
