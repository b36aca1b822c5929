//! The pipeline's numbers.
//!
//! Owns: their names and labels, and each worker's own handles to them, so that counting takes no lock.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_core::rules::Verdict;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: String,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

/// All numbers of the pipeline. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters {
    records: Family<OfTopic, Counter>,
    pub(super) notifications: Counter,
    ignored: Family<WithReason, Counter>,
    buried: Family<OfClass, Counter>,
}

impl Meters {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("records", "Records decided on, by topic and verdict", self.records.clone());
        registry.register("notifications", "Notifications that the brokers have acknowledged", self.notifications.clone());
        registry.register("ignored", "Records that gave no notification though nothing was wrong", self.ignored.clone());
        registry.register("buried", "Records that went to the dead letter topic, by class of failure", self.buried.clone());
    }
}

/// One worker's handles.
pub(super) struct Tally {
    meters: Meters,
    topics: HashMap<Arc<str>, [Counter; 3]>,
    ignored: HashMap<&'static str, Counter>,
    buried: HashMap<&'static str, (Counter, u64)>,
}

impl Tally {
    pub(super) fn new(meters: Meters) -> Self {
        Self { meters, topics: HashMap::new(), ignored: HashMap::new(), buried: HashMap::new() }
    }

    /// Counts a decision.
    pub(super) fn verdict(&mut self, topic: &Arc<str>, verdict: &Verdict) {
        let Self { meters, topics, ignored, .. } = self;
        let [notify, ignore, bury] = topics.entry(Arc::clone(topic)).or_insert_with(|| {
            ["notify", "ignore", "bury"].map(|verdict| {
                let labels = OfTopic { topic: topic.as_ref().to_owned(), verdict };
                meters.records.get_or_create(&labels).clone()
            })
        });
        match verdict {
            Verdict::Notify(_) => notify.inc(),
            Verdict::Bury(_) => bury.inc(),
            Verdict::Ignore(reason) => {
                let reason = reason.name();
                ignored.entry(reason).or_insert_with(|| meters.ignored.get_or_create(&WithReason { reason }).clone()).inc();
                ignore.inc()
            }
        };
    }

    /// Counts a burial; how many of this class this worker has had with it.
    pub(super) fn buried(&mut self, class: &'static str) -> u64 {
        let Self { meters, buried, .. } = self;
        let (counter, times) =
            buried.entry(class).or_insert_with(|| (meters.buried.get_or_create(&OfClass { class }).clone(), 0));
        counter.inc();
        *times += 1;
        *times
    }
}
