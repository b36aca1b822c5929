//! Handing partitions over: taken up, given back, lost, and all of them at the end.
//!
//! Owns: the order of it. Up: ask where to begin, read. Back: finish, fence, commit, give back. Lost: fence, give back.
//! Neighbours: `start` has the policy of beginnings, `gaps` what happens where records are gone.

use std::time::Duration;

use rdkafka::error::KafkaError;

use super::holdings::Stop;
use super::start::{self, Beginning, Policy};
use super::{Dispatch, DispatchError};
use crate::config::Start;
use crate::kafka::consumer::{Consumer, Partition};

/// How long to wait before the brokers are asked again.
pub(super) const BACKOFF: Duration = Duration::from_secs(1);
/// How often it is asked whether somebody has said where a topic begins.
const UNSAID_INTERVAL: Duration = Duration::from_millis(300);

/// Partitions that the group gave us and that are not read yet. The group waits.
pub(super) struct Arriving {
    partitions: Vec<Partition>,
    due: Duration,
}

impl Arriving {
    pub(super) fn new(partitions: Vec<Partition>) -> Self {
        Self { partitions, due: Duration::ZERO }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }
}

impl<A> Dispatch<A> {
    /// Begins to read what the group gave us, once the brokers have said where. The group waits for it.
    pub(super) fn arrive(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        let Some(arriving) = self.arriving.take() else { return Ok(()) };
        let beginnings = match self.beginnings(consumer, &arriving.partitions) {
            Ok(beginnings) => beginnings,
            Err(error) => {
                self.standing.waiting(format!("the brokers do not say where to begin ({error}); trying again"), now);
                self.arriving = Some(Arriving { due: self.clock.elapsed() + BACKOFF, ..arriving });
                return Ok(());
            }
        };
        let (mut starts, mut read, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, beginning) in beginnings {
            starts.push((partition.clone(), self.take_up(&partition, beginning)?));
            if self.is_read(&partition) { read.push(partition) } else { held_back.push(partition) }
        }
        consumer.start_reading(&starts)?;
        // librdkafka remembers what was paused when a partition was here before.
        consumer.resume(&read)?;
        consumer.pause(&held_back)?;
        self.meters.taken_up.inc_by(starts.len() as u64);
        tracing::info!(partitions = starts.len(), held = self.holdings.partitions().len(), "partitions taken up");
        self.standing.well();
        self.standing.joined();
        self.measure();
        Ok(())
    }

    fn beginnings(&self, consumer: &Consumer, partitions: &[Partition]) -> Result<Vec<(Partition, Beginning)>, KafkaError> {
        let start = |topic: &str| if self.standing.was_missing(topic) { Start::Beginning } else { self.plan.start_of(topic) };
        start::beginnings(consumer, partitions, &Policy { topics: &self.plan.topics, start: &start })
    }

    /// Notes a partition as ours. Gives the offset to begin at, which means nothing if it is not read.
    fn take_up(&mut self, partition: &Partition, beginning: Beginning) -> Result<i64, DispatchError> {
        let (lane, stay) = (self.lanes.of(partition), self.topics.stay(&partition.topic));
        match beginning {
            Beginning::At(offset) => {
                self.holdings.take_up(partition.clone(), lane, offset, stay).stop = self.topics.stop(&partition.topic);
                Ok(offset)
            }
            Beginning::Gone { from, to } => {
                self.holdings.take_up(partition.clone(), lane, from, stay).stop = self.topics.stop(&partition.topic);
                self.lost(partition, from, to)?;
                Ok(to)
            }
            Beginning::Unsaid { low } => {
                self.holdings.take_up(partition.clone(), lane, low, stay).stop = Some(Stop::Unsaid);
                let why = format!("{partition} waits for the member that is to say where its topic begins");
                self.standing.stopped(partition.clone(), why);
                self.unsaid_due = Some(self.clock.elapsed() + UNSAID_INTERVAL);
                Ok(low)
            }
        }
    }

