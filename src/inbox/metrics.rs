//! Metrics of the inbox.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::kafka::refusals::RefusalMeters;
use crate::telemetry::{Age, Fates, Metrics};

/// What the projector counts.
#[derive(Debug, Clone, Default)]
pub(super) struct InboxMetrics {
    pub(super) notifications: Counter,
    pub(super) cursors: Counter,
    pub(super) receipts: Counter,
    pub(super) receipts_trimmed: Counter,
    pub(super) crowded_out: Counter,
    pub(super) lapsed: Counter,
    pub(super) batches: Counter,
    pub(super) conflicts: Counter,
    pub(super) fates: Fates,
    pub(super) identity_conflicts: Counter,
    pub(super) skipped: Counter,
    pub(super) trimmed: Counter,
    pub(super) forgotten: Counter,
    pub(super) lag: Gauge,
    pub(super) age: Age,
    pub(super) held: Gauge,
    pub(super) refusals: RefusalMeters,
}

impl InboxMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("inbox", |shelf| {
            shelf.register("folded_notifications", "Records of notifications folded", own.notifications.clone());
            shelf.register("folded_cursors", "Records of cursors folded", own.cursors.clone());
            shelf.register("folded_receipts", "Records of receipts folded", own.receipts.clone());
            shelf.register("folded_batches", "Database transactions committed", own.batches.clone());
            shelf.register("refused_batches", "Batches given up: somebody else had moved the partition", own.conflicts.clone());
            own.fates.register(shelf);
            shelf.register(
                "identity_conflicts",
                "Notifications with the id of an earlier one that said something else",
                own.identity_conflicts.clone(),
            );
            shelf.register("skipped_offsets", "Offsets that retention took before they were folded", own.skipped.clone());
            shelf.register("trimmed_notifications", "Notifications that went because they were too old", own.trimmed.clone());
            shelf.register("forgotten_devices", "Devices that were silent for too long", own.forgotten.clone());
            shelf.register(
                "trimmed_receipts",
                "States, marks and withdrawals that went because they were too old",
                own.receipts_trimmed.clone(),
            );
            shelf.register(
                "crowded_out_states",
                "States of notifications that nobody knows that went because their user had too many",
                own.crowded_out.clone(),
            );
            shelf.register(
                "lapsed_interests",
                "Channels of a device's choice that were forgotten, as it had too many others since",
                own.lapsed.clone(),
            );
            shelf.register("lag_offsets", "Offsets between the projection and the ends of the log", own.lag.clone());
            shelf.register_age("lag_seconds", "Age of the oldest record that was read and is not folded", &own.age);
            own.refusals.register(shelf);
            shelf.register("held_partitions", "Partitions that cannot be folded until an operator acts", own.held.clone());
        });
        own
    }
}
