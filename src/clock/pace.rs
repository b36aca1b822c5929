//! A pace: who works on a thread of its own is held to a rate by waiting.
//!
//! Owns: until when to wait, and naps that are short enough to look meanwhile whether it is still worth it. Refuses to say what else is to be
//! done between two naps. Neighbours: `rate` reckons.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Clock;
use super::rate::{Allowance, Rate};

/// How long a nap is at most.
const NAP: Duration = Duration::from_millis(50);

/// What one thread is held to.
#[derive(Debug)]
pub struct Pace {
    clock: Clock,
    allowance: Allowance,
    rate: Rate,
}

impl Pace {
    /// `per_second`, and `burst` of those at once.
    #[must_use]
    pub fn new(clock: Clock, per_second: NonZeroU32, burst: usize) -> Self {
        Self { clock, allowance: Allowance::new(Duration::from_secs(1) / per_second.get(), burst), rate: Rate::default() }
    }

    /// Takes `count`, and says until when to wait for that to be within the rate.
    pub fn take(&mut self, count: u64) -> Duration {
        let now = self.clock.elapsed();
        now + self.rate.take_and_wait(count, self.allowance, now)
    }
}

/// Naps, if `until` is still to come, and says whether it was.
pub fn nap(clock: Clock, until: Duration) -> bool {
    let left = until.saturating_sub(clock.elapsed());
    std::thread::sleep(left.min(NAP));
    !left.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_naps_as_long_as_is_said_is_within_the_rate() {
        let clock = Clock::start();
        let mut pace = Pace::new(clock, NonZeroU32::new(100).unwrap(), 1);
        let begun = clock.elapsed();
        for _ in 0..11 {
            let until = pace.take(1);
            while nap(clock, until) {}
        }
        assert!(clock.elapsed() - begun >= Duration::from_millis(100), "one at once, and ten a hundredth of a second apart");
    }
}
