//! Topics and producers of the load, on the real broker.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::clients::SENT;
use crate::machine::now_us;

const LIMIT: Duration = Duration::from_secs(60);

/// The header of every record of tidings' own.
pub(crate) fn version() -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") })
}

/// A record of `notifications` as the pipeline writes it, about 500 bytes, that says when it was made.
pub(crate) fn notification(channel: &str, number: u64) -> String {
    serde_json::json!({
        "channel": channel,
        "rule": "booking-confirmed",
        "origin": {"topic": "bookings", "partition": 0, "offset": number},
        "notification": {
            "id": uuid::Uuid::new_v4(),
            "eventId": format!("event-{number}"),
            "type": "booking_confirmation",
            "createdAt": "2026-01-31T12:00:00.000Z",
            "title": "Booking Confirmed",
            "message": "Your booking for a blue one has been confirmed.",
            "data": {"booking_id": format!("b-{number}"), "note": "x".repeat(40), SENT: now_us()},
            "priority": "medium",
            "source": "bookings",
        },
    })
    .to_string()
}

/// Makes a topic with a drawn name.
pub(crate) async fn topic(brokers: &str, partitions: i32) -> anyhow::Result<String> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let name = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(name)
}

/// A producer that waits for nothing, so that latency is the server's.
pub(crate) fn prompt(brokers: &str) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "0").set("partitioner", "murmur2_random");
    Ok(config.create()?)
}

/// Waits until the record with this number is due at `rate` a second.
pub(crate) fn pace(start: Instant, rate: u64, number: u64) {
    let due = start + Duration::from_micros(1_000_000 / rate * number);
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Writes `count` records, each with its key and value and all with the same headers, and waits until the broker has them.
pub(crate) fn fill(
    brokers: &str,
    topic: &str,
    (count, headers): (u64, &OwnedHeaders),
    record: impl Fn(u64) -> (String, String),
) -> anyhow::Result<()> {
    fill_each(brokers, topic, count, |number| {
        let (key, value) = record(number);
        (key, value, headers.clone())
    })
}

/// The same with headers of each record's own.
pub(crate) fn fill_each<V: ToBytes>(
    brokers: &str,
    topic: &str,
    count: u64,
    record: impl Fn(u64) -> (String, V, OwnedHeaders),
) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "200000")
        .set("partitioner", "murmur2_random")
        .create()?;
    for number in 0..count {
        let (key, value, headers) = record(number);
        let mut record = BaseRecord::to(topic).key(&key).payload(&value).headers(headers);
        while let Err((error, refused)) = producer.send(record) {
            anyhow::ensure!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), error);
            std::thread::sleep(Duration::from_millis(5));
            record = refused;
        }
    }
    Ok(producer.flush(LIMIT)?)
}

/// A reader of whole topics, from their end.
pub(crate) fn reader(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    assigned(brokers, topic, |(_, end)| end)
}

/// The same, from their beginning.
pub(crate) fn from_the_beginning(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    assigned(brokers, topic, |(begin, _)| begin)
}

fn assigned(brokers: &str, topic: &str, from: impl Fn((i64, i64)) -> i64) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in partitions {
        let from = from(consumer.fetch_watermarks(topic, partition.id(), LIMIT)?);
        list.add_partition_offset(topic, partition.id(), rdkafka::Offset::Offset(from))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// How many offsets a topic has given out in all.
pub(crate) fn written(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    let ends = partitions.iter().map(|partition| consumer.fetch_watermarks(topic, partition.id(), LIMIT));
    ends.map(|ends| Ok(u64::try_from(ends?.1)?)).sum()
}
