//! Dispatching: one thread polls the records of a group and hands them to workers, each partition always to the same one.
//!
//! Owns: the trackers, back pressure, the commits of what is done, and the handing over of partitions. Refuses to know what
//! workers do: they answer each record once. Full queue of a worker: polling waits a moment, then its partitions are paused
//! while the others go on. Full queue of answers: workers wait for the polling thread, which never waits for them. Long because what workers
//! are given and may answer is to be read at once.

mod ages;
mod gaps;
mod gate;
mod halts;
mod handover;
mod holdings;
mod lanes;
mod meters;
mod round;
mod standing;
mod start;
mod turns;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use tidings_core::breaker::{Limits, Trip};
use tidings_core::offsets::Claim;
use tidings_core::record::RecordError;
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::consumer::{self, Consumer, Partition};
use super::producer::ProduceError;
use crate::clock::Clock;
use crate::config::{LostRecords, Start, TopicPattern};
use crate::telemetry::health::Role;

pub use gate::{Gate, News, Ruling};
use halts::Topics;
use handover::Late;
pub use holdings::Lease;
use holdings::{Holdings, Spot};
use lanes::Lanes;
pub use meters::Meters;
use standing::Standing;
pub use waits::Awaited;
use waits::Waits;

/// How long the brokers may take at the end for the last commit and our leaving.
const LEAVE_LIMIT: Duration = Duration::from_secs(6);
/// Answers that may wait for the polling thread.
const ANSWERS: usize = 8192;

/// Records that were gone from a partition before they were read.
#[derive(Debug)]
pub struct Lost {
    /// Stands for all of them, with the offset of the first; done once the range is recorded.
    pub source: Source,
    /// The offset of the last.
    pub last: i64,
}

/// What is read, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The topics.
    pub topics: Vec<TopicPattern>,
    /// How the names of topics begin that no expression means: tidings' own.
    pub own_prefix: String,
    /// Where a topic begins that the group has never read.
    pub start: Start,
    /// The same for single topics. The first that matches counts.
    pub starts: Vec<(TopicPattern, Start)>,
    /// What becomes of a partition of which records are gone.
    pub lost_records: LostRecords,
    /// How much of a topic may be buried before it is halted; none: all of it.
    pub breaker: Option<Limits>,
    /// How long a topic is halted before it is tried again.
    pub breaker_pause: Duration,
    /// How often what is done is committed.
    pub commit_interval: Duration,
    /// What was read is finished within this time when partitions go; at the end, so that the last commit fits in too.
    pub drain_timeout: Duration,
}

impl Plan {
    fn start_of(&self, topic: &str) -> Start {
        self.starts.iter().find(|(pattern, _)| pattern.matches(topic)).map_or(self.start, |(_, start)| *start)
    }

    /// The entry of `topics` that a topic is read for: its name, if that is there, else the first expression that matches. None for
    /// one that is not meant: who judges expressions for the group does not know of topics of our own.
    fn entry(&self, topic: &str) -> Option<usize> {
        let named = self.topics.iter().position(|pattern| pattern.name() == Some(topic));
        let meant = || self.topics.iter().position(|pattern| pattern.matches(topic));
        named.or_else(|| if topic.starts_with(&self.own_prefix) { None } else { meant() })
    }

    /// The part of the drain's time that is kept for the last commit and our leaving.
    fn leave_limit(&self) -> Duration {
        (self.drain_timeout / 4).min(LEAVE_LIMIT)
    }
}

/// A record of a topic, as a worker gets it.
#[derive(Debug)]
pub struct Source {
    /// The stay of its partition with us.
    pub lease: Arc<Lease>,
    claim: Claim,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp; 1970 if it has none.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Box<[u8]>>,
    /// Its value.
    pub value: Option<Box<[u8]>>,
    /// Its headers, in order; `legible` reads them, if they can be read.
    pub headers: Option<OwnedHeaders>,
    header_bytes: usize,
}

