//! A rate that may be exceeded for a while: the generic cell rate algorithm, in one number for whoever is held to it.
//!
//! Refuses to know a clock: the time is an argument, and nothing runs while nothing comes.

use std::time::Duration;

/// What is allowed: `burst` at once, and one more after each `every`.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    every_us: u64,
    burst: u64,
}

/// How much of an allowance is used.
#[derive(Debug, Default)]
pub struct Rate {
    /// When everything that was taken has been given back, in microseconds of the monotonic clock.
    free_at_us: u64,
}

impl Allowance {
    /// `burst` at once, and one more after each `every`.
    #[must_use]
    pub fn new(every: Duration, burst: usize) -> Self {
        Self { every_us: micros(every).max(1), burst: burst as u64 }
    }
}

impl Rate {
    /// Whether all that was taken has been given back, so that it is as good as a new one.
    #[must_use]
    pub fn is_unused(&self, now: Duration) -> bool {
        self.free_at_us <= micros(now)
    }

    /// Takes one if that is within what is allowed, and says whether it was. Who is refused owes nothing for it.
    pub fn take_if_allowed(&mut self, allowance: Allowance, now: Duration) -> bool {
        let mut taken = Self { free_at_us: self.free_at_us };
        let is_allowed = taken.take(1, allowance, now);
        if is_allowed {
            *self = taken;
        }
        is_allowed
    }

    /// Takes `count`, and says how long to wait until that is within what is allowed.
    pub fn take_and_wait(&mut self, count: u64, allowance: Allowance, now: Duration) -> Duration {
        self.take(count, allowance, now);
        let allowed_us = micros(now).saturating_add(allowance.burst.saturating_mul(allowance.every_us));
        Duration::from_micros(self.free_at_us.saturating_sub(allowed_us))
    }

    /// Takes `count`, and says whether that was within what is allowed.
    pub fn take(&mut self, count: u64, allowance: Allowance, now: Duration) -> bool {
        let now_us = micros(now);
        let taken_us = count.saturating_mul(allowance.every_us);
        self.free_at_us = self.free_at_us.max(now_us).saturating_add(taken_us);
        self.free_at_us - now_us <= allowance.burst.saturating_mul(allowance.every_us)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_allowed_and_comes_back_with_time() {
        let allowance = Allowance::new(at(100), 3);
        let mut rate = Rate::default();
        assert!(rate.take(3, allowance, at(1000)));
        assert!(!rate.take(1, allowance, at(1000)));
        let mut rate = Rate::default();
        assert!(rate.take(2, allowance, at(1000)));
        assert!(rate.take(1, allowance, at(1050)));
        assert!(rate.take(1, allowance, at(1100)));
        assert!(!rate.take(1, allowance, at(1150)));
    }

    #[test]
    fn who_is_refused_and_owes_nothing_is_allowed_again_after_one_interval() {
        let allowance = Allowance::new(at(100), 1);
        let mut rate = Rate::default();
        assert!(rate.take_if_allowed(allowance, at(1000)));
        assert!((1001..1100).all(|now| !rate.take_if_allowed(allowance, at(now))));
        assert!(rate.take_if_allowed(allowance, at(1100)));
    }

    #[test]
    fn who_waits_as_long_as_is_said_is_within_what_is_allowed() {
        let allowance = Allowance::new(at(100), 3);
        let mut rate = Rate::default();
        assert_eq!(rate.take_and_wait(3, allowance, at(1000)), at(0));
        assert_eq!(rate.take_and_wait(2, allowance, at(1000)), at(200));
        assert_eq!(rate.take_and_wait(1, allowance, at(1200)), at(100));
    }

    #[test]
    fn a_steady_rate_is_allowed_for_ever() {
        let allowance = Allowance::new(at(10), 1);
        let mut rate = Rate::default();
        assert!((0..10_000).all(|number| rate.take(1, allowance, at(number * 10))));
    }
}
