//! The pulse of a connection: when something last happened on it.
//!
//! Owns: the times only. Neighbours: the connection's task and the shard write them, the shard's sweep judges them.

use std::sync::atomic::{AtomicU32, AtomicU64};

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
    /// The number of the last ping that was answered.
    pub(in crate::gateway) answered: AtomicU32,
}
