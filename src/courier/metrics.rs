//! Metrics of the courier.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tidings_core::delivery::decide::{Decision, Dropped};
use tidings_core::record::retry::Outcome;

use crate::telemetry::Metrics;

type Why = [(&'static str, &'static str); 1];

/// What the courier counts.
#[derive(Debug, Clone, Default)]
pub(super) struct CourierMetrics {
    attempts: Family<Why, Counter>,
    dropped: Family<Why, Counter>,
    undelivered: Family<Why, Counter>,
    pub(super) buried: Counter,
    pub(super) committed: Counter,
    pub(super) aborted: Counter,
    pub(super) held: Gauge,
    pub(super) due: Gauge,
}

impl CourierMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("courier", |registry| {
            registry.register("attempts", "Attempts made, by why they were needed", own.attempts.clone());
            registry.register("dropped", "Deliveries that need nothing any more, by why", own.dropped.clone());
            registry.register("undelivered", "Deliveries that ended without success, by why", own.undelivered.clone());
            registry.register("buried", "Records that could not be read or moved on, buried in dlq", own.buried.clone());
            registry.register("transactions_committed", "Transactions committed", own.committed.clone());
            registry.register("transactions_aborted", "Transactions aborted", own.aborted.clone());
            registry.register("held_records", "Deliveries held in memory, waiting for their time", own.held.clone());
            registry.register("due_records", "Deliveries that are due and wait for the projection", own.due.clone());
        });
        own
    }

    /// A decision was carried out.
    pub(super) fn count(&self, decision: &Decision) {
        let (family, why) = match decision {
            Decision::Drop(Dropped::Delivered) => (&self.dropped, "delivered"),
            Decision::Drop(Dropped::Expired) => (&self.dropped, "expired"),
            Decision::Drop(Dropped::Duplicate) => (&self.dropped, "duplicate"),
            Decision::Attempt { outcome, .. } => (&self.attempts, name(*outcome)),
            Decision::Undelivered { reason } => (&self.undelivered, name(*reason)),
        };
        family.get_or_create(&[("why", why)]).inc();
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Offline => "offline",
        Outcome::Unacknowledged => "unacknowledged",
    }
}
