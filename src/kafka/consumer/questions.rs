//! Questions to the brokers: what they have, and what the group has committed.
//!
//! Owns: waiting for answers, no longer than the caller says. Neighbours: the consumer above; `place` knows where a reader stands.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;

use super::{Consumer, Partition, list};

impl Consumer {
    /// What the group has committed for each partition: the next offset to read, if there is one.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn committed(&self, wanted: &[Partition], wait: Duration) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
        let answer = self.inner.committed_offsets(list(wanted), wait)?;
        answer
            .elements()
            .iter()
            .map(|element| {
                element.error()?;
                let partition = Partition { topic: element.topic().into(), number: element.partition() };
                let offset = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                Ok((partition, offset))
            })
            .collect()
    }

    /// The first offset of a partition and the one behind its last, as the brokers have them now.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn watermarks(&self, partition: &Partition, wait: Duration) -> Result<(i64, i64), KafkaError> {
        self.inner.fetch_watermarks(&partition.topic, partition.number, wait)
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

    /// Those of `topics` that the brokers do not have, or do not show us.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait` for each.
    pub fn missing<'a>(&self, topics: &'a [String], wait: Duration) -> Result<Vec<&'a str>, KafkaError> {
        let mut missing = Vec::new();
        for topic in topics {
            let metadata = self.inner.fetch_metadata(Some(topic), wait)?;
            if metadata.topics().first().is_none_or(|topic| topic.error().is_some()) {
                missing.push(topic.as_str());
            }
        }
        Ok(missing)
    }
}
