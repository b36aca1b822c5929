//! The turns of the polling thread: one step of the group at a time, and the chores between two.
//!
//! Owns: handing records out, taking answers, back pressure. Refuses to wait for anybody longer than a moment. Neighbours:
//! `dispatch`, whose state it works on; `handover`, for what concerns whole partitions.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;

use super::holdings::{Held, Stop};
use super::{Answer, Dispatch, DispatchError, Source, Task};
use crate::kafka::consumer::{Consumer, Step};

/// The longest wait for a record; answers wait that long too when nothing comes.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The same while something is paused, so that it goes on soon.
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// How long polling waits for a worker before its partitions are paused. Pausing throws away what was fetched.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often it is looked whether there is room.
const ROOM_WAIT: Duration = Duration::from_millis(1);
/// The longest run of records of one partition behind one that is not done.
const SPAN: usize = 65_536;

impl<A> Dispatch<A> {
    /// What is due between two steps.
    pub(super) fn chores(&mut self, consumer: &Consumer) -> Result<(), DispatchError> {
        self.take_answers()?;
        self.lanes.flush()?;
        if self.lanes.any_paused() {
            self.resume(consumer)?;
        }
        let now = self.clock.elapsed();
        if now >= self.commit_due {
            self.commit_due = now + self.plan.commit_interval;
            // Commits would only pile up while nobody takes them; what is done is not forgotten.
            if !self.standing.is_away() {
                self.holdings.passed(&consumer.positions()?);
                self.commit(consumer);
            }
            self.measure();
        }
        if let Err(error) = self.standing.survey(consumer, now) {
            tracing::debug!(%error, "which topics are missing is not known yet");
        }
        if !self.standing.is_unsurveyed() && self.arriving.is_some() {
            self.arrive(consumer)?;
        }
        if !self.unpaused.is_empty() {
            consumer.pause(&std::mem::take(&mut self.unpaused))?;
        }
        self.hear_resets();
        if self.topics.any_halted() {
            self.tend_halts(consumer, now)?;
        }
        if self.waits.any() {
            self.tend_waits(consumer, now)?;
        }
        self.watch_stopped(consumer, now);
        self.begin_late(consumer, now)?;
        if self.range_check_due.is_some_and(|due| now >= due) {
            self.check_ranges(consumer, now)?;
        }
        self.standing.probe(consumer, now);
        Ok(())
    }

    /// Commits what is done. What the brokers do not take is sent again with the next.
    pub(super) fn commit(&mut self, consumer: &Consumer) {
        let news = self.holdings.news();
        match consumer.commit_progress(&news) {
            Ok(()) if news.is_empty() => {}
            Ok(()) => {
                self.meters.commits.inc();
            }
            Err(error) => tracing::warn!(%error, "offsets were not committed; these records may be read again"),
        }
    }

    /// One step of the group.
    pub(super) fn turn(&mut self, consumer: &Consumer) -> Result<(), DispatchError> {
        let wait = if self.lanes.any_paused() || self.waits.any() { BUSY_WAIT } else { IDLE_WAIT };
        match consumer.poll(wait)? {
            Step::Nothing => {}
            Step::Record(record) => self.hand_out(consumer, &record)?,
            Step::Assigned(partitions) => self.arriving = Some(partitions),
            Step::Revoked(partitions) => self.hand_back(consumer, &partitions)?,
            Step::Lost(partitions) => self.lose(consumer, &partitions)?,
            Step::OutOfRange => self.range_check_due = Some(Duration::ZERO),
            Step::Trouble(code) => self.standing.trouble(code, self.clock.elapsed()),
        }
        Ok(())
    }

