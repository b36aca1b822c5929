//! The member: the courier's thread, which reads, holds and lets go of partitions.
//!
//! Owns: the loop, the lines and the transactional producer's life. What is held in memory is only a copy of what lies behind
//! the committed offset: it is dropped with its partition and never seeked for after an abort. Neighbours: `round` moves on what is due;
//! beside, `start` says where lines begin, `gone` looks for topics that are not there, `standing` tells of it all, `writer` brings the producer to
//! its first transaction.

mod gone;
mod standing;
mod start;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message};
use tidings_core::delivery::ladder::Ladder;
use tidings_core::fate::Fate;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::attempt::{Hand, place};
use super::hour::Hour;
use super::line::{LIMIT_BYTES, Line, Work};
use super::metrics::CourierMetrics;
use super::plan::Plan;
use super::proof::Proof;
use super::round::{ROUND_PAUSE, ROUND_RECORDS};
use super::rung::{Read, Rungs};
use super::{CourierError, Parts};
use crate::clock::Clock;
use crate::clock::backoff::Backoff;
use crate::config::CourierConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::{Consumer, Partition, Step};
use crate::kafka::refusals::Refusals;
use crate::kafka::transaction::Transactions;
use crate::store::{Store, StoreError};
use crate::telemetry::Complaints;
use crate::telemetry::health::Role;
use writer::Writer;

pub(super) const BROKER_WAIT: Duration = Duration::from_secs(2);
/// How long the end of the last transaction is waited for when the service stops.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often the ends of partitions that are paused are asked for.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The same once the brokers did not say: one that is silent holds up what others send for as long as it is asked.
const WATCH_PAUSE: Duration = Duration::from_secs(20);

/// The courier's thread and its state.
pub(super) struct Member {
    pub(super) store: Store,
    pub(super) runtime: Handle,
    pub(super) clock: Clock,
    /// What is due, old or expired goes by it.
    pub(super) hour: Hour,
    pub(super) metrics: CourierMetrics,
    pub(super) rungs: Rungs,
    pub(super) hand: Hand,
    pub(super) proof: Proof,
    pub(super) lines: BTreeMap<Partition, Line>,
    pub(super) transactions: Transactions,
    /// What the running transaction carries out, until its end is known.
    pub(super) in_flight: Option<Plan>,
    /// The topics that take nothing, for which lines wait.
    pub(super) refusals: Refusals,
    pub(super) store_backoff: Backoff,
    pub(super) broker_backoff: Backoff,
    /// Since when something is due and nothing can be decided.
    pub(super) blocked_since: Option<Duration>,
    pub(super) committed_at: Duration,
    /// How long to rest while something is due.
    pub(super) pause: Duration,
    /// The most that the next transaction decides; less after the brokers refused one for its size.
    pub(super) round_records: usize,
    /// How old a notification must be that is tried on the last rung no more.
    pub(super) give_up_after: Duration,
    config: CourierConfig,
    cluster: Cluster,
    role: Role,
    writer: Writer,
    /// When the producer was last replaced.
    fenced_at: Option<Duration>,
    /// Partitions that the group gave and that do not begin yet.
    unanswered: Option<Vec<Partition>>,
    /// Partitions of which it is not known where they go on.
    unplaced: BTreeSet<Partition>,
    /// The questions where partitions begin and go on have pauses of their own: what is held is decided meanwhile.
    places_backoff: Backoff,
    joined: bool,
    round_at: Duration,
    watched_at: Duration,
    /// When it is looked next whether topics that were gone are there.
    looked_at: Duration,
}

