//! Burial: records of our own topics that do not read go to `dlq`, with their bytes, and are folded over.
//!
//! Owns: the producer for that and the burials the brokers have not confirmed. Nothing of a partition is read behind one of its own, so there is one
//! for each partition at most, and the others are folded on. Never waits itself: what has no room in the producer's queue, or what `dlq` refuses,
//! is kept. A producer that can write nothing more ends the inbox, before anything is folded over it.

use std::collections::VecDeque;
use std::sync::Arc;
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
use crate::kafka::refusals::{Reason, RefusalMeters, Refusals};
use crate::kafka::remains::Remains;
use crate::telemetry::{Complaints, Place};

const TOO_LARGE: &str = "too_large";
/// How long what was sent is waited for when its partition goes to somebody else.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A burial under way.
struct Burial {
    remains: Arc<Remains>,
    answers: Sender<Answer>,
    complaints: Complaints,
}

/// What came of a burial.
enum Answer {
    /// It is written, or given up.
    Ended(Arc<Remains>),
    /// The brokers want less: this is to be written in its place.
    Less(Remains),
    /// `dlq` takes nothing now.
    Refused(Arc<Remains>, Reason),
    /// It was taken back before it was sent.
    Recalled(Arc<Remains>),
    /// Nothing can be written any more.
    Failed(ProduceError),
}

impl Burial {
    /// What follows from what the brokers said.
    fn answer(&self, outcome: Result<Written, ProduceError>) -> Answer {
        let Remains { topic, partition, offset, .. } = &*self.remains;
        let place = Place { topic, partition: *partition, offset: *offset };
        match outcome {
            Ok(_) => Answer::Ended(self.remains.clone()),
            Err(error @ ProduceError::TooLarge { .. }) => match self.remains.extent.less() {
                Some(extent) => {
                    self.complaints.say(place, TOO_LARGE, "a record is too large for dlq, and was buried in part");
                    Answer::Less(Remains { extent, ..(*self.remains).clone() })
                }
                None => {
                    // Not even its context. It stays where it lies until retention ends.
                    let what = format!("a record that is not folded could not be buried either: {error}");
                    self.complaints.say(place, error.cause().name(), &what);
                    Answer::Ended(self.remains.clone())
                }
            },
            Err(ProduceError::Refused { source, .. }) => Answer::Refused(self.remains.clone(), Reason::of_error(&source)),
            Err(ProduceError::Recalled { .. }) => Answer::Recalled(self.remains.clone()),
            Err(error) => Answer::Failed(error),
        }
    }
}

impl Ticket for Burial {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        // Nobody listens any more once the inbox has ended.
        let _ = self.answers.send(self.answer(outcome));
    }
}

