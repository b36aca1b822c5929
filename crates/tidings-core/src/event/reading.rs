//! Reading: what a topic's configuration says of the envelope of its records.
//!
//! Owns: the names of envelopes, and where an id is looked for if the envelope has none. Refuses nothing at run time: what is
//! wrong was refused when the configuration was read. Neighbours: `config` reads it, `event` obeys it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{EventError, Part, SourceRecord, json};
use crate::ids::EventId;
use crate::schema::{Format, Framed, KEY_HEADER, SchemaError, VALUE_HEADER};

/// How the records of a topic are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Which envelope they are in.
    pub envelope: Envelope,
    /// The header that says an event's type, whatever the value says.
    pub type_header: Option<String>,
    /// Where an event's id is, if not where its envelope has it.
    pub id: Option<IdPlace>,
    /// How values are written.
    pub format: Written,
    /// How keys are written: with a schema only if that is said here or in a header, since a key may begin with any byte.
    pub key_format: Written,
}

/// Whether a registry has the schema of what is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Written {
    /// Each record is looked at.
    #[default]
    Auto,
    /// In Avro.
    Avro,
    /// In Protobuf.
    Protobuf,
    /// In JSON with a schema.
    JsonSchema,
    /// It has none.
    None,
}

impl Written {
    /// Refuses a schema of another format.
    ///
    /// # Errors
    /// If it is in another one than is said.
    pub fn expect(self, found: Format) -> Result<(), SchemaError> {
        let wanted = match self {
            Self::Auto | Self::None => return Ok(()),
            Self::Avro => Format::Avro,
            Self::Protobuf => Format::Protobuf,
            Self::JsonSchema => Format::JsonSchema,
        };
        if found == wanted { Ok(()) } else { Err(SchemaError::Format { found, wanted }) }
    }
}

impl Reading {
    /// What a record's value says of its schema, if it has one.
    ///
    /// # Errors
    /// If it must have one, and does not say which.
    pub fn frame<'a>(&self, record: &SourceRecord<'a>) -> Result<Option<Framed<'a>>, SchemaError> {
        let Some(value) = record.value.filter(|value| !value.is_empty() && self.format != Written::None) else { return Ok(None) };
        let header = if record.headers.is_empty() { None } else { record.header(VALUE_HEADER) };
        if header.is_none() && self.format == Written::Auto && !Framed::is_likely(value) {
            return Ok(None);
        }
        Framed::of_value(value, header).map(Some)
    }

    /// The same for its key.
    ///
    /// # Errors
    /// As [`Reading::frame`].
    pub fn frame_of_key<'a>(&self, record: &SourceRecord<'a>) -> Result<Option<Framed<'a>>, SchemaError> {
        let Some(key) = record.key.filter(|key| !key.is_empty() && self.key_format != Written::None) else { return Ok(None) };
        let header = if record.headers.is_empty() { None } else { record.header(KEY_HEADER) };
        if header.is_none() && self.key_format == Written::Auto {
            return Ok(None);
        }
        Framed::of_key(key, header).map(Some)
    }

    /// The id that the configuration names, if it does.
    pub(super) fn id_of(&self, record: &SourceRecord<'_>, fields: &Map<String, Value>) -> Result<Option<EventId>, EventError> {
        let Some(place) = &self.id else { return Ok(None) };
        let part = || match place {
            IdPlace::Header(name) => Part::Header(name.clone().into()),
            IdPlace::Field(path) => Part::Field(path.join(".").into()),
        };
        let id = match place {
            IdPlace::Header(name) => {
                let parsed = record.text(name, part)?.map(str::parse).transpose();
                parsed.map_err(|source| EventError::Name { part: part(), source })?
            }
            IdPlace::Field(path) => {
                let mut steps = path.iter();
                let first = steps.next().and_then(|step| fields.get(step));
                let found = steps.fold(first, |found, step| found.and_then(|value| value.get(step)));
                found.map_or(Ok(None), |value| json::id(value, part))?
            }
        };
        id.map(Some).ok_or_else(|| EventError::Missing { part: part() })
    }
}

/// What lies around an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// Each record is looked at.
    #[default]
    Detect,
    /// CloudEvents, in binary or structured mode.
    CloudEvents,
    /// Debezium's outbox: headers `id` and `eventType`, and the event's data as value.
    Outbox,
    /// A type and an object `data` beside each other.
    Plain,
    /// A type, and the whole value is the data.
    Flat,
}

/// Where an id stands: `header:NAME` or `field:PATH`, where a path is made of names with dots between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdPlace {
    /// In this header.
    Header(String),
    /// In this field of the value, or of the Connect wrapper's payload.
    Field(Vec<String>),
}

/// A text that says no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the place of an id is `header:NAME` or `field:PATH`, for instance `field:payment.id`; this is {text:?}")]
pub struct IdPlaceError {
    text: String,
}

impl FromStr for IdPlace {
    type Err = IdPlaceError;

    fn from_str(text: &str) -> Result<Self, IdPlaceError> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            Some(("field", path)) if path.split('.').all(|step| !step.is_empty()) => {
                Ok(Self::Field(path.split('.').map(str::to_owned).collect()))
            }
            _ => Err(IdPlaceError { text: text.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for IdPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Field(path) => write!(f, "field:{}", path.join(".")),
        }
    }
}

impl Serialize for IdPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IdPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_written_and_anything_else_is_refused() {
        for text in ["header:id", "header:x:y", "field:id", "field:payment.id"] {
            assert_eq!(text.parse::<IdPlace>().unwrap().to_string(), text);
        }
        for text in ["", "id", "header:", "field:", "field:a..b", "Header:a", "body:a"] {
            assert!(text.parse::<IdPlace>().is_err(), "{text:?}");
        }
    }
}
