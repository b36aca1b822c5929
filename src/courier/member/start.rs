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

/// What the brokers have of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    low: i64,
    high: i64,
    /// What the group has committed of it.
    committed: Option<i64>,
}

/// How the log that was found goes on behind what was read into `line`.
fn course(line: &Line, Found { low, high, committed }: Found) -> Course {
    let next = line.read();
    // With a topic the brokers drop what groups have committed of it. That alone tells a new one that has grown as long as the first was from one
    // that a broker did not know for a moment; one that was trimmed is no new one.
    let is_forgotten = committed.is_none_or(|committed| committed > high);
    let is_another = is_forgotten && line.rung != Rung::FIRST && low == 0 && next > 0;
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
        for (partition, (low, high)) in logs.known {
            let mut line = begin(&partition, low);
            let found = Found { low, high, committed: line.committed };
            lead(&partition, &mut line, found);
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
        if self.unplaced.is_empty() || !self.may_ask() || !self.places_backoff.is_over() {
            return;
        }
        match self.try_put_back(consumer) {
            Ok(()) => self.places_known(),
            Err(error) => self.places_unknown(&error),
        }
    }

    /// Whether there is time for questions about single partitions: neither the group nor a transaction waits for us.
    pub(super) fn may_ask(&self) -> bool {
        self.unanswered.is_none() && self.in_flight.is_none()
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
        for (partition, found) in found(consumer, logs.known)? {
            self.set_going(consumer, &partition, found)?;
            self.unplaced.remove(&partition);
        }
        logs.trouble.map_or(Ok(()), Err)
    }

    /// Has a line go on in its log, as far as that is the one it was. It stays as it is if librdkafka does not read there now.
    pub(super) fn set_going(&mut self, consumer: &Consumer, partition: &Partition, found: Found) -> Result<(), KafkaError> {
        let Some(line) = self.lines.get_mut(partition) else { return Ok(()) };
        if let Some(start) = begins_at(line, found) {
            let target = [(partition.clone(), start)];
            // One that librdkafka stopped, since its position lay outside the log, cannot be sought.
            consumer.restart(&target).or_else(|_| consumer.seek(&target, BROKER_WAIT))?;
            // It may have been paused, being full, or not there.
            consumer.resume(std::slice::from_ref(partition))?;
        }
        let was_gone = line.absence == Some(Absence::Missing);
        lead(partition, line, found);
        if line.absence == Some(Absence::Replaced) {
            return Ok(());
        }
        line.find();
        if was_gone {
            tracing::info!(topic = %partition.topic, partition = partition.number, "a partition is read on: its topic is there again");
        }
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

/// What the brokers have of partitions whose logs are known.
pub(super) fn found(consumer: &Consumer, known: Vec<(Partition, (i64, i64))>) -> Result<Vec<(Partition, Found)>, KafkaError> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let partitions = known.iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
    let mut committed = consumer.committed(&partitions, BROKER_WAIT)?.into_iter().collect::<BTreeMap<_, _>>();
    let found = known.into_iter().map(|(partition, (low, high))| {
        let committed = committed.remove(&partition).flatten();
        (partition, Found { low, high, committed })
    });
    Ok(found.collect())
}

/// Where a line is to be read on, if it is.
fn begins_at(line: &Line, found: Found) -> Option<i64> {
    match course(line, found) {
        Course::On => Some(line.read()),
        Course::Behind => Some(found.low),
        Course::Anew => (line.rung != Rung::FIRST).then_some(found.low),
    }
}

/// Leads a line to where its log goes on.
fn lead(partition: &Partition, line: &mut Line, found: Found) {
    let Found { low, high, committed } = found;
    match course(line, found) {
        Course::On => {}
        Course::Behind => {
            // What begins where nothing was read or committed has lost nothing.
            if line.committed.is_some() || line.read() > 0 {
                tell_lost(partition, line.read(), low);
            }
            line.restart(low);
        }
        Course::Anew => {
            *line = made_anew(partition, line.rung, (line.read(), low, high));
            line.outdated = committed;
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

    fn found(low: i64, high: i64, committed: Option<i64>) -> Found {
        Found { low, high, committed }
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
                assert_eq!(course(&line(rung, next), found(4, 9, Some(next))), Course::On);
            }
            assert_eq!(course(&line(rung, 3), found(4, 9, Some(3))), Course::Behind);
            assert_eq!(course(&line(rung, 10), found(4, 9, Some(10))), Course::Anew);
        }
    }

    #[test]
    fn a_topic_that_was_away_is_the_same_if_what_was_read_of_it_fits() {
        assert_eq!(course(&missed(Rung::FIRST, 7), found(0, 9, None)), Course::On, "positions");
        assert_eq!(course(&missed(Rung::FIRST, 10), found(0, 9, Some(10))), Course::Anew);
        assert_eq!(course(&missed(Rung(1), 7), found(4, 9, None)), Course::On, "it was trimmed, so it is old");
        assert_eq!(course(&missed(Rung(1), 0), found(0, 9, None)), Course::On, "nothing was read of it");
    }

    #[test]
    fn a_rung_that_was_not_known_for_a_moment_is_read_on_and_one_that_the_group_has_forgotten_from_its_beginning() {
        let partition = Partition { topic: "t.retry.30s".into(), number: 0 };
        let mut same = missed(Rung(1), 7);
        assert_eq!(begins_at(&same, found(0, 9, Some(5))), Some(7));
        lead(&partition, &mut same, found(0, 9, Some(5)));
        assert_eq!((same.read(), same.committed), (7, Some(7)));
        // It has grown as long as the first was.
        for outdated in [None, Some(10)] {
            let mut other = missed(Rung(1), 7);
            assert_eq!(begins_at(&other, found(0, 9, outdated)), Some(0));
            lead(&partition, &mut other, found(0, 9, outdated));
            assert_eq!((other.read(), other.committed, other.outdated), (0, None, outdated));
        }
    }

    #[test]
    fn what_was_missed_is_read_on_once_it_is_there_and_what_was_replaced_is_not() {
        let partition = Partition { topic: "t.notifications".into(), number: 0 };
        let mut back = missed(Rung::FIRST, 7);
        lead(&partition, &mut back, found(0, 9, Some(7)));
        back.find();
        assert_eq!((back.read(), back.absence, back.stuck), (7, None, None));
        let mut other = missed(Rung::FIRST, 7);
        lead(&partition, &mut other, found(0, 2, Some(7)));
        assert_eq!((other.absence, other.stuck.is_some()), (Some(Absence::Replaced), true));
    }
}