impl Member {
    /// Makes the thread's state and joins the group.
    pub(super) fn new(parts: Parts, runtime: Handle) -> Result<(Self, Consumer), CourierError> {
        let (config, cluster) = (parts.config, parts.cluster);
        let ladder = Ladder::new(config.ack_timeout.0, config.ladder.clone(), config.jitter_percent);
        let names = cluster.names().clone();
        let registered = if parts.onward.is_some() { CourierMetrics::register_finishing } else { CourierMetrics::register };
        let metrics = registered(&parts.metrics);
        let rungs = Rungs::new(ladder, parts.epoch, &names, parts.traces.clone()).finishing(parts.onward);
        // What is fetched beyond a full line is thrown away when the partition is paused.
        let reading = cluster.clone().preferring("fetch.message.max.bytes", "262144").preferring("queued.min.messages", "1000");
        // A partition whose queue was full is fetched from again so soon, also if it was emptied by a pause: else only after a second.
        let reading = reading.preferring("fetch.queue.backoff.ms", "10");
        let consumer = Consumer::join(&reading, "courier", &rungs.topics())?;
        let this = Self {
            proof: Proof::new(&cluster, &rungs)?,
            refusals: Refusals::new(cluster.refusal_pause(), parts.clock, metrics.refusals.clone()),
            transactions: writer::transactions(&cluster, &config, &parts.node)?,
            hand: Hand {
                node: parts.node,
                signals: names.signals(),
                undelivered: names.undelivered(),
                dlq: names.dlq(),
                traces: parts.traces,
                complaints: Complaints::new("courier", parts.clock),
            },
            store: parts.store,
            runtime,
            clock: parts.clock,
            hour: Hour::new(parts.clock),
            metrics,
            rungs,
            lines: BTreeMap::new(),
            in_flight: None,
            store_backoff: Backoff::new(parts.clock),
            broker_backoff: Backoff::new(parts.clock),
            blocked_since: None,
            committed_at: Duration::ZERO,
            pause: ROUND_PAUSE,
            round_records: ROUND_RECORDS,
            give_up_after: config.give_up_after.0,
            config,
            cluster,
            role: parts.role,
            writer: Writer::New,
            fenced_at: None,
            unanswered: None,
            unplaced: BTreeSet::new(),
            places_backoff: Backoff::new(parts.clock),
            joined: false,
            round_at: Duration::ZERO,
            watched_at: Duration::ZERO,
            looked_at: Duration::ZERO,
        };
        Ok((this, consumer))
    }

    /// Moves on what is due until `stop` is cancelled.
    pub(super) fn run(mut self, consumer: &Consumer, stop: &CancellationToken) -> Result<(), CourierError> {
        while !stop.is_cancelled() {
            self.step(consumer)?;
            self.begin_assigned(consumer)?;
            self.put_back(consumer);
            if self.clock.elapsed() >= self.round_at {
                self.measure();
                if self.can_write(consumer)? {
                    self.round(consumer)?;
                }
                self.refill(consumer)?;
                self.watch(consumer);
                self.look_for_gone(consumer);
                self.tell();
                self.round_at = self.clock.elapsed() + self.rest();
            }
        }
        let deadline = self.clock.elapsed() + LAST_WAIT;
        while self.in_flight.is_some() && self.clock.elapsed() < deadline {
            let end = self.transactions.settle(BROKER_WAIT);
            self.ended(consumer, end)?;
        }
        Ok(())
    }

    /// How long until the next round: until the first that waits is due, or a little while something is due, ever longer until it can be decided.
    fn rest(&mut self) -> Duration {
        let (longest, now) = (self.config.poll_interval.0, self.hour.now());
        match self.lines.values().filter_map(Line::next_due).min() {
            None => longest,
            Some(due) if due > now => due.since(now).max(ROUND_PAUSE).min(longest),
            Some(_) => {
                let pause = self.pause.min(longest);
                self.pause = pause * 2;
                pause
            }
        }
    }

