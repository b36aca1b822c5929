//! Errors: why a record is no event.
//!
//! Owns: what each refusal says and the class it is counted under. The bytes are at fault, always. Neighbours: every
//! envelope beside refuses with these.

use std::borrow::Cow;
use std::fmt;

use crate::fate::Cause;
use crate::ids::IdError;
use crate::time::TimestampError;

/// What an event is, said where there is none.
const EXPECTED: &str = "an event is a JSON object with `type` and `data`, or in an envelope of docs/events.md";

/// A part of a record, as a refusal names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A field of the value.
    Field(Cow<'static, str>),
    /// A header.
    Header(Cow<'static, str>),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "the field `{name}`"),
            Self::Header(name) => write!(f, "the header `{name}`"),
        }
    }
}

impl Part {
    pub(super) fn field(name: &'static str) -> Self {
        Self::Field(Cow::Borrowed(name))
    }

    pub(super) fn header(name: &'static str) -> Self {
        Self::Header(Cow::Borrowed(name))
    }
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
    #[error("{what} is not JSON: {source}")]
    NotJson {
        /// The value, or the text inside it that was to be JSON.
        what: &'static str,
        /// Where it departs from JSON.
        source: serde_json::Error,
    },
    /// Arrays or objects lie in each other too deep to be read safely.
    #[error("{what} nests deeper than {} levels at line {line}, column {column}", super::json::LIMIT_DEPTH)]
    TooDeep {
        /// The value, or the text inside it that was to be JSON.
        what: &'static str,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("{what} is {found}; {EXPECTED}")]
    NotAnObject {
        /// The value, or the part of it that was to be the event.
        what: &'static str,
        /// What it is instead.
        found: &'static str,
    },
    /// A part without which there is no event.
    #[error("{part} is missing; {EXPECTED}")]
    Missing {
        /// Which part.
        part: Part,
    },
    /// A field of another type than it must have.
    #[error("{part} is {found}, it must be {expected}")]
    WrongType {
        /// Which part.
        part: Part,
        /// What it is.
        found: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A type, a source or an id whose text is no name.
    #[error("{part} cannot be used: {source}")]
    Name {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        source: IdError,
    },
    /// A time that is no instant.
    #[error("{part} cannot be used: {source}")]
    Time {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        source: TimestampError,
    },
    /// A header whose bytes are no text.
    #[error("{part} is not UTF-8: the byte at {byte} fits no character")]
    HeaderNotText {
        /// Which header.
        part: Part,
        /// How many bytes before it are well formed.
        byte: usize,
    },
    /// An envelope that is known and not read.
    #[error("{part} is {found:?}: {instead}")]
    Unsupported {
        /// Where it says so.
        part: Part,
        /// What it says, shortened.
        found: String,
        /// What is read instead.
        instead: &'static str,
    },
    /// What is wrong in the envelope that a record was taken for.
    #[error("read as {envelope}: {source}")]
    In {
        /// Which envelope, and what it was recognised by.
        envelope: &'static str,
        /// What is wrong.
        source: Box<EventError>,
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
            Self::Missing { part: Part::Field(_) } => "field_missing",
            Self::Missing { part: Part::Header(_) } => "header_missing",
            Self::WrongType { .. } => "field_wrong_type",
            Self::Name { part: Part::Field(_), .. } => "field_invalid",
            Self::Name { part: Part::Header(_), .. } | Self::HeaderNotText { .. } => "header_invalid",
            Self::Time { .. } => "time_invalid",
            Self::Unsupported { .. } => "envelope_unsupported",
            Self::In { source, .. } => source.class(),
        }
    }

    /// Whether there is just nothing in the record, however it is wrapped.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::In { source, .. } => source.is_empty(),
            _ => false,
        }
    }

    /// The same, said to be in an envelope.
    pub(super) fn within(self, envelope: &'static str) -> Self {
        Self::In { envelope, source: Box::new(self) }
    }
}
