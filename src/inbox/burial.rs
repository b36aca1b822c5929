//! Burial: records of our own topics that do not read go to `dlq`, with their bytes, and are folded over.
//!
//! Owns: the producer for that and the burials the brokers have not confirmed, for which the projection waits. Never waits
//! itself: what has no room in the producer's queue is kept, and the projector reads nothing more until it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Message, OwnedHeaders};
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::dead_letter::{DeadLetter, Header, STUB_BYTES};
use tidings_core::time::Timestamp;

use super::batch::Unfit;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};

/// Where a record lay.
#[derive(Debug, Clone)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A record as it is to lie in `dlq`.
struct Remains {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// The original headers, byte for byte.
    carried: Option<OwnedHeaders>,
    context: Vec<Header>,
    place: Place,
    whole: bool,
}

impl Remains {
    /// What is left without what a stranger put into key and headers, and with the beginning of the value.
    fn stub(&self) -> Self {
        let value = self.value.as_deref().unwrap_or_default();
        let mut context = self.context.clone();
        context.push(("tidings-truncated".to_owned(), Some(b"true".to_vec())));
        context.push(("tidings-original-bytes".to_owned(), Some(value.len().to_string().into_bytes())));
        let value = value.get(..value.len().min(STUB_BYTES)).map(<[u8]>::to_vec);
        Self { key: None, value, carried: None, context, place: self.place.clone(), whole: false }
    }
}

/// A burial under way.
struct Burial {
    remains: Arc<Remains>,
    open: Arc<AtomicUsize>,
    stubs: Sender<Remains>,
}

impl Ticket for Burial {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        let Place { topic, partition, offset } = &self.remains.place;
        match outcome {
            Ok(_) => {}
            // It stays open: the stub takes its place.
            Err(ProduceError::TooLarge { .. }) if self.remains.whole && self.stubs.send(self.remains.stub()).is_ok() => {
                tracing::error!(topic, partition, offset, "`dlq` does not take a record of this size; buried as a stub");
                return;
            }
            // Not even `dlq` takes it. It stays where it lies until retention ends.
            Err(error) => {
                tracing::error!(topic, partition, offset, %error, cause = error.cause().name(), "a record that is not folded was not buried");
            }
        }
        self.open.fetch_sub(1, Ordering::Release);
    }
}

/// Where records that are not folded go.
pub(super) struct Graveyard {
    producer: Producer<Burial>,
    dlq: String,
    node: NodeId,
    /// Shared with the producer's thread, which counts down.
    open: Arc<AtomicUsize>,
    /// What the producer's queue had no room for. They count as open.
    waiting: VecDeque<Arc<Remains>>,
    /// What the producer's thread asks for; as many as are open at most.
    stubs: (Sender<Remains>, Receiver<Remains>),
}

impl Graveyard {
    pub(super) fn new(cluster: &Cluster, node: NodeId) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: Producer::new(cluster, "inbox")?,
            dlq: cluster.names().dlq(),
            node,
            open: Arc::default(),
            waiting: VecDeque::new(),
            stubs: crossbeam_channel::unbounded(),
        })
    }

    /// Whether every burial is confirmed or given up.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Whether nothing more may be read: the producer has no room.
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands over what waits, as far as there is room.
    pub(super) fn tend(&mut self) {
        self.waiting.extend(self.stubs.1.try_iter().map(Arc::new));
        while let Some(remains) = self.waiting.pop_front() {
            if !self.hand_over(&remains) {
                self.waiting.push_front(remains);
                return;
            }
        }
    }

    /// Waits until it is quiet, at most about twice `limit`.
    pub(super) fn flush(&mut self, limit: Duration) {
        // What was refused as too large in the first round is a stub in the second.
        for _ in 0..2 {
            self.tend();
            if let Err(error) = self.producer.flush(limit) {
                tracing::warn!(%error, "burials are not confirmed yet");
                return;
            }
        }
    }

    /// Buries a record; the projection waits until the brokers have it.
    pub(super) fn bury(&mut self, record: &BorrowedMessage<'_>, why: &Unfit) {
        let message = why.in_full();
        let letter = DeadLetter {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().to_millis().map(Timestamp::from_millis),
            stage: "inbox",
            cause: Cause::Poison,
            class: why.class(),
            message: &message,
            node: &self.node,
        };
        let place = Place { topic: record.topic().to_owned(), partition: record.partition(), offset: record.offset() };
        let Place { topic, partition, offset } = &place;
        tracing::error!(topic, partition, offset, error = message, dlq = self.dlq, "a record of our own is not folded; buried");
        self.open.fetch_add(1, Ordering::Relaxed);
        self.waiting.push_back(Arc::new(Remains {
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            carried: record.headers().map(BorrowedHeaders::detach),
            context: letter.headers(),
            place,
            whole: true,
        }));
        self.tend();
    }

    /// Gives `remains` to the producer; says whether it had room.
    fn hand_over(&self, remains: &Arc<Remains>) -> bool {
        let ticket = Burial { remains: remains.clone(), open: self.open.clone(), stubs: self.stubs.0.clone() };
        let (key, value) = (remains.key.as_deref(), remains.value.as_deref());
        let outgoing = Outgoing { topic: &self.dlq, partition: None, key, value, headers: &remains.context };
        match self.producer.send_carrying(outgoing, remains.carried.as_ref(), Box::new(ticket)) {
            Ok(()) => {}
            Err((ProduceError::QueueFull, _)) => return false,
            Err((error, ticket)) => ticket.settled(Err(error)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Arc<Remains> {
        let value = Some(vec![b'x'; STUB_BYTES + 1]);
        Arc::new(Remains {
            key: Some(vec![1]),
            value,
            carried: None,
            context: Vec::new(),
            place: Place { topic: "n".into(), partition: 0, offset: 1 },
            whole: true,
        })
    }

    #[test]
    fn what_is_too_large_for_dlq_stays_open_until_its_stub_has_ended() {
        let (open, (stubs, asked)) = (Arc::new(AtomicUsize::new(1)), crossbeam_channel::unbounded());
        let settle = |remains: Arc<Remains>| {
            let burial = Burial { remains, open: open.clone(), stubs: stubs.clone() };
            Box::new(burial).settled(Err(ProduceError::TooLarge { topic: "dlq".into() }));
            open.load(Ordering::Acquire)
        };
        assert_eq!(settle(whole()), 1);
        let stub = asked.try_recv().unwrap();
        assert_eq!((stub.value.as_ref().map(Vec::len), stub.key.as_ref()), (Some(STUB_BYTES), None));
        assert!(stub.context.contains(&("tidings-original-bytes".to_owned(), Some(b"65537".to_vec()))));
        assert_eq!(settle(Arc::new(stub)), 0, "not even the stub: given up");
        assert!(asked.is_empty());
    }
}
