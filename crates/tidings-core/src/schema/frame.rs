//! Frames: how a record names the schema of its value or key.
//!
//! Owns: Confluent's wire format (a zero byte and an id of 4 bytes in front of the value) and its newer form, where the header
//! `__value_schema_id` or `__key_schema_id` holds that, or the byte 1 and a GUID of 16, and the value begins at once. The header counts
//! first, as in Confluent's own readers. Refuses to look into the value.

use std::fmt;

use uuid::Uuid;

use super::SchemaError;

/// The header that names the schema of the value.
pub const VALUE_HEADER: &str = "__value_schema_id";
/// The header that names the schema of the key.
pub const KEY_HEADER: &str = "__key_schema_id";

const NUMBER: u8 = 0;
const GUID: u8 = 1;
const NUMBER_BYTES: usize = 4;
const GUID_BYTES: usize = 16;

/// By what a registry knows a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// Its number in one registry.
    Number(u32),
    /// What it is called in all of them.
    Guid(Uuid),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

/// A value, or a key, with what it says of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    /// Which schema.
    pub id: SchemaId,
    /// What the header says of the message's place in a Protobuf schema; none if the body begins with that.
    pub(super) index: Option<&'a [u8]>,
    pub(super) body: &'a [u8],
}

impl<'a> Framed<'a> {
    /// Reads the frame of a value that has one.
    ///
    /// # Errors
    /// If the bytes, or those of the header, do not begin like a frame.
    pub fn of_value(value: &'a [u8], header: Option<&'a [u8]>) -> Result<Self, SchemaError> {
        Self::read(value, header, ["the value", "the header `__value_schema_id`"])
    }

    /// The same for a key.
    ///
    /// # Errors
    /// As for a value.
    pub fn of_key(key: &'a [u8], header: Option<&'a [u8]>) -> Result<Self, SchemaError> {
        Self::read(key, header, ["the key", "the header `__key_schema_id`"])
    }

    fn read(bytes: &'a [u8], header: Option<&'a [u8]>, parts: [&'static str; 2]) -> Result<Self, SchemaError> {
        let [part, header_part] = parts;
        if let Some(header) = header {
            let (id, index) = split(header, header_part)?;
            return Ok(Self { id, index: Some(index), body: bytes });
        }
        match split(bytes, part)? {
            (id @ SchemaId::Number(_), body) => Ok(Self { id, index: None, body }),
            (SchemaId::Guid(_), _) => Err(SchemaError::Magic { part, byte: GUID }),
        }
    }

    /// Whether the frame stands in front of the value, so that nothing can be read without its schema.
    #[must_use]
    pub fn is_prefixed(&self) -> bool {
        self.index.is_none()
    }

    /// Whether bytes that nothing else is said of begin like a frame. No JSON does.
    #[must_use]
    pub fn is_likely(bytes: &[u8]) -> bool {
        bytes.first() == Some(&NUMBER)
    }
}

fn split<'a>(bytes: &'a [u8], part: &'static str) -> Result<(SchemaId, &'a [u8]), SchemaError> {
    let short = |needed| SchemaError::Short { part, bytes: bytes.len(), needed };
    match bytes.split_first() {
        None => Err(short(1 + NUMBER_BYTES)),
        Some((&NUMBER, rest)) => {
            let (number, rest) = rest.split_first_chunk::<NUMBER_BYTES>().ok_or_else(|| short(1 + NUMBER_BYTES))?;
            Ok((SchemaId::Number(u32::from_be_bytes(*number)), rest))
        }
        Some((&GUID, rest)) => {
            let (guid, rest) = rest.split_first_chunk::<GUID_BYTES>().ok_or_else(|| short(1 + GUID_BYTES))?;
            Ok((SchemaId::Guid(Uuid::from_bytes(*guid)), rest))
        }
        Some((&byte, _)) => Err(SchemaError::Magic { part, byte }),
    }
}
