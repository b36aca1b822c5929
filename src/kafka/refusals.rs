//! Refusals: topics that do not take what is written to them, as an authorizer's denial or a topic that was deleted makes them.
//!
//! Owns: which those are and why, when each is tried again, and that each is said once when it begins and once when it is over. Refuses to
//! try by itself. Neighbours: those who write and hold back what would go there; `/ready`, the log and `/metrics` show it; `reason` has the words.

mod reason;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::clock::Clock;
use crate::clock::backoff::Backoff;
use crate::telemetry::{Labels, Shelf};

pub use reason::Reason;

/// The topic that a sample is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: String,
}

impl Labels for OfTopic {
    const NAMES: &'static [&'static str] = &["topic"];
}

/// How many topics refuse, for `/metrics`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RefusalMeters(Family<OfTopic, Gauge>);

impl RefusalMeters {
    /// Adds it to a service's metrics.
    pub fn register(&self, shelf: &mut Shelf<'_>) {
        shelf.register("refusing_topics", "Whether a topic does not take what is written to it, by topic", self.0.clone());
    }
}

/// The topics that refuse what one service writes.
#[derive(Debug)]
pub struct Refusals {
    clock: Clock,
    /// The longest between two tries: so long a topic that takes records again may go unnoticed.
    pause: Duration,
    meters: RefusalMeters,
    topics: BTreeMap<String, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    why: Reason,
    backoff: Backoff,
}

impl Refusals {
    /// None so far. Each is left alone for `pause` at most.
    #[must_use]
    pub fn new(pause: Duration, clock: Clock, meters: RefusalMeters) -> Self {
        Self { clock, pause, meters, topics: BTreeMap::new() }
    }

    /// A topic has not taken a record. It is left alone for longer each time.
    pub fn refused(&mut self, topic: &str, why: Reason) {
        let (clock, pause) = (self.clock, self.pause);
        let refusal = self
            .topics
            .entry(topic.to_owned())
            .or_insert_with(|| Refusal { why: why.clone(), backoff: Backoff::up_to(pause, clock) });
        // Of many that were on their way together each is refused.
        let is_first = refusal.backoff.is_over() && refusal.backoff.failed();
        if is_first || refusal.why != why {
            tracing::error!(
                topic,
                why = why.what(),
                "a topic does not take what is written to it: what would go there waits, the rest goes on, and nothing is lost. It is tried \
                 again by itself; {}",
                why.next(topic)
            );
        }
        refusal.why = why;
        if is_first {
            self.meters.0.get_or_create(&OfTopic { topic: topic.to_owned() }).set(1);
        }
    }

    /// Whether something may go to a topic now. Of one that has refused, that is a try: nobody else has one until it has had its time.
    #[must_use]
    pub fn admits(&mut self, topic: &str) -> bool {
        let Some(refusal) = self.topics.get_mut(topic) else { return true };
        let is_over = refusal.backoff.is_over();
        if is_over {
            refusal.backoff.failed();
        }
        is_over
    }

    /// A topic has taken a record, or nothing is to be written to it any more.
    pub fn over(&mut self, topic: &str) {
        if self.topics.remove(topic).is_some() {
            tracing::info!(topic, "nothing is refused by this topic any more");
            self.meters.0.get_or_create(&OfTopic { topic: topic.to_owned() }).set(0);
        }
    }

    /// Whether any topic refuses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether a topic refuses.
    #[must_use]
    pub fn holds(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Whether a topic refuses, and is to be left alone for now.
    #[must_use]
    pub fn is_resting(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|refusal| !refusal.backoff.is_over())
    }

    /// The topics that are to be tried again now.
    #[must_use]
    pub fn due(&self) -> Vec<String> {
        let due = self.topics.iter().filter(|(_, refusal)| refusal.backoff.is_over());
        due.map(|(topic, _)| topic.clone()).collect()
    }

    /// Why a topic refuses, and what to do, in words for an operator.
    #[must_use]
    pub fn told_of(&self, topic: &str) -> Option<String> {
        let Refusal { why, .. } = self.topics.get(topic)?;
        let (what, next) = (why.what(), why.next(topic));
        Some(format!("{topic} does not take what is written to it: {what}. It is tried again by itself; {next}"))
    }

    /// The same of all.
    #[must_use]
    pub fn told(&self) -> String {
        self.topics.keys().filter_map(|topic| self.told_of(topic)).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_refuses_rests_longer_each_time_and_is_told_of_until_it_is_over() {
        let mut refusals = Refusals::new(Duration::from_secs(15), Clock::start(), RefusalMeters::default());
        assert!(refusals.is_empty() && refusals.due().is_empty());
        (0..20).for_each(|_| refusals.refused("t.dlq", Reason::Denied));
        assert!(refusals.holds("t.dlq") && refusals.is_resting("t.dlq") && refusals.due().is_empty());
        let told = refusals.told();
        assert!(told.contains("t.dlq") && told.contains("access rules") && !told.contains("topics create"), "{told}");
        // Somebody has deleted it meanwhile.
        refusals.refused("t.dlq", Reason::Missing);
        let told = refusals.told();
        assert!(!told.contains("access rules") && told.contains("topics create"), "{told}");
        assert_eq!((refusals.is_resting("t.signals"), refusals.told_of("t.signals")), (false, None));
        assert!(refusals.admits("t.signals") && !refusals.admits("t.dlq"));
        refusals.over("t.dlq");
        assert!(refusals.is_empty() && refusals.told().is_empty() && refusals.admits("t.dlq"));
    }
}
