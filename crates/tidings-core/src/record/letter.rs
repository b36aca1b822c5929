//! Letters: dead letters as they are read back from `dlq`, by who looks for what was buried or tries it again.
//!
//! Owns: telling our own headers from the original's, which stand in front of them. Whoever may write to `dlq` can forge a letter, so
//! what contradicts itself is refused, and the rest is only ever believed to be a record of a topic that is read anyway. Neighbours:
//! `dead_letter` beside writes them, `selection` says which are meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Header;
use super::context::{CONTEXT_VERSION, CONTEXT_VERSION_HEADER, LINE_HEADER, RULE_HEADER};
use crate::time::Timestamp;

/// The stage and class of a letter that stands for records which retention took before anybody read them.
const LOST: (&str, &str) = ("read", "records_lost");

/// Where a letter lies on `dlq`; written `PARTITION@OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// A text that is no [`LetterId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter is named by its partition and offset on dlq, as `2@17`; this is {text:?}")]
pub struct LetterIdError {
    text: String,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = LetterIdError;

    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        let refused = || LetterIdError { text: text.chars().take(40).collect() };
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.split_once('@').filter(|(partition, offset)| number(partition) && number(offset));
        let (partition, offset) = parts.ok_or_else(refused)?;
        Ok(Self { partition: partition.parse().map_err(|_| refused())?, offset: offset.parse().map_err(|_| refused())? })
    }
}

impl Serialize for LetterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LetterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A record of `dlq` as a consumer hands it out.
#[derive(Debug, Clone, Copy)]
pub struct RawLetter<'a> {
    /// Where it lies.
    pub id: LetterId,
    /// When it was appended.
    pub appended_at: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its last headers, in order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// How many stand in front of those and cannot be read, for the name of one of them is no text.
    pub unread_headers: usize,
}

/// A record as it was buried, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it lies on `dlq`.
    pub id: LetterId,
    /// When it was buried.
    pub buried_at: Timestamp,
    /// Where it lay before.
    pub original: OriginalPlace,
    /// What went wrong with it.
    pub diagnosis: Diagnosis,
    /// The process that says so.
    pub node: String,
    /// How often its delivery was tried, if it is one.
    pub attempt: Option<u32>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value, or what is left of it.
    pub value: Option<Vec<u8>>,
    /// The headers that it had, as far as they can be read.
    pub headers: Vec<Header>,
    /// How many it had in front of those.
    pub unread_headers: usize,
    /// There if the brokers did not take all of it.
    pub truncated: Option<Truncated>,
}

/// The place of a record before it was buried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginalPlace {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp there, if it had one.
    pub timestamp: Option<Timestamp>,
}

impl fmt::Display for OriginalPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// What went wrong with a record, as its headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The step that failed.
    pub stage: String,
    /// The kind of failure.
    pub cause: String,
    /// A short name of it.
    pub class: String,
    /// A sentence.
    pub message: String,
    /// The rule, if it was one.
    pub rule: Option<String>,
    /// The line of that rule, as `FILE:LINE`.
    pub line: Option<String>,
}

/// What is known of a value of which only the beginning is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    /// How large it was.
    pub bytes: Option<u64>,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: Option<String>,
}

/// Why a record on `dlq` is no letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// It was not written by tidings.
    #[error("it has no header `{CONTEXT_VERSION_HEADER}`: it was not written by tidings")]
    NoContext,
    /// Written by a later release.
    #[error("its context headers are of version {found}, this release reads up to {CONTEXT_VERSION}: use a later release")]
    Newer {
        /// The version.
        found: u32,
    },
    /// A header without which nobody knows what it was.
    #[error("its header `{name}` is missing or does not read")]
    Header {
        /// Which.
        name: &'static str,
    },
    /// Two headers that say the same thing differ: tidings writes both alike.
    #[error("its headers `{ours}` and `{theirs}` contradict each other: it was forged or changed")]
    Contradicted {
        /// The one of tidings.
        ours: &'static str,
        /// The one of Kafka Connect.
        theirs: &'static str,
    },
}

impl LetterError {
    /// A short name that does not change between releases.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::NoContext => "no_context",
            Self::Newer { .. } => "newer_version",
            Self::Header { .. } => "header_invalid",
            Self::Contradicted { .. } => "contradicted",
        }
    }
}

