//! Which topics there must be, and how they must be set.

use std::time::Duration;

use rdkafka::admin::ConfigEntry;
use tidings_core::record::meta::EpochRecord;

use crate::config::{CourierConfig, InboxConfig, KafkaConfig, PipelineConfig, TopicPattern};
use crate::kafka::topic::TopicNames;

/// `message.max.bytes` of a broker that nobody has configured.
pub(super) const DEFAULT_MESSAGE_BYTES: i64 = 1_048_588;
/// Room for the context that is added to a record.
const CONTEXT_BYTES: i64 = 64 * 1024;
const DAY_MS: i64 = 86_400_000;

/// How long `notifications` keeps a record, at least.
pub const NOTIFICATIONS_KEPT: Duration = Duration::from_hours(7 * 24);

/// How long `receipts` keeps a record, at least.
pub const RECEIPTS_KEPT: Duration = Duration::from_hours(30 * 24);

/// How long `undelivered` keeps a record.
pub const UNDELIVERED_KEPT: Duration = Duration::from_hours(30 * 24);

/// What the configuration asks for.
#[derive(Debug, Clone)]
pub struct Plan {
    names: TopicNames,
    partitions: i32,
    replication_factor: i32,
    rungs: Vec<tidings_core::time::Delay>,
    /// How long a notification must be there to be folded anew.
    kept: Duration,
    /// How long what users did must be there for the same.
    receipts_kept: Duration,
    sources: Vec<TopicPattern>,
}

/// A topic as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its full name.
    pub name: String,
    /// Its number of partitions, when it is made.
    pub partitions: i32,
    /// For how long that stays.
    pub count: Count,
    /// Settings of Kafka that depart from the brokers' defaults.
    pub settings: Vec<(&'static str, String)>,
}

/// For how long a topic has the number of partitions it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// For as long as the epoch lasts: positions, cursors and the order of deliveries go by it. The next epoch has a topic of its own.
    OfEpoch,
    /// For as long as nobody changes it. Every epoch uses the same topic.
    Any,
}

impl Plan {
    /// The topics that these sections need.
    #[must_use]
    pub fn new(kafka: &KafkaConfig, pipeline: &PipelineConfig, courier: &CourierConfig, inbox: &InboxConfig) -> Self {
        Self {
            names: TopicNames::new(&kafka.topic_prefix),
            partitions: kafka.topics.partitions,
            replication_factor: kafka.topics.replication_factor,
            rungs: courier.ladder.clone(),
            kept: inbox.retention.0.max(NOTIFICATIONS_KEPT),
            receipts_kept: inbox.retention.0.max(inbox.receipt_retention.0).max(RECEIPTS_KEPT),
            sources: pipeline.topics.clone(),
        }
    }

    /// The same in an epoch, which says what its topics are called and how many partitions they have.
    #[must_use]
    pub fn of_epoch(&self, epoch: &EpochRecord) -> Self {
        Self { names: self.names.of_epoch(epoch), ..self.with_partitions(epoch.partitions) }
    }

    /// The same with another number of partitions.
    #[must_use]
    pub fn with_partitions(&self, partitions: i32) -> Self {
        Self { partitions, ..self.clone() }
    }

    /// How many partitions `notifications` has, and every topic that is read beside it.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// For how long what was notified is known by its id, at least.
    #[must_use]
    pub fn ids_kept(&self) -> Duration {
        self.kept
    }

    /// The domain topics, which are somebody else's to make.
    #[must_use]
    pub fn sources(&self) -> &[TopicPattern] {
        &self.sources
    }

