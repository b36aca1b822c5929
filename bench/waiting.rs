//! Deliveries that wait: what a million of them take, beside ten; and how late the courier is, beyond what the order of a partition asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _};
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
const HELD: u64 = 512;
const USERS: u64 = 1_000;
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
const RUNG: Duration = Duration::from_secs(2);
const JITTER_PERCENT: u8 = 20;
/// Notifications a second that nobody acknowledges.
const RATE: u64 = 500;
/// Notifications that come at once, and that nobody acknowledges.
const AT_ONCE: u64 = 5_000;
/// How long the log may take to be folded, or to be climbed.
const LIMIT: Duration = Duration::from_secs(600);
/// How long a process may take to give back what it no longer needs.
const REST: Duration = Duration::from_secs(5);

/// What one run measured.
#[derive(Debug, Clone, Copy)]
struct Figures {
    read_mb: f64,
    few_mb: f64,
    many_mb: f64,
    late_ms: f64,
    moved_per_s: f64,
}

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    for run in 1..=size.runs {
        let (read_mb, many_mb) = resident_mb(&size.brokers, WAITING).await?;
        let (_, few_mb) = resident_mb(&size.brokers, FEW).await?;
        let (late_ms, moved_per_s) = (lateness_ms(size).await?, moved_per_s(&size.brokers).await?);
        figures.push(Figures { read_mb, few_mb, many_mb, late_ms, moved_per_s });
        say(&format!("waiting {run}: {:?}", figures.last()));
    }
    let alone = |field: fn(&Figures) -> f64| Pair { ours: figures.iter().map(field).collect(), bare: Vec::new() };
    let many = Pair { bare: figures.iter().map(|figures| figures.few_mb).collect(), ..alone(|figures| figures.many_mb) };
    report.add(&format!("{WAITING} deliveries waiting (bare: {FEW}): resident"), "MB", many, Budget::Above(64.0));
    report.add("the same in the process that folded them", "MB", alone(|figures| figures.read_mb), Budget::None);
    let late = format!("lateness of what is due, {RATE} a second on each of two rungs: p99");
    report.add(&late, "ms", alone(|figures| figures.late_ms), Budget::AtMost(100.0));
    report.add(&format!("{AT_ONCE} due at once"), "moved/s", alone(|figures| figures.moved_per_s), Budget::None);
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

/// What inbox and courier take while so many deliveries wait for a day: once they have read all of them, and started anew.
async fn resident_mb(brokers: &str, waiting: u64) -> anyhow::Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let setup = setup(&folder, "1day");
    let server = Server::tidings(brokers, &setup).await?;
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
    let rests = async |server: &Server| {
        let is_folded = server.metric("tidings_inbox_lag_offsets").await? < 1.0;
        Ok(is_folded && server.metric("tidings_courier_held_records").await? >= held)
    };
    settled(async || rests(&server).await).await?;
    let read = server.resident_bytes()?;
    let server = server.restarted(brokers, &setup).await?;
    settled(async || rests(&server).await).await?;
    tokio::time::sleep(REST).await;
    let bytes = server.resident_bytes()?;
    server.stop()?;
    Ok((read / 1e6, bytes / 1e6))
}

/// By how much records come to the next topic later than they were due, or than the one before them in their partition was.
async fn lateness_ms(size: &Size) -> anyhow::Result<f64> {
    let Climbed { notified, tried, ended } = climbed(&size.brokers, RATE * size.seconds, Some(RATE)).await?;
    let ladder = ladder();
    let mut late = lateness((&ladder, Rung::FIRST), &notified, &tried);
    late.extend(lateness((&ladder, Rung(1)), &tried, &ended));
    Ok(part(late, 0.99))
}

/// How many go on a second where all are due at once.
async fn moved_per_s(brokers: &str) -> anyhow::Result<f64> {
    let Climbed { notified, tried, .. } = climbed(brokers, AT_ONCE, None).await?;
    let (first, last) = (notified.iter().map(|(_, _, at)| *at).min(), tried.iter().map(|(_, _, at)| *at).max());
    let (first, last) = first.zip(last).context("nothing was tried")?;
    Ok(AT_ONCE as f64 / last.since(first.plus(ACK_TIMEOUT)).as_secs_f64())
}

fn ladder() -> Ladder {
    Ladder::new(ACK_TIMEOUT, vec![Delay(RUNG)], JITTER_PERCENT)
}

/// A record's notification, and when it was appended; in the order of its partition.
type Appended = Vec<(i32, NotificationId, Timestamp)>;

/// What lies on the topics once nobody acknowledged anything and all have ended.
struct Climbed {
    notified: Appended,
    tried: Appended,
    ended: Appended,
}

/// Writes so many notifications, at a rate or all at once, and waits until each has ended undelivered.
async fn climbed(brokers: &str, count: u64, rate: Option<u64>) -> anyhow::Result<Climbed> {
    let folder = tempfile::tempdir()?;
    let rung = Delay(RUNG);
    let server = Server::tidings(brokers, &setup(&folder, &rung.to_string())).await?;
    let [rung, end] = [sibling(&server, &format!("retry.{rung}"))?, sibling(&server, "undelivered")?];
    let notification = |number: u64| {
        let channel = format!("user-{}", number % USERS);
        let value = broker::notification(&channel, number);
        (channel, value)
    };
    if let Some(rate) = rate {
        let (producer, start) = (broker::prompt(brokers)?, Instant::now());
        for number in 0..count {
            broker::pace(start, rate, number);
            let (key, value) = notification(number);
            let record = BaseRecord::to(&server.notifications).key(&key).payload(&value).headers(broker::version());
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(LIMIT)?;
    } else {
        broker::fill(brokers, &server.notifications, (count, &broker::version()), notification)?;
    }
    let ended = broker::reader(brokers, &end)?;
    // Markers of transactions take offsets too: only reading tells whether all are there.
    settled(async || Ok(broker::written(&ended, &end)? > count && appended(brokers, &end)?.len() as u64 == count)).await?;
    let [notified, tried, ended] = [&server.notifications, &rung, &end].map(|topic| appended(brokers, topic));
    server.stop()?;
    Ok(Climbed { notified: notified?, tried: tried?, ended: ended? })
}

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
