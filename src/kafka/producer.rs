//! Producing: records out, their acknowledgement back through a ticket.
//!
//! Owns: the producer's queue and the way back from a broker's answer to whoever waits for it. Refuses nothing by itself
//! but what can never be written. Full queue: the caller is told and decides; nothing is dropped.

use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Statistics};
use tidings_core::fate::Cause;
use tidings_core::record::{Header as RecordHeader, Record, VERSION_HEADER};

use super::cluster::Cluster;
use super::doom::Doom;
use super::said;
use super::statistics::Gauges;

/// What travels with a record and is told when the brokers have it, on the producer's own thread.
pub trait Ticket: Send + Sync + 'static {
    /// Called exactly once for each record that was taken.
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>);
}

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The queue has no room; poll again later.
    #[error("the producer's queue is full: the brokers are slower than the records, or away")]
    QueueFull,
    /// The record is larger than the topic or this client takes.
    #[error("a record for {topic} is larger than `message.max.bytes` allows")]
    TooLarge {
        /// The topic it was meant for.
        topic: String,
    },
    /// The topic takes nothing now: it is not there, or its rules say no. It may take the same record later.
    #[error("{topic} does not take a record")]
    Refused {
        /// The topic it was meant for.
        topic: String,
        /// What the brokers say.
        #[source]
        source: KafkaError,
    },
    /// It was taken back before anything of it was sent: see [`Producer::recall`].
    #[error("a record for {topic} was taken back")]
    Recalled {
        /// The topic it was meant for.
        topic: String,
    },
    /// Anything else that librdkafka reports.
    #[error("a record for {topic} could not be written")]
    Failed {
        /// The topic it was meant for.
        topic: String,
        /// What librdkafka says.
        #[source]
        source: KafkaError,
    },
}

impl ProduceError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::QueueFull | Self::Refused { .. } | Self::Recalled { .. } | Self::Failed { .. } => Cause::Dependency,
            Self::TooLarge { .. } => Cause::Refused,
        }
    }

    fn new(topic: &str, source: KafkaError) -> Self {
        match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Self::QueueFull,
            Some(RDKafkaErrorCode::PurgeQueue) => Self::Recalled { topic: topic.to_owned() },
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                Self::TooLarge { topic: topic.to_owned() }
            }
            Some(code) if is_refusal(code) => Self::Refused { topic: topic.to_owned(), source },
            _ => Self::Failed { topic: topic.to_owned(), source },
        }
    }
}

/// Whether an error is about the topic, and neither about the record's size, nor about the producer, nor about brokers that do not answer.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        InvalidRecord, InvalidTopic, NotEnoughReplicas, NotEnoughReplicasAfterAppend, PolicyViolation, TopicAuthorizationFailed,
        UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    matches!(
        code,
        InvalidRecord
            | InvalidTopic
            | NotEnoughReplicas
            | NotEnoughReplicasAfterAppend
            | PolicyViolation
            | TopicAuthorizationFailed
            | UnknownPartition
            | UnknownTopic
            | UnknownTopicOrPartition
    )
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition, where the key does not decide it.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in order.
    pub headers: &'a [RecordHeader],
}

/// The header that a value of type `R` carries.
#[must_use]
pub fn version_header<R: Record>() -> RecordHeader {
    (VERSION_HEADER.to_owned(), Some(R::VERSION.to_string().into_bytes()))
}

/// Headers as librdkafka takes them: those of another record, byte for byte, and behind them our own.
pub(super) fn headers(carried: Option<&OwnedHeaders>, own: &[RecordHeader]) -> Option<OwnedHeaders> {
    let front = match carried {
        None if own.is_empty() => return None,
        None => OwnedHeaders::new_with_capacity(own.len()),
        Some(carried) => carried.clone(),
    };
    Some(own.iter().fold(front, |all, (key, value)| all.insert(Header { key, value: value.as_deref() })))
}

struct Context<T> {
    gauges: Gauges,
    doom: Doom,
    ticket: std::marker::PhantomData<fn(T)>,
}

