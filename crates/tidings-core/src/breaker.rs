//! The breaker: when so much is buried that a topic must not be read on, since a bad deploy must not empty it into `dlq`.
//!
//! Owns: counting outcomes, each record's once, opening, and the trial that closes it again. An outcome may be known only after later
//! ones, when brokers refuse what was written. Refuses to know the time: who carries it out waits, and says when to try again.
//! Neighbours: `kafka::dispatch` has one for each topic, `pipeline` tells it what becomes of records.

use std::fmt;
use std::num::NonZeroU32;

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// This many buried one after the other open it.
    pub in_a_row: NonZeroU32,
    /// The last this many outcomes are looked at, once there are as many.
    pub window: NonZeroU32,
    /// More than this share of them buried, in percent, opens it; 100 never does.
    pub share_percent: u8,
    /// How many outcomes a trial has.
    pub trial: NonZeroU32,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Notifications follow from it, or nothing.
    Fine,
    /// It was buried.
    Buried,
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// Too many one after the other.
    InARow {
        /// How many.
        buried: u32,
    },
    /// Too large a share of the last ones.
    Share {
        /// How many were buried.
        buried: u32,
        /// Of how many.
        of: u32,
    },
    /// Too many of a trial.
    Trial {
        /// How many were buried.
        buried: u32,
        /// Of how many tried so far.
        of: u32,
    },
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow { buried } => write!(f, "{buried} records in a row were buried"),
            Self::Share { buried, of } => write!(f, "{buried} of the last {of} records were buried"),
            Self::Trial { buried, of } => write!(f, "{buried} of {of} records that were tried were buried again"),
        }
    }
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Records flow.
    Closed,
    /// None is to be decided.
    Open,
    /// A few are, to see.
    Trial,
}

/// One topic's outcomes. Costs O(1) an outcome, and one bit for each of the window.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    phase: Phase,
    in_a_row: u32,
    /// The same of outcomes that were known late.
    refused_in_a_row: u32,
    window: Window,
    /// Outcomes and burials of the trial.
    tried: (u32, u32),
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let window = Window::new(limits.window);
        Self { limits, phase: Phase::Closed, in_a_row: 0, refused_in_a_row: 0, window, tried: (0, 0) }
    }

    /// How it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Notes what became of a record. Some if that opens it. While it is open, nothing counts.
    pub fn note(&mut self, outcome: Outcome) -> Option<Trip> {
        let trip = match self.phase {
            Phase::Open => None,
            Phase::Closed => self.note_closed(outcome),
            Phase::Trial => self.note_trial(outcome),
        };
        self.opened(trip)
    }

    /// Notes a record whose outcome is not known yet; [`Breaker::settle`] says it later. Until then it counts as fine, and in a trial
    /// not at all.
    pub fn expect(&mut self) -> Option<Trip> {
        if self.phase == Phase::Closed { self.note(Outcome::Fine) } else { None }
    }

    /// Notes what became of a record that was expected.
    pub fn settle(&mut self, outcome: Outcome) -> Option<Trip> {
        let trip = match (self.phase, outcome) {
            (Phase::Open, _) => None,
            (Phase::Trial, _) => self.note_trial(outcome),
            (Phase::Closed, Outcome::Fine) => {
                self.refused_in_a_row = 0;
                None
            }
            (Phase::Closed, Outcome::Buried) => {
                self.window.turn();
                self.refused_in_a_row += 1;
                self.too_much(self.refused_in_a_row)
            }
        };
        self.opened(trip)
    }

    /// Notes so many outcomes that were fine while it was calm. They cannot open it.
    pub fn note_calm(&mut self, outcomes: u64) {
        if self.phase == Phase::Closed && outcomes > 0 {
            self.in_a_row = 0;
            self.window.push_fine(outcomes);
        }
    }

    /// Whether it is closed, and none of the outcomes it looks at was a burial. Then any number of good ones changes no more than
    /// how many it has seen.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.phase == Phase::Closed && self.window.buried == 0 && self.in_a_row == 0 && self.refused_in_a_row == 0
    }

    fn opened(&mut self, trip: Option<Trip>) -> Option<Trip> {
        if trip.is_some() {
            self.phase = Phase::Open;
        }
        trip
    }

    /// An open one lets a few records through.
    pub fn try_again(&mut self) {
        if self.phase == Phase::Open {
            *self = Self { phase: Phase::Trial, ..Self::new(self.limits) };
        }
    }

    fn note_closed(&mut self, outcome: Outcome) -> Option<Trip> {
        self.window.push(outcome);
        self.in_a_row = if outcome == Outcome::Buried { self.in_a_row + 1 } else { 0 };
        self.too_much(self.in_a_row)
    }

    fn too_much(&self, in_a_row: u32) -> Option<Trip> {
        let (buried, of) = (self.window.buried, self.limits.window.get());
        if in_a_row >= self.limits.in_a_row.get() {
            Some(Trip::InARow { buried: in_a_row })
        } else if self.window.is_full() && self.is_too_much(buried, of) {
            Some(Trip::Share { buried, of })
        } else {
            None
        }
    }

    /// Closes after enough outcomes; opens as soon as they cannot be good enough any more.
    fn note_trial(&mut self, outcome: Outcome) -> Option<Trip> {
        let (of, buried) = (self.tried.0 + 1, self.tried.1 + u32::from(outcome == Outcome::Buried));
        self.tried = (of, buried);
        let trial = self.limits.trial.get();
        if self.is_too_much(buried, trial) || buried >= trial {
            return Some(Trip::Trial { buried, of });
        }
        if of >= trial {
            self.phase = Phase::Closed;
        }
        None
    }

    fn is_too_much(&self, buried: u32, of: u32) -> bool {
        u64::from(buried) * 100 > u64::from(of) * u64::from(self.limits.share_percent)
    }
}

