//! How the reading stands, in words for an operator.
//!
//! Owns: what is told to the role's health, that a trouble is logged once when it comes and once when it goes, and which topics
//! were missing. Refuses to end anything: librdkafka goes on trying by itself. Neighbour: `dispatch`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::config::TopicPattern;
use crate::kafka::consumer::{Consumer, Partition};
use crate::telemetry::health::{Halted, Role};

/// How often a trouble is looked at again, and how long the brokers may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// The most topics and partitions that are named with a reason.
const REASONS: usize = 8;

/// What keeps records from coming.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// No broker answers.
    Away,
    /// Some topics are not there, or hidden from us.
    Missing(String),
    /// Anything else that is tried again.
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("no broker answers; waiting for one"),
            Self::Missing(topics) => {
                write!(
                    f,
                    "not there, or hidden from us: topic {topics}; waiting until it is created, or `pipeline.topics` corrected"
                )
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What is known of the reading.
pub(super) struct Standing {
    role: Role,
    /// The topics that are read by their name.
    names: Vec<String>,
    /// Whether topics are read by expressions.
    expressions: bool,
    /// Topics that were missing at some time since we began: what they hold came after that.
    late: BTreeSet<String>,
    /// All topics that were there when we began, if any are read by expressions.
    early: BTreeSet<String>,
    joined: bool,
    trouble: Option<Trouble>,
    probe_due: Option<Duration>,
    /// When to look which topics are missing at the beginning, until the brokers have said so.
    survey_due: Option<Duration>,
    /// Why some partitions are not read.
    stopped: BTreeMap<Partition, String>,
    /// Why some topics are not read.
    halts: BTreeMap<String, Halted>,
}

impl Standing {
    pub(super) fn new(role: Role, topics: &[TopicPattern]) -> Self {
        let names = topics.iter().filter_map(TopicPattern::name).map(str::to_owned).collect::<Vec<_>>();
        let standing = Self {
            role,
            expressions: names.len() < topics.len(),
            names,
            late: BTreeSet::new(),
            early: BTreeSet::new(),
            joined: false,
            trouble: None,
            probe_due: None,
            survey_due: Some(Duration::ZERO),
            stopped: BTreeMap::new(),
            halts: BTreeMap::new(),
        };
        standing.tell();
        standing
    }

    /// The group has given us our partitions, and we read them.
    pub(super) fn joined(&mut self) {
        self.joined = true;
        self.tell();
    }

    /// The group is between two assignments.
    pub(super) fn left(&mut self) {
        self.joined = false;
        self.tell();
    }

    /// librdkafka reported something that it goes on trying. What that means is asked at the next probe.
    pub(super) fn trouble(&mut self, code: RDKafkaErrorCode, now: Duration) {
        match code {
            // One broker of several; if it was the last one, another report says so.
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve | RDKafkaErrorCode::OperationTimedOut => {
                tracing::debug!(?code, "a connection to a broker failed");
            }
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => {
                self.probe_due.get_or_insert(now);
            }
            other => self.waiting(format!("the brokers refuse: {other}; trying again"), now),
        }
    }

    /// Something that is waited for with backoff.
    pub(super) fn waiting(&mut self, what: String, now: Duration) {
        self.enter(Trouble::Other(what), now);
    }

    /// Records flow.
    pub(super) fn well(&mut self) {
        self.probe_due = None;
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("over: {trouble}");
            self.tell();
        }
    }

    /// Whether a trouble is waited out.
    pub(super) fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether no broker answers.
    pub(super) fn is_away(&self) -> bool {
        self.trouble == Some(Trouble::Away)
    }

    /// Looks once which topics are missing, before the group gives us any: one that appears later is not new to us then.
    ///
    /// # Errors
    /// If it was time to ask, and the brokers did not answer within a second.
    pub(super) fn survey(&mut self, consumer: &Consumer, now: Duration) -> Result<(), KafkaError> {
        if self.survey_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.survey_due = Some(now + PROBE_INTERVAL);
        if self.expressions {
            self.early = consumer.topics(PROBE_WAIT)?.into_iter().collect();
        }
        let missing = consumer.missing(&self.names, PROBE_WAIT)?;
        self.late.extend(missing.into_iter().map(str::to_owned));
        self.survey_due = None;
        Ok(())
    }

    /// Whether the brokers have not yet said which topics are missing.
    pub(super) fn is_unsurveyed(&self) -> bool {
        self.survey_due.is_some()
    }

    /// Looks what keeps records from coming, when it is time to. Blocks for up to a second then.
    pub(super) fn probe(&mut self, consumer: &Consumer, now: Duration) {
        if self.probe_due.is_none_or(|due| due > now) {
            return;
        }
        match consumer.missing(&self.names, PROBE_WAIT) {
            Ok(missing) if missing.is_empty() => self.well(),
            Ok(missing) => {
                let names = missing.join(", ");
                self.late.extend(missing.into_iter().map(str::to_owned));
                self.enter(Trouble::Missing(names), now);
            }
            Err(_) => self.enter(Trouble::Away, now),
        }
    }

    /// A topic is not there: if it comes back, all that it holds came after that.
    pub(super) fn missing(&mut self, topic: &str) {
        if self.is_named(topic) {
            self.late.insert(topic.to_owned())
        } else {
            self.early.remove(topic)
        };
    }

    /// Whether a topic has appeared only after we began to look for it.
    pub(super) fn was_missing(&self, topic: &str) -> bool {
        if self.is_named(topic) { self.late.contains(topic) } else { !self.early.contains(topic) }
    }

    fn is_named(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic)
    }

    /// A partition is not read, and why.
    pub(super) fn stopped(&mut self, partition: Partition, why: String) {
        if self.stopped.get(&partition) != Some(&why) {
            self.stopped.insert(partition, why);
            self.tell();
        }
    }

    /// A partition is read again, or no longer ours.
    pub(super) fn no_longer_stopped(&mut self, partition: &Partition) {
        if self.stopped.remove(partition).is_some() {
            self.tell();
        }
    }

    /// A topic is not read, and why.
    pub(super) fn halted(&mut self, topic: String, halted: Halted) {
        self.halts.insert(topic, halted);
        self.tell();
    }

    /// A topic is read again.
    pub(super) fn no_longer_halted(&mut self, topic: &str) {
        if self.halts.remove(topic).is_some() {
            self.tell();
        }
    }

    fn enter(&mut self, trouble: Trouble, now: Duration) {
        self.probe_due = Some(now + PROBE_INTERVAL);
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble);
            self.tell();
        }
    }

    fn tell(&self) {
        self.role.holds(self.stopped.iter().map(|(partition, why)| (partition.to_string(), why.clone())));
        self.role.halts(self.halts.clone());
        if let Some(trouble) = &self.trouble {
            self.role.waiting(trouble.to_string());
        } else if !self.joined {
            self.role.waiting("joining the consumer group");
        } else if !self.stopped.is_empty() || !self.halts.is_empty() {
            let all = self.halts.values().map(|halted| &halted.reason).chain(self.stopped.values());
            let reasons = all.take(REASONS).map(String::as_str).collect::<Vec<_>>();
            let more = self.halts.len() + self.stopped.len() - reasons.len();
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            self.role.waiting(reasons.join("; ") + &more);
        } else {
            self.role.ready();
        }
    }
}
