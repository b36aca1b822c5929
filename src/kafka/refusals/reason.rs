//! Reasons: why a topic does not take what is written to it, in words for an operator.
//!
//! Owns: for each cause what it is and what to type, so that nobody is sent to look at access rules for a topic that is not there. Refuses to
//! guess: a cause that is none of these is told in the brokers' words. Neighbours: those who write find it out, `refusals` says it.

use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::{
    self, NotEnoughReplicas, NotEnoughReplicasAfterAppend, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition,
};

/// Codes that have a cause of their own here.
const CODES: [RDKafkaErrorCode; 5] =
    [NotEnoughReplicas, NotEnoughReplicasAfterAppend, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition];

/// Why a topic takes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its access rules say no.
    Denied,
    /// The brokers do not have it.
    Missing,
    /// Its brokers have not answered, those of other topics have.
    Late,
    /// Fewer brokers have a copy that is current than must have one.
    Copies,
    /// Not even the least of what must be written there fits.
    Size,
    /// Something else, in the brokers' words.
    Told(String),
}

impl Reason {
    /// What an error of a broker's means.
    #[must_use]
    pub fn of(code: RDKafkaErrorCode) -> Self {
        match code {
            TopicAuthorizationFailed => Self::Denied,
            UnknownTopic | UnknownTopicOrPartition => Self::Missing,
            NotEnoughReplicas | NotEnoughReplicasAfterAppend => Self::Copies,
            other => Self::Told(other.to_string()),
        }
    }

    /// The same of an error that librdkafka reports.
    #[must_use]
    pub fn of_error(error: &KafkaError) -> Self {
        error.rdkafka_error_code().map_or_else(|| Self::Told(error.to_string()), Self::of)
    }

    /// What the words mean that librdkafka has for an error.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let is_meant = |code: &RDKafkaErrorCode| code.to_string().ends_with(&format!("({})", text.trim()));
        CODES.into_iter().find(is_meant).map_or_else(|| Self::Told(text.trim().to_owned()), Self::of)
    }

    /// What is the matter with the topic with this name, and what to do about it.
    #[must_use]
    pub fn in_full(&self, topic: &str) -> String {
        format!("{}; {}", self.what(), self.next(topic))
    }

    /// What is the matter.
    pub(super) fn what(&self) -> &str {
        match self {
            Self::Denied => "its access rules say no (authorization failed)",
            Self::Missing => "it is not there",
            Self::Late => "its brokers do not answer in time, though those of other topics do",
            Self::Copies => "fewer of its copies are in sync than `min.insync.replicas` asks for",
            Self::Size => "not even the context of a record fits",
            Self::Told(text) => text,
        }
    }

    /// What to do about it, of the topic with this name.
    pub(super) fn next(&self, topic: &str) -> String {
        match self {
            Self::Denied => format!(
                "allow the user of tidings to write there: `kafka-acls.sh --add --allow-principal User:NAME --operation Write --operation \
                 Describe --topic {topic}`"
            ),
            Self::Missing => "make it: `tidings topics create`".to_owned(),
            Self::Late => {
                format!("see which broker leads it, and whether that lives: `kafka-topics.sh --describe --topic {topic}`")
            }
            Self::Copies => {
                format!("bring the brokers back that have a copy of it: `kafka-topics.sh --describe --topic {topic}`")
            }
            Self::Size => format!(
                "raise its limit: `kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config max.message.bytes=BYTES`"
            ),
            Self::Told(_) => {
                format!("see how it is set: `kafka-configs.sh --describe --entity-type topics --entity-name {topic}`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_by_itself_with_what_to_type() {
        let all = [Reason::Denied, Reason::Missing, Reason::Late, Reason::Copies, Reason::Size, Reason::Told("no".into())];
        let told = all.map(|reason| format!("{}: {}", reason.what(), reason.next("t.dlq")));
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_cause_is_known_by_a_brokers_code_and_by_librdkafkas_words_for_it() {
        for code in CODES {
            let text = code.to_string();
            let (_, words) = text.trim_end_matches(')').split_once(" (").unwrap();
            assert_eq!(Reason::read(words), Reason::of(code), "{words}");
            assert!(!matches!(Reason::of(code), Reason::Told(_)), "{code}");
        }
        assert_eq!(Reason::read("Broker: something new"), Reason::Told("Broker: something new".into()));
        assert!(matches!(Reason::of(RDKafkaErrorCode::PolicyViolation), Reason::Told(text) if text.contains("Policy")));
    }
}
