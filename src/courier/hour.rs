//! The hour: what time it is for what waits.
//!
//! Owns: a time that nobody sets forward. It goes on with monotonic time from where wall time stood at the start, and jumps only to when
//! brokers say that they appended a record, so a clock that is stepped makes nothing due early, old or expired. Wall time that is behind
//! holds it back. Neighbours: `member` hears records, `round` decides.

use std::time::Duration;

use tidings_core::time::Timestamp;

use crate::clock::Clock;

/// What time it is, as far as anybody can be sure.
#[derive(Debug)]
pub(super) struct Hour {
    clock: Clock,
    /// What time it was, at least, when monotonic time began.
    began: Timestamp,
}

impl Hour {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, began: clock.now().minus(clock.elapsed()) }
    }

    /// The brokers have a record that they appended at `appended`: it is no earlier than that.
    pub(super) fn heard(&mut self, appended: rdkafka::Timestamp) {
        // Producers may say what they like.
        if let rdkafka::Timestamp::LogAppendTime(millis) = appended {
            self.began = since(self.began, Timestamp::from_millis(millis), self.clock.elapsed());
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().min(self.began.plus(self.clock.elapsed()))
    }
}

/// When monotonic time began, if that was thought to be `began` and it is `at` or later now.
fn since(began: Timestamp, at: Timestamp, elapsed: Duration) -> Timestamp {
    began.max(at.minus(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn a_clock_that_is_stepped_forward_makes_it_no_later_and_one_that_is_stepped_back_holds_it() {
        let (clock, step) = Clock::stepped();
        let hour = Hour::new(clock);
        let before = hour.now();
        step.to(HOUR_MS);
        assert!(hour.now().since(before) < Duration::from_mins(1), "set forward");
        step.to(-HOUR_MS);
        assert!(before.since(hour.now()) > Duration::from_mins(59), "set back");
    }

    #[test]
    fn a_clock_that_was_behind_at_the_start_is_put_right_by_what_brokers_append() {
        let (clock, step) = Clock::stepped();
        step.to(-HOUR_MS);
        let mut hour = Hour::new(clock);
        step.to(0);
        let behind = hour.now();
        assert!(clock.now().since(behind) > Duration::from_mins(59), "it is only known that it was then");
        hour.heard(rdkafka::Timestamp::CreateTime(clock.now().as_millis()));
        assert!(clock.now().since(hour.now()) > Duration::from_mins(59), "a producer's word");
        hour.heard(rdkafka::Timestamp::LogAppendTime(clock.now().as_millis()));
        assert!(clock.now().since(hour.now()) < Duration::from_mins(1));
        hour.heard(rdkafka::Timestamp::LogAppendTime(behind.as_millis()));
        assert!(clock.now().since(hour.now()) < Duration::from_mins(1), "an older record");
    }
}