    /// Whether a partition of ours is to be fetched now.
    pub(super) fn is_read(&mut self, partition: &Partition) -> bool {
        let held = self.holdings.find(&partition.topic, partition.number).map(|held| (held.stop, held.lease.lane()));
        held.is_some_and(|(stop, lane)| stop.is_none() && !self.lanes.is_paused(lane))
    }

    /// Begins with partitions of which another member has said by now where they begin.
    pub(super) fn begin_unsaid(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        self.unsaid_due = Some(now + UNSAID_INTERVAL);
        let beginnings = match self.beginnings(consumer, &self.holdings.stopped(Stop::Unsaid)) {
            Ok(beginnings) => beginnings,
            Err(error) => {
                tracing::debug!(%error, "the brokers do not say where to begin; asking again");
                return Ok(());
            }
        };
        let mut left = false;
        for (partition, beginning) in beginnings {
            let (Beginning::At(to) | Beginning::Gone { to, .. }) = beginning else {
                left = true;
                continue;
            };
            if let Err(error) = consumer.seek(&[(partition.clone(), to)], BACKOFF) {
                tracing::debug!(%partition, %error, "not at its beginning yet; trying again");
                left = true;
                continue;
            }
            self.standing.no_longer_stopped(&partition);
            self.take_up(&partition, beginning)?;
            if self.is_read(&partition) {
                consumer.resume(&[partition])?;
            }
        }
        if !left {
            self.unsaid_due = None;
        }
        Ok(())
    }

    /// Finishes, fences, commits and gives back. librdkafka keeps the group waiting until the commit is answered.
    pub(super) fn hand_back(&mut self, consumer: &Consumer, gone: &[Partition]) -> Result<(), DispatchError> {
        self.standing.left();
        self.finish(gone, self.plan.drain_timeout)?;
        self.fence(gone);
        self.commit(consumer);
        self.give_up(consumer, gone)
    }

    /// Somebody else reads these by now: what we have finished of them is not ours to commit.
    pub(super) fn lose(&mut self, consumer: &Consumer, gone: &[Partition]) -> Result<(), DispatchError> {
        tracing::warn!(
            partitions = gone.len(),
            "the group gave our partitions to others; what was in flight is done again there"
        );
        self.standing.left();
        self.arriving = None;
        self.give_up(consumer, gone)
    }

    fn give_up(&mut self, consumer: &Consumer, gone: &[Partition]) -> Result<(), DispatchError> {
        for partition in gone {
            self.holdings.give_up(partition);
            self.standing.no_longer_stopped(partition);
        }
        consumer.stop_reading(gone)?;
        self.meters.given_back.inc_by(gone.len() as u64);
        tracing::info!(partitions = gone.len(), held = self.holdings.partitions().len(), "partitions given back");
        self.measure();
        Ok(())
    }

    /// Waits until what was handed out of these is done.
    fn finish(&mut self, partitions: &[Partition], limit: Duration) -> Result<(), DispatchError> {
        let deadline = self.clock.elapsed() + limit;
        loop {
            self.take_answers()?;
            self.lanes.flush()?;
            let mine = self.holdings.iter().filter(|held| partitions.contains(held.lease.partition()));
            let in_flight = mine.map(|held| held.tracker.in_flight()).sum::<usize>();
            if in_flight == 0 {
                return Ok(());
            }
            if self.clock.elapsed() >= deadline {
                tracing::warn!(in_flight, "not finished in time; these records are read again by whoever has the partition next");
                return Ok(());
            }
            self.wait_for_answer(Duration::from_millis(10))?;
        }
    }

    /// What comes late of these changes nothing any more; what is committable stays.
    fn fence(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(held) = self.holdings.find(&partition.topic, partition.number) {
                held.end();
            }
        }
    }

    /// The end: finish, fence, commit. Leaving the group waits for that commit.
    pub(super) fn drain(&mut self, consumer: &Consumer) -> Result<(), DispatchError> {
        let all = self.holdings.partitions();
        consumer.pause(&all)?;
        self.finish(&all, self.plan.drain_timeout.saturating_sub(self.plan.leave_limit()))?;
        self.holdings.passed(&consumer.positions()?);
        self.fence(&all);
        self.commit(consumer);
        self.measure();
        Ok(())
    }
}
