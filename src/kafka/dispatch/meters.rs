//! The numbers that a dispatch tells.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Shelf;

/// The numbers of a dispatch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    pub(super) in_flight: Gauge,
    pub(super) paused: Gauge,
    pub(super) unreadable: Gauge,
    pub(super) commits: Counter,
    pub(super) lost: Counter,
}

impl Meters {
    /// Registers all of them.
    pub fn register(&self, shelf: &mut Shelf<'_>) {
        shelf.register("in_flight_records", "Records handed to workers and not done yet", self.in_flight.clone());
        shelf.register("paused_partitions", "Partitions paused because their worker has no room", self.paused.clone());
        shelf.register("unreadable_partitions", "Partitions not read because records of them are gone", self.unreadable.clone());
        shelf.register("lost_offsets", "Offsets that were gone from a topic before they were read", self.lost.clone());
        shelf.register("sent_commits", "Commits sent with news", self.commits.clone());
    }
}
