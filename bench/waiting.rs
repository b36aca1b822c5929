//! Deliveries that wait: what a million of them take, beside ten; and how late the courier is, beyond what the order of a partition asks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use tidings_core::delivery::ladder::{Ladder, Rung, behind};
use tidings_core::ids::NotificationId;
use tidings_core::time::{Delay, Timestamp};

use crate::Size;
use crate::broker;
use crate::machine::part;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};

const WAITING: u64 = 1_000_000;
const FEW: u64 = 10;
const PARTITIONS: i32 = 4;
/// What a courier holds of a partition at most.
const HELD: u64 = 256;
const USERS: u64 = 1_000;
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
const RUNG: Duration = Duration::from_secs(2);
const JITTER_PERCENT: u8 = 20;
/// Notifications of a run that nobody acknowledges.
const LATE: u64 = 5_000;
/// How long the log may take to be folded, or to be climbed.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let (mut many, mut few, mut late, mut asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 1..=size.runs {
        many.push(resident_mb(&size.brokers, WAITING).await?);
        few.push(resident_mb(&size.brokers, FEW).await?);
        late.push(lateness_ms(&size.brokers).await?);
        // Who is exactly in time is not late at all.
        asked.push(0.0);
        let told = format!(
            "waiting {run}: {:?} MB for {WAITING}, {:?} MB for {FEW}; p99 late by {:?} ms",
            many.last(),
            few.last(),
            late.last()
        );
        say(&told);
    }
    report.add(
        &format!("{WAITING} deliveries waiting, beside {FEW}: resident"),
        "MB",
        Pair { ours: many, bare: few },
        Budget::AtMost(64.0),
    );
    report.add("lateness of what is due: p99", "ms", Pair { ours: late, bare: asked }, Budget::AtMost(100.0));
    Ok(())
}

fn setup(folder: &tempfile::TempDir, ladder: &str) -> Setup {
    let config = vec![
        ("STORE__URL", format!("sqlite://{}", folder.path().join("tidings.db").display())),
        // What waits is measured, not what the database keeps of what was folded.
        ("STORE__CACHE_BYTES", (2 * 1024 * 1024).to_string()),
        ("COURIER__LADDER", ladder.to_owned()),
        ("COURIER__ACK_TIMEOUT", Delay(ACK_TIMEOUT).to_string()),
        ("COURIER__GIVE_UP_AFTER", "1ms".to_owned()),
        ("COURIER__JITTER_PERCENT", JITTER_PERCENT.to_string()),
    ];
    Setup { roles: vec!["inbox", "courier"], partitions: PARTITIONS, config }
}

/// What inbox and courier take while so many deliveries wait for a day.
async fn resident_mb(brokers: &str, waiting: u64) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let server = Server::tidings(brokers, &setup(&folder, "1day")).await?;
    let topic = sibling(&server, "retry.1day")?;
    broker::fill(brokers, &topic, (waiting, &broker::version()), |number| {
        let channel = format!("user-{}", number % USERS);
        let mut value = serde_json::from_str::<serde_json::Value>(&broker::notification(&channel, number)).unwrap_or_default();
        let notification = value["notification"].take();
        let delivery =
            serde_json::json!({"channel": channel, "notification": notification, "epoch": 1, "offset": number, "attempts": []});
        (channel, delivery.to_string())
    })?;
    let held = waiting.min(HELD * u64::try_from(PARTITIONS)?) as f64;
    settled(async || {
        let is_folded = server.metric("tidings_inbox_lag_offsets").await? < 1.0;
        Ok(is_folded && server.metric("tidings_courier_held_records").await? >= held)
    })
    .await?;
    let bytes = server.resident_bytes()?;
    server.stop()?;
    Ok(bytes / 1e6)
}

/// By how much records come to the next topic later than they were due, or than the one before them in their partition was.
async fn lateness_ms(brokers: &str) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let server = Server::tidings(brokers, &setup(&folder, &Delay(RUNG).to_string())).await?;
    let rung = Delay(RUNG);
    let [rung, end] = [sibling(&server, &format!("retry.{rung}"))?, sibling(&server, "undelivered")?];
    broker::fill(brokers, &server.notifications, (LATE, &broker::version()), |number| {
        let channel = format!("user-{}", number % USERS);
        let value = broker::notification(&channel, number);
        (channel, value)
    })?;
    let ended = broker::reader(brokers, &end)?;
    // Markers of transactions take offsets too: there is at least one for each that was committed.
    settled(async || Ok(broker::written(&ended, &end)? > LATE)).await?;
    let ladder = Ladder::new(ACK_TIMEOUT, vec![Delay(RUNG)], JITTER_PERCENT);
    let [notified, tried, ended] = [&server.notifications, &rung, &end].map(|topic| appended(brokers, topic));
    let (notified, tried, ended) = (notified?, tried?, ended?);
    let mut late = lateness((&ladder, Rung::FIRST), &notified, &tried);
    late.extend(lateness((&ladder, Rung(1)), &tried, &ended));
    server.stop()?;
    Ok(part(late, 0.99))
}

/// A record's notification, and when it was appended; in the order of its partition.
type Appended = Vec<(i32, NotificationId, Timestamp)>;

fn lateness((ladder, rung): (&Ladder, Rung), waited: &Appended, moved: &Appended) -> Vec<f64> {
    let moved = moved.iter().map(|(_, id, at)| (*id, *at)).collect::<BTreeMap<_, _>>();
    let mut before = BTreeMap::<i32, Timestamp>::new();
    let mut late = Vec::with_capacity(waited.len());
    for (partition, id, at) in waited {
        let due = behind(ladder.due(rung, *at, *id), before.get(partition).copied());
        before.insert(*partition, due);
        late.extend(moved.get(id).map(|moved| moved.since(due).as_secs_f64() * 1_000.0));
    }
    late
}

/// All that lies on a topic.
fn appended(brokers: &str, topic: &str) -> anyhow::Result<Appended> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut found, mut open) = (Vec::new(), PARTITIONS);
    while open > 0 {
        match consumer.poll(LIMIT).context("the topic could not be read")? {
            Ok(record) => {
                let value: serde_json::Value = serde_json::from_slice(record.payload().unwrap_or_default())?;
                let id = value.pointer("/notification/id").or_else(|| value.pointer("/delivery/notification/id"));
                let id = serde_json::from_value(id.cloned().unwrap_or_default())?;
                found.push((record.partition(), id, Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0))));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// A topic of the server's own.
fn sibling(server: &Server, name: &str) -> anyhow::Result<String> {
    let prefix = server.notifications.strip_suffix("notifications").context("the name of a topic")?;
    Ok(format!("{prefix}{name}"))
}

async fn settled(is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    while !is_so().await? {
        anyhow::ensure!(start.elapsed() < LIMIT, "the log was not through within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
