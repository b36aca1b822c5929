//! Backoff: how long to leave a dependency alone that did not answer.
//!
//! Owns: the growing pause, and the knowledge whether an outage was already told, so that it is logged once and its end once.

use std::time::Duration;

use super::Clock;

const FIRST: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(5);

/// Pauses of 100 ms, doubled with each failure up to 5 s unless another limit is given.
#[derive(Debug, Clone)]
pub struct Backoff {
    clock: Clock,
    limit: Duration,
    pause: Duration,
    until: Duration,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::up_to(LIMIT, clock)
    }

    /// The same with pauses up to `limit`.
    #[must_use]
    pub fn up_to(limit: Duration, clock: Clock) -> Self {
        Self { clock, limit, pause: Duration::ZERO, until: Duration::ZERO }
    }

    /// Whether it may be tried again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.clock.elapsed() >= self.until
    }

    /// Whether the last try failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        !self.pause.is_zero()
    }

    /// How long to leave it alone after the last failure.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// A try failed. Says whether it is the first in a row, which is worth a line in the log.
    pub fn failed(&mut self) -> bool {
        let first = self.pause.is_zero();
        self.pause = (self.pause * 2).clamp(FIRST, self.limit);
        self.until = self.clock.elapsed() + self.pause;
        first
    }

    /// A try succeeded. Says whether the one before it failed, which is worth a line in the log.
    pub fn succeeded(&mut self) -> bool {
        let failing = self.is_failing();
        self.pause = Duration::ZERO;
        self.until = Duration::ZERO;
        failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_once() {
        let mut backoff = Backoff::new(Clock::start());
        assert!(backoff.is_over());
        assert!(backoff.failed());
        assert!(!backoff.is_over(), "it pauses");
        assert!(!backoff.failed());
        assert!(backoff.succeeded());
        assert!(!backoff.succeeded());
        assert!(backoff.is_over());
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut backoff = Backoff::new(Clock::start());
        for _ in 0..20 {
            backoff.failed();
        }
        assert_eq!(backoff.pause, LIMIT);
    }
}
