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
use rdkafka::message::{BorrowedMessage, Message};
use tidings_core::ids::NodeId;
use tidings_core::record::dead_letter::DeadRecord;
use tidings_core::rules;

use super::batch::Unfit;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};
use crate::kafka::remains::Remains;
use crate::telemetry::{Complaints, Place};

const TOO_LARGE: &str = "too_large";

/// A burial under way.
struct Burial {
    remains: Arc<Remains>,
    open: Arc<AtomicUsize>,
    cut: Sender<Remains>,
    complaints: Complaints,
}

impl Burial {
    /// Asks for less of the record to be written. Says whether there is less, and somebody to ask.
    fn is_cut(&self) -> bool {
        let less = self.remains.extent.less();
        less.is_some_and(|extent| self.cut.send(Remains { extent, ..(*self.remains).clone() }).is_ok())
    }
}

impl Ticket for Burial {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        let Remains { topic, partition, offset, .. } = &*self.remains;
        let place = Place { topic, partition: *partition, offset: *offset };
        match outcome {
            Ok(_) => {}
            // It stays open: what is left takes its place.
            Err(ProduceError::TooLarge { .. }) if self.is_cut() => {
                self.complaints.say(place, TOO_LARGE, "a record is too large for dlq, and was buried in part");
                return;
            }
            // Not even `dlq` takes it. It stays where it lies until retention ends.
            Err(error) => {
                let what = format!("a record that is not folded could not be buried either: {error}");
                self.complaints.say(place, error.cause().name(), &what);
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
    cut: (Sender<Remains>, Receiver<Remains>),
    complaints: Complaints,
}

impl Graveyard {
    pub(super) fn new(cluster: &Cluster, node: NodeId, complaints: Complaints) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: Producer::new(cluster, "inbox")?,
            dlq: cluster.names().dlq(),
            node,
            open: Arc::default(),
            waiting: VecDeque::new(),
            cut: crossbeam_channel::unbounded(),
            complaints,
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
        self.waiting.extend(self.cut.1.try_iter().map(Arc::new));
        while let Some(remains) = self.waiting.pop_front() {
            if !self.hand_over(&remains) {
                self.waiting.push_front(remains);
                return;
            }
        }
    }

    /// Waits until it is quiet, at most about three times `limit`.
    pub(super) fn flush(&mut self, limit: Duration) {
        // What was refused as too large is a stub in the second round, and only a context in the third.
        for _ in 0..3 {
            self.tend();
            if let Err(error) = self.producer.flush(limit) {
                tracing::warn!(%error, "burials are not confirmed yet");
                return;
            }
        }
    }

    /// Buries a record; the projection waits until the brokers have it.
    pub(super) fn bury(&mut self, record: &BorrowedMessage<'_>, why: &Unfit) {
        let place = Place { topic: record.topic(), partition: record.partition(), offset: record.offset() };
        self.complaints.say(place, why.class(), "a record of our own is not folded, and was buried in dlq");
        self.open.fetch_add(1, Ordering::Relaxed);
        let burial = rules::Burial::new("inbox", why.cause(), why.class(), why.in_full());
        self.waiting.push_back(Arc::new(Remains::of(record, burial)));
        self.tend();
    }

    /// Gives `remains` to the producer; says whether it had room.
    fn hand_over(&self, remains: &Arc<Remains>) -> bool {
        let ticket = Burial {
            remains: remains.clone(),
            open: self.open.clone(),
            cut: self.cut.0.clone(),
            complaints: self.complaints.clone(),
        };
        let (DeadRecord { key, value, headers }, carried) = remains.record(&self.node);
        let outgoing = Outgoing { topic: &self.dlq, partition: None, key, value, headers: &headers };
        match self.producer.send_carrying(outgoing, carried, Box::new(ticket)) {
            Ok(()) => {}
            Err((ProduceError::QueueFull, _)) => return false,
            Err((error, ticket)) => ticket.settled(Err(error)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::fate::Cause;
    use tidings_core::record::dead_letter::Extent;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_is_too_large_for_dlq_stays_open_until_what_is_left_of_it_has_ended() {
        let (open, (cut, asked)) = (Arc::new(AtomicUsize::new(1)), crossbeam_channel::unbounded());
        let settle = |remains: Remains| {
            let burial = Burial {
                remains: Arc::new(remains),
                open: open.clone(),
                cut: cut.clone(),
                complaints: Complaints::new("inbox", Clock::start()),
            };
            Box::new(burial).settled(Err(ProduceError::TooLarge { topic: "dlq".into() }));
            open.load(Ordering::Acquire)
        };
        let whole = Remains {
            topic: "n".into(),
            partition: 0,
            offset: 1,
            timestamp: None,
            key: None,
            value: Some(b"x".to_vec()),
            carried: None,
            trace: None,
            attempt: None,
            burial: rules::Burial::new("inbox", Cause::Poison, "malformed", String::new()),
            extent: Extent::Whole,
        };
        assert_eq!(settle(whole), 1);
        let stub = asked.try_recv().unwrap();
        assert_eq!((stub.extent, settle(stub)), (Extent::Stub, 1));
        let bare = asked.try_recv().unwrap();
        assert_eq!((bare.extent, settle(bare)), (Extent::Bare, 0), "not even that: given up");
        assert!(asked.is_empty());
    }
}
