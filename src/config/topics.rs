//! Topics: what the configuration says of the records of each topic that is decided on.
//!
//! Owns: which section of `[pipeline.per_topic]` a topic has: that of its name, else the first expression that matches it, in the
//! order of their texts; and which topic holds requests. Neighbours: `pipeline` decides on what comes, `replay` on what lies there.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::event::{Event, Explained, Reading, SourceRecord};
use tidings_core::record::RecordError;
use tidings_core::rules::{RuleSet, Terms, Verdict, decide_explained, decide_if, decide_request};
use tidings_core::time::Timestamp;

use super::{PipelineConfig, TopicConfig, TopicPattern};

/// What a topic's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Requests,
}

/// What holds for a topic's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    kind: Kind,
    reading: Reading,
    /// None: events of any age count.
    max_age: Option<Duration>,
}

impl Settings {
    /// The terms of a record that is decided on at `now`.
    #[must_use]
    pub fn terms(&self, now: Timestamp) -> Terms<'_> {
        Terms { reading: &self.reading, max_age: self.max_age, now }
    }

    /// How the parts of a record are written.
    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// What becomes of a record that is decided on at `now`, with what schemas made of its parts.
    ///
    /// # Errors
    /// If only a later release can say that.
    pub fn decide(
        &self,
        rules: &RuleSet,
        (record, explained): (&SourceRecord<'_>, Explained),
        now: Timestamp,
    ) -> Result<Verdict, RecordError> {
        match self.kind {
            Kind::Events => Ok(decide_explained(rules, record, explained, &self.terms(now))),
            Kind::Requests => decide_request(rules, record, &self.terms(now)),
        }
    }

    /// Whether what lies there are events. Of a request nobody can say which event it is before it is decided on.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.kind == Kind::Events
    }

    /// What becomes of a record of events if its event is meant; none if it is not.
    ///
    /// # Errors
    /// What `is_meant` says.
    pub fn decide_if<E>(
        &self,
        rules: &RuleSet,
        ((record, explained), now): ((&SourceRecord<'_>, Explained), Timestamp),
        is_meant: impl FnOnce(&Event) -> Result<bool, E>,
    ) -> Result<Option<Verdict>, E> {
        decide_if(rules, (record, explained), &self.terms(now), is_meant)
    }
}

/// The settings of all topics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Topics {
    sections: Arc<[(TopicPattern, Arc<Settings>)]>,
    others: Arc<Settings>,
    requests: (Arc<str>, Arc<Settings>),
}

impl Topics {
    /// As the configuration has them, and `requests`, whose records ask for notifications.
    #[must_use]
    pub fn new(config: &PipelineConfig, requests: &str) -> Self {
        let age = |age: Duration| Some(age).filter(|age| !age.is_zero());
        let settings = |of: &TopicConfig| {
            let reading = Reading {
                envelope: of.envelope,
                type_header: of.type_header.clone(),
                id: of.id.clone(),
                format: of.format,
                key_format: of.key_format,
            };
            Arc::new(Settings { kind: Kind::Events, reading, max_age: age(of.max_age.unwrap_or(config.max_age).0) })
        };
        let sections = config.per_topic.iter().map(|(pattern, of)| (pattern.clone(), settings(of))).collect();
        let others = settings(&TopicConfig::default());
        let mut topics = Self { sections, requests: (requests.into(), Arc::clone(&others)), others };
        let asked = Settings { kind: Kind::Requests, ..(*topics.of_events(requests)).clone() };
        topics.requests.1 = Arc::new(asked);
        topics
    }

    /// The settings of one topic.
    #[must_use]
    pub fn of(&self, topic: &str) -> Arc<Settings> {
        if topic == &*self.requests.0 {
            return Arc::clone(&self.requests.1);
        }
        self.of_events(topic)
    }

    fn of_events(&self, topic: &str) -> Arc<Settings> {
        let named = self.sections.iter().find(|(pattern, _)| pattern.name() == Some(topic));
        let matched = || self.sections.iter().find(|(pattern, _)| pattern.matches(topic));
        Arc::clone(named.or_else(matched).map_or(&self.others, |(_, settings)| settings))
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::event::Envelope;

    use super::*;

    #[test]
    fn a_name_counts_more_than_an_expression_and_what_is_not_said_is_the_pipelines() {
        let file = "[pipeline]\nmax_age = \"2h\"\n[pipeline.per_topic.\"^a.*\"]\nenvelope = \"flat\"\nmax_age = \"0s\"\n\
                    [pipeline.per_topic.\"^ab.*\"]\nenvelope = \"outbox\"\n[pipeline.per_topic.ab]\nid = \"header:x\"\n";
        let topics = Topics::new(&crate::config::load(Some(("test.toml", file)), &[]).unwrap().pipeline, "requests");
        let seen = |topic: &str| {
            let settings = topics.of(topic);
            let terms = settings.terms(Timestamp::from_millis(0));
            (terms.reading.envelope, terms.reading.id.is_some(), terms.max_age.map(|age| age.as_secs()))
        };
        assert_eq!(seen("ab"), (Envelope::Detect, true, Some(7200)));
        assert_eq!(seen("abc"), (Envelope::Flat, false, None));
        assert_eq!(seen("b"), (Envelope::Detect, false, Some(7200)));
    }

    #[test]
    fn what_lies_on_requests_is_asked_for_and_what_lies_elsewhere_is_an_event() {
        let topics = Topics::new(&crate::config::load(None, &[]).unwrap().pipeline, "requests");
        let rules = RuleSet::parse(&[], tidings_core::rules::Limits::default()).unwrap();
        let verdict = |topic: &str| {
            let (now, value) = (Timestamp::from_millis(0), br#"{"to":{"user":"ada"},"message":"hello"}"#);
            let record =
                SourceRecord { topic, partition: 0, offset: 0, timestamp: now, key: None, value: Some(value), headers: &[] };
            topics.of(topic).decide(&rules, (&record, Explained::default()), now).unwrap()
        };
        assert!(matches!(verdict("requests"), Verdict::Notify(_)));
        assert!(matches!(verdict("payments"), Verdict::Bury(_)));
    }
}
