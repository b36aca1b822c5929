//! Handing partitions over: taken up, given back, lost, and all of them at the end.
//!
//! Owns: the order of it. Up: ask where to begin, answer the group, read; what has no beginning yet is held, and asked about again.
//! Back: finish, fence, commit, give back. Lost: fence, give back. Refuses to let the group wait for brokers that don't answer.
//! Neighbours: `start` has the policy of beginnings, `gaps` what happens where records are gone.

use std::time::Duration;

use rdkafka::error::KafkaError;

use super::holdings::{Held, Stop};
use super::round::is_gone;
use super::start::{self, Beginning, Beginnings, Policy};
use super::{Dispatch, DispatchError};
use crate::config::Start;
use crate::kafka::consumer::{Consumer, Partition};

/// How long to wait before the brokers are asked again.
pub(super) const BACKOFF: Duration = Duration::from_secs(1);
/// How long partitions may take to be moved to where they begin, all together. The others have their turn later.
const SEEKS_LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked whether somebody has said where a topic begins.
const UNSAID_INTERVAL: Duration = Duration::from_millis(300);
/// After what time the brokers are asked again where partitions begin that they did not tell of, and the longest time: each question
/// that a broker does not answer holds up what others would, so it is put more and more seldom.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(5);
const UNKNOWN_LONGEST: Duration = Duration::from_secs(40);

/// When to ask again where partitions begin that are ours and not read for that.
#[derive(Default)]
pub(super) struct Late {
    unsaid_due: Option<Duration>,
    unknown_due: Option<Duration>,
    /// How often it was asked in vain, since the brokers last told of one.
    in_vain: u32,
}

impl Late {
    fn ask_again(&mut self, stop: Stop, now: Duration) {
        match stop {
            Stop::Unsaid => self.unsaid_due = Some(now + UNSAID_INTERVAL),
            Stop::Unknown => {
                self.unknown_due = Some(now + (UNKNOWN_INTERVAL * 2_u32.pow(self.in_vain.min(8))).min(UNKNOWN_LONGEST));
            }
            Stop::Gone | Stop::Halted | Stop::Newer | Stop::Waiting | Stop::Refused => {}
        }
    }

    /// Why the partitions are held that are to be asked about now, each reason once.
    fn due(&mut self, now: Duration) -> Vec<Stop> {
        let is_due = |due: &mut Option<Duration>| due.take_if(|due| now >= *due).is_some();
        let (unsaid, unknown) = (is_due(&mut self.unsaid_due), is_due(&mut self.unknown_due));
        self.in_vain = if unknown { self.in_vain.saturating_add(1) } else { self.in_vain };
        [(Stop::Unsaid, unsaid), (Stop::Unknown, unknown)].into_iter().filter_map(|(stop, due)| due.then_some(stop)).collect()
    }
}

impl<A> Dispatch<A> {
    /// Takes up what the group gave us, and begins to read what has a beginning. The group waits for it.
    pub(super) fn arrive(&mut self, consumer: &Consumer) -> Result<(), DispatchError> {
        let Some(arriving) = self.arriving.take() else { return Ok(()) };
        let (meant, mut late): (Vec<_>, Vec<_>) =
            arriving.iter().cloned().partition(|partition| self.plan.entry(&partition.topic).is_some());
        if let Some(partition) = late.first() {
            tracing::info!(%partition, partitions = late.len(), "given to us with what we read, and not meant: passed over");
        }
        let (mut starts, mut read, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, beginning) in self.beginnings(consumer, &meant) {
            match self.take_up(&partition, beginning)? {
                Some(offset) => starts.push((partition.clone(), offset)),
                None => late.push(partition.clone()),
            }
            if self.is_read(&partition) { read.push(partition) } else { held_back.push(partition) }
        }
        consumer.start_reading_some(&starts, &late)?;
        // librdkafka remembers what was paused when a partition was here before.
        consumer.resume(&read)?;
        consumer.pause(&held_back)?;
        self.meters.taken_up.inc_by(arriving.len() as u64);
        tracing::info!(partitions = arriving.len(), held = self.holdings.partitions().len(), "partitions taken up");
        if !read.is_empty() {
            self.standing.well();
        }
        self.standing.joined();
        self.measure();
        Ok(())
    }

    fn beginnings(&mut self, consumer: &Consumer, partitions: &[Partition]) -> Beginnings {
        let start = |topic: &str| if self.standing.was_missing(topic) { Start::Beginning } else { self.plan.start_of(topic) };
        let beginnings = start::beginnings(consumer, partitions, &Policy { plan: &self.plan, start: &start });
        for (partition, beginning) in &beginnings {
            if beginning.as_ref().is_err_and(is_gone) {
                self.standing.missing(&partition.topic);
            }
        }
        beginnings
    }

