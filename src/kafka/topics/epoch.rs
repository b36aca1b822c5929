//! The epoch's record on `meta`: written when an epoch begins, read at every start.

use std::sync::mpsc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tidings_core::record::meta::{EPOCH_KEY, EpochRecord};
use tidings_core::record::{self, VERSION_HEADER};
use tidings_core::time::Timestamp;

use super::{PATIENCE, TopicsError};
use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written, version_header};
use crate::kafka::said::Quiet;

struct Answer(mpsc::Sender<Result<Written, ProduceError>>);

impl Ticket for Answer {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        // Whoever asked may have given up waiting.
        let _ = self.0.send(outcome);
    }
}

/// Writes the first epoch if `meta` holds none.
pub(super) async fn ensure(cluster: &Cluster, partitions: i32, now: Timestamp) -> Result<(), TopicsError> {
    if read(cluster).await?.is_some() {
        return Ok(());
    }
    write_epoch(cluster, EpochRecord::first(partitions, now)).await
}

/// Writes an epoch, which begins with it. Its topics must be there.
///
/// # Errors
/// If the brokers did not take it in time.
pub async fn write_epoch(cluster: &Cluster, epoch: EpochRecord) -> Result<(), TopicsError> {
    let cluster = cluster.clone();
    blocking(move || {
        let topic = cluster.names().meta();
        let value = record::encode(&epoch).map_err(|source| TopicsError::Epoch { place: topic.clone(), source })?;
        let producer = Producer::<Answer>::new(&cluster, "topics")?;
        let (sent, answer) = mpsc::channel();
        let record = Outgoing {
            topic: &topic,
            partition: Some(0),
            key: Some(EPOCH_KEY.as_bytes()),
            value: Some(&value),
            headers: &[version_header::<EpochRecord>()],
        };
        producer.send(record, Box::new(Answer(sent))).map_err(|(error, _)| refused(&topic, &error))?;
        match answer.recv_timeout(3 * PATIENCE) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(&topic, &error)),
            Err(_) => Err(TopicsError::Brokers(timed_out())),
        }
    })
    .await
}

/// The epoch in force, if there is one, and be it because there is no `meta`.
pub(super) async fn current(cluster: &Cluster) -> Result<Option<EpochRecord>, TopicsError> {
    match partition_count(cluster, &cluster.names().meta()).await? {
        Some(_) => read(cluster).await,
        None => Ok(None),
    }
}

/// The last epoch on `meta`, if there is one.
pub(super) async fn read(cluster: &Cluster) -> Result<Option<EpochRecord>, TopicsError> {
    let cluster = cluster.clone();
    blocking(move || {
        let topic = cluster.names().meta();
        let consumer: BaseConsumer<Quiet> = cluster.consumer("topics").create_with_context(Quiet)?;
        let (low, end) = consumer.fetch_watermarks(&topic, 0, PATIENCE)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(low))?;
        consumer.assign(&list)?;
        let mut last = None;
        let clock = Clock::start();
        while position(&consumer)?.unwrap_or(low) < end {
            if clock.elapsed() > PATIENCE {
                return Err(TopicsError::Brokers(timed_out()));
            }
            let Some(found) = consumer.poll(Duration::from_millis(100)) else { continue };
            let found = found?;
            if found.key() == Some(EPOCH_KEY.as_bytes()) {
                let epoch = record::decode(header(&found, VERSION_HEADER), found.payload().unwrap_or_default());
                let place = || format!("{topic}[0] at offset {}", found.offset());
                last = Some(epoch.map_err(|source| TopicsError::Epoch { place: place(), source }));
            }
        }
        // What was said before the last does not count, and need not be known.
        last.transpose()
    })
    .await
}

/// How many partitions a topic has; none if it is not there.
///
/// # Errors
/// If the brokers do not say: what they refuse to show is not missing, and making it anew would help nobody.
pub(super) async fn partition_count(cluster: &Cluster, topic: &str) -> Result<Option<i32>, TopicsError> {
    let (cluster, topic) = (cluster.clone(), topic.to_owned());
    blocking(move || {
        let consumer: BaseConsumer<Quiet> = cluster.consumer("topics").create_with_context(Quiet)?;
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(i32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(TopicsError::Wrong(vec![format!(
                "topic {topic} may not be looked at: the brokers must allow tidings' user to describe it"
            )])),
            Some(code) => Err(TopicsError::Brokers(KafkaError::MetadataFetch(code))),
        }
    })
    .await
}

fn position(consumer: &BaseConsumer<Quiet>) -> Result<Option<i64>, KafkaError> {
    let position = consumer.position()?;
    Ok(position.elements().first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}

fn refused(topic: &str, error: &ProduceError) -> TopicsError {
    match error {
        ProduceError::Refused { source, .. } | ProduceError::Failed { source, .. } => TopicsError::Brokers(source.clone()),
        ProduceError::QueueFull | ProduceError::Recalled { .. } => TopicsError::Brokers(timed_out()),
        ProduceError::TooLarge { .. } => {
            TopicsError::Refused { topic: topic.to_owned(), code: RDKafkaErrorCode::MessageSizeTooLarge }
        }
    }
}

fn timed_out() -> KafkaError {
    KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TopicsError> + Send + 'static,
) -> Result<T, TopicsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
