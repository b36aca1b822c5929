//! Where lines begin: at what the group has committed, else at the log's beginning, so that nothing is missed.
//!
//! Owns: what is said about offsets that retention took, and about a log that ends before what is committed.

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

    fn find_lines(&self, consumer: &Consumer, given: &[Partition]) -> Result<Vec<(Partition, Line)>, rdkafka::error::KafkaError> {
        let (given, committed): (Vec<_>, Vec<_>) = consumer.committed(given, BROKER_WAIT)?.into_iter().unzip();
        let logs = consumer.logs(&given, BROKER_WAIT)?;
        let line = |((partition, committed), (low, high)): ((Partition, Option<i64>), (i64, i64))| {
            let start = committed.unwrap_or(low);
            let mut line = Line::begin(self.rungs.of(&partition.topic), start.clamp(low, high), committed);
            if start < low {
                tell_lost(&partition, start, low);
            } else if start > high {
                line.stuck = Some(tell_anew(&partition, start, high));
                line.paused = true;
            }
            (partition, line)
        };
        Ok(given.into_iter().zip(committed).zip(logs).map(line).collect())
    }

    fn try_put_back(&mut self, consumer: &Consumer) -> Result<(), rdkafka::error::KafkaError> {
        let logs = consumer.logs(&self.lines.keys().cloned().collect::<Vec<_>>(), BROKER_WAIT)?;
        for ((partition, line), (low, high)) in self.lines.iter_mut().zip(logs) {
            if line.read() < low {
                consumer.seek(&[(partition.clone(), low)], BROKER_WAIT)?;
                tell_lost(partition, line.read(), low);
                line.restart(low);
            } else if line.read() > high {
                line.stuck = Some(tell_anew(partition, line.read(), high));
            }
        }
        Ok(())
    }
}

fn tell_lost(partition: &Partition, from: i64, to: i64) {
    tracing::error!(topic = %partition.topic, partition = partition.number, from, to, "retention took deliveries before they were decided; going on behind them");
}

fn tell_anew(partition: &Partition, next: i64, high: i64) -> String {
    let reason =
        format!("{partition} ends at offset {high}, but is done up to {next}: the topic was made anew without a new epoch");
    tracing::error!(topic = %partition.topic, partition = partition.number, offset = next, reason, "a partition is not read");
    reason
}
