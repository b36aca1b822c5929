//! The registry's numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::{Labels, Shelf};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithOutcome {
    outcome: &'static str,
}

impl Labels for WithOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters {
    fetches: Family<WithOutcome, Counter>,
    pub(super) kept: Gauge,
    pub(super) kept_bytes: Gauge,
    pub(super) dropped: Counter,
    pub(super) awaited: Gauge,
}

impl Meters {
    pub(super) fn register(&self, shelf: &mut Shelf<'_>) {
        let help =
            "Times that the schema registry was asked for a schema, by what came of it: `fetched`, or the class of the failure";
        shelf.register("fetched_schemas", help, self.fetches.clone());
        shelf.register("kept_schemas", "Schemas in memory", self.kept.clone());
        let help = "About how much memory schemas take, with what is known of those that cannot be had";
        shelf.register("kept_bytes", help, self.kept_bytes.clone());
        let help = "Schemas that were taken from memory to make room for others, and are fetched again when they are needed";
        shelf.register("dropped_schemas", help, self.dropped.clone());
        shelf.register("awaited_schemas", "Schemas that records wait for", self.awaited.clone());
    }

    pub(super) fn fetched(&self, outcome: &'static str) {
        self.fetches.get_or_create(&WithOutcome { outcome }).inc();
    }
}