impl Source {
    fn new(record: &BorrowedMessage<'_>, lease: Arc<Lease>, claim: Claim) -> Self {
        Self {
            lease,
            claim,
            offset: record.offset(),
            timestamp: Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0)),
            key: record.key().map(Box::from),
            value: record.payload().map(Box::from),
            headers: record.headers().map(rdkafka::message::BorrowedHeaders::detach),
            header_bytes: record.headers().map_or(0, consumer::size_of),
        }
    }

    /// Stands for records that are gone, from `offset` on; `claim` is for the last of them.
    fn missing(lease: Arc<Lease>, claim: Claim, offset: i64, found_at: Timestamp) -> Self {
        Self { lease, claim, offset, timestamp: found_at, key: None, value: None, headers: None, header_bytes: 0 }
    }

    /// Whether it is one of those whose steps are timed. One in 64 of each partition, so that timing costs the others nothing.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.offset % 64 == 0
    }

    /// What it holds, in bytes: its key, its value and its headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, |key| key.len()) + self.value.as_ref().map_or(0, |value| value.len()) + self.header_bytes
    }

    /// The answer that says that all which follows from it is written.
    #[must_use]
    pub fn done(&self) -> Done {
        Done { spot: self.lease.spot(self.claim), lane: self.lease.lane(), bytes: self.bytes() }
    }
}

/// Says that a record is done.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    spot: Spot,
    lane: usize,
    bytes: usize,
}

/// What a worker is given.
#[derive(Debug)]
pub enum Task<A> {
    /// A record, for the first time.
    New(Source),
    /// Records that are gone.
    Lost(Lost),
    /// What the worker, or the producer in its name, asked for with [`Answer::Again`].
    Again(A),
}

/// What comes back.
#[derive(Debug)]
pub enum Answer<A> {
    /// A record is done. For each record comes exactly one of this, [`Answer::Left`], [`Answer::Waiting`] and [`Answer::Stopped`], sooner or later.
    Done(Done),
    /// A record was not decided, because its topic is halted or its partition stopped. It is read again.
    Left(Done),
    /// A record was not decided, since a later release wrote it: nothing more of its partition is to be read.
    Stopped {
        /// The record.
        done: Done,
        /// Its offset.
        offset: i64,
        /// What its version is, and ours.
        why: RecordError,
    },
    /// A record was not decided, since what it needs is on its way: nothing more of its partition is to be read until then.
    Waiting {
        /// The record.
        done: Done,
        /// What it needs.
        awaited: Awaited,
    },
    /// A topic does not take what follows from a record. Its worker is to write it again, and until that is done nothing more of its partition
    /// is to be read.
    Refused {
        /// The stay of its partition.
        lease: Arc<Lease>,
        /// That it is written.
        awaited: Awaited,
        /// What its worker is to get.
        task: A,
    },
    /// Nobody lets us have what records need, and waiting does not help.
    Forbidden {
        /// Who, and what to do.
        why: String,
    },
    /// Too much of a topic was buried: halt it.
    Tripped {
        /// The topic's number.
        topic: usize,
        /// Why.
        trip: Trip,
    },
    /// Give this to the worker `lane`.
    Again {
        /// The worker's number.
        lane: usize,
        /// What it is to get.
        task: A,
    },
    /// A record could not be written, nor can any other: going on would lose it.
    Failed(ProduceError),
    /// A worker's thread has panicked.
    Died,
}

