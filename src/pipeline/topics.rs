//! Topics: what the configuration says of the records of each domain topic.
//!
//! Owns: which section of `[pipeline.per_topic]` a topic has: that of its name, else the first expression that matches it, in the
//! order of their texts. Neighbours: `config` has checked the sections, core `rules` decides under the terms.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::event::Reading;
use tidings_core::rules::Terms;
use tidings_core::time::Timestamp;

use crate::config::{PipelineConfig, TopicConfig, TopicPattern};

/// What holds for a topic's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    reading: Reading,
    /// None: events of any age count.
    max_age: Option<Duration>,
}

impl Settings {
    /// The terms of a record that is decided on at `now`.
    pub(super) fn terms(&self, now: Timestamp) -> Terms<'_> {
        Terms { reading: &self.reading, max_age: self.max_age, now }
    }
}

/// The settings of all topics. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    sections: Arc<[(TopicPattern, Arc<Settings>)]>,
    others: Arc<Settings>,
}

impl Topics {
    pub(super) fn new(config: &PipelineConfig) -> Self {
        let age = |age: Duration| Some(age).filter(|age| !age.is_zero());
        let settings = |of: &TopicConfig| {
            let reading = Reading { envelope: of.envelope, type_header: of.type_header.clone(), id: of.id.clone() };
            Arc::new(Settings { reading, max_age: age(of.max_age.unwrap_or(config.max_age).0) })
        };
        let sections = config.per_topic.iter().map(|(pattern, of)| (pattern.clone(), settings(of))).collect();
        Self { sections, others: settings(&TopicConfig::default()) }
    }

    /// The settings of one topic.
    pub(super) fn of(&self, topic: &str) -> Arc<Settings> {
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
        let topics = Topics::new(&crate::config::load(Some(("test.toml", file)), &[]).unwrap().pipeline);
        let seen = |topic: &str| {
            let settings = topics.of(topic);
            let terms = settings.terms(Timestamp::from_millis(0));
            (terms.reading.envelope, terms.reading.id.is_some(), terms.max_age.map(|age| age.as_secs()))
        };
        assert_eq!(seen("ab"), (Envelope::Detect, true, Some(7200)));
        assert_eq!(seen("abc"), (Envelope::Flat, false, None));
        assert_eq!(seen("b"), (Envelope::Detect, false, Some(7200)));
    }
}
