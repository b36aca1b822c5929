//! The pulse of a connection: when something last happened on it.
//!
//! Owns: the times, and which pings were written and answered. Neighbours: the connection's task and the shard write them, the shard's sweep judges them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When something last happened on the connection, in milliseconds of the monotonic clock. Written by the connection's task
/// or the shard, read by the shard's sweep.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Pulse {
    /// Any byte arrived.
    pub(in crate::gateway) heard_ms: AtomicU64,
    /// A frame that is no ping or pong went either way.
    pub(in crate::gateway) used_ms: AtomicU64,
    /// The first byte of a frame that is not complete yet arrived; 0 if there is none.
    pub(in crate::gateway) unfinished_ms: AtomicU64,
    /// Bytes left while others waited, or began to wait; 0 if none waits.
    pub(in crate::gateway) waiting_ms: AtomicU64,
    /// The number of the last ping.
    asked: AtomicU32,
    /// The number of the last ping that was answered.
    answered: AtomicU32,
    /// How many notifications were written or wait, from the first on; begins anew behind its largest value.
    shown: AtomicU32,
}

impl Pulse {
    /// Notes that the ping with this number is about to be written.
    pub(in crate::gateway) fn ask(&self, number: u32) {
        self.asked.store(number, Ordering::Release);
    }

    /// Notes a pong. Pongs that nobody asked for are allowed (RFC 6455, section 5.5.3), and say nothing of what arrived.
    pub(in crate::gateway) fn answer(&self, number: u32) {
        if number <= self.asked.load(Ordering::Acquire) {
            self.answered.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// Notes that one more notification was written or waits.
    pub(in crate::gateway) fn show(&self) {
        self.shown.fetch_add(1, Ordering::Relaxed);
    }

    /// How many notifications were written or wait.
    pub(in crate::gateway) fn shown(&self) -> u32 {
        self.shown.load(Ordering::Relaxed)
    }

    /// The number of the last ping that was answered.
    pub(in crate::gateway) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }
}
