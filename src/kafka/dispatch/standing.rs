//! How the reading stands, in words for an operator.
//!
//! Owns: what is told to the role's health, and that a trouble is logged once when it comes and once when it goes. Refuses
//! to end anything: librdkafka goes on trying by itself. Neighbour: `dispatch`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::consumer::{Consumer, Partition};
use crate::telemetry::health::Role;

/// How often a trouble is looked at again, and how long the brokers may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// What keeps records from coming.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    text: String,
    probe_due: Duration,
}

/// What is known of the reading.
pub(super) struct Standing {
    role: Role,
    topics: Vec<String>,
    joined: bool,
    trouble: Option<Trouble>,
    unreadable: BTreeMap<Partition, String>,
}

impl Standing {
    pub(super) fn new(role: Role, topics: Vec<String>) -> Self {
        let standing = Self { role, topics, joined: false, trouble: None, unreadable: BTreeMap::new() };
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

    /// librdkafka reported something that it goes on trying.
    pub(super) fn trouble(&mut self, code: RDKafkaErrorCode, now: Duration) {
        match code {
            // One broker of several; if it was the last one, another report says so.
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve | RDKafkaErrorCode::OperationTimedOut => {
                tracing::debug!(?code, "a connection to a broker failed");
            }
            RDKafkaErrorCode::AllBrokersDown => self.enter("no broker answers; waiting for one".to_owned(), now),
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                self.enter(self.missing(&[]), now);
            }
            other => self.enter(format!("the brokers refuse: {other}; trying again"), now),
        }
    }

    /// Something that is waited for with backoff.
    pub(super) fn waiting(&mut self, what: &str, now: Duration) {
        self.enter(what.to_owned(), now);
    }

    /// Records flow, or the brokers took a commit.
    pub(super) fn well(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("over: {}", trouble.text);
            self.tell();
        }
    }

    /// Whether a trouble is waited out.
    pub(super) fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// Looks whether a trouble is over, when it is time to. Blocks for up to a second then.
    pub(super) fn probe(&mut self, consumer: &Consumer, now: Duration) {
        if self.trouble.as_ref().is_none_or(|trouble| trouble.probe_due > now) {
            return;
        }
        let text = match consumer.missing(&self.topics, PROBE_WAIT) {
            Ok(missing) if missing.is_empty() => return self.well(),
            Ok(missing) => self.missing(&missing),
            Err(_) => "no broker answers; waiting for one".to_owned(),
        };
        self.enter(text, now);
    }

    /// Records of a partition are gone, so that it is not read.
    pub(super) fn unreadable(&mut self, partition: Partition, why: String) {
        tracing::error!("{why}");
        self.unreadable.insert(partition, why);
        self.tell();
    }

    /// A partition is no longer ours.
    pub(super) fn given_up(&mut self, partition: &Partition) {
        if self.unreadable.remove(partition).is_some() {
            self.tell();
        }
    }

    fn missing(&self, missing: &[&str]) -> String {
        let names = if missing.is_empty() { self.topics.join(", ") } else { missing.join(", ") };
        format!("not there yet, or hidden from us: topic {names}; create it, or correct `pipeline.topics`")
    }

    fn enter(&mut self, text: String, now: Duration) {
        let known = self.trouble.as_ref().is_some_and(|trouble| trouble.text == text);
        if !known {
            tracing::warn!("{text}");
        }
        self.trouble = Some(Trouble { text, probe_due: now + PROBE_INTERVAL });
        if !known {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(trouble) = &self.trouble {
            self.role.waiting(&trouble.text);
        } else if !self.joined {
            self.role.waiting("joining the consumer group");
        } else if !self.unreadable.is_empty() {
            let reasons = self.unreadable.values().map(String::as_str).collect::<Vec<_>>();
            self.role.waiting(reasons.join("; "));
        } else {
            self.role.ready();
        }
    }
}
