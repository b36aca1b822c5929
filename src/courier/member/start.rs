//! Where lines begin and go on: at what the group has committed, else at the log's beginning, so that nothing is missed.
//!
//! Owns: what is said about offsets that retention took, and about a log that ends before what is committed. A rung that was made anew is read
//! from its beginning (decision 39); `notifications` is not read on, for its offsets are positions. Refuses to hold up rounds, or one topic for
//! another: what the brokers do not say of one is asked again, by a pause of its own. Neighbours: `member` has the lines, `gone` looks for topics
//! that are not there.

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;
use tidings_core::delivery::ladder::Rung;

use super::{BROKER_WAIT, Member};
use crate::courier::CourierError;
use crate::courier::line::{Absence, Line};
use crate::kafka::consumer::{Consumer, Partition};

/// How a log goes on behind what was read of it.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    /// With what comes next.
    On,
    /// Retention took that: with the first that is left.
    Behind,
    /// It is another log.
    Anew,
}

/// How the log from `low` to `high` goes on behind what was read into `line`.
fn course(line: &Line, (low, high): (i64, i64)) -> Course {
    let next = line.read();
    // One that came back may have grown as long as the first was; one that was trimmed is no new one.
    let is_another = line.absence.is_some() && line.rung != Rung::FIRST && low == 0 && next > 0;
    if next > high || is_another {
        Course::Anew
    } else if next < low {
        Course::Behind
    } else {
        Course::On
    }
}

impl Member {
    /// Answers the group: partitions that were assigned begin.
    pub(super) fn begin_assigned(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        let Some(given) = self.unanswered.clone().filter(|_| self.places_backoff.is_over()) else {
            return Ok(());
        };
        let lines = match self.find_lines(consumer, &given) {
            Ok(lines) => lines,
            Err(error) => {
                self.places_unknown(&error);
                return Ok(());
            }
        };
        self.places_known();
        let (gone, there): (Vec<_>, Vec<_>) = lines.iter().partition(|(_, line)| line.absence == Some(Absence::Missing));
        let starts = there.iter().map(|(partition, line)| (partition.clone(), line.read())).collect::<Vec<_>>();
        let names = |lines: &[&(Partition, Line)]| lines.iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        consumer.start_reading_some(&starts, &names(&gone))?;
        self.unanswered = None;
        let (stuck, read): (Vec<_>, Vec<_>) = there.into_iter().partition(|(_, line)| line.stuck.is_some());
        // librdkafka remembers what was paused when a partition was here before.
        consumer.resume(&names(&read))?;
        consumer.pause(&names(&stuck))?;
        self.lines.extend(lines);
        Ok(())
    }

    /// Where lines of these partitions begin. Those of a topic that is not there wait for it.
    fn find_lines(&self, consumer: &Consumer, given: &[Partition]) -> Result<Vec<(Partition, Line)>, KafkaError> {
        let logs = consumer.logs_by_topic(given, BROKER_WAIT)?;
        if let Some(trouble) = logs.trouble {
            return Err(trouble);
        }
        let mut committed = consumer.committed(given, BROKER_WAIT)?.into_iter().collect::<BTreeMap<_, _>>();
        let mut begin = |partition: &Partition, low: i64| {
            let committed = committed.remove(partition).flatten();
            Line::begin(self.rungs.of(&partition.topic), committed.unwrap_or(low), committed)
        };
        let mut lines = Vec::with_capacity(given.len());
        for partition in logs.missing {
            let mut line = begin(&partition, 0);
            line.miss(super::gone::told(&partition, line.rung));
            lines.push((partition, line));
        }
        for (partition, log) in logs.known {
            let mut line = begin(&partition, log.0);
            lead(&partition, &mut line, log);
            lines.push((partition, line));
        }
        Ok(lines)
    }

    /// The position of some partition lies outside its log: all are looked at, since nobody says which.
    pub(super) fn astray(&mut self) {
        let read = self.lines.iter().filter(|(_, line)| line.stuck.is_none()).map(|(partition, _)| partition.clone());
        self.unplaced.extend(read);
    }

    /// Goes on where the log begins, in partitions whose next offset the log no longer has.
    pub(super) fn put_back(&mut self, consumer: &Consumer) {
        if self.unplaced.is_empty() || !self.places_backoff.is_over() {
            return;
        }
        match self.try_put_back(consumer) {
            Ok(()) => self.places_known(),
            Err(error) => self.places_unknown(&error),
        }
    }

