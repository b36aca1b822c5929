//! Offsets: how far a partition has been finished, whatever the order in which its records are.
//!
//! Owns: the records handed out and not finished, and the offset that may be committed. Refuses completions of an earlier
//! generation, so that what comes late after a revocation changes nothing. Neighbours: `kafka::dispatch` holds one tracker
//! for each partition it reads.

use std::collections::VecDeque;

/// One stay of a partition with this reader, from its assignment to its revocation. Later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A record that was handed out, to be shown when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    generation: Generation,
    sequence: u64,
}

/// What showing a claim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The record's end was noted.
    Done,
    /// It was done before, or belongs to another generation: nothing changed.
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Done,
    Left,
}

#[derive(Debug, Clone, Copy)]
struct HandedOut {
    offset: i64,
    state: State,
}

/// One partition: which of the records handed out are done. Costs O(1) a record, amortised; holds 16 bytes for each record
/// between the oldest that is not done and the newest, so its owner stops handing out when [`Tracker::span`] grows too long.
#[derive(Debug)]
pub struct Tracker {
    generation: Generation,
    /// The next offset that may be handed out.
    position: i64,
    /// The sequence number of the first of `open`.
    first: u64,
    open: VecDeque<HandedOut>,
    in_flight: usize,
    committable: Option<i64>,
}

impl Tracker {
    /// A partition that is read from offset `start` on.
    #[must_use]
    pub fn new(generation: Generation, start: i64) -> Self {
        Self { generation, position: start, first: 0, open: VecDeque::new(), in_flight: 0, committable: None }
    }

    /// Notes that the record at `offset` was handed out. None if it or a later one was before: then it must not be again.
    pub fn handed_out(&mut self, offset: i64) -> Option<Claim> {
        if offset < self.position {
            return None;
        }
        let sequence = self.first.wrapping_add(self.open.len() as u64);
        self.position = offset.saturating_add(1);
        self.open.push_back(HandedOut { offset, state: State::InFlight });
        self.in_flight += 1;
        Some(Claim { generation: self.generation, sequence })
    }

    /// Notes that the record of `claim` is done.
    pub fn done(&mut self, claim: Claim) -> Shown {
        if self.end(claim, State::Done) == Shown::Ignored {
            return Shown::Ignored;
        }
        while let Some(record) = self.open.pop_front_if(|record| record.state == State::Done) {
            self.first = self.first.wrapping_add(1);
            self.committable = Some(record.offset.saturating_add(1));
        }
        Shown::Done
    }

    /// Notes that the record of `claim` was given back undone: nothing from it on is committable in this generation.
    pub fn left(&mut self, claim: Claim) -> Shown {
        self.end(claim, State::Left)
    }

    fn end(&mut self, claim: Claim, state: State) -> Shown {
        if claim.generation != self.generation || claim.sequence < self.first {
            return Shown::Ignored;
        }
        let place = usize::try_from(claim.sequence - self.first).unwrap_or(usize::MAX);
        match self.open.get_mut(place) {
            Some(record) if record.state == State::InFlight => record.state = state,
            _ => return Shown::Ignored,
        }
        self.in_flight -= 1;
        Shown::Done
    }

    /// The offset of the first record that is not done, else the next that may be handed out: where reading begins again if
    /// nothing is in flight any more.
    #[must_use]
    pub fn first_undone(&self) -> i64 {
        self.open.front().map_or(self.position, |record| record.offset)
    }

    /// The offset behind the longest gap-free run of done records, counted in the records handed out: offsets that hold no
    /// record (transaction markers, compaction) do not count. None before the first is done.
    #[must_use]
    pub fn committable(&self) -> Option<i64> {
        self.committable
    }

    /// Notes that the log holds no record below `offset` that was not handed out: what lies there are markers of transactions
    /// and gaps of compaction. Does nothing while a record is in flight, or if `offset` is not news.
    pub fn passed(&mut self, offset: i64) {
        if self.open.is_empty() && offset > self.position {
            self.position = offset;
            self.committable = Some(offset);
        }
    }

    /// The next offset that may be handed out.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Records handed out, and neither done nor left.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Records from the oldest that is not done to the newest, all of them.
    #[must_use]
    pub fn span(&self) -> usize {
        self.open.len()
    }

