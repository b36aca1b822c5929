//! A moment on both clocks: wall time dates frames and expiries, monotonic milliseconds measure silence.

use tidings_core::time::Timestamp;

use crate::clock::Clock;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    /// Monotonic milliseconds since the process started.
    pub(super) ms: u64,
}

impl Moment {
    pub(super) fn of(clock: Clock) -> Self {
        Self { wall: clock.now(), ms: millis(clock) }
    }
}

/// Monotonic milliseconds since the process started.
pub(super) fn millis(clock: Clock) -> u64 {
    u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX)
}
