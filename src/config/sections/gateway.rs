//! The tables below `[gateway]` that belong to one room of it each.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use tidings_core::time::Delay;

/// `[gateway.recovery]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct RecoveryConfig {
    pub ring_records: NonZeroUsize,
    pub ring_bytes: NonZeroUsize,
    pub start_reads: NonZeroUsize,
    pub page_reads: NonZeroUsize,
    pub page_records: NonZeroUsize,
    pub frames_per_second: NonZeroUsize,
    pub wait: Delay,
    pub device_wait: Delay,
    pub newest: NonZeroUsize,
}

/// `[gateway.counts]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct CountsConfig {
    pub interval: Delay,
    pub wait: Delay,
    pub batch_users: NonZeroUsize,
    pub users: NonZeroUsize,
}

/// `[gateway.presence]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct PresenceConfig {
    pub lease: Delay,
    pub pause: Delay,
    pub grace: Delay,
    pub record_devices: NonZeroUsize,
    pub nodes: NonZeroUsize,
    pub devices: NonZeroUsize,
    pub page_users: NonZeroUsize,
    pub wait: Delay,
    pub keep: Delay,
    pub questions_per_second: NonZeroUsize,
}
