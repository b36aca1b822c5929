//! The numbers that a dispatch tells.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTopic {
    pub(super) topic: String,
}

/// The numbers of a dispatch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    pub(super) in_flight: Gauge,
    pub(super) paused: Gauge,
    pub(super) unreadable: Gauge,
    pub(super) commits: Counter,
    pub(super) lost: Counter,
    pub(super) open: Family<OfTopic, Gauge>,
    pub(super) trips: Family<OfTopic, Counter>,
}

impl Meters {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("in_flight", "Records handed to workers and not done yet", self.in_flight.clone());
        registry.register("paused", "Partitions paused because their worker has no room", self.paused.clone());
        registry.register("unreadable", "Partitions not read because records of them are gone", self.unreadable.clone());
        registry.register("lost_records", "Offsets that were gone from a topic before they were read", self.lost.clone());
        registry.register("breaker_open", "1 while a topic is not read because too much of it was buried", self.open.clone());
        registry.register("breaker_trips", "How often a topic's breaker opened", self.trips.clone());
        registry.register("commits", "Commits sent with news", self.commits.clone());
    }
}
