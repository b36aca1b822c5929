//! The breaker: when so much is buried that a topic must not be read on, since a bad deploy must not empty it into `dlq`.
//!
//! Owns: counting outcomes, opening, and the trial that closes it again. Refuses to know the time: who carries it out waits, and says
//! when to try again. Neighbours: `pipeline` asks it for each record it decides, `kafka::dispatch` stops reading.

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
    window: Window,
    /// Outcomes and burials of the trial.
    tried: (u32, u32),
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, phase: Phase::Closed, in_a_row: 0, window: Window::new(limits.window), tried: (0, 0) }
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
        let (buried, of) = (self.window.buried, self.limits.window.get());
        if self.in_a_row >= self.limits.in_a_row.get() {
            Some(Trip::InARow { buried: self.in_a_row })
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
    fn why_it_opened_reads_as_a_sentence() {
        let trips = [Trip::InARow { buried: 5 }, Trip::Share { buried: 6, of: 10 }, Trip::Trial { buried: 2, of: 3 }];
        insta::assert_snapshot!(trips.map(|trip| trip.to_string()).join("\n"), @r"
        5 records in a row were buried
        6 of the last 10 records were buried
        2 of 3 records that were tried were buried again
        ");
    }
}
