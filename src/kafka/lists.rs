//! Lists of partitions, as librdkafka takes and gives them, and the questions to brokers that are asked with one.
//!
//! Owns: the way from our partitions to librdkafka's lists and back, and one question for many partitions. Neighbours: `consumer`,
//! `reader` and `scan` ask with their own clients.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::Partition;

/// Partitions and offsets as librdkafka takes them.
///
/// # Errors
/// If an offset is negative.
pub(super) fn offsets(pairs: &[(Partition, i64)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(pairs.len());
    for (partition, offset) in pairs {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// Partitions without a place.
pub(super) fn list(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

/// The partitions of a list.
pub(super) fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(partition).collect()
}

/// Those partitions of a list that have an offset.
pub(super) fn known(list: &TopicPartitionList) -> Vec<(Partition, i64)> {
    list.elements().iter().filter_map(|element| Some((partition(element), offset(element)?))).collect()
}

/// The partitions of a topic.
///
/// # Errors
/// If the brokers did not answer within `wait`, or do not have the topic.
pub(super) fn partitions_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    wait: Duration,
) -> Result<Vec<Partition>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), wait)?;
    let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or_else(unknown)?;
    if found.partitions().is_empty() {
        return Err(unknown());
    }
    let name: Arc<str> = topic.into();
    Ok(found.partitions().iter().map(|partition| Partition { topic: name.clone(), number: partition.id() }).collect())
}

/// What the client's group has committed of each partition, if it has.
///
/// # Errors
/// If the brokers did not answer within `wait`.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    wanted: &[Partition],
    wait: Duration,
) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
    answers(&consumer.committed_offsets(list(wanted), wait)?)
}

/// The offset of each partition that the brokers have for `at`: a time, or where a log begins or ends. One question to each broker,
/// however many partitions.
///
/// # Errors
/// If the brokers did not answer within `wait`.
pub(super) fn listed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    wanted: &[Partition],
    at: Offset,
    wait: Duration,
) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
    // librdkafka takes no question about nothing.
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(wanted.len());
    for partition in wanted {
        list.add_partition_offset(&partition.topic, partition.number, at)?;
    }
    answers(&consumer.offsets_for_times(list, wait)?)
}

/// Where each partition's log begins or ends. The edge stands in the place of a time (`LATEST_TIMESTAMP`, `EARLIEST_TIMESTAMP` of Kafka's
/// ListOffsets).
///
/// # Errors
/// If the brokers did not answer within `wait`, or do not know of one.
pub(super) fn edges<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    wanted: &[Partition],
    edge: Offset,
    wait: Duration,
) -> Result<Vec<(Partition, i64)>, KafkaError> {
    let known = |(partition, offset): (Partition, Option<i64>)| {
        let offset = offset.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        Ok((partition, offset))
    };
    listed(consumer, wanted, edge, wait)?.into_iter().map(known).collect()
}

fn answers(list: &TopicPartitionList) -> Result<Vec<(Partition, Option<i64>)>, KafkaError> {
    let answer = |element: &TopicPartitionListElem<'_>| {
        element.error()?;
        Ok((partition(element), offset(element)))
    };
    list.elements().iter().map(answer).collect()
}

fn partition(element: &TopicPartitionListElem<'_>) -> Partition {
    Partition { topic: element.topic().into(), number: element.partition() }
}

fn offset(element: &TopicPartitionListElem<'_>) -> Option<i64> {
    if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None }
}
