//! The clock: the only place that asks what time it is.
//!
//! Owns: wall time, which dates and decides due and expiry, and monotonic time, which measures heartbeats and timeouts.
//! Refuses to be a global: whoever needs the time is given a clock.

pub mod backoff;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::time::Timestamp;

/// The machine's clocks. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Monotonic time since [`Clock::start`]. Never goes back, whatever happens to wall time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