/// The last outcomes, a bit each.
#[derive(Debug)]
struct Window {
    bits: Vec<u64>,
    size: u32,
    /// Outcomes so far, up to `size`.
    filled: u32,
    /// Where the next one goes.
    next: u32,
    buried: u32,
}

impl Window {
    fn new(size: NonZeroU32) -> Self {
        let size = size.get();
        Self { bits: Vec::new(), size, filled: 0, next: 0, buried: 0 }
    }

    fn is_full(&self) -> bool {
        self.filled == self.size
    }

    /// Pushes so many that were fine, in one step if none that was buried can fall out.
    fn push_fine(&mut self, count: u64) {
        if self.buried > 0 {
            (0..count.min(self.size.into())).for_each(|_| self.push(Outcome::Fine));
            return;
        }
        let size = u64::from(self.size);
        self.next = u32::try_from((u64::from(self.next) + count) % size).unwrap_or(0);
        self.filled = u32::try_from((u64::from(self.filled) + count).min(size)).unwrap_or(self.size);
    }

    /// One of the outcomes that were taken for fine was a burial: the newest of them counts as that.
    fn turn(&mut self) {
        let words = self.size.div_ceil(64);
        if self.bits.is_empty() {
            self.bits = vec![0; words as usize];
        }
        let newest = (self.next + self.size - 1) % self.size;
        let upto_newest = u64::MAX >> (63 - newest % 64);
        // The word of the newest has the oldest behind it, so it comes twice.
        for back in 0..=words {
            let number = (newest / 64 + 2 * words - back) % words;
            let side = match back {
                0 => upto_newest,
                back if back == words => !upto_newest,
                _ => u64::MAX,
            };
            // What was never pushed is no outcome.
            let pushed = self.filled.saturating_sub(number * 64);
            let known = side & if pushed >= 64 { u64::MAX } else { (1 << pushed) - 1 };
            let Some(word) = self.bits.get_mut(number as usize) else { return };
            let fine = !*word & known;
            if fine != 0 {
                *word |= 1 << (63 - fine.leading_zeros());
                self.buried += 1;
                return;
            }
        }
    }

