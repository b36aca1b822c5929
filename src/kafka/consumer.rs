//! Consuming as a member of a group, polled by one thread that owns all its state.
//!
//! Owns: joining, the handing over of partitions, pausing, commits. Refuses to commit or to assign by itself: librdkafka's
//! callback only notes what the group decided, `poll` returns it as a step, and the group waits until the caller answers with
//! [`Consumer::start_reading`] or [`Consumer::stop_reading`]. So a service drains and commits in plain code, without a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::cluster::Cluster;
use super::lists::{list, offsets, partitions};
use super::said;
use super::statistics::Gauges;

mod place;
mod questions;

pub use place::{content, header, legible, legible_end, size_of, trace_of};
pub use questions::Logs;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's name.
    pub topic: std::sync::Arc<str>,
    /// The partition's number.
    pub number: i32,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.number)
    }
}

impl Partition {
    /// That its topic is not there, with what to do where another one may take its place.
    pub(crate) fn told_missing(&self) -> String {
        format!("{self} is not there: `tidings topics create` makes it anew")
    }

    /// The same where its offsets are told to others, so that no other one may.
    pub(crate) fn told_missing_with_positions(&self) -> String {
        let next = "bring it back as it was, or begin the next epoch with `tidings topics create --partitions N`";
        format!("{self} is not there, and its offsets are positions: {next}")
    }
}

/// What one poll brought.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing within the wait.
    Nothing,
    /// The next record of some partition.
    Record(BorrowedMessage<'a>),
    /// The group gave these; answer with [`Consumer::start_reading`].
    Assigned(Vec<Partition>),
    /// The group takes these; finish, commit, and answer with [`Consumer::stop_reading`].
    Revoked(Vec<Partition>),
    /// Somebody else has these already; do not commit, answer with [`Consumer::stop_reading`].
    Lost(Vec<Partition>),
    /// The position of some partition lies outside its log.
    OutOfRange,
    /// Something that librdkafka goes on trying by itself: brokers away, a topic that is not there.
    Trouble(RDKafkaErrorCode),
}

enum Decision {
    Assign(Vec<Partition>),
    Revoke(Vec<Partition>),
    Lose(Vec<Partition>),
}

/// What the group decided and has no answer to yet. librdkafka decides nothing else before it has one.
struct Owed {
    decision: Decision,
    told: bool,
}

struct Context {
    /// Shared with librdkafka's callback, which runs inside `poll` on the same thread.
    owed: Mutex<Option<Owed>>,
    closing: AtomicBool,
    gauges: Gauges,
}

impl ClientContext for Context {
    fn stats(&self, said: Statistics) {
        self.gauges.note(&said);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        said::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        said::error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Relaxed) {
            // Nobody will ask for the step any more, and closing waits for the answer.
            release(consumer, list).unwrap_or_else(|error| tracing::debug!(%error, "partitions were not released at the end"));
            return;
        }
        let partitions = partitions(list);
        let decision = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Decision::Assign(partitions),
            _ if consumer.assignment_lost() => Decision::Lose(partitions),
            _ => Decision::Revoke(partitions),
        };
        *self.owed.lock() = Some(Owed { decision, told: false });
    }
}

/// A member of a consumer group. Dropping it commits nothing, and leaves the group unless membership is static.
pub struct Consumer {
    inner: BaseConsumer<Context>,
    membership: Membership,
}

/// How the group knows this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// For as long as it lives.
    Dynamic,
    /// By the name of its process, also over a restart (KIP-345).
    Static,
}

