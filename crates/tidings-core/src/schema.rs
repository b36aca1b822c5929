//! Schemas: bytes that only a schema explains become JSON, as rules and templates read it.
//!
//! Owns: how a record names its schema (Confluent's prefix and headers), what each format's values become in JSON, and the limits
//! within which schemas and values of strangers are read: whatever they hold, it ends, and ends soon. Refuses to fetch anything: schemas
//! come in as text, with all they refer to. Neighbours: `registry` fetches and keeps, `event` looks for the envelope in what is read.

mod avro;
mod budget;
mod decimal;
mod error;
mod frame;
mod json;
mod protobuf;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::avro::Avro;
use self::json::JsonSchema;
use self::protobuf::Protobuf;

pub use error::SchemaError;
pub use frame::{Framed, KEY_HEADER, SchemaId, VALUE_HEADER};
pub use shape::{Shape, example};

/// In which language a schema is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Apache Avro 1.12, binary encoding.
    Avro,
    /// Protocol Buffers, proto2 and proto3.
    Protobuf,
    /// JSON Schema, drafts 4 to 2020-12.
    JsonSchema,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::JsonSchema => "JSON Schema",
        })
    }
}

/// A schema as it is written, with all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// In which language.
    pub format: Format,
    /// Its text.
    pub text: String,
    /// What it refers to, directly or not, each once. What is not here is not looked for elsewhere.
    pub references: Vec<Reference>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is called there: a full name in Avro, a path of an import in Protobuf, a URI in JSON Schema.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A schema that is ready to read values with.
#[derive(Debug)]
pub struct Schema(Inner);

#[derive(Debug)]
enum Inner {
    Avro(Avro),
    Protobuf(Protobuf),
    Json(JsonSchema),
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The value, as JSON.
    pub value: Value,
    /// What the schema calls such values: the full name of a record or message, the title of a JSON Schema.
    pub name: Option<Arc<str>>,
}

impl Schema {
    /// Makes a schema ready. Takes a while, and a deep stack, with a large one: 8 MiB hold for whatever is not refused.
    ///
    /// # Errors
    /// If it is not well formed, refers to what is not there, or is beyond the limits.
    pub fn compile(definition: &Definition) -> Result<Self, SchemaError> {
        let inner = match definition.format {
            Format::Avro => Inner::Avro(Avro::compile(definition)?),
            Format::Protobuf => Inner::Protobuf(Protobuf::compile(definition)?),
            Format::JsonSchema => Inner::Json(JsonSchema::compile(definition)?),
        };
        Ok(Self(inner))
    }

    /// In which language it is written.
    #[must_use]
    pub fn format(&self) -> Format {
        match self.0 {
            Inner::Avro(_) => Format::Avro,
            Inner::Protobuf(_) => Format::Protobuf,
            Inner::Json(_) => Format::JsonSchema,
        }
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Inner::Avro(avro) => avro.bytes(),
            Inner::Protobuf(protobuf) => protobuf.bytes(),
            Inner::Json(json) => json.bytes(),
        }
    }

    /// Reads a value that was written with this schema.
    ///
    /// # Errors
    /// If its bytes do not fit the schema, or it is beyond the limits.
    pub fn read(&self, framed: &Framed<'_>) -> Result<Read, SchemaError> {
        match &self.0 {
            Inner::Avro(avro) => avro.read(framed.body),
            Inner::Protobuf(protobuf) => protobuf.read(framed.index, framed.body),
            Inner::Json(json) => json.read(framed.body),
        }
    }
}
