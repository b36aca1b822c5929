//! What lies on the log: producing as a domain service would, and reading a topic as any Kafka tool would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::{HANG, eventually};

/// How long a reader that has read before may be without an answer.
const STALE: Duration = Duration::from_secs(2);

/// A record as it lies on a topic.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, Vec<u8>>,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap_or_default()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| std::str::from_utf8(value).unwrap())
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transaction {
    Committed,
    Aborted,
}

/// The brokers' side of a test.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) brokers: String,
    producer: FutureProducer,
    /// Most of what a look at a topic costs is to connect: who has looked looks again.
    reader: Arc<Mutex<Option<BaseConsumer>>>,
}

impl Log {
    pub(crate) fn new(brokers: &str) -> Self {
        let producer = config(brokers).set("linger.ms", "0").set("message.max.bytes", "4000000").create().unwrap();
        Self { brokers: brokers.to_owned(), producer, reader: Arc::default() }
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.create_as(NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)), settings).await;
    }

    /// A topic with one partition for each of `brokers`, which has its only copy.
    pub(crate) async fn create_on(&self, topic: &str, brokers: &[i32]) {
        let brokers = brokers.iter().map(std::slice::from_ref).collect::<Vec<_>>();
        let new = NewTopic::new(topic, i32::try_from(brokers.len()).unwrap(), TopicReplication::Variable(&brokers));
        self.create_as(new, &[("min.insync.replicas", "1")]).await;
    }

    async fn create_as(&self, mut new: NewTopic<'_>, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create().unwrap();
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for made in admin.create_topics([&new], &options).await.unwrap() {
            made.unwrap();
        }
    }

    /// Makes a topic wider.
    pub(crate) async fn grow(&self, topic: &str, partitions: usize) {
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create().unwrap();
        let wider = NewPartitions::new(topic, partitions);
        for grown in admin.create_partitions([&wider], &AdminOptions::new()).await.unwrap() {
            grown.unwrap();
        }
        eventually("the topic is wider", async || {
            let metadata = admin.inner().fetch_metadata(Some(topic), HANG).unwrap();
            (metadata.topics()[0].partitions().len() == partitions).then_some(())
        })
        .await;
    }

    /// Takes a topic away.
    pub(crate) async fn delete(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create().unwrap();
        for deleted in admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap() {
            deleted.unwrap();
        }
        eventually("the topic is gone", async || {
            let metadata = admin.inner().fetch_metadata(Some(topic), HANG).unwrap();
            metadata.topics()[0].error().is_some().then_some(())
        })
        .await;
    }

    pub(crate) async fn produce(&self, topic: &str, key: Option<&str>, value: &[u8]) -> (i32, i64) {
        self.produce_with(topic, key, value, OwnedHeaders::new()).await
    }

    pub(crate) async fn produce_with(&self, topic: &str, key: Option<&str>, value: &[u8], headers: OwnedHeaders) -> (i32, i64) {
        let record = FutureRecord { key, ..FutureRecord::to(topic).payload(value).headers(headers) };
        let written = self.producer.send(record, HANG).await.map_err(|(error, _)| error).unwrap();
        (written.partition, written.offset)
    }

    /// Writes to a partition, whatever the key says.
    pub(crate) async fn produce_to(&self, place: (&str, i32), key: &str, value: &[u8], headers: OwnedHeaders) -> i64 {
        self.produce_any((place.0, Some(place.1)), key, Some(value), headers).await.1
    }

    /// Writes a record, or a tombstone; without a partition where its key belongs.
    pub(crate) async fn produce_any(
        &self,
        (topic, partition): (&str, Option<i32>),
        key: &str,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> (i32, i64) {
        let record = FutureRecord { partition, payload, ..FutureRecord::to(topic).key(key).headers(headers) };
        let written = self.producer.send(record, HANG).await.map_err(|(error, _)| error).unwrap();
        (written.partition, written.offset)
    }

    /// Writes to a partition what its producer says is of another time.
    pub(crate) async fn produce_at(&self, topic: &str, partition: i32, timestamp_ms: i64, value: &[u8]) {
        let record = FutureRecord::<str, [u8]>::to(topic).partition(partition).timestamp(timestamp_ms).payload(value);
        self.producer.send(record, HANG).await.map_err(|(error, _)| error).unwrap();
    }

    /// Writes to a partition in one transaction, which is committed or aborted; its marker takes an offset too.
    pub(crate) async fn in_transaction(&self, (topic, partition): (&str, i32), values: &[String], end: Transaction) {
        let (brokers, topic, values) = (self.brokers.clone(), topic.to_owned(), values.to_vec());
        tokio::task::spawn_blocking(move || {
            let id = uuid::Uuid::new_v4().to_string();
            let producer: BaseProducer = config(&brokers).set("transactional.id", id).create().unwrap();
            producer.init_transactions(HANG).unwrap();
            producer.begin_transaction().unwrap();
            for value in &values {
                let record = BaseRecord::<str, str>::to(&topic).partition(partition).payload(value);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
            match end {
                Transaction::Committed => producer.commit_transaction(HANG).unwrap(),
                Transaction::Aborted => {
                    // Else nothing of it would ever reach the log.
                    producer.flush(HANG).unwrap();
                    producer.abort_transaction(HANG).unwrap();
                }
            }
        })
        .await
        .unwrap();
    }

    /// Has the broker refuse larger batches for a topic.
    pub(crate) async fn take_less(&self, topic: &str, bytes: u32) {
        self.set(topic, ("max.message.bytes", &bytes.to_string())).await;
    }

    /// Changes a setting of a topic.
    pub(crate) async fn set(&self, topic: &str, (name, value): (&str, &str)) {
        let changed = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        self.alter(&changed, (name, value)).await;
        // A broker tells of a setting just before it lives by it. It does so before it tells of the next one.
        self.alter(&changed.set("flush.messages", "4000"), ("flush.messages", "4000")).await;
    }

    /// Changes the settings of a topic, and waits until the broker tells of the one that is named.
    async fn alter(&self, settings: &AlterConfig<'_>, (name, value): (&str, &str)) {
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create().unwrap();
        for altered in admin.alter_configs([settings], &AdminOptions::new()).await.unwrap() {
            altered.unwrap();
        }
        eventually("a setting is in force", async || {
            let told = admin.describe_configs([&settings.specifier], &AdminOptions::new()).await.unwrap();
            let told = told.into_iter().find_map(|resource| resource.unwrap().get(name)?.value.clone());
            (told.as_deref() == Some(value)).then_some(())
        })
        .await;
    }

    /// Removes everything below `offset`, as retention would.
    pub(crate) async fn remove_below(&self, topic: &str, partition: i32, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        let answer = admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
        answer.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Everything that lies on a topic now and is committed, partition by partition in order.
    pub(crate) async fn records(&self, topic: &str) -> Vec<Seen> {
        let (kept, brokers, topic) = (self.reader.clone(), self.brokers.clone(), topic.to_owned());
        let reading = move || {
            let known = kept.lock().unwrap().take();
            // One that knows brokers or topics as they no longer are is given up.
            let known = known.and_then(|reader| Some((read_all(&reader, &topic, STALE)?, reader)));
            let (seen, reader) = known.unwrap_or_else(|| {
                let reader = reader(&brokers);
                let seen = read_all(&reader, &topic, HANG);
                (seen.unwrap_or_else(|| panic!("{topic} could not be read to its end")), reader)
            });
            *kept.lock().unwrap() = Some(reader);
            seen
        };
        tokio::task::spawn_blocking(reading).await.unwrap()
    }

    /// The next offset that `group` would read, for each partition of `topic` that has a commit.
    pub(crate) async fn committed(&self, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let (brokers, group, topic) = (self.brokers.clone(), group.to_owned(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config(&brokers).set("group.id", &group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&topic, 0, partitions - 1);
            let answer = consumer.committed_offsets(list, HANG).unwrap();
            let offsets = answer.elements().into_iter().filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
            offsets.collect()
        })
        .await
        .unwrap()
    }
}

pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Where a partition begins and ends. One whose leader has just gone has none until another leads it.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32, patience: Duration) -> Option<(i64, i64)> {
    let start = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, patience.min(Duration::from_secs(5))) {
            Ok(found) => return Some(found),
            Err(error) if start.elapsed() > patience => {
                println!("nobody says where {topic}[{partition}] ends: {error}");
                return None;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn reader(brokers: &str) -> BaseConsumer {
    config(brokers)
        .set("group.id", "reader-of-tests")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .create()
        .unwrap()
}

/// All of a topic; nothing, if for as long as `patience` nothing comes although there is something.
fn read_all(consumer: &BaseConsumer, topic: &str, patience: Duration) -> Option<Vec<Seen>> {
    let metadata = consumer.fetch_metadata(Some(topic), patience).ok()?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let (mut list, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in 0..i32::try_from(partitions).unwrap() {
        let (low, high) = watermarks(consumer, topic, partition, patience)?;
        if high > low {
            list.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
            ends.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut seen = Vec::new();
    let mut last = Instant::now();
    while !passed(consumer, &ends) {
        if last.elapsed() > patience {
            return None;
        }
        if let Some(record) = consumer.poll(Duration::from_millis(20)) {
            // A broker that goes: librdkafka goes on trying by itself.
            let Ok(record) = record else { continue };
            last = Instant::now();
            let headers = record.headers().map(|headers| {
                // The binding panics at a name that is not UTF-8.
                let read = |index| std::panic::catch_unwind(|| headers.try_get(index)).ok().flatten();
                let legible = (0..headers.count()).filter_map(read);
                legible.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
            });
            seen.push(Seen {
                partition: record.partition(),
                offset: record.offset(),
                timestamp_ms: record.timestamp().to_millis().unwrap_or(0),
                key: record.key().map(<[u8]>::to_vec),
                value: record.payload().map(<[u8]>::to_vec),
                headers: headers.unwrap_or_default(),
            });
        }
    }
    consumer.unassign().unwrap();
    seen.sort_by_key(|record| (record.partition, record.offset));
    Some(seen)
}

/// Whether the reader's position has passed each end; markers of transactions take offsets too.
fn passed(consumer: &BaseConsumer, ends: &BTreeMap<i32, i64>) -> bool {
    let position = consumer.position().unwrap();
    ends.iter().all(|(partition, end)| {
        let at = position.elements().into_iter().find(|element| element.partition() == *partition);
        matches!(at.map(|element| element.offset()), Some(Offset::Offset(offset)) if offset >= *end)
    })
}