impl Consumer {
    /// Joins the group of `service` for `topics`. Neither the brokers nor the topics need to be there yet.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn join(cluster: &Cluster, service: &str, topics: &[&str]) -> Result<Self, KafkaError> {
        let context = Context { owed: Mutex::new(None), closing: AtomicBool::new(false), gauges: cluster.statistics() };
        let inner: BaseConsumer<Context> = cluster.member(service).create_with_context(context)?;
        inner.subscribe(topics)?;
        let membership = if cluster.has_static_members() { Membership::Static } else { Membership::Dynamic };
        Ok(Self { inner, membership })
    }

    /// Waits up to `wait` for the next step. Must be called at least every few minutes, or the group goes on without us.
    ///
    /// # Errors
    /// Only what is final: a client that librdkafka gave up.
    pub fn poll(&self, wait: Duration) -> Result<Step<'_>, KafkaError> {
        match self.inner.poll(wait) {
            None => Ok(self.decided().unwrap_or(Step::Nothing)),
            Some(Ok(record)) => Ok(Step::Record(record)),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Ok(Step::OutOfRange),
                Some(code) => Ok(Step::Trouble(code)),
                None => Err(error),
            },
        }
    }

    fn decided(&self) -> Option<Step<'_>> {
        let mut owed = self.inner.context().owed.lock();
        let owed = owed.as_mut().filter(|owed| !owed.told)?;
        owed.told = true;
        Some(match &owed.decision {
            Decision::Assign(partitions) => Step::Assigned(partitions.clone()),
            Decision::Revoke(partitions) => Step::Revoked(partitions.clone()),
            Decision::Lose(partitions) => Step::Lost(partitions.clone()),
        })
    }

    /// Begins to read partitions that were assigned, each at its offset.
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn start_reading(&self, starts: &[(Partition, i64)]) -> Result<(), KafkaError> {
        self.start_reading_some(starts, &[])
    }

    /// The same where it is not known yet where some begin: those are taken up and paused, until they are sought to where they
    /// begin and resumed.
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn start_reading_some(&self, starts: &[(Partition, i64)], others: &[Partition]) -> Result<(), KafkaError> {
        let mut list = offsets(starts)?;
        for partition in others {
            list.add_partition_offset(&partition.topic, partition.number, Offset::End)?;
        }
        self.inner.context().owed.lock().take();
        match self.inner.rebalance_protocol() {
            rdkafka::consumer::RebalanceProtocol::Cooperative => self.inner.incremental_assign(&list)?,
            _ => self.inner.assign(&list)?,
        }
        self.pause(others)
    }

    /// Gives back partitions that were revoked or lost.
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn stop_reading(&self, gone: &[Partition]) -> Result<(), KafkaError> {
        self.inner.context().owed.lock().take();
        release(&self.inner, &list(gone))
    }

    /// Stops fetching partitions; what was fetched but not polled is fetched again after [`Consumer::resume`].
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn pause(&self, held: &[Partition]) -> Result<(), KafkaError> {
        self.inner.pause(&list(held))
    }

    /// Goes on fetching partitions, where they were paused.
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn resume(&self, freed: &[Partition]) -> Result<(), KafkaError> {
        self.inner.resume(&list(freed))
    }

    /// Moves partitions that are being read to other offsets.
    ///
    /// # Errors
    /// If librdkafka did not do it within `wait`.
    pub fn seek(&self, targets: &[(Partition, i64)], wait: Duration) -> Result<(), KafkaError> {
        let moved = self.inner.seek_partitions(offsets(targets)?, wait)?;
        moved.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
    }

    /// Begins anew to read partitions that librdkafka stopped because their position lies outside their log: those no seek moves.
    ///
    /// # Errors
    /// If the group waits for an answer just now, which this would be taken for, or librdkafka refuses the list.
    pub fn restart(&self, targets: &[(Partition, i64)]) -> Result<(), KafkaError> {
        if self.inner.context().owed.lock().is_some() {
            return Err(KafkaError::Rebalance(RDKafkaErrorCode::RebalanceInProgress));
        }
        let partitions = targets.iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        match self.inner.rebalance_protocol() {
            rdkafka::consumer::RebalanceProtocol::Cooperative => {
                self.inner.incremental_unassign(&list(&partitions))?;
                self.inner.incremental_assign(&offsets(targets)?)
            }
            // What is assigned as a whole cannot be changed in part.
            _ => Err(KafkaError::Rebalance(RDKafkaErrorCode::NotImplemented)),
        }
    }

    /// The same of all partitions that are being read, whatever the protocol of the group.
    ///
    /// # Errors
    /// As [`Consumer::restart`].
    pub fn restart_all(&self, all: &[(Partition, i64)]) -> Result<(), KafkaError> {
        if self.inner.context().owed.lock().is_some() {
            return Err(KafkaError::Rebalance(RDKafkaErrorCode::RebalanceInProgress));
        }
        match self.inner.rebalance_protocol() {
            rdkafka::consumer::RebalanceProtocol::Cooperative => self.restart(all),
            _ => self.inner.assign(&offsets(all)?),
        }
    }

    /// Commits next offsets to read.
    ///
    /// # Errors
    /// With [`CommitMode::Sync`], if the brokers did not take them; with [`CommitMode::Async`], only if nothing was sent:
    /// the brokers' answer is not told.
    pub fn commit(&self, done: &[(Partition, i64)], mode: CommitMode) -> Result<(), KafkaError> {
        if done.is_empty() { Ok(()) } else { self.inner.commit(&offsets(done)?, mode) }
    }

    /// Notes how far partitions that are being read are done, and commits what is noted and not committed yet, without waiting.
    /// What the brokers do not take is sent again by the next call. Partitions that are given back, and a consumer that is
    /// dropped, wait for commits under way.
    ///
    /// # Errors
    /// If librdkafka refuses the list: none of these is being read.
    pub fn commit_progress(&self, done: &[(Partition, i64)]) -> Result<(), KafkaError> {
        if !done.is_empty() {
            self.inner.store_offsets(&offsets(done)?)?;
        }
        // An answer of an asynchronous commit cannot be had from this binding; librdkafka itself keeps the books here.
        self.inner.commit_consumer_state(CommitMode::Async)
    }

    /// Leaves the group, after commits under way, within `limit`. Brokers that are away would hold that up for as long as a
    /// session lasts; then a thread is left behind with it, and the group notices by itself that we are gone.
    pub fn leave(self, limit: Duration) {
        let (tell, told) = crossbeam_channel::bounded(1);
        let closing = move || {
            drop(self);
            let _ = tell.send(());
        };
        match std::thread::Builder::new().name("kafka-leave".to_owned()).spawn(closing) {
            Ok(thread) if told.recv_timeout(limit).is_ok() => {
                thread.join().unwrap_or_else(|_| tracing::error!("leaving the group panicked"));
            }
            Ok(_) => tracing::warn!("the brokers did not answer our leaving; what was not committed is read again"),
            Err(error) => tracing::debug!(%error, "left the group without a thread for it"),
        }
    }

    /// What a transaction needs to commit offsets in this group's name (KIP-447).
    #[must_use]
    pub fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.inner.group_metadata()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inner.context().closing.store(true, Ordering::Relaxed);
        // A decision that was never answered would hold the closing up for ever.
        let owed = self.inner.context().owed.lock().take();
        let answered = match owed.map(|owed| owed.decision) {
            None => Ok(()),
            Some(Decision::Assign(_)) => self.start_reading(&[]),
            Some(Decision::Revoke(gone) | Decision::Lose(gone)) => self.stop_reading(&gone),
        };
        answered.unwrap_or_else(|error| tracing::debug!(%error, "the group's last decision was not answered"));
        // Closing alone does not leave the group if nothing is assigned, and the others would wait for our session to end.
        // A static member does not leave: it is expected back.
        if self.membership == Membership::Dynamic {
            self.inner.unsubscribe();
        }
    }
}

fn release(consumer: &BaseConsumer<Context>, gone: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        rdkafka::consumer::RebalanceProtocol::Cooperative => consumer.incremental_unassign(gone),
        _ => consumer.unassign(),
    }
}
