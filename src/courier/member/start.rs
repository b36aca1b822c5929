//! Where lines begin: at what the group has committed, else at the log's beginning, so that nothing is missed.
//!
//! Owns: what is said about offsets that retention took, and about a log that ends before what is committed. A rung that was made anew is read
//! from its beginning (decision 39); `notifications` is not read on, for its offsets are positions. Neighbours: `member` has the lines.

use std::collections::BTreeSet;

use rdkafka::error::KafkaError;
use tidings_core::delivery::ladder::Rung;

use super::{BROKER_WAIT, Member};
use crate::courier::CourierError;
use crate::courier::line::Line;
use crate::kafka::consumer::{Consumer, Partition};

impl Member {
    /// Answers the group: partitions that were assigned begin.
    pub(super) fn begin_assigned(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        let Some(given) = self.unanswered.clone().filter(|_| self.broker_backoff.is_over()) else {
            return Ok(());
        };
        let lines = match self.find_lines(consumer, &given) {
            Ok(lines) => lines,
            Err(error) => {
                self.brokers_failed("the brokers do not say where to begin", &error);
                return Ok(());
            }
        };
        let starts = lines.iter().map(|(partition, line)| (partition.clone(), line.read())).collect::<Vec<_>>();
        consumer.start_reading(&starts)?;
        self.unanswered = None;
        let (stuck, read): (Vec<_>, Vec<_>) = lines.iter().partition(|(_, line)| line.stuck.is_some());
        let names =
            |lines: Vec<&(Partition, Line)>| lines.into_iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        // librdkafka remembers what was paused when a partition was here before.
        consumer.resume(&names(read))?;
        consumer.pause(&names(stuck))?;
        self.lines.extend(lines);
        Ok(())
    }

    /// Goes on where the log begins, in partitions whose next offset the log no longer has.
    pub(super) fn put_back(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        if !self.broker_backoff.is_over() {
            return Ok(());
        }
        match self.try_put_back(consumer) {
            Ok(()) => self.astray = false,
            Err(error) => self.brokers_failed("the brokers do not say where to go on", &error),
        }
        Ok(())
    }

    fn find_lines(&self, consumer: &Consumer, given: &[Partition]) -> Result<Vec<(Partition, Line)>, KafkaError> {
        let (given, committed): (Vec<_>, Vec<_>) = consumer.committed(given, BROKER_WAIT)?.into_iter().unzip();
        let logs = consumer.logs(&given, BROKER_WAIT)?;
        let line = |((partition, committed), (low, high)): ((Partition, Option<i64>), (i64, i64))| {
            let (rung, start) = (self.rungs.of(&partition.topic), committed.unwrap_or(low));
            if start > high {
                let mut line = made_anew(&partition, rung, (start, low, high));
                line.outdated = committed;
                return (partition, line);
            }
            let line = Line::begin(rung, start.max(low), committed);
            if start < low {
                tell_lost(&partition, start, low);
            }
            (partition, line)
        };
        Ok(given.into_iter().zip(committed).zip(logs).map(line).collect())
    }

    fn try_put_back(&mut self, consumer: &Consumer) -> Result<(), KafkaError> {
        let there = self.lines.iter().filter(|(_, line)| !line.is_gone).map(|(partition, _)| partition.clone());
        let there = there.collect::<Vec<_>>();
        let logs = consumer.logs(&there, BROKER_WAIT)?;
        for (partition, (low, high)) in there.into_iter().zip(logs) {
            let Some(line) = self.lines.get_mut(&partition).filter(|line| line.stuck.is_none()) else { continue };
            let read = line.read();
            if read < low {
                set_going(consumer, (&partition, low))?;
                tell_lost(&partition, read, low);
                line.restart(low);
            } else if read > high {
                let outdated = line.committed;
                *line = made_anew(&partition, line.rung, (read, low, high));
                line.outdated = outdated;
                if line.stuck.is_none() {
                    set_going(consumer, (&partition, low))?;
                    // It may have been paused, being full.
                    consumer.resume(std::slice::from_ref(&partition))?;
                }
            } else {
                // A position that lay outside for a moment: librdkafka has stopped there.
                set_going(consumer, (&partition, read))?;
            }
        }
        Ok(())
    }

    /// Looks whether topics that were gone are there again. Their partitions begin anew, whatever was read before.
    pub(super) fn look_for_gone(&mut self, consumer: &Consumer) {
        let is_gone = |(_, line): &(&Partition, &Line)| line.is_gone && line.rung != Rung::FIRST;
        let gone = self.lines.iter().filter(is_gone).map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        if gone.is_empty() {
            return;
        }
        let topics = gone.iter().map(|partition| partition.topic.to_string()).collect::<BTreeSet<_>>();
        let topics = Vec::from_iter(topics);
        let Ok(missing) = consumer.missing(&topics, BROKER_WAIT) else { return };
        let back = gone.into_iter().filter(|partition| !missing.contains(&&*partition.topic)).collect::<Vec<_>>();
        match self.begin_anew(consumer, &back) {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a topic that was made anew is not read yet; trying again"),
        }
    }

    fn begin_anew(&mut self, consumer: &Consumer, back: &[Partition]) -> Result<(), KafkaError> {
        let logs = consumer.logs(back, BROKER_WAIT)?;
        for (partition, (low, high)) in back.iter().zip(logs) {
            let Some(line) = self.lines.get_mut(partition) else { continue };
            let read = line.read();
            // A log that was trimmed and goes on to where it was read is no new one: it was away.
            if low > 0 && (low..=high).contains(&read) {
                set_going(consumer, (partition, read))?;
                consumer.resume(std::slice::from_ref(partition))?;
                (line.is_gone, line.stuck, line.paused) = (false, None, false);
                continue;
            }
            let mut anew = made_anew(partition, line.rung, (line.read(), low, high));
            anew.outdated = line.committed;
            if anew.stuck.is_none() {
                set_going(consumer, (partition, low))?;
                consumer.resume(std::slice::from_ref(partition))?;
            }
            *line = anew;
        }
        Ok(())
    }
}

/// Has librdkafka read from another offset, also a partition that it stopped because its position lay outside the log.
fn set_going(consumer: &Consumer, (partition, offset): (&Partition, i64)) -> Result<(), KafkaError> {
    let target = [(partition.clone(), offset)];
    consumer.restart(&target).or_else(|_| consumer.seek(&target, BROKER_WAIT))
}

/// The line of a partition whose log ends before what was read of it: what lay there is gone with the topic. The offsets of a rung mean nothing
/// to anybody else, so it is read from its beginning.
fn made_anew(partition: &Partition, rung: Rung, (read, low, high): (i64, i64, i64)) -> Line {
    let (topic, number) = (&*partition.topic, partition.number);
    if rung == Rung::FIRST {
        let mut line = Line::begin(rung, high, Some(read));
        let reason =
            format!("{partition} ends at offset {high}, but is done up to {read}: the topic was made anew without a new epoch");
        tracing::error!(topic, partition = number, offset = read, reason, "a partition is not read");
        line.stuck = Some(reason);
        (line.paused, line.is_gone) = (true, true);
        return line;
    }
    tracing::error!(
        topic,
        partition = number,
        offset = read,
        end = high,
        "a retry topic was made anew: the ladders of what waited there are lost, what lies there now is read from its beginning. `tidings retry \
         --all` sends what is pending once more"
    );
    Line::begin(rung, low, None)
}

fn tell_lost(partition: &Partition, from: i64, to: i64) {
    tracing::error!(topic = %partition.topic, partition = partition.number, from, to, "retention took deliveries before they were decided; going on behind them");
}
