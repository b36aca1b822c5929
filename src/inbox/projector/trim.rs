//! Trimming: old rows go while new ones come.
//!
//! Owns: when the store is asked to trim, and for how long it keeps what. Refuses to hold the log up: one small step behind a fold. Neighbours: `store` knows what is too old.

use std::time::Duration;

use super::Projector;
use crate::config::InboxConfig;
use crate::inbox::InboxError;
use crate::kafka::topics::{NOTIFICATIONS_KEPT, UNDELIVERED_KEPT};
use crate::store::Retention;

/// How often the store is asked, if there was little to do.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the store keeps things.
pub(in crate::inbox) fn retention(config: &InboxConfig) -> Retention {
    Retention {
        rows: config.retention.0,
        ids: config.retention.0.max(NOTIFICATIONS_KEPT),
        undelivered: config.retention.0.max(UNDELIVERED_KEPT),
        mailbox_rows: config.mailbox_rows,
        channel_rows: config.channel_rows,
        devices: config.device_retention.0,
        devices_per_user: config.devices_per_user,
        channels_per_device: config.channels_per_device,
        receipts: config.receipt_retention.0,
        states_per_user: config.states_per_user,
    }
}

impl Projector {
    pub(super) fn trim(&mut self) -> Result<(), InboxError> {
        let now = self.clock.elapsed();
        if now < self.trim_at || !self.store_backoff.is_over() {
            return Ok(());
        }
        self.await_answer()?;
        let ours = self.topics.ours(&self.progress.partitions());
        match self.runtime.block_on(self.store.trim(self.epoch, &self.retention, &ours)) {
            Ok(trimmed) => {
                self.metrics.trimmed.inc_by(trimmed.notifications as u64);
                self.metrics.forgotten.inc_by(trimmed.devices as u64);
                self.metrics.receipts_trimmed.inc_by(trimmed.receipts as u64);
                self.trim_at = if trimmed.is_full() { now } else { now + INTERVAL };
            }
            Err(error) => self.store_failed(error)?,
        }
        Ok(())
    }
}
