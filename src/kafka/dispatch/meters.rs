//! The numbers that a dispatch tells.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::{Age, Labels, Shelf};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTopic {
    pub(super) topic: String,
}

impl Labels for OfTopic {
    const NAMES: &'static [&'static str] = &["topic"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Tripped {
    pub(super) topic: String,
    pub(super) why: &'static str,
}

impl Labels for Tripped {
    const NAMES: &'static [&'static str] = &["topic", "why"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WithReason {
    pub(super) reason: &'static str,
}

impl Labels for WithReason {
    const NAMES: &'static [&'static str] = &["reason"];
}

/// The numbers of a dispatch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    pub(super) in_flight: Gauge,
    pub(super) paused: Gauge,
    pub(super) held: Family<WithReason, Gauge>,
    pub(super) lag: Age,
    pub(super) commits: Counter,
    pub(super) taken_up: Counter,
    pub(super) given_back: Counter,
    pub(super) lost: Counter,
    pub(super) open: Family<OfTopic, Gauge>,
    pub(super) since: Family<OfTopic, Gauge<f64, AtomicU64>>,
    pub(super) trips: Family<Tripped, Counter>,
}

impl Meters {
    /// Registers all of them.
    pub fn register(&self, shelf: &mut Shelf<'_>) {
        shelf.register("in_flight_records", "Records handed to workers and not done yet", self.in_flight.clone());
        shelf.register_age("lag_seconds", "Age of the oldest record that was read and is not done", &self.lag);
        shelf.register("paused_partitions", "Partitions paused because their worker has no room", self.paused.clone());
        shelf.register(
            "held_partitions",
            "Partitions that are ours and not read, by reason: records are gone, nobody has said where they begin or the brokers do \
             not tell, their topic is halted, a later release wrote what comes next, or its schema is on its way",
            self.held.clone(),
        );
        shelf.register("lost_offsets", "Offsets that were gone from a topic before they were read", self.lost.clone());
        shelf.register(
            "halted_topics",
            "Topics not read because too much of them was buried; 1 while it is so",
            self.open.clone(),
        );
        shelf.register(
            "halted_since_timestamp_seconds",
            "Since when a topic is not read because too much of it was buried, in seconds since 1970",
            self.since.clone(),
        );
        shelf.register(
            "breaker_trips",
            "Times a topic's breaker opened, by why: so many in a row, too large a share, or a bad trial",
            self.trips.clone(),
        );
        shelf.register("taken_up_partitions", "Partitions that the group gave to this process", self.taken_up.clone());
        shelf.register("given_back_partitions", "Partitions that the group took from this process", self.given_back.clone());
        shelf.register("sent_commits", "Commits sent with news", self.commits.clone());
    }
}
