//! Errors: why a value cannot be read with its schema, or a schema not be used.
//!
//! Owns: what each says and the class it is counted under. Bytes or schema are at fault, always.

use super::Format;
use crate::fate::Cause;

/// The longest text of a library that is passed on, in bytes.
const LIMIT_TEXT_BYTES: usize = 500;

/// Why a value cannot be read with a schema. Can be kept and told again, since the same bytes give the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The bytes that are to name a schema begin like nothing known.
    #[error("{part} begins with the byte {byte:#04x}, and what names a schema begins with 0x00 and an id{}", guid(part))]
    Magic {
        /// The value, the key, or a header.
        part: &'static str,
        /// The first byte.
        byte: u8,
    },
    /// The bytes that are to name a schema end too soon.
    #[error("{part} has {bytes} bytes, and what names its schema takes {needed}")]
    Short {
        /// The value, the key, or a header.
        part: &'static str,
        /// How many there are.
        bytes: usize,
        /// How many there must be at least.
        needed: usize,
    },
    /// Another format than the topic's configuration says.
    #[error("its schema is {found}, and the topic's `format` says {wanted}")]
    Format {
        /// What the registry has.
        found: Format,
        /// What the configuration says.
        wanted: Format,
    },
    /// The bytes are not what the schema describes.
    #[error("the bytes do not fit the {format} schema: {why}")]
    Misfit {
        /// The schema's language.
        format: Format,
        /// Where, and what is wrong.
        why: String,
    },
    /// A JSON value that its schema does not allow.
    #[error("the value does not satisfy its JSON Schema at `{at}`: {why}")]
    Invalid {
        /// Where, as a JSON pointer; empty for the whole.
        at: String,
        /// What is wrong.
        why: String,
    },
    /// A schema that nothing can be read with.
    #[error("the {format} schema cannot be used: {why}")]
    Unusable {
        /// Its language.
        format: Format,
        /// What is wrong with it.
        why: String,
    },
}

fn guid(part: &str) -> &'static str {
    if part.starts_with("the header") { ", or 0x01 and a GUID" } else { "" }
}

impl SchemaError {
    /// Always [`Cause::Poison`].
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Poison
    }

    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "schema_magic",
            Self::Short { .. } => "schema_truncated",
            Self::Format { .. } => "schema_format",
            Self::Misfit { .. } => "schema_misfit",
            Self::Invalid { .. } => "schema_invalid_value",
            Self::Unusable { .. } => "schema_unusable",
        }
    }

    /// A schema that nothing can be read with.
    #[must_use]
    pub fn unusable(format: Format, why: impl ToString) -> Self {
        Self::Unusable { format, why: cut(why) }
    }

    pub(super) fn misfit(format: Format, why: impl ToString) -> Self {
        Self::Misfit { format, why: cut(why) }
    }

    pub(super) fn invalid(at: impl ToString, why: impl ToString) -> Self {
        Self::Invalid { at: cut(at), why: cut(why) }
    }
}

/// Libraries quote what they were given, which may be long, and write several lines.
fn cut(why: impl ToString) -> String {
    let mut text = why.to_string();
    text.truncate(text.floor_char_boundary(LIMIT_TEXT_BYTES));
    if text.contains(['\n', '\r']) { text.split_whitespace().collect::<Vec<_>>().join(" ") } else { text }
}
