//! The projector: reads, folds, and stands where the store says.
//!
//! Owns: the loop of the inbox's thread and the moments at which a batch is folded. The thread never stops polling for long:
//! while the database is away partitions are paused, the batch is kept and tried again. Neighbours: `batch` decodes, `folding` gives batches to the store, `start`
//! finds out where partitions begin, `progress` counts.

mod folding;
mod standing;
mod start;
mod trim;

use folding::Underway;
pub(super) use trim::retention;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use rdkafka::message::{BorrowedMessage, Message};
use tidings_core::position::Epoch;
use tidings_core::record::RecordError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Topics, Unfit, appended, read};
use super::burial::Graveyard;
use super::metrics::InboxMetrics;
use super::progress::Progress;
use super::{InboxError, Parts};
use crate::clock::Clock;
use crate::clock::backoff::Backoff;
use crate::config::InboxConfig;
use crate::kafka::consumer::{Consumer, Partition, Step, trace_of};
use crate::store::{Retention, Store};
use crate::telemetry::health::Role;
use crate::telemetry::{Complaints, Doing, Span, Traces};

/// How often partitions without records are looked at: markers of transactions move them too.
const TRAIL_INTERVAL: Duration = Duration::from_millis(100);
const BROKER_WAIT: Duration = Duration::from_secs(2);
/// How often it is looked whether a record is buried, behind which nothing of its partition is read.
const BURIAL_INTERVAL: Duration = Duration::from_millis(10);

/// The inbox's thread and its state.
pub(super) struct Projector {
    store: Store,
    runtime: Handle,
    epoch: Epoch,
    config: InboxConfig,
    retention: Retention,
    clock: Clock,
    role: Role,
    metrics: InboxMetrics,
    traces: Traces,
    topics: Topics,
    complaints: Complaints,
    graveyard: Graveyard,
    progress: Progress,
    batch: Batch,
    underway: Underway,
    /// Partitions that the group gave and that do not begin yet: store or brokers have not said where.
    unanswered: Option<Vec<Partition>>,
    /// The store stands elsewhere than we thought, or the log no longer has what comes next: all partitions begin anew.
    astray: bool,
    paused: bool,
    /// Whether the group has given us anything yet, be it nothing.
    joined: bool,
    store_backoff: Backoff,
    broker_backoff: Backoff,
    batch_since: Duration,
    folded_at: Duration,
    health_at: Duration,
    lag_at: Duration,
    trim_at: Duration,
    /// When partitions that are away are looked for next.
    look_at: Duration,
}

impl Projector {
    /// Makes the thread's state and joins the group.
    pub(super) fn new(parts: Parts, runtime: Handle) -> Result<(Self, Consumer), InboxError> {
        let topics = Topics::of_cluster(parts.cluster.names(), &parts.rungs, &parts.epoch);
        let consumer = Consumer::join(&parts.cluster, "inbox", &topics.names())?;
        let complaints = Complaints::new("inbox", parts.clock);
        let metrics = InboxMetrics::register(&parts.metrics);
        let refusals = (parts.clock, metrics.refusals.clone());
        let this = Self {
            graveyard: Graveyard::new(&parts.cluster, parts.node, complaints.clone(), refusals)?,
            complaints,
            store: parts.store,
            runtime,
            epoch: parts.epoch.epoch,
            retention: retention(&parts.config),
            config: parts.config,
            clock: parts.clock,
            role: parts.role,
            metrics,
            traces: parts.traces,
            topics,
            progress: Progress::default(),
            batch: Batch::default(),
            underway: Underway::default(),
            unanswered: None,
            astray: false,
            paused: false,
            joined: false,
            store_backoff: Backoff::new(parts.clock),
            broker_backoff: Backoff::new(parts.clock),
            batch_since: Duration::ZERO,
            folded_at: Duration::ZERO,
            health_at: Duration::ZERO,
            lag_at: Duration::ZERO,
            trim_at: Duration::ZERO,
            look_at: Duration::ZERO,
        };
        Ok((this, consumer))
    }

    /// Folds until `stop` is cancelled.
    pub(super) fn run(mut self, consumer: &Consumer, stop: &CancellationToken) -> Result<(), InboxError> {
        while !stop.is_cancelled() {
            self.step(consumer)?;
            self.begin_assigned(consumer)?;
            if self.astray {
                self.begin_anew(consumer)?;
            }
            self.find_away(consumer)?;
            self.graveyard.tend()?;
            self.go_on_behind_buried(consumer)?;
            self.take_answer()?;
            if self.is_due() {
                self.fold(consumer)?;
                self.hold_back(consumer)?;
                self.trim()?;
            }
            self.measure(consumer);
            self.tell();
        }
        self.graveyard.flush(BROKER_WAIT)?;
        self.go_on_behind_buried(consumer)?;
        self.fold_all(consumer)
    }

