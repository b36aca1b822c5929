//! Handing partitions over: taken up, given back, lost, and all of them at the end.
//!
//! Owns: the order of it. Up: ask where to begin, read. Back: finish, fence, commit, give back. Lost: fence, give back.
//! Refuses to skip records that are gone: their partition stays ours and is not read. Neighbour: `dispatch`.

use std::time::Duration;

use super::start::{self, Beginning};
use super::{Dispatch, DispatchError};
use crate::config::Start;
use crate::kafka::consumer::{Consumer, Partition};

/// How long to wait before the brokers are asked again.
const BACKOFF: Duration = Duration::from_secs(1);

const GONE: &str = "are gone from the topic (its retention removed them before they were read). To go on behind them, stop \
                    tidings, move the group with `kafka-consumer-groups --reset-offsets --to-earliest`, and start it again";
const AHEAD: &str = "(the topic was made anew, or its leader lost records). To go on, stop tidings, move the group with \
                     `kafka-consumer-groups --reset-offsets`, and start it again";

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
        let start = |topic: &str| if self.standing.was_missing(topic) { Start::Beginning } else { self.plan.start };
        let beginnings = match start::beginnings(consumer, &arriving.partitions, start) {
            Ok(beginnings) => beginnings,
            Err(error) => {
                self.standing.waiting(format!("the brokers do not say where to begin ({error}); trying again"), now);
                self.arriving = Some(Arriving { due: self.clock.elapsed() + BACKOFF, ..arriving });
                return Ok(());
            }
        };
        let (mut starts, mut read, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, beginning) in beginnings {
            let lane = self.lanes.of(&partition);
            let (Beginning::At(offset) | Beginning::Gone { to: offset, .. }) = beginning;
            let held = self.holdings.take_up(partition.clone(), lane, offset);
            starts.push((partition.clone(), offset));
            if let Beginning::Gone { from, to } = beginning {
                let why = format!("partition {partition} is not read: offsets {from} to {} {GONE}", to - 1);
                held.unreadable = Some(why.clone());
                self.standing.unreadable(partition.clone(), why);
            }
            let paused = held.unreadable.is_some() || self.lanes.is_paused(lane);
            if paused { held_back.push(partition) } else { read.push(partition) }
        }
        consumer.start_reading(&starts)?;
        // librdkafka remembers what was paused when a partition was here before.
        consumer.resume(&read)?;
        consumer.pause(&held_back)?;
        tracing::info!(partitions = starts.len(), held = self.holdings.partitions().len(), "partitions taken up");
        self.standing.well();
        self.standing.joined();
        self.measure();
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
            self.standing.given_up(partition);
        }
        consumer.stop_reading(gone)?;
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

    /// Finds the partitions whose position lies outside their log, and stops reading them.
    pub(super) fn check_ranges(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        let mut found = Vec::new();
        let mut fine = Vec::new();
        for held in self.holdings.iter().filter(|held| held.unreadable.is_none()) {
            let (partition, position) = (held.lease.partition().clone(), held.tracker.position());
            match consumer.watermarks(&partition, BACKOFF) {
                Ok((low, _)) if position < low => {
                    found.push((
                        partition.clone(),
                        format!("partition {partition} is not read on: offsets {position} to {} {GONE}", low - 1),
                    ));
                }
                Ok((_, high)) if position > high => {
                    found.push((
                        partition.clone(),
                        format!("partition {partition} is not read on: its log ends at offset {high}, before {position} {AHEAD}"),
                    ));
                }
                Ok(_) => fine.push((partition, position)),
                Err(error) => {
                    self.standing.waiting(format!("the brokers do not say where logs begin ({error}); trying again"), now);
                    self.range_check_due = Some(self.clock.elapsed() + BACKOFF);
                    return Ok(());
                }
            }
        }
        self.range_check_due = None;
        if found.is_empty() && !fine.is_empty() {
            // librdkafka stopped one of these; a seek sets it going.
            if let Err(error) = consumer.seek(&fine, BACKOFF) {
                tracing::warn!(%error, "a partition could not be set going; it is tried again");
                self.range_check_due = Some(self.clock.elapsed() + BACKOFF);
            }
            return Ok(());
        }
        for (partition, why) in found {
            consumer.pause(std::slice::from_ref(&partition))?;
            if let Some(held) = self.holdings.find(&partition.topic, partition.number) {
                held.unreadable = Some(why.clone());
            }
            self.standing.unreadable(partition, why);
        }
        self.measure();
        Ok(())
    }
}
