//! Metrics of the courier.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tidings_core::delivery::decide::{Decision, Dropped};
use tidings_core::fate::Cause;

use crate::kafka::refusals::RefusalMeters;
use crate::telemetry::{Age, Fates, Labels, Metrics};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

impl Labels for Why {
    const NAMES: &'static [&'static str] = &["why"];
}

/// What the courier counts.
#[derive(Debug, Clone, Default)]
pub(super) struct CourierMetrics {
    attempts: Family<Why, Counter>,
    dropped: Family<Why, Counter>,
    undelivered: Family<Why, Counter>,
    carried: Counter,
    pub(super) fates: Fates,
    pub(super) committed: Counter,
    pub(super) aborted: Counter,
    pub(super) held: Gauge,
    pub(super) due: Gauge,
    pub(super) stuck: Gauge,
    pub(super) refusals: RefusalMeters,
    pub(super) lag: Age,
}

impl CourierMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("courier", |shelf| {
            shelf.register("made_attempts", "Attempts made, by why they were needed", own.attempts.clone());
            shelf.register("dropped_deliveries", "Deliveries that need nothing any more, by why", own.dropped.clone());
            shelf.register("undelivered_deliveries", "Deliveries that ended without success, by why", own.undelivered.clone());
            own.fates.register(shelf);
            shelf.register("committed_transactions", "Transactions committed", own.committed.clone());
            shelf.register("aborted_transactions", "Transactions aborted", own.aborted.clone());
            shelf.register("held_records", "Deliveries held in memory, waiting for their time", own.held.clone());
            shelf.register("held_partitions", "Partitions that cannot be read on until an operator acts", own.stuck.clone());
            shelf.register(
                "due_records",
                "Deliveries that are due and wait for the projection, or for a topic that refuses them",
                own.due.clone(),
            );
            own.refusals.register(shelf);
            shelf.register_age("lag_seconds", "For how long the delivery that is due longest has been due", &own.lag);
        });
        own
    }

    /// The same, of those who finish an epoch that is over.
    pub(super) fn register_finishing(metrics: &Metrics) -> Self {
        let own = Self::register(metrics);
        metrics.register("courier", |shelf| {
            let help = "Deliveries of an earlier epoch whose notification was written again";
            shelf.register("carried_deliveries", help, own.carried.clone());
        });
        own
    }

    /// A delivery ended without success, for this.
    pub(super) fn count_end(&self, why: &'static str) {
        self.undelivered.get_or_create(&Why { why }).inc();
    }

    /// A decision was carried out.
    pub(super) fn count(&self, decision: &Decision) {
        let (family, why) = match decision {
            Decision::Drop(Dropped::Delivered) => (&self.dropped, "delivered"),
            Decision::Drop(Dropped::Expired) => (&self.dropped, "expired"),
            Decision::Drop(Dropped::Withdrawn) => (&self.dropped, "withdrawn"),
            Decision::Drop(Dropped::Duplicate) => (&self.dropped, "duplicate"),
            Decision::Attempt { outcome, .. } => {
                self.fates.count(Cause::Recipient, outcome.name(), 1);
                (&self.attempts, outcome.name())
            }
            Decision::Undelivered { reason } => (&self.undelivered, reason.name()),
            Decision::CarryOver => {
                self.carried.inc();
                return;
            }
        };
        family.get_or_create(&Why { why }).inc();
    }
}