/// What we say of a record, behind its own headers.
struct Ours<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

impl Ours<'_> {
    fn optional(&self, name: &'static str) -> Result<Option<String>, LetterError> {
        let found = self.0.iter().rev().find(|(found, _)| *found == name).and_then(|(_, value)| *value);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| LetterError::Header { name });
        found.map(text).transpose()
    }

    fn required(&self, name: &'static str) -> Result<String, LetterError> {
        self.optional(name)?.ok_or(LetterError::Header { name })
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, LetterError> {
        self.optional(name)?.map(|text| text.parse().map_err(|_| LetterError::Header { name })).transpose()
    }

    /// The same said twice, as tidings says it and as Kafka Connect would.
    fn agreed(&self, ours: &'static str, theirs: &'static str) -> Result<String, LetterError> {
        let said = self.required(ours)?;
        if self.required(theirs)? == said { Ok(said) } else { Err(LetterError::Contradicted { ours, theirs }) }
    }

    fn original(&self) -> Result<OriginalPlace, LetterError> {
        let number = |ours: &'static str, theirs| {
            let said: Option<i64> = self.agreed(ours, theirs)?.parse().ok();
            said.filter(|said| *said >= 0).ok_or(LetterError::Header { name: ours })
        };
        let partition = number("tidings-original-partition", "__connect.errors.partition")?;
        Ok(OriginalPlace {
            topic: self.agreed("tidings-original-topic", "__connect.errors.topic")?,
            partition: i32::try_from(partition).map_err(|_| LetterError::Header { name: "tidings-original-partition" })?,
            offset: number("tidings-original-offset", "__connect.errors.offset")?,
            timestamp: self.parsed("tidings-original-timestamp")?,
        })
    }

    fn diagnosis(&self) -> Result<Diagnosis, LetterError> {
        Ok(Diagnosis {
            stage: self.agreed("tidings-stage", "__connect.errors.stage")?,
            cause: self.required("tidings-cause")?,
            class: self.agreed("tidings-error-class", "__connect.errors.exception.class.name")?,
            message: self.agreed("tidings-error-message", "__connect.errors.exception.message")?,
            rule: self.optional(RULE_HEADER)?,
            line: self.optional(LINE_HEADER)?,
        })
    }

    fn truncated(&self) -> Result<Option<Truncated>, LetterError> {
        if self.optional("tidings-truncated")?.is_none() {
            return Ok(None);
        }
        let (bytes, sha256) = (self.parsed("tidings-original-bytes")?, self.optional("tidings-original-sha256")?);
        Ok(Some(Truncated { bytes, sha256 }))
    }
}

impl Letter {
    /// Reads a record of `dlq`. The headers that it had stand in front of the last [`CONTEXT_VERSION_HEADER`], whatever their names.
    ///
    /// # Errors
    /// If tidings did not write it, or a later release did, or somebody changed it.
    pub fn read(raw: &RawLetter<'_>) -> Result<Self, LetterError> {
        let begin = raw.headers.iter().rposition(|(name, _)| *name == CONTEXT_VERSION_HEADER).ok_or(LetterError::NoContext)?;
        let (before, behind) = raw.headers.split_at_checked(begin).unwrap_or_default();
        let ours = Ours(behind);
        match ours.parsed(CONTEXT_VERSION_HEADER)? {
            Some(CONTEXT_VERSION) => {}
            Some(found) if found > CONTEXT_VERSION => return Err(LetterError::Newer { found }),
            _ => return Err(LetterError::Header { name: CONTEXT_VERSION_HEADER }),
        }
        Ok(Self {
            id: raw.id,
            buried_at: raw.appended_at,
            original: ours.original()?,
            diagnosis: ours.diagnosis()?,
            node: ours.required("tidings-node")?,
            attempt: ours.parsed("tidings-attempt")?,
            key: raw.key.map(<[u8]>::to_vec),
            value: raw.value.map(<[u8]>::to_vec),
            headers: before.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec))).collect(),
            unread_headers: raw.unread_headers,
            truncated: ours.truncated()?,
        })
    }

    /// Whether it stands for records that nobody has: retention took them before they were read.
    #[must_use]
    pub fn stands_for_lost(&self) -> bool {
        (self.diagnosis.stage.as_str(), self.diagnosis.class.as_str()) == LOST
    }
}

#[cfg(test)]
mod tests;
