//! Where partitions begin: at the store's position, as far as the log still has it.
//!
//! Owns: what is said about offsets that retention took, and about a log that ends before our position: of a retry topic, or of `undelivered`, it
//! is read from its beginning, for their offsets mean nothing to anybody else (decision 39). A topic that is not there, or of which the brokers say
//! nothing, is looked for, and the others begin.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::{BROKER_WAIT, Projector};
use crate::inbox::InboxError;
use crate::inbox::progress::Away;
use crate::kafka::consumer::{Consumer, Partition};
use crate::store::{Fold, Folded, Move, Standing, StoreError};

/// Where a partition begins, and why nothing is folded from it, if so.
type Start = (Partition, i64, Option<String>);

/// How often partitions that are away are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The same once the brokers did not say where one begins: nothing is folded for as long as they are asked.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// Where partitions begin, as far as that is known.
struct Starts {
    known: Vec<Start>,
    away: Vec<(Partition, Away, String)>,
}

impl Starts {
    fn offsets(&self) -> Vec<(Partition, i64)> {
        self.known.iter().map(|(partition, start, _)| (partition.clone(), *start)).collect()
    }

    fn away(&self) -> Vec<Partition> {
        self.away.iter().map(|(partition, ..)| partition.clone()).collect()
    }
}

/// What keeps partitions from beginning. All of it may pass.
enum NotYet {
    Brokers(KafkaError),
    Store(StoreError),
    /// Somebody else moved a partition just now.
    Moved,
}

/// Whether offsets that were never folded are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Offsets,
    Nothing,
}

impl From<StoreError> for NotYet {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Projector {
    /// Answers the group: partitions that were assigned begin.
    pub(super) fn begin_assigned(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        let Some(given) = self.unanswered.clone() else {
            return Ok(());
        };
        let Some(starts) = self.starts(consumer, &given)? else {
            return Ok(());
        };
        consumer.start_reading_some(&starts.offsets(), &starts.away())?;
        self.unanswered = None;
        self.begin(consumer, starts)
    }

    /// Puts all partitions back to where the store stands.
    pub(super) fn begin_anew(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        let Some(starts) = self.starts(consumer, &self.progress.partitions())? else {
            return Ok(());
        };
        // Those that librdkafka has stopped, since their position lay outside the log, cannot be sought.
        let offsets = starts.offsets();
        let all = || {
            let stored = |partition: Partition| (partition.clone(), self.progress.stored(&partition));
            [offsets.clone(), starts.away().into_iter().map(stored).collect()].concat()
        };
        match consumer.seek(&offsets, BROKER_WAIT).or_else(|_| consumer.restart_all(&all())) {
            Ok(()) => {
                self.batch.clear();
                self.graveyard.forget(&self.progress.partitions())?;
                self.astray = false;
                self.begin(consumer, starts)
            }
            Err(error) => {
                if self.broker_backoff.failed() {
                    tracing::warn!(%error, "partitions are not back where the store stands yet");
                }
                Ok(())
            }
        }
    }

    /// Looks for partitions that are away. Those that are there again begin.
    pub(super) fn find_away(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        if self.astray || self.clock.elapsed() < self.look_at {
            return Ok(());
        }
        let away = self.progress.away();
        let topics = away.iter().map(|partition| partition.topic.to_string()).collect::<BTreeSet<_>>();
        let topics = Vec::from_iter(topics);
        // What has no topic has no leader either, whom to ask takes longer.
        let missing = consumer.missing(&topics, BROKER_WAIT);
        self.look_at = self.clock.elapsed() + if missing.is_ok() { LOOK_INTERVAL } else { LOOK_PAUSE };
        let Ok(missing) = missing else { return Ok(()) };
        let (gone, back): (Vec<_>, Vec<_>) = away.into_iter().partition(|partition| missing.contains(&&*partition.topic));
        gone.iter().for_each(|partition| self.progress.miss(partition));
        if back.is_empty() {
            return Ok(());
        }
        let Some(starts) = self.starts(consumer, &back)? else {
            if self.broker_backoff.is_failing() {
                self.look_at = self.clock.elapsed() + LOOK_PAUSE;
            }
            return Ok(());
        };
        if !starts.away.is_empty() {
            self.look_at = self.clock.elapsed() + LOOK_PAUSE;
        }
        let offsets = starts.offsets();
        match consumer.restart(&offsets).or_else(|_| consumer.seek(&offsets, BROKER_WAIT)) {
            Ok(()) => self.begin(consumer, starts),
            Err(error) => {
                tracing::debug!(%error, "partitions that were away are not read yet");
                Ok(())
            }
        }
    }

    fn begin(&mut self, consumer: &Consumer, starts: Starts) -> Result<(), InboxError> {
        let (mut read, mut held_back) = (Vec::new(), starts.away());
        if !held_back.is_empty() {
            self.look_at = self.look_at.max(self.clock.elapsed() + LOOK_INTERVAL);
        }
        for (partition, away, why) in starts.away {
            self.progress.lose(partition, away, why);
        }
        for (partition, start, held) in starts.known {
            self.progress.begin(partition.clone(), start);
            if held.is_some() || self.paused {
                held_back.push(partition.clone())
            } else {
                read.push(partition.clone())
            }
            if let Some(place) = self.progress.get_mut(&partition) {
                place.held = held;
            }
        }
        // librdkafka remembers what was paused when a partition was here before, or before it was put back.
        consumer.resume(&read)?;
        consumer.pause(&held_back)?;
        self.lag_at = self.clock.elapsed();
        Ok(())
    }

