//! The record of `dlq`: the bytes as they came, and headers that say why they lie here.
//!
//! Owns: the names of the context headers. The value and the original headers stay as they were; context is added beside
//! them, also under the `__connect.errors.` names that Kafka tools show (Kafka Connect, KIP-298).

use crate::fate::Cause;
use crate::ids::NodeId;
use crate::time::Timestamp;

/// What is kept of a value that is too large even for `dlq`: its first bytes.
pub const STUB_BYTES: usize = 64 * 1024;

/// A header as Kafka has it.
pub type Header = (String, Option<Vec<u8>>);

/// Where and why a record was buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The topic it came from.
    pub topic: &'a str,
    /// The partition it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp there, if it had one.
    pub timestamp: Option<Timestamp>,
    /// The step that failed, for instance `decode` or `render`.
    pub stage: &'static str,
    /// The kind of failure.
    pub cause: Cause,
    /// A short name of the failure, stable across releases, for instance `invalid_utf8`.
    pub class: &'static str,
    /// What is wrong, in a sentence.
    pub message: &'a str,
    /// The process that buried it.
    pub node: &'a NodeId,
}

impl DeadLetter<'_> {
    /// The context as headers, to be added behind the original ones.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let text = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let (partition, offset) = (self.partition.to_string(), self.offset.to_string());
        let mut headers = vec![
            text("tidings-original-topic", self.topic),
            text("tidings-original-partition", &partition),
            text("tidings-original-offset", &offset),
            text("tidings-stage", self.stage),
            text("tidings-cause", self.cause.name()),
            text("tidings-error-class", self.class),
            text("tidings-error-message", self.message),
            text("tidings-node", self.node.as_str()),
            text("__connect.errors.topic", self.topic),
            text("__connect.errors.partition", &partition),
            text("__connect.errors.offset", &offset),
            text("__connect.errors.stage", self.stage),
            text("__connect.errors.exception.class.name", self.class),
            text("__connect.errors.exception.message", self.message),
        ];
        if let Some(timestamp) = self.timestamp {
            headers.push(text("tidings-original-timestamp", &timestamp.to_string()));
        }
        headers
    }
}
