//! What this process reads: one entry for each partition the group gave it.
//!
//! Owns: the tracker of each partition, what was committed of it, and the lease that its records carry to the workers.
//! Refuses nothing. Neighbour: `dispatch`, whose thread owns all of this. Long because what is known of a partition is one state, with its tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tidings_core::offsets::{Claim, Generation, Shown, Tracker};
use tidings_core::time::Timestamp;

use super::ages::Ages;
use super::gate::Gate;

use crate::kafka::consumer::Partition;

/// One stay of a partition with this process, carried by each record of it.
#[derive(Debug)]
pub struct Lease {
    partition: Partition,
    /// Where its entry stands in the holdings.
    place: usize,
    lane: usize,
    stay: Stay,
    /// Shared: set by the polling thread, looked at by workers that wait.
    over: AtomicBool,
    /// Shared likewise; also set by the partition's worker.
    halted: AtomicBool,
    /// How many of its records wait for a topic that refuses what follows from them. Shared likewise.
    stalled: AtomicUsize,
}

impl Lease {
    /// Which partition.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The number of the worker that has the partition's records.
    #[must_use]
    pub fn lane(&self) -> usize {
        self.lane
    }

    /// Whether the partition has gone to somebody else, or nowhere: what is not finished of it is no longer ours.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// From now on what has not been decided of the partition is to be left.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    /// Whether what has not been decided of the partition is to be left: its topic is halted, or it is stopped itself.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// What follows from a record of it is refused, and nobody knows for how long.
    pub fn stall(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    /// That is on its way again.
    pub fn go_on(&self) {
        self.stalled.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of the topic: small, and the same for as long as this process runs.
    #[must_use]
    pub fn topic(&self) -> usize {
        self.stay.topic
    }

    /// The gate of the topic.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.stay.gate
    }
}

/// A record's place in the holdings, to be shown when it is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) place: usize,
    pub(super) claim: Claim,
}

/// Why a partition that the group gave us is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Records of it are gone.
    Gone,
    /// Nobody has said yet where it begins.
    Unsaid,
    /// The brokers do not say where it begins.
    Unknown,
    /// The breaker of its topic is open.
    Halted,
    /// A later release wrote what comes next.
    Newer,
    /// What its next record needs is on its way.
    Waiting,
    /// A topic refuses what follows from a record of it.
    Refused,
}

impl Stop {
    pub(super) const ALL: [Self; 7] =
        [Self::Gone, Self::Unsaid, Self::Unknown, Self::Halted, Self::Newer, Self::Waiting, Self::Refused];

    /// The name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Unsaid => "unsaid",
            Self::Unknown => "unknown",
            Self::Halted => "halted",
            Self::Newer => "newer",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// What a stay is told of its topic.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    /// The topic's number in this process.
    pub(super) topic: usize,
    pub(super) gate: Arc<Gate>,
}

/// A partition that the group gave us.
pub(super) struct Held {
    pub(super) lease: Arc<Lease>,
    pub(super) tracker: Tracker,
    /// What was last sent to be committed.
    sent: Option<i64>,
    pub(super) stop: Option<Stop>,
    pub(super) ages: Ages,
}

impl Held {
    /// When the oldest record that is not done was written to the topic, if one is not done.
    pub(super) fn oldest(&mut self) -> Option<Timestamp> {
        let done_to = self.tracker.committable().unwrap_or(i64::MIN);
        // What workers left of a halted topic is not done either.
        let all_done = self.tracker.first_undone() == self.tracker.position();
        if all_done { self.ages.clear() } else { self.ages.oldest(done_to) }
    }

    /// The offset to commit, if there is news, once.
    fn news(&mut self) -> Option<(Partition, i64)> {
        let offset = self.tracker.committable().filter(|offset| Some(*offset) != self.sent)?;
        self.sent = Some(offset);
        Some((self.lease.partition.clone(), offset))
    }

