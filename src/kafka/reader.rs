//! Reading all partitions of topics by assignment, as a member of no group.
//!
//! Owns: finding the partitions, sampling their ends, and reading from given offsets. Commits nothing. Refuses to go on by
//! itself behind a lost position: the caller is told. Neighbours: `consumer` beside reads as a member of a group, `scan` from one place to another.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;

use super::cluster::Cluster;
use super::consumer::Partition;
use super::lists;
use super::said::Measured;

/// What one poll brought.
#[derive(Debug)]
pub enum Read<'a> {
    /// Nothing within the wait.
    Nothing,
    /// The next record of some partition.
    Record(BorrowedMessage<'a>),
    /// The position of some partition lies outside its log.
    OutOfRange,
    /// Something that librdkafka goes on trying by itself: brokers away, a topic that is not there.
    Trouble(RDKafkaErrorCode),
}

/// A reader without a group.
pub struct Reader {
    inner: BaseConsumer<Measured>,
}

impl Reader {
    /// A reader that shows as `client_id` in the brokers' logs. The brokers need not be there yet.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn new(cluster: &Cluster, client_id: &str) -> Result<Self, KafkaError> {
        Ok(Self { inner: cluster.consumer(client_id).create_with_context(Measured(cluster.statistics()))? })
    }

    /// A reader that can tell what the group of `service` has committed, and is no member of it.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn beside(cluster: &Cluster, service: &str, client_id: &str) -> Result<Self, KafkaError> {
        let mut properties = cluster.consumer(service);
        properties.set("client.id", format!("tidings-{client_id}"));
        Ok(Self { inner: properties.create_with_context(Measured(cluster.statistics()))? })
    }

    /// The partitions of a topic.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`, or do not have the topic.
    pub fn partitions(&self, topic: &str, wait: Duration) -> Result<Vec<Partition>, KafkaError> {
        lists::partitions_of(&self.inner, topic, wait)
    }

    /// The partitions of a topic; none, if the brokers do not have it.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn partitions_if_there(&self, topic: &str, wait: Duration) -> Result<Vec<Partition>, KafkaError> {
        match self.partitions(topic, wait) {
            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
                Ok(Vec::new())
            }
            found => found,
        }
    }

    /// The next offset of each partition that is read, behind everything polled so far and behind markers of transactions that
    /// follow. Partitions of which nothing was polled yet are left out.
    ///
    /// # Errors
    /// If librdkafka does not know.
    pub fn positions(&self) -> Result<Vec<(Partition, i64)>, KafkaError> {
        Ok(lists::known(&self.inner.position()?))
    }

    /// The end of each partition: the offset that its next record will have. One question to each broker, however many partitions.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn ends(&self, partitions: &[Partition], wait: Duration) -> Result<Vec<(Partition, i64)>, KafkaError> {
        self.hear();
        lists::edges(&self.inner, partitions, Offset::End, wait)
    }

    /// The beginning of each partition: the offset of the first record that is kept, or its end. One question to each broker.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn beginnings(&self, partitions: &[Partition], wait: Duration) -> Result<Vec<(Partition, i64)>, KafkaError> {
        lists::edges(&self.inner, partitions, Offset::Beginning, wait)
    }

    /// What a group has committed of each partition, if it has; that of the service which this reader is beside.
    ///
    /// # Errors
    /// If the brokers did not answer within `wait`.
    pub fn committed(&self, partitions: &[Partition], wait: Duration) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
        self.hear();
        lists::committed(&self.inner, partitions, wait)
    }

    /// Begins to read each partition at its offset, and nothing else.
    ///
    /// # Errors
    /// If librdkafka refuses the list.
    pub fn start(&self, starts: &[(Partition, i64)]) -> Result<(), KafkaError> {
        self.inner.assign(&lists::offsets(starts)?)
    }

    /// Waits up to `wait` for the next record.
    ///
    /// # Errors
    /// Only what is final: a client that librdkafka gave up.
    pub fn poll(&self, wait: Duration) -> Result<Read<'_>, KafkaError> {
        match self.inner.poll(wait) {
            None => Ok(Read::Nothing),
            Some(Ok(record)) => Ok(Read::Record(record)),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Ok(Read::OutOfRange),
                Some(code) => Ok(Read::Trouble(code)),
                None => Err(error),
            },
        }
    }

    /// Lets librdkafka tell what it measured and complains of, where nothing is read and so nobody polls: it would keep all of it.
    fn hear(&self) {
        if self.inner.assignment().is_ok_and(|read| read.count() == 0) {
            while self.inner.poll(Duration::ZERO).is_some() {}
        }
    }

    /// Stops fetching a partition.
    ///
    /// # Errors
    /// If librdkafka does not read it.
    pub fn pause(&self, partition: &Partition) -> Result<(), KafkaError> {
        self.inner.pause(&lists::list(std::slice::from_ref(partition)))
    }
}