/// Where records that are not folded go.
pub(super) struct Graveyard {
    producer: Producer<Burial>,
    dlq: String,
    node: NodeId,
    /// What the producer's queue had no room for, or `dlq` did not take.
    waiting: VecDeque<Arc<Remains>>,
    /// How many the producer has.
    in_hand: usize,
    /// Records that lie in `dlq` by now and may be folded over.
    ended: Vec<(Partition, i64)>,
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
            refusals: Refusals::new(cluster.refusal_pause(), clock, meters),
            producer: Producer::new(cluster, "inbox")?,
            dlq: cluster.names().dlq(),
            node,
            waiting: VecDeque::new(),
            in_hand: 0,
            ended: Vec::new(),
            answers: crossbeam_channel::unbounded(),
            complaints,
        })
    }

    /// Whether a burial is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.in_hand > 0 || !self.waiting.is_empty()
    }

    /// Records that may be folded over since the last time.
    pub(super) fn ended(&mut self) -> Vec<(Partition, i64)> {
        std::mem::take(&mut self.ended)
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
        if !self.is_busy() {
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
            self.in_hand -= 1;
            match answer {
                Answer::Ended(remains) => {
                    self.refusals.over(&self.dlq);
                    let partition = Partition { topic: remains.topic.as_str().into(), number: remains.partition };
                    self.ended.push((partition, remains.offset));
                }
                Answer::Less(remains) => self.waiting.push_back(Arc::new(remains)),
                Answer::Refused(remains, reason) => {
                    self.refusals.refused(&self.dlq, reason);
                    self.waiting.push_back(remains);
                }
                Answer::Recalled(remains) => self.waiting.push_back(remains),
                Answer::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes back what is not buried of partitions that are read again, here or elsewhere: it would be buried twice. Of what was sent the answer is
    /// waited for, a moment.
    ///
    /// # Errors
    /// As [`Graveyard::tend`].
    pub(super) fn forget(&mut self, gone: &[Partition]) -> Result<(), ProduceError> {
        if self.in_hand > 0 {
            self.producer.recall();
            if let Err(error) = self.producer.flush(LAST_WAIT) {
                tracing::warn!(%error, topic = self.dlq, "the brokers do not say whether burials were written: they may lie there twice");
            }
        }
        self.hear()?;
        let is_gone = |topic: &str, number: i32| gone.iter().any(|one| *one.topic == *topic && one.number == number);
        self.waiting.retain(|remains| !is_gone(&remains.topic, remains.partition));
        self.ended.retain(|(partition, _)| !is_gone(&partition.topic, partition.number));
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
        let burial = rules::Burial::new("inbox", why.cause(), why.class(), why.in_full());
        self.waiting.push_back(Arc::new(Remains::of(record, burial)));
        self.tend()
    }

    /// Gives `remains` to the producer; says whether it had room.
    fn hand_over(&mut self, remains: &Arc<Remains>) -> bool {
        let ticket = Burial { remains: remains.clone(), answers: self.answers.0.clone(), complaints: self.complaints.clone() };
        let (DeadRecord { key, value, headers }, carried) = remains.record(&self.node);
        let outgoing = Outgoing { topic: &self.dlq, partition: None, key, value, headers: &headers };
        match self.producer.send_carrying(outgoing, carried, Box::new(ticket)) {
            Ok(()) => {}
            Err((ProduceError::QueueFull, _)) => return false,
            Err((error, ticket)) => ticket.settled(Err(error)),
        }
        self.in_hand += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::fate::Cause;
    use tidings_core::record::dead_letter::Extent;

    use super::*;

    fn burial(extent: Extent) -> Burial {
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
        let (answers, _) = crossbeam_channel::unbounded();
        Burial { remains: Arc::new(remains), answers, complaints: Complaints::new("inbox", Clock::start()) }
    }

    #[test]
    fn what_is_too_large_for_dlq_is_open_until_what_is_left_of_it_has_ended() {
        let too_large = || Err(ProduceError::TooLarge { topic: "dlq".into() });
        for (extent, less) in [(Extent::Whole, Extent::Stub), (Extent::Stub, Extent::Bare)] {
            assert!(matches!(burial(extent).answer(too_large()), Answer::Less(Remains { extent, .. }) if extent == less));
        }
        assert!(matches!(burial(Extent::Bare).answer(too_large()), Answer::Ended(_)), "not even that: given up");
    }

    #[test]
    fn a_burial_that_dlq_refuses_or_that_is_taken_back_is_kept() {
        let source = rdkafka::error::KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::TopicAuthorizationFailed);
        let refused = ProduceError::Refused { topic: "dlq".into(), source };
        let answer = burial(Extent::Stub).answer(Err(refused));
        assert!(matches!(answer, Answer::Refused(remains, Reason::Denied) if remains.extent == Extent::Stub));
        let recalled = ProduceError::Recalled { topic: "dlq".into() };
        assert!(
            matches!(burial(Extent::Stub).answer(Err(recalled)), Answer::Recalled(remains) if remains.extent == Extent::Stub)
        );
    }

    #[test]
    fn a_burial_that_fails_otherwise_is_told() {
        let source = rdkafka::error::KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::Fatal);
        let failed = ProduceError::Failed { topic: "dlq".into(), source };
        assert!(matches!(burial(Extent::Whole).answer(Err(failed)), Answer::Failed(_)));
    }
}
