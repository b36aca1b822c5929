//! The clock: the only place that asks what time it is.
//!
//! Owns: wall time, which dates and decides due and expiry, and monotonic time, which measures heartbeats and timeouts.
//! Refuses to be a global: whoever needs the time is given a clock.

pub mod backoff;
pub mod pace;
pub mod rate;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::time::Timestamp;

/// The machine's clocks. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// How far wall time is off, in milliseconds; none for the machine's own. Shared with the [`Step`] that moves it.
    off_ms: Option<&'static AtomicI64>,
}

/// Moves the wall time of a clock, as an administrator or a time service may. For trying out what follows.
#[derive(Debug)]
pub struct Step(&'static AtomicI64);

impl Step {
    /// Sets wall time off by so many milliseconds from the machine's.
    pub fn to(&self, off_ms: i64) {
        self.0.store(off_ms, Ordering::Relaxed);
    }
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), off_ms: None }
    }

    /// A clock whose wall time can be stepped. Both live as long as the process.
    #[must_use]
    pub fn stepped() -> (Self, Step) {
        let off_ms = &*Box::leak(Box::new(AtomicI64::new(0)));
        (Self { start: Instant::now(), off_ms: Some(off_ms) }, Step(off_ms))
    }

    /// Wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let off_ms = self.off_ms.map_or(0, |off_ms| off_ms.load(Ordering::Relaxed));
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(off_ms))
    }

    /// Monotonic time since [`Clock::start`]. Never goes back, whatever happens to wall time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