    /// Ends this generation: its claims are ignored from now on, and what is committable stays what it is. The next
    /// generation begins at `start`.
    pub fn fence(&mut self, next: Generation, start: i64) {
        *self = Self { committable: self.committable, ..Self::new(next, start) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by definition: every record of every generation, and a search through all of them.
    #[derive(Default)]
    struct Naive {
        records: Vec<(Claim, i64, bool)>,
        generation: u64,
        committable: Option<i64>,
    }

    impl Naive {
        fn done(&mut self, claim: Claim) {
            let current = Generation(self.generation);
            for (_, _, done) in self.records.iter_mut().filter(|(known, ..)| *known == claim && claim.generation == current) {
                *done = true;
            }
            let mine = self.records.iter().filter(|(claim, ..)| claim.generation == current);
            let prefix = mine.take_while(|(_, _, done)| *done).last();
            // What was passed lies behind everything done before it.
            self.committable = prefix.map(|(_, offset, _)| offset + 1).max(self.committable);
        }

        fn in_flight(&self) -> usize {
            self.records.iter().filter(|(claim, _, done)| claim.generation == Generation(self.generation) && !done).count()
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        /// Hand out the record this far behind the last one: 1 is the next offset, more leaves a hole.
        HandOut(i64),
        /// Show one of the claims given so far, of any generation, perhaps again.
        Done(prop::sample::Index),
        /// Nothing lies in the next so many offsets.
        Passed(i64),
        /// The partition goes and comes back at what was committable.
        Revoke,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => (1..5_i64).prop_map(Act::HandOut),
            8 => any::<prop::sample::Index>().prop_map(Act::Done),
            2 => (0..4_i64).prop_map(Act::Passed),
            1 => Just(Act::Revoke),
        ];
        prop::collection::vec(act, 1..200)
    }

    proptest! {
        #[test]
        fn any_order_of_completion_and_revocation_commits_the_done_prefix_and_no_more(acts in acts(), start in 0..1000_i64) {
            let mut tracker = Tracker::new(Generation(0), start);
            let mut naive = Naive::default();
            for act in acts {
                match act {
                    Act::HandOut(step) => {
                        let offset = tracker.position() + step - 1;
                        let claim = tracker.handed_out(offset).unwrap();
                        naive.records.push((claim, offset, false));
                    }
                    Act::Done(index) if !naive.records.is_empty() => {
                        let claim = index.get(&naive.records).0;
                        let expected = if naive.records.iter().any(|(known, _, done)| {
                            *known == claim && claim.generation == Generation(naive.generation) && !done
                        }) { Shown::Done } else { Shown::Ignored };
                        prop_assert_eq!(tracker.done(claim), expected);
                        naive.done(claim);
                    }
                    Act::Done(_) => {}
                    Act::Passed(step) => {
                        let offset = tracker.position() + step;
                        if naive.in_flight() == 0 && step > 0 {
                            naive.committable = Some(offset);
                        }
                        tracker.passed(offset);
                    }
                    Act::Revoke => {
                        naive.generation += 1;
                        tracker.fence(Generation(naive.generation), tracker.committable().unwrap_or(start));
                    }
                }
                prop_assert_eq!(tracker.committable(), naive.committable);
                prop_assert_eq!(tracker.in_flight(), naive.in_flight());
                prop_assert!(tracker.span() >= tracker.in_flight());
            }
        }

        #[test]
        fn once_all_are_done_the_position_is_committable_and_nothing_is_held(
            steps in prop::collection::vec(1..9_i64, 1..60).prop_flat_map(|steps| {
                let order = Just((0..steps.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just(steps), order)
            })
        ) {
            let (steps, order) = steps;
            let mut tracker = Tracker::new(Generation(7), 100);
            let claims = steps.iter().map(|step| tracker.handed_out(tracker.position() + step - 1).unwrap()).collect::<Vec<_>>();
            for index in order {
                prop_assert_eq!(tracker.done(claims[index]), Shown::Done);
            }
            prop_assert_eq!(tracker.committable(), Some(tracker.position()));
            prop_assert_eq!((tracker.in_flight(), tracker.span()), (0, 0));
        }
    }

    proptest! {
        #[test]
        fn a_record_that_was_left_bars_what_lies_behind_it_and_is_where_reading_begins_again(
            records in prop::collection::vec((1..9_i64, any::<bool>()), 1..60).prop_flat_map(|records| {
                let order = Just((0..records.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just(records), order)
            })
        ) {
            let (records, order) = records;
            let mut tracker = Tracker::new(Generation(7), 100);
            let mut claims = Vec::new();
            for (step, is_left) in &records {
                let offset = tracker.position() + step - 1;
                claims.push((offset, tracker.handed_out(offset).unwrap(), *is_left));
            }
            for index in order {
                let (_, claim, is_left) = claims[index];
                let shown = if is_left { tracker.left(claim) } else { tracker.done(claim) };
                prop_assert_eq!(shown, Shown::Done);
                prop_assert_eq!(tracker.left(claim), Shown::Ignored);
            }
            let first_left = claims.iter().find(|(.., is_left)| *is_left).map(|(offset, ..)| *offset);
            let before = claims.iter().take_while(|(.., is_left)| !*is_left).last();
            prop_assert_eq!(tracker.in_flight(), 0);
            prop_assert_eq!(tracker.committable(), before.map(|(offset, ..)| offset + 1));
            prop_assert_eq!(tracker.first_undone(), first_left.unwrap_or(tracker.position()));
        }
    }

    #[test]
    fn nothing_is_committable_before_the_first_record_is_done() {
        let mut tracker = Tracker::new(Generation(1), 5);
        let first = tracker.handed_out(5).unwrap();
        let second = tracker.handed_out(9).unwrap();
        assert_eq!(tracker.done(second), Shown::Done);
        assert_eq!(tracker.committable(), None);
        assert_eq!(tracker.done(first), Shown::Done);
        assert_eq!(tracker.committable(), Some(10));
    }

    #[test]
    fn markers_behind_the_last_record_are_passed_once_it_is_done() {
        let mut tracker = Tracker::new(Generation(1), 5);
        let claim = tracker.handed_out(5).unwrap();
        tracker.passed(8);
        assert_eq!((tracker.committable(), tracker.position()), (None, 6), "a record is in flight");
        tracker.done(claim);
        tracker.passed(8);
        assert_eq!((tracker.committable(), tracker.position()), (Some(8), 8));
        tracker.passed(7);
        assert_eq!(tracker.committable(), Some(8), "never backwards");
    }

    #[test]
    fn a_record_that_comes_again_is_not_handed_out_again() {
        let mut tracker = Tracker::new(Generation(1), 5);
        assert!(tracker.handed_out(4).is_none(), "before the start");
        assert!(tracker.handed_out(6).is_some());
        assert!(tracker.handed_out(6).is_none());
        assert!(tracker.handed_out(5).is_none());
        assert_eq!((tracker.position(), tracker.in_flight()), (7, 1));
    }
}
