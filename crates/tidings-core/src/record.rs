//! Records: the value of each topic of our own, versioned.
//!
//! Owns: encoding, decoding and the version header; one file per topic. Fields are added, never changed; readers ignore
//! unknown fields and refuse a version newer than they know. Neighbours: services write and read them, `kafka` moves them.

pub mod cursor;
pub mod dead_letter;
pub mod meta;
pub mod notified;
pub mod retry;
pub mod signal;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The header that says which version of its type a value is, as decimal digits.
pub const VERSION_HEADER: &str = "tidings-version";

/// A value on a topic of our own: JSON, with its version in [`VERSION_HEADER`].
pub trait Record: Serialize + DeserializeOwned {
    /// What the value is called in messages, and the name of its schema in `schemas/records/`.
    const NAME: &'static str;
    /// The version that this release writes, and the newest it reads.
    const VERSION: u32;
}

/// Why bytes are no record of the expected type.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The version header is missing or no number.
    #[error("{name} record without a readable `{VERSION_HEADER}` header: it was not written by tidings")]
    Unversioned {
        /// The expected type.
        name: &'static str,
    },
    /// Written by a later release.
    #[error("{name} record of version {found}, this release reads up to {known}: upgrade this process")]
    Newer {
        /// The expected type.
        name: &'static str,
        /// The version in the header.
        found: u32,
        /// The newest version this release reads.
        known: u32,
    },
    /// The bytes are not what the version promises.
    #[error("{name} record that does not read as its version promises")]
    Malformed {
        /// The expected type.
        name: &'static str,
        /// Where the JSON departs from it.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// A short name that does not change between releases, for `dlq` and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unversioned { .. } => "unversioned",
            Self::Newer { .. } => "newer_version",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// What is wrong, with where in the JSON, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::Malformed { source, .. } => format!("{self}: {source}"),
            Self::Unversioned { .. } | Self::Newer { .. } => self.to_string(),
        }
    }
}

/// The value's bytes.
///
/// # Errors
/// If a value cannot be written as JSON, which only a map with keys that are no text could cause; no record has one.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(record).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

/// The same, written behind what `buffer` holds.
///
/// # Errors
/// As [`encode`]; then the buffer's end is unspecified.
pub fn encode_into<R: Record>(record: &R, buffer: &mut Vec<u8>) -> Result<(), RecordError> {
    serde_json::to_writer(buffer, record).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

/// Reads a value back, given the content of its version header.
///
/// # Errors
/// If the header is missing, names a newer version, or the bytes do not read.
pub fn decode<R: Record>(version: Option<&[u8]>, value: &[u8]) -> Result<R, RecordError> {
    let found = version
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.parse::<u32>().ok())
        .ok_or(RecordError::Unversioned { name: R::NAME })?;
    if found > R::VERSION {
        return Err(RecordError::Newer { name: R::NAME, found, known: R::VERSION });
    }
    serde_json::from_slice(value).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

#[cfg(test)]
mod tests {
    use super::meta::EpochRecord;
    use super::*;

    const VALUE: &[u8] = br#"{"epoch":3,"partitions":4,"createdAt":"2026-01-31T12:00:00.000Z","added":"later"}"#;

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(decode::<EpochRecord>(Some(b"1"), VALUE).unwrap().partitions, 4);
    }

    #[test]
    fn a_newer_version_is_refused_and_named() {
        let error = decode::<EpochRecord>(Some(b"2"), VALUE).unwrap_err();
        insta::assert_snapshot!(error, @"epoch record of version 2, this release reads up to 1: upgrade this process");
    }

    #[test]
    fn a_value_without_its_version_is_not_ours() {
        for version in [None, Some(&b""[..]), Some(b"one"), Some(b"\xff")] {
            assert!(matches!(decode::<EpochRecord>(version, VALUE), Err(RecordError::Unversioned { .. })));
        }
    }
}