    /// Those of the domain topics that the configuration names.
    pub fn named_sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(TopicPattern::name)
    }

    /// How long deliveries wait on each rung.
    #[must_use]
    pub fn rungs(&self) -> &[tidings_core::time::Delay] {
        &self.rungs
    }

    /// The topics in which deliveries wait.
    pub(super) fn ladder(&self) -> Vec<String> {
        std::iter::once(self.names.notifications()).chain(self.rungs.iter().map(|rung| self.names.retry(rung))).collect()
    }

    /// The topics of the epoch that the inbox folds.
    pub(super) fn folded(&self) -> [String; 3] {
        [self.names.notifications(), self.names.cursors(), self.names.receipts()]
    }

    pub(super) fn replication_factor(&self) -> i32 {
        self.replication_factor
    }

    /// Every topic of tidings' own, when the largest record of a domain topic has `source_bytes`.
    #[must_use]
    pub fn topics(&self, source_bytes: i64) -> Vec<Topic> {
        let [notifications_ms, receipts_ms] = [self.kept, self.receipts_kept].map(millis);
        let mut topics = vec![
            self.kept(self.names.requests(), 7 * DAY_MS),
            self.fixed(self.names.notifications(), notifications_ms),
            Topic {
                // Only behind the age of the notifications themselves may a device's earlier words be dropped.
                settings: vec![("cleanup.policy", "compact".into()), ("min.compaction.lag.ms", notifications_ms.to_string())],
                ..self.fixed(self.names.cursors(), 0)
            },
            self.fixed(self.names.receipts(), receipts_ms),
            self.kept(self.names.undelivered(), millis(UNDELIVERED_KEPT)),
            self.kept(self.names.dlq(), 30 * DAY_MS),
            // Longer than any letter lies in `dlq`: it says which have been redriven.
            self.kept(self.names.audit(), 90 * DAY_MS),
            Topic {
                settings: vec![("retention.ms", "600000".into()), ("segment.ms", "60000".into())],
                ..self.kept(self.names.signals(), 0)
            },
            Topic { partitions: 1, settings: vec![("cleanup.policy", "compact".into())], ..self.kept(self.names.meta(), 0) },
        ];
        topics.extend(self.rungs.iter().map(|rung| self.fixed(self.names.retry(rung), 7 * DAY_MS + millis(rung.0))));
        for topic in &mut topics {
            topic.settings.push(("message.timestamp.type", "LogAppendTime".into()));
            topic.settings.push(("max.message.bytes", (source_bytes + CONTEXT_BYTES).to_string()));
        }
        topics
    }

    fn fixed(&self, name: String, retention_ms: i64) -> Topic {
        Topic { count: Count::OfEpoch, ..self.kept(name, retention_ms) }
    }

    fn kept(&self, name: String, retention_ms: i64) -> Topic {
        let settings = vec![("retention.ms", retention_ms.to_string())];
        Topic { name, partitions: self.partitions, count: Count::Any, settings }
    }
}

impl Topic {
    /// What is set so differently that a promise would break, in words with what to do.
    pub(super) fn departures(&self, found: &[ConfigEntry]) -> Vec<String> {
        let value = |name: &str| found.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.clone());
        let mut departures = Vec::new();
        for (name, wanted) in &self.settings {
            let Some(found) = value(name) else { continue };
            let fine = match *name {
                "max.message.bytes" | "min.compaction.lag.ms" => number(&found) >= number(wanted),
                "retention.ms" => number(&found) < 0 || number(&found) >= number(wanted),
                "message.timestamp.type" | "cleanup.policy" => found == *wanted,
                _ => true,
            };
            if !fine {
                departures.push(format!("`{name}` is {found}, it must be {wanted}: change it with `kafka-configs --alter`"));
            }
        }
        departures
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let config = crate::config::load(None, &[]).unwrap();
        Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox)
    }

    #[test]
    fn every_own_topic_with_its_settings() {
        let lines = plan().topics(DEFAULT_MESSAGE_BYTES).into_iter().map(|topic| {
            let settings = topic.settings.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{} ({}): {}", topic.name, topic.partitions, settings.collect::<Vec<_>>().join(" "))
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn topics_keep_what_is_folded_and_what_waits_for_as_long_as_it_is_needed() {
        let file = "[inbox]\nretention = \"10days\"\n[courier]\nladder = [\"20days\"]\n";
        let config = crate::config::load(Some(("tidings.toml", file)), &[]).unwrap();
        let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
        let kept = |name: &str| {
            let topics = plan.topics(0);
            let topic = topics.iter().find(|topic| topic.name == name).unwrap();
            let days = |(_, value): &(_, String)| value.parse::<i64>().unwrap() / DAY_MS;
            topic.settings.iter().find(|(name, _)| ["retention.ms", "min.compaction.lag.ms"].contains(name)).map(days)
        };
        let names = ["tidings.notifications", "tidings.cursors", "tidings.retry.20days", "tidings.requests"];
        assert_eq!(names.map(kept), [Some(10), Some(10), Some(27), Some(7)]);
    }

    #[test]
    fn no_own_topic_can_be_meant_by_a_configured_expression() {
        for topic in plan().topics(0) {
            let file = format!("[pipeline]\ntopics = ['^.*{}']\n", topic.name.trim_start_matches("tidings").replace('.', "\\."));
            let refused = crate::config::load(Some(("tidings.toml", &file)), &[]).unwrap_err().to_string();
            assert!(refused.contains(&topic.name) && refused.contains("tidings' own"), "{refused}");
        }
    }

    #[test]
    fn a_topic_that_takes_less_than_its_source_or_keeps_less_than_it_must_is_named() {
        let topic = &plan().topics(DEFAULT_MESSAGE_BYTES)[1];
        let entry = |name: &str, value: &str| ConfigEntry {
            name: name.into(),
            value: Some(value.into()),
            source: rdkafka::admin::ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        let small = [entry("max.message.bytes", "1048588"), entry("retention.ms", "1000")];
        assert_eq!(topic.departures(&small).len(), 2);
        let fine = [entry("max.message.bytes", "9999999"), entry("retention.ms", "-1")];
        assert!(topic.departures(&fine).is_empty());
    }
}
