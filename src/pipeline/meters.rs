//! The pipeline's numbers.
//!
//! Owns: their names and labels, and each worker's own handles to them, so that counting takes no lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tidings_core::fate::Cause;
use tidings_core::rules::{IgnoreReason, Verdict};
use tidings_core::time::Timestamp;

use crate::kafka::refusals::RefusalMeters;
use crate::telemetry::{Durations, Fates, Labels, Shelf};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: String,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithReason {
    reason: &'static str,
}

impl Labels for OfTopic {
    const NAMES: &'static [&'static str] = &["topic", "verdict"];
}

impl Labels for WithReason {
    const NAMES: &'static [&'static str] = &["reason"];
}

/// A version of the rules, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    version: String,
}

impl Labels for OfVersion {
    const NAMES: &'static [&'static str] = &["version"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithOutcome {
    outcome: &'static str,
}

impl Labels for WithOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
}

/// What came of reading the rules again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reloaded {
    Loaded,
    /// The files are the ones in force.
    Unchanged,
    Refused,
}

/// All numbers of the pipeline. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters {
    records: Family<OfTopic, Counter>,
    pub(super) notifications: Counter,
    ignored: Family<WithReason, Counter>,
    fates: Fates,
    reloads: Family<WithOutcome, Counter>,
    rules: Family<OfVersion, Gauge>,
    rules_loaded: Gauge<f64, AtomicU64>,
    pub(super) decide: Durations,
    pub(super) write: Durations,
    pub(super) refusals: RefusalMeters,
}

impl Meters {
    pub(super) fn register(&self, shelf: &mut Shelf<'_>) {
        shelf.register("decided_records", "Records decided on, by topic and verdict", self.records.clone());
        shelf.register("written_notifications", "Notifications that the brokers have taken", self.notifications.clone());
        shelf.register("ignored_records", "Records that gave no notification though nothing was wrong", self.ignored.clone());
        self.fates.register(shelf);
        shelf.register("decide_seconds", "To decode, match and render a record; of one record in 64", self.decide.clone());
        shelf.register(
            "write_seconds",
            "Until the brokers have all that follows from a record; of one in 64",
            self.write.clone(),
        );
        self.refusals.register(shelf);
        shelf.register("rules_reloads", "Times the rules were read again, by what came of it", self.reloads.clone());
        shelf.register("rules_info", "The version of the rules in force, by hash of their files; always 1", self.rules.clone());
        shelf.register("rules_loaded_timestamp_seconds", "When the rules in force were loaded", self.rules_loaded.clone());
    }

    pub(super) fn reloaded(&self, outcome: Reloaded) {
        let outcome = match outcome {
            Reloaded::Loaded => "loaded",
            Reloaded::Unchanged => "unchanged",
            Reloaded::Refused => "refused",
        };
        self.reloads.get_or_create(&WithOutcome { outcome }).inc();
    }

    /// Says which rules are in force from `now` on.
    pub(super) fn rules_in_force(&self, version: &str, now: Timestamp) {
        self.rules.clear();
        self.rules.get_or_create(&OfVersion { version: version.to_owned() }).set(1);
        self.rules_loaded.set(now.as_millis() as f64 / 1000.0);
    }
}

/// One worker's handles.
pub(super) struct Tally {
    meters: Meters,
    topics: HashMap<Arc<str>, [Counter; 3]>,
    ignored: HashMap<&'static str, Counter>,
    failed: HashMap<&'static str, Counter>,
}

impl Tally {
    pub(super) fn new(meters: Meters) -> Self {
        Self { meters, topics: HashMap::new(), ignored: HashMap::new(), failed: HashMap::new() }
    }

    /// Counts a decision.
    pub(super) fn verdict(&mut self, topic: &Arc<str>, verdict: &Verdict) {
        if let Verdict::Ignore(reason) = verdict {
            self.ignored(reason);
        }
        let Self { meters, topics, .. } = self;
        let [notify, ignore, bury] = topics.entry(Arc::clone(topic)).or_insert_with(|| {
            ["notify", "ignore", "bury"].map(|verdict| {
                let labels = OfTopic { topic: topic.as_ref().to_owned(), verdict };
                meters.records.get_or_create(&labels).clone()
            })
        });
        match verdict {
            Verdict::Notify(_) => notify.inc(),
            Verdict::Bury(_) => bury.inc(),
            Verdict::Ignore(_) => ignore.inc(),
        };
    }

    /// Counts why nothing follows from a record.
    pub(super) fn ignored(&mut self, reason: &IgnoreReason) {
        let (Self { meters, ignored, .. }, reason) = (self, reason.name());
        ignored.entry(reason).or_insert_with(|| meters.ignored.get_or_create(&WithReason { reason }).clone()).inc();
    }

    /// Notes how long a decision took.
    pub(super) fn decided_within(&self, took: Duration) {
        self.meters.decide.observe(took);
    }

    /// Counts a record that is buried, or that holds its partition.
    pub(super) fn failed(&mut self, cause: Cause, class: &'static str) {
        let Self { meters, failed, .. } = self;
        failed.entry(class).or_insert_with(|| meters.fates.of(cause, class)).inc();
    }
}