    /// Where `partitions` begin, or nothing if brokers or store do not answer now.
    fn starts(&mut self, consumer: &Consumer, partitions: &[Partition]) -> Result<Option<Starts>, InboxError> {
        if partitions.is_empty() {
            return Ok(Some(Starts { known: Vec::new(), away: Vec::new() }));
        }
        if !self.broker_backoff.is_over() || !self.store_backoff.is_over() {
            return Ok(None);
        }
        self.await_answer()?;
        match self.find_starts(consumer, partitions) {
            Ok(starts) => {
                self.broker_backoff.succeeded();
                self.store_answers();
                return Ok(Some(starts));
            }
            Err(NotYet::Store(error)) => self.store_failed(error)?,
            Err(NotYet::Brokers(error)) => {
                if self.broker_backoff.failed() {
                    tracing::warn!(%error, "the brokers do not say where the log begins and ends; asking again");
                }
            }
            Err(NotYet::Moved) => {
                self.broker_backoff.failed();
            }
        }
        Ok(None)
    }

    fn find_starts(&self, consumer: &Consumer, partitions: &[Partition]) -> Result<Starts, NotYet> {
        let logs = consumer.logs_by_topic(partitions, BROKER_WAIT).map_err(NotYet::Brokers)?;
        let claims = logs.known.iter().map(|(partition, (low, _))| Standing {
            topic: partition.topic.clone(),
            partition: partition.number,
            next: *low,
        });
        let claimed = self.runtime.block_on(self.store.claim(self.epoch, &claims.collect::<Vec<_>>()))?;
        let placed = logs.known.iter().zip(claimed);
        let known = placed.map(|((partition, log), standing)| self.start(partition, *log, standing.next));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let unsaid = partitions
            .iter()
            .filter(|partition| !logs.missing.contains(partition) && !logs.known.iter().any(|(known, _)| known == *partition));
        let trouble = logs.trouble.as_ref().map(ToString::to_string).unwrap_or_default();
        let why = |partition: &Partition| format!("the brokers do not say where {partition} begins: {trouble}");
        let unsaid = unsaid.map(|partition| (partition.clone(), Away::Unsaid, why(partition))).collect::<Vec<_>>();
        let missing = logs.missing.into_iter().map(|partition| {
            let why = self.told_missing(&partition);
            (partition, Away::Unseen, why)
        });
        Ok(Starts { known, away: missing.chain(unsaid).collect() })
    }

    /// That a partition's topic is not there, with what to do.
    fn told_missing(&self, partition: &Partition) -> String {
        let has_positions = self.topics.has_positions(&partition.topic);
        if has_positions { partition.told_missing_with_positions() } else { partition.told_missing() }
    }

    fn start(&self, partition: &Partition, (low, high): (i64, i64), stored: i64) -> Result<Start, NotYet> {
        // One that came back may have grown as long as the first was.
        let is_another =
            self.progress.is_missing(partition) && low == 0 && stored > 0 && !self.topics.has_positions(&partition.topic);
        if stored > high || is_another {
            return self.made_anew(partition, (low, high), stored);
        }
        if stored < low {
            self.put(partition, (stored, low), Loss::Offsets)?;
            self.metrics.skipped.inc_by(u64::try_from(low - stored).unwrap_or(0));
            tracing::error!(topic = %partition.topic, partition = partition.number, from = stored, to = low, "retention took offsets before they were folded; going on behind them");
        }
        Ok((partition.clone(), stored.max(low), None))
    }

    /// The log ends before what is folded of it: it is another one than it was.
    fn made_anew(&self, partition: &Partition, (low, high): (i64, i64), stored: i64) -> Result<Start, NotYet> {
        let (topic, number, offset) = (&*partition.topic, partition.number, stored);
        if self.topics.has_positions(topic) {
            let reason = format!(
                "{partition} ends at offset {high}, but is folded up to {stored} in epoch {}: the topic was made anew without a new epoch",
                self.epoch
            );
            tracing::error!(topic, partition = number, offset, reason, "a partition is not folded");
            return Ok((partition.clone(), high, Some(reason)));
        }
        self.put(partition, (stored, low), Loss::Nothing)?;
        tracing::error!(topic, partition = number, offset, end = high, "a topic was made anew: it is folded from its beginning");
        Ok((partition.clone(), low, None))
    }

    /// Has the store go on elsewhere in a partition, with nothing folded for it.
    fn put(&self, partition: &Partition, (from, to): (i64, i64), loss: Loss) -> Result<(), NotYet> {
        let is_loss = loss == Loss::Offsets;
        let step = Move { topic: partition.topic.clone(), partition: partition.number, from, to, clock: None, is_loss };
        let fold = Fold { moves: vec![step], ..Fold::default() };
        match self.runtime.block_on(self.store.fold(self.epoch, &self.retention, &fold))? {
            Folded::Moved => Err(NotYet::Moved),
            _ => Ok(()),
        }
    }
}
