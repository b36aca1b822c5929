//! Errors: why a schema is not there, or a record not read with it.

use tidings_core::fate::Cause;
use tidings_core::schema::{SchemaError, SchemaId};
use tidings_core::time::Delay;

use crate::worker::WorkerError;

/// Why a schema is not there, or a record not read with it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What names the schema cannot be read.
    #[error(transparent)]
    Schema(SchemaError),
    /// The record does not go with its schema, or the schema with anything.
    #[error("schema {id}")]
    Misread {
        /// Which.
        id: SchemaId,
        /// What is wrong.
        source: SchemaError,
    },
    /// A record needs a registry, and none is configured.
    #[error("its schema lies in a schema registry, and none is configured: set `registry.urls`")]
    Absent,
    /// The registry does not have a schema.
    #[error("the schema registry has no schema {id}, and had none for {waited}: {told}")]
    Unknown {
        /// Which.
        id: SchemaId,
        /// For how long it was asked.
        waited: Delay,
        /// What it says.
        told: String,
    },
    /// A schema in a language that is not read.
    #[error("the schema is of the type {0:?}; AVRO, PROTOBUF and JSON are read")]
    Foreign(String),
    /// A schema, with what it refers to, is larger than is read.
    #[error(
        "the schema has more than {limit} bytes with all that it refers to: `registry.schema_bytes` says how large one may be"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The registry does not let us in.
    #[error(
        "the schema registry refuses us with {status}: {told}; see `registry.user`, `registry.password` and `registry.token`"
    )]
    Forbidden {
        /// 401 or 403.
        status: u16,
        /// What it says.
        told: String,
    },
    /// It does not answer, or not as a registry.
    #[error("the schema registry does not answer as it should: {why}; asking again")]
    Away {
        /// What came instead.
        why: String,
        /// When it wants to be asked again.
        again: Option<std::time::Duration>,
    },
    /// It does not take what it is given.
    #[error("the schema registry does not take it ({status}): {told}")]
    Refused {
        /// Its answer.
        status: u16,
        /// What it says.
        told: String,
    },
    /// Who waited for a schema waits no longer.
    #[error("a schema was waited for, and that was stopped")]
    Stopped,
    /// A file that the configuration names.
    #[error("`registry.{key}`: {file} cannot be used: {why}")]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is configured makes no client.
    #[error("the client of the schema registry could not be made: {0}")]
    Client(String),
    /// Its thread.
    #[error("the schema registry cannot be asked")]
    Thread(#[from] WorkerError),
}

impl RegistryError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Schema(error) => error.cause(),
            Self::Misread { source, .. } => source.cause(),
            // By now it was waited for.
            Self::Unknown { .. } | Self::Absent | Self::Foreign(_) | Self::TooLarge { .. } => Cause::Poison,
            Self::Forbidden { .. } => Cause::Forbidden,
            Self::Away { .. } => Cause::Dependency,
            Self::Refused { .. } | Self::Stopped | Self::File { .. } | Self::Client(_) => Cause::Refused,
            Self::Thread(error) => error.cause(),
        }
    }

    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Schema(error) => error.class(),
            Self::Misread { source, .. } => source.class(),
            Self::Absent => "registry_absent",
            Self::Unknown { .. } => "schema_unknown",
            Self::Foreign(_) => "schema_unusable",
            Self::TooLarge { .. } => "schema_too_large",
            Self::Forbidden { .. } => "registry_forbidden",
            Self::Away { .. } => "registry_away",
            Self::Refused { .. } => "registry_refused",
            Self::Stopped => "registry_stopped",
            Self::File { .. } | Self::Client(_) => "registry_client",
            Self::Thread(_) => "registry_thread",
        }
    }

    /// Whether nothing can be read before somebody changes what the registry knows us by.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    pub(super) fn away(why: String) -> Self {
        Self::Away { why, again: None }
    }

    /// The text with those of the sources.
    #[must_use]
    pub fn in_full(&self) -> String {
        in_full(self)
    }
}

/// A text with those of its sources: the outermost of a failed request does not say why, and some say again what the next one does.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    sources.fold(error.to_string(), |text, source| {
        let next = source.to_string();
        if text.contains(&next) { text } else { format!("{text}: {next}") }
    })
}
