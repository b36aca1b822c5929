//! Records that are made before they are written, as those of a transaction are.
//!
//! Owns: what such a record holds. Refuses to write it: `transaction` does. Neighbours: courier and replay make them.

use rdkafka::message::OwnedHeaders;
use tidings_core::ids::NodeId;
use tidings_core::record::{Header, Record, RecordError, encode};

use super::producer::{Outgoing, version_header};
use super::remains::Remains;

/// A record to be written.
#[derive(Debug)]
pub struct Made {
    /// Where to.
    pub topic: String,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Its own headers.
    pub headers: Vec<Header>,
    /// The headers of what is buried, as they came.
    carried: Option<OwnedHeaders>,
}

impl Made {
    /// A record of our own, with `more` headers.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn of<R: Record>(topic: &str, key: &str, record: &R, more: Vec<Header>) -> Result<Self, RecordError> {
        Ok(Self {
            topic: topic.to_owned(),
            key: Some(key.as_bytes().to_vec()),
            value: Some(encode(record)?),
            headers: std::iter::once(version_header::<R>()).chain(more).collect(),
            carried: None,
        })
    }

    /// The record by which `node` buries `remains`.
    #[must_use]
    pub fn burying(dlq: &str, remains: &Remains, node: &NodeId) -> Self {
        let (record, carried) = remains.record(node);
        Self {
            topic: dlq.to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers,
            carried: carried.cloned(),
        }
    }

    /// The record, and the headers that go in front of its own.
    #[must_use]
    pub fn outgoing(&self) -> (Outgoing<'_>, Option<&OwnedHeaders>) {
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        (Outgoing { topic: &self.topic, partition: None, key, value, headers: &self.headers }, self.carried.as_ref())
    }
}
