//! Gaps: records that the log no longer has, or not yet.
//!
//! Owns: what becomes of a partition whose position lies outside its log. As the configuration says, it stays ours and is not
//! read until an operator decides, or the lost range is recorded like a record that could not be read, and reading goes on
//! behind it. The other partitions go on. Neighbours: `handover` finds gaps at the beginning, `turns` later.

use std::time::Duration;

use super::handover::BACKOFF;
use super::holdings::Stop;
use super::{Dispatch, DispatchError, Lost, Source, Task};
use crate::config::LostRecords;
use crate::kafka::consumer::{Consumer, Partition};

/// When the brokers are asked again where logs begin, once they did not say: meanwhile those that answer are heard.
const CHECK_PAUSE: Duration = Duration::from_secs(5);

const TO_GO_ON: &str = "To go on behind them, set `pipeline.lost_records = \"skip\"` and restart this process; or stop every process of the \
                        group and move it with `kafka-consumer-groups --reset-offsets --to-earliest`";
const AHEAD: &str = "(the topic was made anew, or its leader lost records). To go on, stop every process of the group, move it with \
                     `kafka-consumer-groups --reset-offsets`, and start them again";

/// How a position lies outside its log.
enum Standing {
    Behind { low: i64 },
    Ahead { high: i64 },
}

impl<A> Dispatch<A> {
    /// The offsets `from..to` of a partition of ours are gone from its log.
    pub(super) fn lost(&mut self, partition: &Partition, from: i64, to: i64) -> Result<(), DispatchError> {
        // A partition that waits for an operator meets the same range each time it is taken up.
        let counted = self.lost_to.insert(partition.clone(), to).filter(|counted| (from..=to).contains(counted));
        self.meters.lost.inc_by(u64::try_from(to - counted.unwrap_or(from)).unwrap_or(0));
        let Some(held) = self.holdings.find(&partition.topic, partition.number) else { return Ok(()) };
        let last = to - 1;
        match self.plan.lost_records {
            LostRecords::Stop => {
                held.stop = Some(Stop::Gone);
                let why = format!(
                    "{partition} is not read: its retention removed offsets {from} to {last} before they were read. {TO_GO_ON}"
                );
                tracing::error!(topic = %partition.topic, partition = partition.number, from, last, "{why}");
                self.standing.stopped(partition.clone(), why);
            }
            LostRecords::Skip => {
                tracing::error!(topic = %partition.topic, partition = partition.number, from, last, "retention removed records before they were read; going on behind them, dlq names them");
                // It is committed behind the range once the range is recorded.
                let Some(claim) = held.tracker.handed_out(last) else { return Ok(()) };
                let source = Source::missing(std::sync::Arc::clone(&held.lease), claim, from, self.clock.now());
                let lane = held.lease.lane();
                self.lanes.give(lane, Task::Lost(Lost { source, last }))?;
            }
        }
        Ok(())
    }

    /// Finds the partitions whose position lies outside their log.
    pub(super) fn check_ranges(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        let held = self.holdings.iter().filter(|held| held.stop.is_none());
        let (partitions, positions): (Vec<_>, Vec<_>) =
            held.map(|held| (held.lease.partition().clone(), held.tracker.position())).unzip();
        let logs = match consumer.logs(&partitions, BACKOFF) {
            Ok(logs) => logs,
            Err(error) => {
                self.standing.waiting(format!("the brokers do not say where logs begin ({error}); trying again"), now);
                self.range_check_due = Some(self.clock.elapsed() + CHECK_PAUSE);
                return Ok(());
            }
        };
        self.range_check_due = None;
        let (mut outside, mut fine) = (Vec::new(), Vec::new());
        for ((partition, position), (low, high)) in partitions.into_iter().zip(positions).zip(logs) {
            if position < low {
                outside.push((partition, position, Standing::Behind { low }));
            } else if position > high {
                outside.push((partition, position, Standing::Ahead { high }));
            } else {
                fine.push((partition, position));
            }
        }
        // librdkafka stopped one of these or of those outside; which of them it does not say.
        self.set_going(consumer, &fine);
        for (partition, position, standing) in outside {
            self.outside(consumer, &partition, position, &standing)?;
        }
        self.measure();
        Ok(())
    }

    fn outside(
        &mut self,
        consumer: &Consumer,
        partition: &Partition,
        position: i64,
        standing: &Standing,
    ) -> Result<(), DispatchError> {
        match standing {
            Standing::Behind { low } => {
                self.lost(partition, position, *low)?;
                self.set_going(consumer, &[(partition.clone(), *low)]);
            }
            Standing::Ahead { high } => {
                let why = format!("{partition} is not read on: its log ends at offset {high}, before {position} {AHEAD}");
                tracing::error!("{why}");
                if let Some(held) = self.holdings.find(&partition.topic, partition.number) {
                    held.stop = Some(Stop::Gone);
                }
                self.standing.stopped(partition.clone(), why);
            }
        }
        let stopped = self.holdings.find(&partition.topic, partition.number).is_some_and(|held| held.stop.is_some());
        if stopped { Ok(consumer.pause(std::slice::from_ref(partition))?) } else { Ok(()) }
    }

    fn set_going(&mut self, consumer: &Consumer, targets: &[(Partition, i64)]) {
        if targets.is_empty() {
            return;
        }
        if let Err(error) = consumer.restart(targets) {
            tracing::warn!(%error, "a partition could not be set going; it is tried again");
            self.range_check_due = Some(self.clock.elapsed() + BACKOFF);
        }
    }
}