    pub(super) fn hand_out(&mut self, consumer: &Consumer, record: &BorrowedMessage<'_>) -> Result<(), DispatchError> {
        let Some(held) = self.holdings.find(record.topic(), record.partition()) else { return Ok(()) };
        if held.lease.is_over() || held.stop.is_some() {
            return Ok(());
        }
        let Some(claim) = held.tracker.handed_out(record.offset()) else { return Ok(()) };
        let (lane, too_long) = (held.lease.lane(), held.tracker.span() >= SPAN);
        let source = Source::new(record, std::sync::Arc::clone(&held.lease), claim);
        held.ages.note(source.offset, source.timestamp);
        self.lanes.give(lane, Task::New(source))?;
        if self.standing.is_troubled() {
            self.standing.well();
        }
        if too_long || self.lanes.is_full(lane) { self.wait_for_room(consumer, lane) } else { Ok(()) }
    }

    fn wait_for_room(&mut self, consumer: &Consumer, lane: usize) -> Result<(), DispatchError> {
        let deadline = self.clock.elapsed() + PATIENCE;
        while !self.has_room(lane) {
            if self.clock.elapsed() >= deadline {
                consumer.pause(&self.holdings.of_lane(lane))?;
                self.lanes.pause(lane);
                self.measure();
                return Ok(());
            }
            // Not by waiting for an answer: each would wake this thread.
            std::thread::sleep(ROOM_WAIT);
            self.take_answers()?;
            self.lanes.flush()?;
        }
        Ok(())
    }

    fn has_room(&self, lane: usize) -> bool {
        let short = self.holdings.iter().all(|held| held.lease.lane() != lane || held.tracker.span() < SPAN);
        short && self.lanes.has_room(lane)
    }

    fn resume(&mut self, consumer: &Consumer) -> Result<(), DispatchError> {
        for lane in self.lanes.paused() {
            if self.has_room(lane) {
                consumer.resume(&self.holdings.of_lane(lane))?;
                self.lanes.resume(lane);
                self.measure();
            }
        }
        Ok(())
    }

    pub(super) fn take_answers(&mut self) -> Result<(), DispatchError> {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer)?;
        }
        Ok(())
    }

    pub(super) fn wait_for_answer(&mut self, limit: Duration) -> Result<(), DispatchError> {
        match self.answers.recv_timeout(limit) {
            Ok(answer) => self.take(answer),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(DispatchError::WorkerGone),
        }
    }

    fn take(&mut self, answer: Answer<A>) -> Result<(), DispatchError> {
        match answer {
            Answer::Done(done) => {
                self.holdings.done(done.spot);
                self.lanes.done(done.lane, done.bytes);
                Ok(())
            }
            Answer::Again { lane, task } => self.lanes.give(lane, Task::Again(task)),
            Answer::Left(done) => {
                self.holdings.left(done.spot);
                self.lanes.done(done.lane, done.bytes);
                Ok(())
            }
            Answer::Stopped { done, offset, why } => {
                self.lanes.done(done.lane, done.bytes);
                self.stop(done.spot, offset, &why);
                Ok(())
            }
            Answer::Waiting { done, awaited } => {
                self.lanes.done(done.lane, done.bytes);
                self.wait(done.spot, awaited);
                Ok(())
            }
            Answer::Refused { lease, awaited, task } => {
                self.wait_behind(&lease, awaited);
                self.lanes.give(lease.lane(), Task::Again(task))
            }
            Answer::Forbidden { why } => Err(DispatchError::Forbidden(why)),
            Answer::Tripped { topic, trip } => {
                self.halt(topic, trip);
                Ok(())
            }
            Answer::Failed(error) => Err(DispatchError::Produce(error)),
            Answer::Died => Err(DispatchError::WorkerGone),
        }
    }

    pub(super) fn measure(&mut self) {
        let oldest = self.holdings.iter_mut().filter_map(Held::oldest).min();
        self.meters.lag.set(oldest);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.meters.in_flight.set(count(self.holdings.iter().map(|held| held.tracker.in_flight()).sum()));
        self.meters.paused.set(count(self.lanes.paused().into_iter().map(|lane| self.holdings.of_lane(lane).len()).sum()));
        for stop in Stop::ALL {
            let held = self.holdings.iter().filter(|held| held.stop == Some(stop)).count();
            self.meters.held.get_or_create(&super::meters::WithReason { reason: stop.name() }).set(count(held));
        }
    }
}
