//! Where partitions begin: at the store's position, as far as the log still has it.
//!
//! Owns: what is said about offsets that retention took, and about a log that ends before our position: of a retry topic, or of `undelivered`, it
//! is read from its beginning, for their offsets mean nothing to anybody else (decision 39).

use rdkafka::error::KafkaError;

use super::{BROKER_WAIT, Projector};
use crate::inbox::InboxError;
use crate::kafka::consumer::{Consumer, Partition};
use crate::store::{Fold, Folded, Move, Standing, StoreError};

/// Where a partition begins, and why nothing is folded from it, if so.
type Start = (Partition, i64, Option<String>);

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
        let offsets = starts.iter().map(|(partition, start, _)| (partition.clone(), *start)).collect::<Vec<_>>();
        consumer.start_reading(&offsets)?;
        self.unanswered = None;
        self.begin(consumer, starts)
    }

    /// Puts all partitions back to where the store stands.
    pub(super) fn begin_anew(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        let Some(starts) = self.starts(consumer, &self.progress.partitions())? else {
            return Ok(());
        };
        if starts.is_empty() {
            self.astray = false;
            return Ok(());
        }
        let offsets = starts.iter().map(|(partition, start, _)| (partition.clone(), *start)).collect::<Vec<_>>();
        // Those that librdkafka has stopped, since their position lay outside the log, cannot be sought.
        match consumer.seek(&offsets, BROKER_WAIT).or_else(|_| consumer.restart_all(&offsets)) {
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

    fn begin(&mut self, consumer: &Consumer, starts: Vec<Start>) -> Result<(), InboxError> {
        let (mut read, mut held_back) = (Vec::new(), Vec::new());
        for (partition, start, held) in starts {
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
    fn starts(&mut self, consumer: &Consumer, partitions: &[Partition]) -> Result<Option<Vec<Start>>, InboxError> {
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

    fn find_starts(&self, consumer: &Consumer, partitions: &[Partition]) -> Result<Vec<Start>, NotYet> {
        let logs = consumer.logs(partitions, BROKER_WAIT).map_err(NotYet::Brokers)?;
        let claims = partitions.iter().zip(&logs).map(|(partition, (low, _))| Standing {
            topic: partition.topic.clone(),
            partition: partition.number,
            next: *low,
        });
        let claimed = self.runtime.block_on(self.store.claim(self.epoch, &claims.collect::<Vec<_>>()))?;
        let placed = partitions.iter().zip(logs).zip(claimed);
        placed.map(|((partition, log), standing)| self.start(partition, log, standing.next)).collect()
    }

    fn start(&self, partition: &Partition, (low, high): (i64, i64), stored: i64) -> Result<Start, NotYet> {
        if stored > high {
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