    /// Notes a partition as ours. Gives the offset to begin at, which means nothing if it is not read; none if that is not known.
    fn take_up(&mut self, partition: &Partition, found: Result<Beginning, KafkaError>) -> Result<Option<i64>, DispatchError> {
        let (stop, why) = match found {
            Ok(Beginning::At(offset)) => {
                self.begin(partition, offset);
                return Ok(Some(offset));
            }
            Ok(Beginning::Gone { from, to }) => {
                self.begin(partition, from);
                self.lost(partition, from, to)?;
                return Ok(Some(to));
            }
            Ok(Beginning::Unsaid) => {
                (Stop::Unsaid, format!("{partition} waits for the member that is to say where its topic begins"))
            }
            Err(error) if is_gone(&error) => (
                Stop::Unknown,
                format!("{partition} is not read: the brokers do not have it any more, or hide it from us; looking again"),
            ),
            Err(error) => (
                Stop::Unknown,
                format!("{partition} is not read: the brokers do not say where it begins ({error}); asking again"),
            ),
        };
        self.hold(partition, stop, why);
        Ok(None)
    }

    fn begin(&mut self, partition: &Partition, offset: i64) {
        let (lane, stay) = (self.lanes.of(partition), self.topics.stay(&partition.topic));
        self.holdings.take_up(partition.clone(), lane, offset, stay).stop = self.topics.stop(&partition.topic);
    }

    /// Notes a partition as ours that has no beginning yet, and when to ask again.
    fn hold(&mut self, partition: &Partition, stop: Stop, why: String) {
        let before = self.holdings.find(&partition.topic, partition.number).and_then(|held| held.stop);
        if stop == Stop::Unknown && before != Some(stop) {
            tracing::warn!(topic = %partition.topic, partition = partition.number, "{why}");
        }
        self.begin(partition, 0);
        if let Some(held) = self.holdings.find(&partition.topic, partition.number) {
            held.stop = Some(stop);
        }
        self.late.ask_again(stop, self.clock.elapsed());
        self.standing.stopped(partition.clone(), why);
    }

    /// Asks again where partitions begin that are held for that, when it is time to.
    pub(super) fn begin_late(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        for stop in self.late.due(now) {
            let held = self.holdings.stopped(stop);
            let beginnings = self.beginnings(consumer, &held);
            let until = self.clock.elapsed() + SEEKS_LIMIT;
            for (partition, found) in beginnings {
                if self.clock.elapsed() > until {
                    self.late.ask_again(stop, self.clock.elapsed());
                    break;
                }
                self.begin_held(consumer, &partition, found, stop)?;
            }
            self.measure();
        }
        Ok(())
    }

    fn begin_held(
        &mut self,
        consumer: &Consumer,
        partition: &Partition,
        found: Result<Beginning, KafkaError>,
        stop: Stop,
    ) -> Result<(), DispatchError> {
        if let Ok(Beginning::At(to) | Beginning::Gone { to, .. }) = found {
            if let Err(error) = consumer.seek(&[(partition.clone(), to)], BACKOFF) {
                tracing::debug!(%partition, %error, "not at its beginning yet; trying again");
                self.late.ask_again(stop, self.clock.elapsed());
                return Ok(());
            }
            if stop == Stop::Unknown {
                self.late.in_vain = 0;
                tracing::info!(topic = %partition.topic, partition = partition.number, "the brokers say where it begins: it is read");
            }
            self.standing.no_longer_stopped(partition);
        }
        self.take_up(partition, found)?;
        if self.is_read(partition) { Ok(consumer.resume(std::slice::from_ref(partition))?) } else { Ok(()) }
    }

    /// Whether a partition of ours is to be fetched now.
    pub(super) fn is_read(&mut self, partition: &Partition) -> bool {
        let held = self.holdings.find(&partition.topic, partition.number).map(|held| (held.stop, held.lease.lane()));
        held.is_some_and(|(stop, lane)| stop.is_none() && !self.lanes.is_paused(lane))
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

    /// Waits until what was handed out of these is done, but for what topics refuse.
    fn finish(&mut self, partitions: &[Partition], limit: Duration) -> Result<(), DispatchError> {
        let deadline = self.clock.elapsed() + limit;
        loop {
            self.take_answers()?;
            self.lanes.flush()?;
            let mine = self.holdings.iter().filter(|held| partitions.contains(held.lease.partition()));
            let in_flight = mine.map(Held::moving).sum::<usize>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_do_not_tell_are_asked_more_and_more_seldom() {
        let (mut late, mut now, mut pauses) = (Late::default(), Duration::ZERO, Vec::new());
        for _ in 0..6 {
            late.ask_again(Stop::Unknown, now);
            let due = late.unknown_due.unwrap();
            assert_eq!(late.due(due - Duration::from_millis(1)), []);
            assert_eq!(late.due(due), [Stop::Unknown]);
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 40, 40]);
        late.in_vain = 0;
        late.ask_again(Stop::Unknown, now);
        assert_eq!(late.unknown_due, Some(now + UNKNOWN_INTERVAL));
    }
}
