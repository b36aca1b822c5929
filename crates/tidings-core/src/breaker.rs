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

impl Trip {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InARow { .. } => "in_a_row",
            Self::Share { .. } => "share",
            Self::Trial { .. } => "trial",
        }
    }
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

    /// Closes it, whatever it was, and forgets what it has seen.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
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
mod tests;
