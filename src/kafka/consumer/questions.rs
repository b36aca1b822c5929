//! Questions to the brokers: what they have, and what the group has committed.
//!
//! Owns: waiting for answers, no longer than the caller says. Neighbours: the consumer above; `place` knows where a reader stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;

use super::{Consumer, Partition};
use crate::clock::Clock;
use crate::kafka::lists;

/// How long several answers may take together: the group goes on without a member that asks for minutes.
const LIMIT: Duration = Duration::from_secs(5);

/// What the brokers say of the logs of partitions, each topic by itself.
#[derive(Debug, Default)]
pub struct Logs {
    /// The first offset of a partition and the one behind its last.
    pub known: Vec<(Partition, (i64, i64))>,
    /// Those of topics that the brokers do not have.
    pub missing: Vec<Partition>,
    /// Why nothing is known now of those that are left, if there are any.
    pub trouble: Option<KafkaError>,
}

impl Consumer {
    /// What the group has committed for each partition: the next offset to read, if there is one.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn committed(&self, wanted: &[Partition], wait: Duration) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
        lists::committed(&self.inner, wanted, wait)
    }

    /// The first offset of a partition and the one behind its last, as the brokers have them now.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn watermarks(&self, partition: &Partition, wait: Duration) -> Result<(i64, i64), KafkaError> {
        self.inner.fetch_watermarks(&partition.topic, partition.number, wait)
    }

    /// The same of many partitions, in the order that they are given in. Two questions to each broker, however many partitions.
    ///
    /// # Errors
    /// If the brokers did not answer for all of them within `wait` each time.
    pub fn logs(&self, wanted: &[Partition], wait: Duration) -> Result<Vec<(i64, i64)>, KafkaError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let edge = |edge| lists::edges(&self.inner, wanted, edge, wait).map(BTreeMap::from_iter);
        let (lows, highs): (BTreeMap<_, _>, BTreeMap<_, _>) = (edge(Offset::Beginning)?, edge(Offset::End)?);
        let unknown = KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);
        let log = |partition| lows.get(partition).copied().zip(highs.get(partition).copied());
        wanted.iter().map(|partition| log(partition).ok_or_else(|| unknown.clone())).collect()
    }

    /// The same where some topics may not be there, or have brokers that do not answer: the others are told of all the same.
    ///
    /// # Errors
    /// If no broker answered within `wait`.
    pub fn logs_by_topic(&self, wanted: &[Partition], wait: Duration) -> Result<Logs, KafkaError> {
        let clock = Clock::start();
        if let Ok(logs) = self.logs(wanted, wait) {
            return Ok(Logs { known: wanted.iter().cloned().zip(logs).collect(), ..Logs::default() });
        }
        let topics = wanted.iter().map(|partition| partition.topic.to_string()).collect::<BTreeSet<_>>();
        let mut topics = Vec::from_iter(topics);
        // Those that come last may not be asked about any more if others are slow, so they are not always the same.
        let first = rand::random_range(0..topics.len().max(1));
        topics.rotate_left(first);
        let (missing, mut found) = (self.missing(&topics, wait)?, Logs::default());
        for topic in &topics {
            let own = wanted.iter().filter(|partition| *partition.topic == **topic).cloned().collect::<Vec<_>>();
            if missing.contains(&topic.as_str()) {
                found.missing.extend(own);
                continue;
            }
            let answer = if clock.elapsed() < LIMIT { self.logs(&own, wait / 2) } else { Err(timed_out()) };
            match answer {
                Ok(logs) => found.known.extend(own.into_iter().zip(logs)),
                Err(error) => found.trouble = Some(error),
            }
        }
        Ok(found)
    }

    /// The names of all topics that the brokers show us.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn topics(&self, wait: Duration) -> Result<Vec<String>, KafkaError> {
        let metadata = self.inner.fetch_metadata(None, wait)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// The partitions of a topic, each with the broker that leads it now, if one does.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`, or there is no such topic.
    pub fn leaders(&self, topic: &str, wait: Duration) -> Result<BTreeMap<i32, Option<i32>>, KafkaError> {
        let metadata = self.inner.fetch_metadata(Some(topic), wait)?;
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        let topic = metadata.topics().first().ok_or(unknown)?;
        if let Some(error) = topic.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let leader = |partition: &MetadataPartition| (partition.id(), Some(partition.leader()).filter(|leader| *leader >= 0));
        Ok(topic.partitions().iter().map(leader).collect())
    }

    /// Those of `topics` that the brokers say they do not have. One that they do not show us may be there.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait` for each, and within 5 s for all.
    pub fn missing<'a>(&self, topics: &'a [String], wait: Duration) -> Result<Vec<&'a str>, KafkaError> {
        let (mut missing, clock) = (Vec::new(), Clock::start());
        for topic in topics {
            let left = LIMIT.checked_sub(clock.elapsed()).ok_or_else(timed_out)?;
            let metadata = self.inner.fetch_metadata(Some(topic), wait.min(left))?;
            if metadata.topics().first().is_none_or(|topic| topic.error().is_some_and(|error| is_unknown(error.into()))) {
                missing.push(topic.as_str());
            }
        }
        Ok(missing)
    }
}

fn timed_out() -> KafkaError {
    KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)
}

fn is_unknown(error: RDKafkaErrorCode) -> bool {
    matches!(error, RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
}