    fn step(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        let wait = self.round_at.saturating_sub(self.clock.elapsed());
        match consumer.poll(wait)? {
            Step::Nothing => {}
            Step::Record(record) => self.take(consumer, &record)?,
            Step::Assigned(given) => {
                self.joined = true;
                self.unanswered = Some(given);
            }
            Step::Revoked(gone) | Step::Lost(gone) => {
                self.lines.retain(|partition, _| !gone.contains(partition));
                self.unplaced.retain(|partition| !gone.contains(partition));
                self.unanswered = None;
                consumer.stop_reading(&gone)?;
            }
            Step::OutOfRange => self.astray(),
            Step::Trouble(code) => tracing::debug!(%code, "the brokers"),
        }
        Ok(())
    }

    fn take(&mut self, consumer: &Consumer, record: &BorrowedMessage<'_>) -> Result<(), CourierError> {
        self.hour.read(record.timestamp());
        let partition = Partition { topic: record.topic().into(), number: record.partition() };
        let share = self.share_bytes();
        let Some(line) = self.lines.get_mut(&partition).filter(|line| line.stuck.is_none()) else {
            return Ok(());
        };
        if record.offset() < line.read() {
            return Ok(());
        }
        match self.rungs.read(record, self.hour.now()) {
            Read::Passes => line.pass(record.offset()),
            Read::Waits(held) => {
                if let Work::Bury(remains, _) = &held.work {
                    let what = "a record of our own makes no sense, and goes to dlq";
                    self.hand.complaints.say(place(&partition, held.offset), remains.burial.class, what);
                }
                line.push(held);
            }
            Read::Stops(why) => {
                self.metrics.fates.count(why.cause(), why.class(), 1);
                let (topic, number, offset) = (&*partition.topic, partition.number, record.offset());
                tracing::error!(topic, partition = number, offset, error = %why, "a partition is not read any further");
                line.stuck = Some(format!("{partition} at offset {offset}: {why}"));
            }
        }
        if line.stuck.is_some() || line.is_full(share) {
            line.paused = true;
            consumer.pause(&[partition])?;
        }
        Ok(())
    }

    /// Goes on reading where there is room again.
    fn refill(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        let share = self.share_bytes();
        let low = self.lines.iter_mut().filter(|(_, line)| line.paused && line.stuck.is_none() && line.is_low(share));
        let mut freed = Vec::new();
        for (partition, line) in low {
            line.paused = false;
            freed.push(partition.clone());
        }
        Ok(consumer.resume(&freed)?)
    }

    /// Learns how much waits behind lines that are full: of partitions that are paused librdkafka asks nothing. It shows as lag.
    fn watch(&mut self, consumer: &Consumer) {
        if self.clock.elapsed() < self.watched_at {
            return;
        }
        let paused =
            self.lines.iter().filter(|(_, line)| line.paused && line.absence.is_none()).map(|(partition, _)| partition.clone());
        let asked = consumer.ends(&paused.collect::<Vec<_>>(), BROKER_WAIT);
        let asked = asked.inspect_err(|error| tracing::debug!(%error, "the brokers do not say where partitions end"));
        self.watched_at = self.clock.elapsed() + asked.map_or(WATCH_PAUSE, |_| WATCH_INTERVAL);
    }

    fn share_bytes(&self) -> usize {
        LIMIT_BYTES / self.lines.len().max(1)
    }

    pub(super) fn brokers_failed(&mut self, what: &str, error: &rdkafka::error::KafkaError) {
        if self.broker_backoff.failed() {
            tracing::warn!(%error, "{what}; trying again, nothing is lost");
        }
    }

    pub(super) fn brokers_answer(&mut self) {
        if self.broker_backoff.succeeded() {
            tracing::info!("the courier's brokers answer again");
        }
    }

    pub(super) fn store_failed(&mut self, error: StoreError) -> Result<(), CourierError> {
        self.metrics.fates.count(error.cause(), error.class(), self.due_records(self.hour.now()));
        if error.cause().fate() != Fate::RetryInPlace {
            return Err(error.into());
        }
        if self.store_backoff.failed() {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "what is due waits until the store answers");
        }
        Ok(())
    }
}