    fn step(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        let longest = if self.graveyard.is_busy() { BURIAL_INTERVAL } else { TRAIL_INTERVAL };
        match consumer.poll(self.config.batch_interval.0.min(longest))? {
            Step::Nothing => {}
            Step::Record(record) => self.take(consumer, &record)?,
            Step::Assigned(given) => {
                self.joined = true;
                self.unanswered = Some(given);
            }
            Step::Revoked(gone) => {
                self.graveyard.flush(BROKER_WAIT)?;
                self.go_on_behind_buried(consumer)?;
                self.fold_all(consumer)?;
                self.release(consumer, &gone)?;
            }
            Step::Lost(gone) => self.release(consumer, &gone)?,
            Step::OutOfRange => {
                self.fold_all(consumer)?;
                self.astray = true;
            }
            Step::Trouble(code) => tracing::debug!(%code, "the brokers"),
        }
        Ok(())
    }

    fn take(&mut self, consumer: &Consumer, record: &BorrowedMessage<'_>) -> Result<(), InboxError> {
        let partition = Partition { topic: self.topics.of(record).clone(), number: record.partition() };
        let Some(place) = self.progress.get_mut(&partition).filter(|place| place.is_read()) else {
            return Ok(());
        };
        // Read before the partition was put back: it comes again.
        if self.astray || record.offset() < place.read {
            return Ok(());
        }
        match read(&self.topics, record) {
            Ok(content) => {
                if self.batch.is_empty() {
                    self.batch_since = self.clock.elapsed();
                }
                self.batch.push(content, record.payload().map_or(0, <[u8]>::len));
                if partition.topic == self.topics.notifications {
                    self.batch.show(partition.number, self.folding(record));
                }
                if let Some(appended) = appended(record) {
                    self.batch.waits_since(appended);
                    self.progress.saw(&partition, appended);
                }
            }
            Err(Unfit::Unreadable(why @ RecordError::Newer { .. })) => {
                let (topic, number, offset) = (&*partition.topic, partition.number, record.offset());
                self.metrics.fates.count(why.cause(), why.class(), 1);
                tracing::error!(topic, partition = number, offset, error = %why, "a partition is not folded any further");
                place.held = Some(format!("{partition} at offset {offset}: {why}"));
                return Ok(consumer.pause(&[partition])?);
            }
            Err(why) => {
                self.metrics.fates.count(why.cause(), why.class(), 1);
                self.progress.bury(&partition, record.offset());
                self.graveyard.bury(record, &why)?;
                return Ok(consumer.pause(&[partition])?);
            }
        }
        self.progress.read_to(&partition, record.offset() + 1);
        Ok(())
    }

    /// Reads on behind records that lie in `dlq` by now.
    fn go_on_behind_buried(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        for (partition, offset) in self.graveyard.ended() {
            if self.progress.buried(&partition, offset) && !self.paused {
                consumer.resume(&[partition])?;
            }
        }
        Ok(())
    }

    /// What is shown of a notification until its batch is folded.
    fn folding(&self, record: &BorrowedMessage<'_>) -> Span {
        let context = self.traces.are_on().then(|| record.headers().and_then(trace_of)).flatten();
        self.traces.follow(context.as_ref(), || Doing {
            name: "fold",
            kind: SpanKind::Consumer,
            attributes: vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.destination.name", record.topic().to_owned()),
                KeyValue::new("messaging.destination.partition.id", record.partition().to_string()),
                KeyValue::new("messaging.kafka.offset", record.offset()),
            ],
        })
    }

    /// Lets partitions go. What was not folded is folded by whoever has them next.
    fn release(&mut self, consumer: &Consumer, gone: &[Partition]) -> Result<(), InboxError> {
        // What it did not take comes back.
        self.await_answer()?;
        self.batch.forget(&self.topics, gone);
        self.progress.forget(gone);
        self.graveyard.forget(gone)?;
        self.unanswered = None;
        Ok(consumer.stop_reading(gone)?)
    }

    fn is_due(&self) -> bool {
        let now = self.clock.elapsed();
        let full = self.batch.is_full(self.config.batch_records.get());
        let old = !self.batch.is_empty() && now >= self.batch_since + self.config.batch_interval.0;
        full || old || now >= self.folded_at + TRAIL_INTERVAL
    }

    /// Stops reading while the batch is full, goes on once it is not.
    fn hold_back(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        let full = self.batch.is_full(self.config.batch_records.get());
        if full && !self.paused {
            consumer.pause(&self.progress.partitions())?;
        } else if !full && self.paused {
            let free = self.progress.iter().filter(|(_, place)| place.is_read());
            consumer.resume(&free.map(|(partition, _)| partition.clone()).collect::<Vec<_>>())?;
        }
        self.paused = full;
        Ok(())
    }
}