    fn try_put_back(&mut self, consumer: &Consumer) -> Result<(), KafkaError> {
        let lines = &self.lines;
        self.unplaced.retain(|partition| lines.get(partition).is_some_and(|line| line.stuck.is_none()));
        let wanted = self.unplaced.iter().cloned().collect::<Vec<_>>();
        let logs = consumer.logs_by_topic(&wanted, BROKER_WAIT)?;
        for partition in logs.missing {
            self.topic_is_gone(&partition.topic);
            self.unplaced.remove(&partition);
        }
        for (partition, log) in logs.known {
            self.set_going(consumer, &partition, log)?;
            self.unplaced.remove(&partition);
        }
        logs.trouble.map_or(Ok(()), Err)
    }

    /// Has a line go on in its log, as far as that is the one it was.
    pub(super) fn set_going(&mut self, consumer: &Consumer, partition: &Partition, log: (i64, i64)) -> Result<(), KafkaError> {
        let Some(line) = self.lines.get_mut(partition) else { return Ok(()) };
        lead(partition, line, log);
        if line.absence == Some(Absence::Replaced) {
            return Ok(());
        }
        let target = [(partition.clone(), line.read())];
        // One that librdkafka stopped, since its position lay outside the log, cannot be sought.
        consumer.restart(&target).or_else(|_| consumer.seek(&target, BROKER_WAIT))?;
        // It may have been paused, being full, or not there.
        consumer.resume(std::slice::from_ref(partition))?;
        line.find();
        Ok(())
    }

    fn places_unknown(&mut self, error: &KafkaError) {
        if self.places_backoff.failed() {
            tracing::warn!(%error, "the brokers do not say where some partitions begin and end; asking again, the others go on");
        }
    }

    fn places_known(&mut self) {
        if self.places_backoff.succeeded() {
            tracing::info!("the brokers say again where partitions begin and end");
        }
    }
}

/// Leads a line to where its log goes on.
fn lead(partition: &Partition, line: &mut Line, (low, high): (i64, i64)) {
    match course(line, (low, high)) {
        Course::On => {}
        Course::Behind => {
            // What begins where nothing was read or committed has lost nothing.
            if line.committed.is_some() || line.read() > 0 {
                tell_lost(partition, line.read(), low);
            }
            line.restart(low);
        }
        Course::Anew => {
            let outdated = line.committed;
            *line = made_anew(partition, line.rung, (line.read(), low, high));
            line.outdated = outdated;
        }
    }
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
        (line.paused, line.absence) = (true, Some(Absence::Replaced));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rung: Rung, read: i64) -> Line {
        Line::begin(rung, read, Some(read))
    }

    fn missed(rung: Rung, read: i64) -> Line {
        let mut line = line(rung, read);
        line.miss("it is not there".into());
        line
    }

    #[test]
    fn a_log_goes_on_with_what_comes_next_or_with_the_first_that_retention_left() {
        for rung in [Rung::FIRST, Rung(1)] {
            for next in [4, 7, 9] {
                assert_eq!(course(&line(rung, next), (4, 9)), Course::On);
            }
            assert_eq!(course(&line(rung, 3), (4, 9)), Course::Behind);
            assert_eq!(course(&line(rung, 10), (4, 9)), Course::Anew);
        }
    }

    #[test]
    fn a_topic_that_was_away_is_the_same_if_what_was_read_of_it_fits() {
        assert_eq!(course(&missed(Rung::FIRST, 7), (0, 9)), Course::On, "positions");
        assert_eq!(course(&missed(Rung::FIRST, 10), (0, 9)), Course::Anew);
        assert_eq!(course(&missed(Rung(1), 7), (0, 9)), Course::Anew, "it may have been made anew, and has grown");
        assert_eq!(course(&missed(Rung(1), 7), (4, 9)), Course::On, "it was trimmed, so it is old");
        assert_eq!(course(&missed(Rung(1), 0), (0, 9)), Course::On, "nothing was read of it");
    }

    #[test]
    fn what_was_missed_is_read_on_once_it_is_there_and_what_was_replaced_is_not() {
        let partition = Partition { topic: "t.notifications".into(), number: 0 };
        let mut back = missed(Rung::FIRST, 7);
        lead(&partition, &mut back, (0, 9));
        back.find();
        assert_eq!((back.read(), back.absence, back.stuck), (7, None, None));
        let mut other = missed(Rung::FIRST, 7);
        lead(&partition, &mut other, (0, 2));
        assert_eq!((other.absence, other.stuck.is_some()), (Some(Absence::Replaced), true));
    }
}