/// Why dispatching ended though nobody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// librdkafka gave the consumer up, or refused what it was asked.
    #[error("the consumer failed for good")]
    Consumer(#[from] KafkaError),
    /// What follows from a record could not be written. Its offset is not committed.
    #[error("a record could not be written; it is read again at the next start")]
    Produce(#[source] ProduceError),
    /// What records need is not given to us.
    #[error("{0}")]
    Forbidden(String),
    /// A worker's thread has ended.
    #[error("a worker's thread has ended, which is a bug")]
    WorkerGone,
}

/// Where answers are sent, and where they arrive.
pub struct Answers<A> {
    /// For workers and producers; cheap to clone.
    pub sender: Sender<Answer<A>>,
    /// For [`Dispatch::new`].
    pub receiver: Receiver<Answer<A>>,
}

/// A queue of answers.
#[must_use]
pub fn answers<A>() -> Answers<A> {
    let (sender, receiver) = crossbeam_channel::bounded(ANSWERS);
    Answers { sender, receiver }
}

/// The polling thread's state.
pub struct Dispatch<A> {
    plan: Plan,
    clock: Clock,
    meters: Meters,
    topics: Topics,
    resets: Receiver<Option<String>>,
    holdings: Holdings,
    lanes: Lanes<A>,
    answers: Receiver<Answer<A>>,
    commit_due: Duration,
    standing: Standing,
    /// Partitions that the group gave us, and an answer that it waits for.
    arriving: Option<Vec<Partition>>,
    /// When to look which partition's position is out of range.
    range_check_due: Option<Duration>,
    /// Partitions that workers stopped, until they are paused.
    unpaused: Vec<Partition>,
    late: Late,
    waits: Waits,
    /// The end of what is counted as lost, by partition.
    lost_to: HashMap<Partition, i64>,
}

impl<A> Dispatch<A> {
    /// What `run` needs: the queues of the workers, and the answers they send.
    #[must_use]
    pub fn new(plan: Plan, queues: Vec<Sender<Task<A>>>, answers: Receiver<Answer<A>>, tell: Tell) -> Self {
        Self {
            clock: tell.clock,
            meters: tell.meters,
            resets: tell.resets,
            topics: Topics::new(plan.breaker),
            holdings: Holdings::default(),
            lanes: Lanes::new(queues),
            answers,
            commit_due: plan.commit_interval,
            standing: Standing::new(tell.role, &plan.topics),
            arriving: None,
            range_check_due: None,
            unpaused: Vec::new(),
            late: Late::default(),
            waits: Waits::default(),
            lost_to: HashMap::new(),
            plan,
        }
    }

    /// Polls, hands out and commits until `stop`; then finishes what was read, commits it and leaves the group.
    ///
    /// # Errors
    /// If the consumer fails for good, something could not be written, or a worker has ended. Nothing that was not written is
    /// committed then.
    pub fn run(mut self, consumer: Consumer, stop: &CancellationToken) -> Result<(), DispatchError> {
        let outcome = self.serve(&consumer, stop);
        // Workers may still have records in their queues after a failure; they are not ours to write any more.
        self.holdings.end();
        consumer.leave(self.plan.leave_limit());
        outcome
    }

    fn serve(&mut self, consumer: &Consumer, stop: &CancellationToken) -> Result<(), DispatchError> {
        while !stop.is_cancelled() {
            self.chores(consumer)?;
            self.turn(consumer)?;
        }
        self.drain(consumer)
    }
}

/// How a dispatch tells what it does, and is told.
pub struct Tell {
    /// Monotonic time.
    pub clock: Clock,
    /// Numbers.
    pub meters: Meters,
    /// Words.
    pub role: Role,
    /// Topics whose breaker is to be reset; none for all.
    pub resets: Receiver<Option<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_belongs_to_its_name_before_any_expression_and_own_topics_only_to_their_names() {
        let topics = ["^[at].*", "ab", "^.b", "t.requests"].map(|text| text.parse::<TopicPattern>().unwrap());
        let plan = Plan {
            topics: topics.to_vec(),
            own_prefix: "t.".into(),
            start: Start::End,
            starts: Vec::new(),
            lost_records: LostRecords::Stop,
            breaker: None,
            breaker_pause: Duration::ZERO,
            commit_interval: Duration::ZERO,
            drain_timeout: Duration::ZERO,
        };
        assert_eq!(["ab", "ac", "bb", "cc"].map(|topic| plan.entry(topic)), [Some(1), Some(0), Some(2), None]);
        assert_eq!(["t.requests", "t.retry.7s", "tx", "__tb"].map(|topic| plan.entry(topic)), [Some(3), None, Some(0), None]);
    }
}