    fn push(&mut self, outcome: Outcome) {
        if self.bits.is_empty() {
            self.bits = vec![0; self.size.div_ceil(64) as usize];
        }
        let bit = 1_u64 << (self.next % 64);
        if let Some(word) = self.bits.get_mut((self.next / 64) as usize) {
            // An outcome that falls out; zero while the window is not full.
            self.buried -= u32::from(*word & bit != 0);
            if outcome == Outcome::Buried {
                *word |= bit;
                self.buried += 1;
            } else {
                *word &= !bit;
            }
        }
        self.next = (self.next + 1) % self.size;
        self.filled = (self.filled + 1).min(self.size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(in_a_row: u32, window: u32, share_percent: u8, trial: u32) -> Limits {
        let number = |number| NonZeroU32::new(number).unwrap();
        Limits { in_a_row: number(in_a_row), window: number(window), share_percent, trial: number(trial) }
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        (1..20_u32, 1..200_u32, 0..=100_u8, 1..12_u32).prop_map(|(row, window, share, trial)| limits(row, window, share, trial))
    }

    fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
        let outcome = |weight| prop_oneof![weight => Just(Outcome::Buried), 10 => Just(Outcome::Fine)];
        (1..200_u32).prop_flat_map(move |weight| prop::collection::vec(outcome(weight), 1..500))
    }

    fn buried(outcomes: &[Outcome]) -> usize {
        outcomes.iter().filter(|outcome| **outcome == Outcome::Buried).count()
    }

    /// Whether the last of `outcomes` is too much, by definition.
    fn is_too_much(limits: &Limits, outcomes: &[Outcome]) -> bool {
        let row = outcomes.iter().rev().take_while(|outcome| **outcome == Outcome::Buried).count();
        let window = limits.window.get() as usize;
        let last = outcomes.len().checked_sub(window).map(|from| &outcomes[from..]);
        row >= limits.in_a_row.get() as usize
            || last.is_some_and(|last| buried(last) * 100 > window * usize::from(limits.share_percent))
    }

    proptest! {
        #[test]
        fn it_opens_at_the_first_outcome_that_is_too_much_and_not_before(limits in any_limits(), outcomes in outcomes()) {
            let mut breaker = Breaker::new(limits);
            for count in 1..=outcomes.len() {
                let trip = breaker.note(outcomes[count - 1]);
                prop_assert_eq!(trip.is_some(), is_too_much(&limits, &outcomes[..count]), "after {} of {:?}", count, outcomes);
                if trip.is_some() {
                    prop_assert_eq!(breaker.phase(), Phase::Open);
                    break;
                }
            }
        }

        #[test]
        fn outcomes_that_are_known_late_open_it_for_the_same_share(limits in any_limits(), outcomes in outcomes()) {
            // Not for a row: what is known late has a row of its own.
            let limits = Limits { in_a_row: NonZeroU32::MAX, ..limits };
            let (mut early, mut late) = (Breaker::new(limits), Breaker::new(limits));
            for outcome in outcomes {
                let expected = early.note(outcome);
                // Enough may be known already when it is expected.
                let trip = late.expect().or_else(|| late.settle(outcome));
                prop_assert_eq!(trip.is_some(), expected.is_some());
                if trip.is_some() {
                    break;
                }
                prop_assert_eq!(late.window.buried, early.window.buried);
            }
        }

        #[test]
        fn good_outcomes_of_calm_times_count_as_if_each_was_noted(limits in any_limits(), calm in 0..1_000_u64, outcomes in outcomes()) {
            let (mut each, mut together) = (Breaker::new(limits), Breaker::new(limits));
            for _ in 0..calm {
                prop_assert!(each.is_calm());
                prop_assert_eq!(each.note(Outcome::Fine), None);
            }
            together.note_calm(calm);
            for outcome in outcomes {
                prop_assert_eq!(together.note(outcome), each.note(outcome));
                prop_assert_eq!(together.is_calm(), each.is_calm());
            }
        }

        #[test]
        fn while_it_is_open_nothing_counts(limits in any_limits(), outcomes in outcomes()) {
            let mut breaker = Breaker { phase: Phase::Open, ..Breaker::new(limits) };
            for outcome in outcomes {
                prop_assert_eq!(breaker.note(outcome), None);
                prop_assert_eq!(breaker.phase(), Phase::Open);
            }
        }

        #[test]
        fn a_trial_ends_within_its_outcomes_and_closes_only_if_few_enough_were_buried(
            limits in any_limits(),
            outcomes in outcomes(),
        ) {
            let mut breaker = Breaker { phase: Phase::Open, ..Breaker::new(limits) };
            breaker.try_again();
            let trial = limits.trial.get() as usize;
            let mut used = 0;
            for outcome in outcomes.iter().take(trial) {
                used += 1;
                breaker.note(*outcome);
                if breaker.phase() != Phase::Trial {
                    break;
                }
            }
            let bad = buried(&outcomes[..used]);
            match breaker.phase() {
                Phase::Trial => prop_assert!(used < trial),
                Phase::Closed => {
                    prop_assert_eq!(used, trial);
                    prop_assert!(bad * 100 <= trial * usize::from(limits.share_percent) && bad < trial);
                }
                Phase::Open => prop_assert!(bad * 100 > trial * usize::from(limits.share_percent) || bad == trial),
            }
        }
    }

    #[test]
    fn after_a_good_trial_it_begins_to_count_anew() {
        let mut breaker = Breaker::new(limits(3, 4, 50, 2));
        let note = |breaker: &mut Breaker, outcomes: &[Outcome]| outcomes.iter().find_map(|outcome| breaker.note(*outcome));
        use Outcome::{Buried, Fine};
        assert_eq!(note(&mut breaker, &[Buried; 3]), Some(Trip::InARow { buried: 3 }));
        breaker.try_again();
        assert_eq!(note(&mut breaker, &[Buried, Buried]), Some(Trip::Trial { buried: 2, of: 2 }));
        breaker.try_again();
        assert_eq!(note(&mut breaker, &[Fine, Buried, Buried, Fine, Fine, Buried]), None);
        assert_eq!(note(&mut breaker, &[Buried, Fine, Buried]), Some(Trip::Share { buried: 3, of: 4 }));
    }

    #[test]
    fn records_that_are_refused_behind_each_other_open_it_though_all_of_them_were_taken_for_fine() {
        let mut breaker = Breaker::new(limits(3, 1_000, 50, 2));
        for _ in 0..20 {
            assert_eq!(breaker.expect(), None);
        }
        use Outcome::{Buried, Fine};
        let trips = [Buried, Buried, Fine, Buried, Buried].map(|outcome| breaker.settle(outcome));
        assert_eq!(trips, [None; 5]);
        assert!(!breaker.is_calm());
        assert_eq!(breaker.settle(Buried), Some(Trip::InARow { buried: 3 }));
        breaker.try_again();
        assert_eq!((breaker.expect(), breaker.expect(), breaker.phase()), (None, None, Phase::Trial), "nothing is known yet");
        assert_eq!((breaker.settle(Fine), breaker.settle(Fine), breaker.phase()), (None, None, Phase::Closed));
    }

    #[test]
    fn why_it_opened_reads_as_a_sentence() {
        let trips = [Trip::InARow { buried: 5 }, Trip::Share { buried: 6, of: 10 }, Trip::Trial { buried: 2, of: 3 }];
        insta::assert_snapshot!(trips.map(|trip| trip.to_string()).join("\n"), @r"
        5 records in a row were buried
        6 of the last 10 records were buried
        2 of 3 records that were tried were buried again
        ");
    }
}
