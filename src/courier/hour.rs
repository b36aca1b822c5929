//! The hour: what time it is for what waits.
//!
//! Owns: a time that nobody sets forward. It begins when a broker says that it appends what we try out, goes on with monotonic time, and jumps
//! only to when brokers say that they appended a record, so a clock that is ahead or is stepped makes nothing due early, old or expired. Wall
//! time that is behind holds it back. Neighbours: `member` asks and hears records, `round` decides.

use std::time::Duration;

use tidings_core::time::Timestamp;

use crate::clock::Clock;

/// What time it is, as far as anybody can be sure.
#[derive(Debug)]
pub(super) struct Hour {
    clock: Clock,
    /// What time it was, at least, when monotonic time began.
    began: Timestamp,
    /// When a broker was last asked, in monotonic time.
    asked: Option<Duration>,
}

/// How far wall time may run ahead of what is believed before a broker is asked.
const APART: Duration = Duration::from_secs(1);
/// How often one is asked at most.
const ASK_INTERVAL: Duration = Duration::from_mins(1);

impl Hour {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, began: clock.now().minus(clock.elapsed()), asked: None }
    }

    /// Whether a broker is to be asked: at the start, when nobody has said how wall time stands, and when that is far ahead.
    pub(super) fn is_doubtful(&self) -> bool {
        let far = self.clock.now().since(self.now()) > APART;
        self.asked.is_none_or(|asked| far && self.clock.elapsed() >= asked + ASK_INTERVAL)
    }

    /// A broker was asked, and appended something just now at `appended`; at the start that counts more than wall time. None if it does not
    /// say when it appends: then wall time is believed.
    pub(super) fn told(&mut self, appended: Option<Timestamp>) {
        let elapsed = self.clock.elapsed();
        let is_first = self.asked.replace(elapsed).is_none();
        match appended {
            Some(at) if is_first => self.began = at.minus(elapsed),
            Some(at) => self.heard(at),
            None => {}
        }
    }

    /// The brokers have a record that they appended at `appended`: it is no earlier than that.
    pub(super) fn heard(&mut self, appended: Timestamp) {
        self.began = since(self.began, appended, self.clock.elapsed());
    }

    /// The same of a record that was read.
    pub(super) fn read(&mut self, time: rdkafka::Timestamp) {
        // Producers may say what they like.
        if let rdkafka::Timestamp::LogAppendTime(millis) = time {
            self.heard(Timestamp::from_millis(millis));
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
        hour.read(rdkafka::Timestamp::CreateTime(clock.now().as_millis()));
        assert!(clock.now().since(hour.now()) > Duration::from_mins(59), "a producer's word");
        hour.read(rdkafka::Timestamp::LogAppendTime(clock.now().as_millis()));
        assert!(clock.now().since(hour.now()) < Duration::from_mins(1));
        hour.read(rdkafka::Timestamp::LogAppendTime(behind.as_millis()));
        assert!(clock.now().since(hour.now()) < Duration::from_mins(1), "an older record");
    }

    #[test]
    fn a_clock_that_is_ahead_at_the_start_is_put_right_by_the_first_that_a_broker_appends_for_us() {
        let (clock, step) = Clock::stepped();
        let real = clock.now();
        step.to(HOUR_MS);
        let mut hour = Hour::new(clock);
        assert!(hour.is_doubtful(), "nobody has said what time it is");
        hour.told(Some(real));
        assert!(hour.now().since(real) < Duration::from_mins(1), "{:?}", hour.now());
        assert!(!hour.is_doubtful(), "it was asked just now");
        // From then on it only goes ahead.
        hour.told(Some(real.minus(Duration::from_hours(2))));
        assert!(real.since(hour.now()) < Duration::from_mins(1));
    }

    #[test]
    fn where_no_broker_says_when_it_appends_wall_time_is_believed() {
        let (clock, step) = Clock::stepped();
        let real = clock.now();
        step.to(HOUR_MS);
        let mut hour = Hour::new(clock);
        hour.told(None);
        assert!(hour.now().since(real) > Duration::from_mins(59) && !hour.is_doubtful());
    }
}