impl<T: Ticket> ClientContext for Context<T> {
    fn stats(&self, said: Statistics) {
        self.gauges.note(&said);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.doom.hear(facility, text);
        said::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        said::error(&error, reason);
    }
}

impl<T: Ticket> ProducerContext for Context<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<T>) {
        ticket.settled(match result {
            Ok(message) => Ok(Written { partition: message.partition(), offset: message.offset() }),
            Err((error, message)) => Err(ProduceError::new(message.topic(), error.clone())),
        });
    }
}

/// An idempotent producer with a thread of its own that brings answers back.
pub struct Producer<T: Ticket> {
    inner: ThreadedProducer<Context<T>>,
}

impl<T: Ticket> Producer<T> {
    /// A producer for `cluster`. The brokers need not be there yet.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn new(cluster: &Cluster, client_id: &str) -> Result<Self, KafkaError> {
        Self::of(cluster, &cluster.producer(client_id))
    }

    /// The same, but for callers who wait: a record that the brokers have not taken within `limit` is given up, and not
    /// written later. Records may then change their order.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn within(cluster: &Cluster, client_id: &str, limit: Duration) -> Result<Self, KafkaError> {
        let mut client = cluster.producer(client_id);
        client.set("message.timeout.ms", limit.as_millis().to_string());
        // A record is one caller's, and is not to wait for others.
        client.set("linger.ms", "0");
        Self::of(cluster, &client)
    }

    fn of(cluster: &Cluster, client: &ClientConfig) -> Result<Self, KafkaError> {
        let context = Context { gauges: cluster.statistics(), doom: cluster.doom(), ticket: std::marker::PhantomData };
        Ok(Self { inner: client.create_with_context(context)? })
    }

    /// Takes a record into the queue. The ticket is settled once the brokers have answered, or handed back with the error if
    /// the record was not taken.
    ///
    /// # Errors
    /// If the queue is full or the record can never be written.
    pub fn send(&self, record: Outgoing<'_>, ticket: Box<T>) -> Result<(), (ProduceError, Box<T>)> {
        self.send_carrying(record, None, ticket)
    }

    /// The same with headers of another record, byte for byte, in front of the record's own.
    ///
    /// # Errors
    /// If the queue is full or the record can never be written.
    pub fn send_carrying(
        &self,
        record: Outgoing<'_>,
        carried: Option<&OwnedHeaders>,
        ticket: Box<T>,
    ) -> Result<(), (ProduceError, Box<T>)> {
        let mut base = BaseRecord::<[u8], [u8], Box<T>>::with_opaque_to(record.topic, ticket);
        base.partition = record.partition;
        base.key = record.key;
        base.payload = record.value;
        base.headers = headers(carried, record.headers);
        self.inner.send(base).map_err(|(error, returned)| (ProduceError::new(record.topic, error), returned.delivery_opaque))
    }

    /// Waits until everything taken is written, or `limit` has passed.
    ///
    /// # Errors
    /// If something is still waiting then.
    pub fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.inner.flush(limit)
    }

    /// Takes back what was not sent yet: its tickets are settled with [`ProduceError::Recalled`]. What is on its way stays so.
    pub fn recall(&self) {
        self.inner.purge(PurgeConfig::default().queue());
    }

    /// Records that the brokers have not acknowledged yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Unasked;

    impl Ticket for Unasked {
        fn settled(self: Box<Self>, _: Result<Written, ProduceError>) {}
    }

    #[tokio::test]
    async fn a_producer_that_will_never_be_let_write_dooms_its_process() {
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic("t", 1, 1).unwrap();
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
        let config = crate::config::load(None, &[]).unwrap().kafka;
        let cluster = Cluster::new(&config).unwrap().embedded_at(brokers.bootstrap_servers());
        let doom = cluster.doom().watch(CancellationToken::new());
        let _producer = Producer::<Unasked>::new(&cluster, "test").unwrap();
        let doomed = doom.await.unwrap_err();
        assert!(doomed.to_string().contains("Cluster authorization failed"), "{doomed}");
    }
}
