//! The inbox alone, into SQLite and into PostgreSQL: as much as it can fold, with receipts mixed in, beside a bare loop that inserts the same rows,
//! many in a statement.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, QueryBuilder, SqliteConnection};

use crate::Size;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};

const NOTIFICATIONS: u64 = 100_000;
const USERS: u64 = 5_000;
/// Notifications for each receipt.
const PER_RECEIPT: u64 = 5;
/// Rows of a bare statement: as many as the inbox folds into one transaction.
const ROWS: u64 = 5_000;
const LIMIT: Duration = Duration::from_secs(300);

/// A database that is new each time.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, schema: String },
}

impl Place {
    pub(crate) fn sqlite() -> anyhow::Result<Self> {
        Ok(Self::Sqlite(tempfile::tempdir()?))
    }

    /// On the server in TIDINGS_TEST_POSTGRES.
    pub(crate) async fn postgres() -> anyhow::Result<Self> {
        let server = std::env::var("TIDINGS_TEST_POSTGRES").context("TIDINGS_TEST_POSTGRES names no server; use `make bench`")?;
        let schema = format!("bench_{}", uuid::Uuid::new_v4().simple());
        let mut session = PgConnection::connect(&server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut session).await?;
        Ok(Self::Postgres { server, schema })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("bench.db").display()),
            Self::Postgres { server, schema } => format!("{server}?options[search_path]={schema}"),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
        }
    }
}

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    for (at_least, is_file) in [(20_000.0, true), (10_000.0, false)] {
        let (mut ours, mut bare, mut name) = (Vec::new(), Vec::new(), "");
        for run in 1..=size.runs {
            let [place, other] =
                if is_file { [Place::sqlite()?, Place::sqlite()?] } else { [Place::postgres().await?, Place::postgres().await?] };
            ours.push(folded(size, &place).await?);
            bare.push(inserted(&other).await?);
            name = place.name();
            say(&format!(
                "projector into {name} {run}: tidings {:?}, bare {:?} notifications a second",
                ours.last(),
                bare.last()
            ));
        }
        let what = format!("inbox into {name}, with receipts: notifications a second (bare: rows inserted)");
        report.add(&what, "/s", Pair { ours, bare }, Budget::AtLeast(at_least));
    }
    Ok(())
}

/// Notifications that the inbox folds in a second, from the first that is written to the last that is folded. Writing them is in the time,
/// and takes a small part of it.
async fn folded(size: &Size, place: &Place) -> anyhow::Result<f64> {
    let setup = Setup { roles: vec!["inbox"], partitions: 4, config: vec![("STORE__URL", place.url())] };
    let server = Server::tidings(&size.brokers, &setup).await?;
    let (brokers, notifications) = (size.brokers.clone(), server.notifications.clone());
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || write(&brokers, &notifications)).await??;
    while server.metric("tidings_inbox_folded_notifications_total").await? < NOTIFICATIONS as f64 {
        anyhow::ensure!(begun.elapsed() < LIMIT, "the inbox does not come to an end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let elapsed = begun.elapsed();
    server.stop()?;
    Ok(NOTIFICATIONS as f64 / elapsed.as_secs_f64())
}

/// Writes notifications, and a receipt beside every fifth of them.
fn write(brokers: &str, notifications: &str) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .create()?;
    let receipts = notifications.replace(".notifications", ".receipts");
    for number in 0..NOTIFICATIONS {
        let key = format!("user-u{}", number % USERS);
        send(&producer, notifications, &key, &notification(number))?;
        if number % PER_RECEIPT == 0 {
            let receipt = json!({"receipt": "state", "userId": format!("u{}", number % USERS), "state": "read",
                                 "items": [{"id": id(number), "channel": key, "position": "1:1"}]});
            send(&producer, &receipts, &key, &receipt)?;
        }
    }
    Ok(producer.flush(LIMIT)?)
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, key: &str, value: &Value) -> anyhow::Result<()> {
    let value = value.to_string();
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    let mut record = BaseRecord::to(topic).key(key).payload(&value).headers(headers);
    while let Err((error, refused)) = producer.send(record) {
        anyhow::ensure!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), error);
        std::thread::sleep(Duration::from_millis(5));
        record = refused;
    }
    Ok(())
}

fn id(number: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

pub(crate) fn notification(number: u64) -> Value {
    json!({
        "channel": format!("user-u{}", number % USERS), "rule": "bench",
        "origin": {"topic": "bookings", "partition": 0, "offset": number},
        "notification": {"id": id(number), "eventId": format!("e-{number}"), "type": "booking_confirmation",
                         "createdAt": "2026-01-31T12:00:00.000Z", "title": "Booking Confirmed", "priority": "medium",
                         "message": "Your booking for A blue one has been confirmed.", "data": {"booking_id": format!("b-{number}")}},
    })
}

/// Rows that a loop inserts in a second: what the inbox writes of a notification, a transaction for each statement.
async fn inserted(place: &Place) -> anyhow::Result<f64> {
    const TABLE: &str = "CREATE TABLE bare (id text, channel text, \"offset\" bigint, body text, PRIMARY KEY (id, channel))";
    let statement = |first: u64| {
        let rows = (first..first + ROWS).map(|number| (id(number).to_string(), number, notification(number).to_string()));
        rows.collect::<Vec<_>>()
    };
    macro_rules! insert {
        ($session:expr, $driver:ty) => {{
            let mut session = $session;
            sqlx::raw_sql(TABLE).execute(&mut session).await?;
            let begun = Instant::now();
            for first in (0..NOTIFICATIONS).step_by(usize::try_from(ROWS)?) {
                let mut insert = QueryBuilder::<$driver>::new("INSERT INTO bare (id, channel, \"offset\", body) ");
                insert.push_values(statement(first), |mut row, (id, number, body)| {
                    row.push_bind(id).push_bind(format!("user-u{}", number % USERS)).push_bind(number as i64).push_bind(body);
                });
                insert.build().execute(&mut session).await?;
            }
            begun.elapsed()
        }};
    }
    let elapsed = match place {
        Place::Sqlite(folder) => {
            let options = SqliteConnectOptions::new().filename(folder.path().join("bare.db")).create_if_missing(true);
            let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Normal);
            insert!(SqliteConnection::connect_with(&options).await?, sqlx::Sqlite)
        }
        Place::Postgres { .. } => insert!(PgConnection::connect(&place.url()).await?, sqlx::Postgres),
    };
    Ok(NOTIFICATIONS as f64 / elapsed.as_secs_f64())
}
