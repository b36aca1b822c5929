//! Gates: the breaker of a topic, which all workers share.
//!
//! Owns: that the limits hold for a topic, however many workers decide its records: who finds one too many shuts the gate, and what
//! others were about to bury in that moment is left. While nothing is buried no lock is taken. Refuses to halt: the polling thread is
//! told. Neighbours: core `breaker` judges, `pipeline` tells what becomes of records, `halts` opens the gate for a trial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidings_core::breaker::{Breaker, Limits, Outcome, Phase, Trip};

/// What is heard of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing is written for it.
    Fine,
    /// Its notifications are about to be written; [`Gate::written`] or [`News::Refused`] follows.
    Sent,
    /// It is about to be buried.
    Buried,
    /// The same, because a notification of it could not be written.
    Refused,
}

/// What is to be done then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// What was about to be done.
    GoOn,
    /// The same, and the topic is to be halted.
    Trip(Trip),
    /// The gate is shut: it is not to be buried, but left.
    Leave,
}

/// The gate of one topic in this process.
#[derive(Debug)]
pub struct Gate {
    topic: Arc<str>,
    /// None: nothing is ever too much.
    breaker: Option<Mutex<Breaker>>,
    /// Whether the breaker is; shared, so that a good record costs no lock then.
    calm: AtomicBool,
    /// Good outcomes that the breaker has not been told of.
    fine: AtomicU64,
}

impl Gate {
    pub(super) fn new(topic: Arc<str>, limits: Option<Limits>) -> Self {
        let breaker = limits.map(|limits| Mutex::new(Breaker::new(limits)));
        Self { topic, breaker, calm: AtomicBool::new(true), fine: AtomicU64::new(0) }
    }

    /// Whether records of the topic are to be decided.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.calm.load(Ordering::Acquire) || self.breaker.as_ref().is_none_or(|breaker| breaker.lock().phase() != Phase::Open)
    }

    /// Hears of a record, each of which is told once when it is decided; [`News::Refused`] comes on top of [`News::Sent`].
    #[must_use]
    pub fn hear(&self, news: News) -> Ruling {
        let Some(breaker) = &self.breaker else { return Ruling::GoOn };
        if matches!(news, News::Fine | News::Sent) && self.calm.load(Ordering::Acquire) {
            self.fine.fetch_add(1, Ordering::Relaxed);
            return Ruling::GoOn;
        }
        self.tell(&mut breaker.lock(), |breaker| match news {
            News::Fine => breaker.note(Outcome::Fine),
            News::Sent => breaker.expect(),
            News::Buried => breaker.note(Outcome::Buried),
            News::Refused => breaker.settle(Outcome::Buried),
        })
    }

    /// Everything that was sent for a record is written.
    pub fn written(&self) {
        if let Some(breaker) = self.breaker.as_ref().filter(|_| !self.calm.load(Ordering::Acquire)) {
            // What is good shuts no gate.
            let _ = self.tell(&mut breaker.lock(), |breaker| breaker.settle(Outcome::Fine));
        }
    }

    /// Opens a gate that is shut, to see what becomes of the next records.
    pub(super) fn try_again(&self) {
        if let Some(breaker) = &self.breaker {
            breaker.lock().try_again();
        }
    }

    /// Opens it as if nothing had been buried.
    pub(super) fn reset(&self) {
        if let Some(breaker) = &self.breaker {
            let mut breaker = breaker.lock();
            breaker.reset();
            self.calm.store(breaker.is_calm(), Ordering::Release);
        }
    }

    fn tell(&self, breaker: &mut Breaker, note: impl FnOnce(&mut Breaker) -> Option<Trip>) -> Ruling {
        self.calm.store(false, Ordering::Release);
        breaker.note_calm(self.fine.swap(0, Ordering::Relaxed));
        let before = breaker.phase();
        if before == Phase::Open {
            return Ruling::Leave;
        }
        let trip = note(breaker);
        if before == Phase::Trial && breaker.phase() == Phase::Closed {
            tracing::info!(topic = %self.topic, "the trial went well: the breaker is closed again");
        }
        self.calm.store(breaker.is_calm(), Ordering::Release);
        trip.map_or(Ruling::GoOn, Ruling::Trip)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn gate(in_a_row: u32) -> Gate {
        let number = |number| NonZeroU32::new(number).unwrap();
        let limits = Limits { in_a_row: number(in_a_row), window: number(1_000), share_percent: 100, trial: number(2) };
        Gate::new("bookings".into(), Some(limits))
    }

    #[test]
    fn of_workers_that_bury_at_the_same_time_exactly_the_limit_goes_through_and_one_trips() {
        let gate = gate(100);
        let bury = || (0..1_000).map(|_| gate.hear(News::Buried)).collect::<Vec<_>>();
        let rulings = std::thread::scope(|scope| {
            let workers = [(); 4].map(|()| scope.spawn(bury));
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        let trips = rulings.iter().filter(|ruling| matches!(ruling, Ruling::Trip(_))).count();
        let left = rulings.iter().filter(|ruling| **ruling == Ruling::Leave).count();
        assert_eq!((trips, left), (1, 4_000 - 100));
        assert!(!gate.admits());
    }

    #[test]
    fn good_records_take_no_part_in_a_row_and_calm_comes_back_behind_a_good_trial() {
        let gate = gate(2);
        for news in [News::Buried, News::Fine, News::Buried, News::Sent, News::Buried] {
            assert_eq!(gate.hear(news), Ruling::GoOn, "{news:?}");
        }
        assert_eq!(gate.hear(News::Buried), Ruling::Trip(Trip::InARow { buried: 2 }));
        assert_eq!(gate.hear(News::Refused), Ruling::Leave);
        gate.try_again();
        assert!(gate.admits() && !gate.calm.load(Ordering::Acquire));
        assert_eq!(gate.hear(News::Sent), Ruling::GoOn);
        gate.written();
        assert!(!gate.calm.load(Ordering::Acquire), "one of two is known");
        assert_eq!(gate.hear(News::Fine), Ruling::GoOn);
        assert!(gate.calm.load(Ordering::Acquire));
    }

    #[test]
    fn one_that_is_reset_has_forgotten_what_was_buried() {
        let gate = gate(2);
        let bury = || gate.hear(News::Buried);
        assert_eq!([bury(), bury(), bury()], [Ruling::GoOn, Ruling::Trip(Trip::InARow { buried: 2 }), Ruling::Leave]);
        gate.reset();
        assert!(gate.admits());
        assert_eq!([bury(), bury()], [Ruling::GoOn, Ruling::Trip(Trip::InARow { buried: 2 })], "no trial, and the whole limit");
    }

    #[test]
    fn a_gate_without_limits_never_shuts() {
        let gate = Gate::new("bookings".into(), None);
        assert!((0..1_000).all(|_| gate.hear(News::Buried) == Ruling::GoOn) && gate.admits());
    }
}
