//! Metrics of the inbox.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Metrics;

/// What the projector counts.
#[derive(Debug, Clone, Default)]
pub(super) struct InboxMetrics {
    pub(super) notifications: Counter,
    pub(super) cursors: Counter,
    pub(super) batches: Counter,
    pub(super) conflicts: Counter,
    pub(super) buried: Counter,
    pub(super) skipped: Counter,
    pub(super) lag: Gauge,
    pub(super) held: Gauge,
}

impl InboxMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("inbox", |registry| {
            registry.register("notifications_folded", "Records of notifications folded", own.notifications.clone());
            registry.register("cursors_folded", "Records of cursors folded", own.cursors.clone());
            registry.register("batches", "Database transactions committed", own.batches.clone());
            registry.register("conflicts", "Batches given up: somebody else had moved the partition", own.conflicts.clone());
            registry.register(
                "buried",
                "Records that could not be read or lie where they do not belong, buried in dlq",
                own.buried.clone(),
            );
            registry.register("skipped_offsets", "Offsets that retention took before they were folded", own.skipped.clone());
            registry.register("lag_records", "Offsets between the projection and the ends of the log", own.lag.clone());
            registry.register("held_partitions", "Partitions that cannot be folded until an operator acts", own.held.clone());
        });
        own
    }
}