    /// How many of its records are on their way, and not held up by a topic that refuses what follows from them.
    pub(super) fn moving(&self) -> usize {
        self.tracker.in_flight().saturating_sub(self.lease.stalled.load(Ordering::Relaxed))
    }

    /// Stops reading, and has workers leave what they have not decided.
    pub(super) fn halt(&mut self) {
        if self.stop.is_none() {
            self.stop = Some(Stop::Halted);
            self.lease.halt();
        }
    }

    /// Ends the stay: what is still in flight is ignored when it comes; what is committable stays.
    pub(super) fn end(&mut self) {
        self.lease.over.store(true, Ordering::Relaxed);
        self.tracker.fence(Generation(u64::MAX), self.tracker.position());
    }
}

/// All partitions that the group gave us.
#[derive(Default)]
pub(super) struct Holdings {
    places: Vec<Option<Held>>,
    index: HashMap<Arc<str>, HashMap<i32, usize>>,
    generation: u64,
}

impl Holdings {
    /// Takes a partition up, to be read from `start` by the worker `lane`.
    pub(super) fn take_up(&mut self, partition: Partition, lane: usize, start: i64, stay: Stay) -> &mut Held {
        self.give_up(&partition);
        self.generation += 1;
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.index.entry(Arc::clone(&partition.topic)).or_default().insert(partition.number, place);
        let tracker = Tracker::new(Generation(self.generation), start);
        let (over, halted, stalled) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let lease = Arc::new(Lease { partition, place, lane, stay, over, halted, stalled });
        self.places[place].insert(Held { lease, tracker, sent: None, stop: None, ages: Ages::default() })
    }

    /// Ends a partition's stay: what comes late of it is ignored.
    pub(super) fn give_up(&mut self, partition: &Partition) {
        let place = self.index.get_mut(&partition.topic).and_then(|numbers| numbers.remove(&partition.number));
        if let Some(mut held) = place.and_then(|place| self.places[place].take()) {
            held.end();
        }
    }

    /// Ends every stay.
    pub(super) fn end(&mut self) {
        self.places.iter_mut().flatten().for_each(Held::end);
    }

    /// The entry of a partition.
    pub(super) fn find(&mut self, topic: &str, number: i32) -> Option<&mut Held> {
        let place = *self.index.get(topic)?.get(&number)?;
        self.places.get_mut(place)?.as_mut()
    }

    /// Notes that a record is done.
    pub(super) fn done(&mut self, spot: Spot) -> Shown {
        let held = self.places.get_mut(spot.place).and_then(Option::as_mut);
        held.map_or(Shown::Ignored, |held| held.tracker.done(spot.claim))
    }

    /// Notes that a record was given back undone.
    pub(super) fn left(&mut self, spot: Spot) -> Shown {
        let held = self.places.get_mut(spot.place).and_then(Option::as_mut);
        held.map_or(Shown::Ignored, |held| held.tracker.left(spot.claim))
    }

    /// The entry of a record's partition.
    pub(super) fn at(&mut self, spot: Spot) -> Option<&mut Held> {
        self.places.get_mut(spot.place)?.as_mut()
    }

    /// The entries of a topic.
    pub(super) fn of_topic(&mut self, topic: &str) -> impl Iterator<Item = &mut Held> {
        self.places.iter_mut().flatten().filter(move |held| *held.lease.partition.topic == *topic)
    }

    /// Notes how far the consumer has come: what lies before it and was not handed out is no record.
    pub(super) fn passed(&mut self, positions: &[(Partition, i64)]) {
        for (partition, position) in positions {
            let held = self.find(&partition.topic, partition.number);
            if let Some(held) = held.filter(|held| held.stop.is_none() && !held.lease.is_over()) {
                held.tracker.passed(*position);
            }
        }
    }

    /// What is done since the last time of asking: the offset to commit of each partition.
    pub(super) fn news(&mut self) -> Vec<(Partition, i64)> {
        self.places.iter_mut().flatten().filter_map(Held::news).collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.places.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.places.iter().flatten()
    }

