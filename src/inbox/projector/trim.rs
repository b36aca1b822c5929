//! Trimming: old rows go while new ones come.
//!
//! Owns: when the store is asked to trim, and for how long it keeps what. Refuses to hold the log up: one small step between two
//! folds. Neighbours: `store` knows what is too old.

use std::sync::Arc;
use std::time::Duration;

use super::Projector;
use crate::config::InboxConfig;
use crate::inbox::InboxError;
use crate::kafka::topics::NOTIFICATIONS_KEPT;
use crate::store::{Ours, Retention};

/// How often the store is asked, if there was little to do.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the store keeps things.
pub(super) fn retention(config: &InboxConfig) -> Retention {
    Retention {
        rows: config.retention.0,
        ids: config.retention.0.max(NOTIFICATIONS_KEPT),
        mailbox_rows: config.mailbox_rows,
        channel_rows: config.channel_rows,
        devices: config.device_retention.0,
    }
}

impl Projector {
    pub(super) fn trim(&mut self) -> Result<(), InboxError> {
        let now = self.clock.elapsed();
        if now < self.trim_at || !self.store_backoff.is_over() {
            return Ok(());
        }
        let ours = self.ours();
        match self.runtime.block_on(self.store.trim(self.epoch, &self.retention, &ours)) {
            Ok(trimmed) => {
                self.metrics.trimmed.inc_by(trimmed.notifications as u64);
                self.metrics.forgotten.inc_by(trimmed.devices as u64);
                self.trim_at = if trimmed.is_full() { now } else { now + INTERVAL };
            }
            Err(error) => self.store_failed(error)?,
        }
        Ok(())
    }

    fn ours(&self) -> Ours {
        let of = |topic: &Arc<str>| {
            let ours = self.progress.iter().map(|(partition, _)| partition).filter(|partition| partition.topic == *topic);
            ours.map(|partition| (partition.topic.clone(), partition.number)).collect()
        };
        Ours { notifications: of(&self.topics.notifications), cursors: of(&self.topics.cursors) }
    }
}
