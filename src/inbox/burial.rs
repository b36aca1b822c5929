//! Burial: records of our own topics that do not read go to `dlq`, with their bytes, and are folded over.
//!
//! Owns: the producer for that and the burials the brokers have not confirmed, for which the projection waits. Never waits
//! itself: what has no room in the producer's queue, or what `dlq` refuses, is kept, and the projector reads and folds nothing more until it is
//! written. A producer that can write nothing more ends the inbox, before anything is folded over it.

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
use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};
use crate::kafka::refusals::{RefusalMeters, Refusals};
use crate::kafka::remains::Remains;
use crate::telemetry::{Complaints, Place};

const TOO_LARGE: &str = "too_large";

/// A burial under way.
struct Burial {
    remains: Arc<Remains>,
    open: Arc<AtomicUsize>,
    answers: Sender<Answer>,
    complaints: Complaints,
}

/// What the brokers said that leaves a burial open.
enum Answer {
    /// They want less: this is to be written in its place.
    Less(Remains),
    /// `dlq` takes nothing now.
    Refused(Arc<Remains>, ProduceError),
    /// Nothing can be written any more.
    Failed(ProduceError),
}

impl Ticket for Burial {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        let Remains { topic, partition, offset, .. } = &*self.remains;
        let place = Place { topic, partition: *partition, offset: *offset };
        match outcome {
            Ok(_) => {}
            Err(error @ ProduceError::TooLarge { .. }) => {
                if let Some(extent) = self.remains.extent.less() {
                    self.complaints.say(place, TOO_LARGE, "a record is too large for dlq, and was buried in part");
                    let less = Remains { extent, ..(*self.remains).clone() };
                    // Nobody listens any more once the inbox has ended.
                    let _ = self.answers.send(Answer::Less(less));
                    return;
                }
                // Not even its context. It stays where it lies until retention ends.
                let what = format!("a record that is not folded could not be buried either: {error}");
                self.complaints.say(place, error.cause().name(), &what);
            }
            Err(error @ ProduceError::Refused { .. }) => {
                let _ = self.answers.send(Answer::Refused(self.remains, error));
                return;
            }
            Err(error) => {
                let _ = self.answers.send(Answer::Failed(error));
                return;
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
    /// What the producer's queue had no room for, or `dlq` did not take. They count as open.
    waiting: VecDeque<Arc<Remains>>,
    /// From the producer's thread; as many as are open at most.
    answers: (Sender<Answer>, Receiver<Answer>),
    complaints: Complaints,
    refusals: Refusals,
}

impl Graveyard {
    pub(super) fn new(
        cluster: &Cluster,
        node: NodeId,
        complaints: Complaints,
        (clock, meters): (Clock, RefusalMeters),
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            refusals: Refusals::new(clock, meters),
            producer: Producer::new(cluster, "inbox")?,
            dlq: cluster.names().dlq(),
            node,
            open: Arc::default(),
            waiting: VecDeque::new(),
            answers: crossbeam_channel::unbounded(),
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

    /// Why nothing can be buried now, in words for an operator, if so.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusals.told_of(&self.dlq)
    }

    /// Hands over what waits, as far as there is room and `dlq` takes it.
    ///
    /// # Errors
    /// If the producer can write nothing more. The burial stays open, so nothing is folded over its record.
    pub(super) fn tend(&mut self) -> Result<(), ProduceError> {
        self.hear()?;
        if self.is_quiet() {
            self.refusals.over(&self.dlq);
        }
        if self.waiting.is_empty() || !self.refusals.admits(&self.dlq) {
            return Ok(());
        }
        while let Some(remains) = self.waiting.pop_front() {
            if !self.hand_over(&remains) {
                self.waiting.push_front(remains);
                break;
            }
        }
        Ok(())
    }

    /// Takes what the brokers have said.
    fn hear(&mut self) -> Result<(), ProduceError> {
        for answer in self.answers.1.try_iter() {
            match answer {
                Answer::Less(remains) => self.waiting.push_back(Arc::new(remains)),
                Answer::Refused(remains, error) => {
                    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                    self.refusals.refused(&self.dlq, &why);
                    self.waiting.push_back(remains);
                }
                Answer::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes back what could not be buried of partitions that are read again, here or elsewhere: it would be buried twice.
    ///
    /// # Errors
    /// As [`Graveyard::tend`].
    pub(super) fn forget(&mut self, gone: &[Partition]) -> Result<(), ProduceError> {
        self.hear()?;
        let before = self.waiting.len();
        self.waiting.retain(|remains| !gone.iter().any(|one| *one.topic == *remains.topic && one.number == remains.partition));
        self.open.fetch_sub(before - self.waiting.len(), Ordering::Release);
        Ok(())
    }

    /// Waits until it is quiet, at most about three times `limit`.
    ///
    /// # Errors
    /// As [`Graveyard::tend`].
    pub(super) fn flush(&mut self, limit: Duration) -> Result<(), ProduceError> {
        // What was refused as too large is a stub in the second round, and only a context in the third.
        for _ in 0..3 {
            self.tend()?;
            if let Err(error) = self.producer.flush(limit) {
                tracing::warn!(%error, "burials are not confirmed yet");
                break;
            }
        }
        self.tend()
    }

    /// Buries a record; the projection waits until the brokers have it.
    ///
    /// # Errors
    /// As [`Graveyard::tend`].
    pub(super) fn bury(&mut self, record: &BorrowedMessage<'_>, why: &Unfit) -> Result<(), ProduceError> {
        let place = Place { topic: record.topic(), partition: record.partition(), offset: record.offset() };
        self.complaints.say(place, why.class(), "a record of our own is not folded, and was buried in dlq");
        self.open.fetch_add(1, Ordering::Relaxed);
        let burial = rules::Burial::new("inbox", why.cause(), why.class(), why.in_full());
        self.waiting.push_back(Arc::new(Remains::of(record, burial)));
        self.tend()
    }

    /// Gives `remains` to the producer; says whether it had room.
    fn hand_over(&self, remains: &Arc<Remains>) -> bool {
        let ticket = Burial {
            remains: remains.clone(),
            open: self.open.clone(),
            answers: self.answers.0.clone(),
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

    fn settle(burial: Burial, outcome: Result<Written, ProduceError>) -> usize {
        let open = burial.open.clone();
        Box::new(burial).settled(outcome);
        open.load(Ordering::Acquire)
    }

    fn burial(extent: Extent) -> (Burial, Receiver<Answer>) {
        let (answers, said) = crossbeam_channel::unbounded();
        let remains = Remains {
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
            extent,
        };
        let complaints = Complaints::new("inbox", Clock::start());
        (Burial { remains: Arc::new(remains), open: Arc::new(AtomicUsize::new(1)), answers, complaints }, said)
    }

    #[test]
    fn what_is_too_large_for_dlq_stays_open_until_what_is_left_of_it_has_ended() {
        let too_large = || Err(ProduceError::TooLarge { topic: "dlq".into() });
        for (extent, less) in [(Extent::Whole, Extent::Stub), (Extent::Stub, Extent::Bare)] {
            let (burial, said) = burial(extent);
            assert_eq!(settle(burial, too_large()), 1);
            assert!(matches!(said.try_recv(), Ok(Answer::Less(Remains { extent, .. })) if extent == less));
        }
        let (bare, said) = burial(Extent::Bare);
        assert_eq!(settle(bare, too_large()), 0, "not even that: given up");
        assert!(said.is_empty());
    }

    #[test]
    fn a_burial_that_dlq_refuses_stays_open_and_comes_back() {
        let (burial, said) = burial(Extent::Stub);
        let source = rdkafka::error::KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::TopicAuthorizationFailed);
        assert_eq!(settle(burial, Err(ProduceError::Refused { topic: "dlq".into(), source })), 1);
        assert!(matches!(said.try_recv(), Ok(Answer::Refused(remains, _)) if remains.extent == Extent::Stub));
    }

    #[test]
    fn a_burial_that_fails_otherwise_stays_open_and_is_told() {
        let (burial, said) = burial(Extent::Whole);
        let source = rdkafka::error::KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::Fatal);
        assert_eq!(settle(burial, Err(ProduceError::Failed { topic: "dlq".into(), source })), 1);
        assert!(matches!(said.try_recv(), Ok(Answer::Failed(_))));
    }
}
