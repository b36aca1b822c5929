//! The pace of recoveries: how many missed notifications a shard sends a second.
//!
//! Refuses to cut a page: what is due is sent whole, and the next one waits the longer.

use std::time::Duration;

use super::recover::TURN;
use crate::clock::rate::{Allowance, Rate};

/// The pace of one shard.
pub(super) struct Pace {
    rate: Rate,
    allowance: Allowance,
    /// Whether somebody has to wait.
    waits: bool,
}

impl Pace {
    /// So many frames a second. A turn's may be written at once.
    pub(super) fn new(frames_per_second: usize) -> Self {
        let every = Duration::from_secs(1) / u32::try_from(frames_per_second.max(1)).unwrap_or(u32::MAX);
        Self { rate: Rate::default(), allowance: Allowance::new(every, TURN), waits: false }
    }

    /// Whether something may be sent now. The first time that it may not, `waits` is told.
    pub(super) fn may_send(&mut self, now_ms: u64, waits: impl FnOnce()) -> bool {
        let may_send = self.rate.take(0, self.allowance, Duration::from_millis(now_ms));
        if !may_send && !self.waits {
            waits();
        }
        self.waits = !may_send;
        may_send
    }

    /// Notes what was sent.
    pub(super) fn spend(&mut self, frames: usize, now_ms: u64) {
        self.rate.take(frames as u64, self.allowance, Duration::from_millis(now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turns_frames_leave_at_once_and_then_as_many_as_configured() {
        let mut pace = Pace::new(1_000);
        pace.spend(TURN + 50, 1_000);
        let mut told = 0;
        let mut may_send = |now_ms| pace.may_send(now_ms, || told += 1);
        assert_eq!([1_000, 1_001, 1_049, 1_050].map(&mut may_send), [false, false, false, true]);
        assert_eq!(told, 1);
    }
}