    /// The partitions that a worker's records come from and that can be read.
    pub(super) fn of_lane(&self, lane: usize) -> Vec<Partition> {
        let readable = |held: &&Held| held.lease.lane == lane && held.stop.is_none();
        self.iter().filter(readable).map(|held| held.lease.partition.clone()).collect()
    }

    /// The partitions that are not read, for this reason.
    pub(super) fn stopped(&self, stop: Stop) -> Vec<Partition> {
        self.iter().filter(|held| held.stop == Some(stop)).map(|held| held.lease.partition.clone()).collect()
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.iter().map(|held| held.lease.partition.clone()).collect()
    }
}

impl Lease {
    /// The spot of the record that was given `claim`.
    pub(super) fn spot(&self, claim: Claim) -> Spot {
        Spot { place: self.place, claim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stay() -> Stay {
        Stay { topic: 0, gate: Arc::new(Gate::new("bookings".into(), None)) }
    }

    fn partition(number: i32) -> Partition {
        Partition { topic: "bookings".into(), number }
    }

    #[test]
    fn what_comes_late_of_a_partition_that_went_and_came_back_is_ignored() {
        let mut holdings = Holdings::default();
        let held = holdings.take_up(partition(1), 0, 10, stay());
        let claim = held.tracker.handed_out(10).unwrap();
        let (lease, spot) = (Arc::clone(&held.lease), held.lease.spot(claim));
        holdings.give_up(&partition(1));
        assert!(lease.is_over());
        holdings.take_up(partition(1), 0, 10, stay()).tracker.handed_out(10).unwrap();
        assert_eq!(holdings.done(spot), Shown::Ignored);
        assert_eq!(holdings.news(), []);
    }

    #[test]
    fn progress_is_news_once() {
        let mut holdings = Holdings::default();
        let held = holdings.take_up(partition(1), 0, 10, stay());
        let claim = held.tracker.handed_out(10).unwrap();
        let spot = held.lease.spot(claim);
        assert_eq!(holdings.done(spot), Shown::Done);
        assert_eq!(holdings.news(), [(partition(1), 11)]);
        assert_eq!(holdings.news(), []);
        holdings.passed(&[(partition(1), 13), (partition(2), 5)]);
        assert_eq!(holdings.news(), [(partition(1), 13)]);
    }

    #[test]
    fn what_was_done_before_the_end_of_a_stay_can_still_be_committed() {
        let mut holdings = Holdings::default();
        let held = holdings.take_up(partition(1), 0, 10, stay());
        let spots = [10, 11].map(|offset| held.tracker.handed_out(offset).unwrap()).map(|claim| held.lease.spot(claim));
        holdings.done(spots[0]);
        holdings.end();
        holdings.done(spots[1]);
        assert_eq!(holdings.news(), [(partition(1), 11)]);
    }

    #[test]
    fn a_halted_partition_is_not_passed_and_begins_again_at_the_first_record_that_was_left() {
        let mut holdings = Holdings::default();
        let held = holdings.take_up(partition(1), 0, 10, stay());
        let spots = [10, 11, 12].map(|offset| held.tracker.handed_out(offset).unwrap()).map(|claim| held.lease.spot(claim));
        holdings.done(spots[0]);
        holdings.of_topic("bookings").for_each(Held::halt);
        // Decided before the worker saw the halt.
        holdings.done(spots[2]);
        assert_eq!(holdings.left(spots[1]), Shown::Done);
        holdings.passed(&[(partition(1), 20)]);
        assert_eq!(holdings.news(), [(partition(1), 11)]);
        assert_eq!(
            holdings.find("bookings", 1).map(|held| (held.tracker.in_flight(), held.tracker.first_undone())),
            Some((0, 11))
        );
        assert_eq!((holdings.of_lane(0), holdings.stopped(Stop::Halted)), (vec![], vec![partition(1)]));
    }
}
