//! Remains: a record on its way to `dlq`, kept until a broker has taken as much of it as there is room for.
//!
//! Owns: the bytes with the headers as they came, which are carried on without being read: their names need not be text. Refuses to
//! say what of them is left: core `record::dead_letter` does. Neighbours: inbox and courier bury; the pipeline has what it read.

use rdkafka::message::{BorrowedMessage, Headers as _, Message, OwnedHeaders};
use tidings_core::ids::NodeId;
use tidings_core::record::context::{Context, Original};
use tidings_core::record::dead_letter::{DeadLetter, DeadRecord, Extent};
use tidings_core::record::trace::TraceContext;
use tidings_core::rules::Burial;
use tidings_core::time::Timestamp;

use super::consumer::{size_of, trace_of};

/// A record that is to be buried.
#[derive(Debug, Clone)]
pub struct Remains {
    /// The topic it lay on.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp there, if it had one.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// The headers it had, byte for byte.
    pub carried: Option<OwnedHeaders>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
    /// How often its delivery was tried, if it is one.
    pub attempt: Option<u32>,
    /// Why it is buried.
    pub burial: Burial,
    /// How much of it is written.
    pub extent: Extent,
}

impl Remains {
    /// All of `record`, which is buried because of `burial`.
    #[must_use]
    pub fn of(record: &BorrowedMessage<'_>, burial: Burial) -> Self {
        Self {
            topic: record.topic().to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().to_millis().map(Timestamp::from_millis),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            carried: record.headers().map(rdkafka::message::BorrowedHeaders::detach),
            trace: record.headers().and_then(trace_of),
            attempt: None,
            burial,
            extent: Extent::Whole,
        }
    }

    /// What it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        length(&self.key) + length(&self.value) + self.carried.as_ref().map_or(0, size_of)
    }

    /// What `node` writes, and the headers that go in front of those in it.
    #[must_use]
    pub fn record<'a>(&'a self, node: &'a NodeId) -> (DeadRecord<'a>, Option<&'a OwnedHeaders>) {
        let Self { topic, partition, offset, timestamp, attempt, .. } = self;
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        let original = Original { topic, partition: *partition, offset: *offset, timestamp: *timestamp, key };
        let context = Context { original, failure: self.burial.failure(), attempt: *attempt, trace: self.trace.as_ref(), node };
        let headers = self.carried.as_ref().map_or(0, |carried| carried.count());
        let record = DeadLetter { context, value, headers }.record(self.extent);
        (record, self.carried.as_ref().filter(|_| self.extent.keeps_headers()))
    }
}
