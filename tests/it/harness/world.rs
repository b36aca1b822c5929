//! A world of a test's own on the shared broker: topics under a drawn prefix, a database in a temporary folder, tokens.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use tidings::app::{App, Source};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::config::{Config, Database, Scalar, Start};
use tidings::kafka::cluster::Cluster;
use tidings::kafka::topics;
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::request;
use tidings_core::time::Delay;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::leavings::Leavings;
use super::log::{Log, Seen};
use super::{broker, eventually, postgres};

pub(crate) const SECRET: &str = "a-secret-that-only-the-tests-know-of";
/// The domain topic's partitions.
pub(crate) const PARTITIONS: i32 = 3;

/// Topics, a database and a configuration that no other test shares.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) log: Log,
    /// The domain topic.
    pub(crate) topic: String,
    /// Holds the database.
    pub(crate) dir: tempfile::TempDir,
    leavings: Arc<Leavings>,
}

impl World {
    /// A world on the shared broker, with short delays.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose configuration is changed before its topics are made.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(broker::shared(), change).await
    }

    /// A world on a broker of the test's own.
    pub(crate) async fn on(brokers: &str, change: impl FnOnce(&mut Config)) -> Self {
        // reqwest asks for one.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let name = uuid::Uuid::new_v4().simple().to_string();
        let dir = tempfile::tempdir().unwrap();
        let topic = format!("events-{name}");
        let mut config = tidings::config::load(None, &[]).unwrap();
        config.kafka.brokers = brokers.to_owned();
        config.kafka.topic_prefix = format!("t-{name}.");
        config.kafka.group_prefix = format!("t-{name}-");
        config.kafka.topics.partitions = 4;
        config.kafka.refusal_pause = ms(1_000);
        config.pipeline.topics = vec![topic.parse().unwrap()];
        config.pipeline.start = Start::Beginning;
        config.pipeline.commit_interval = ms(100);
        config.gateway.host = "127.0.0.1".into();
        config.gateway.port = 0;
        config.gateway.shards = 2;
        config.gateway.mailbox_cursor_interval = ms(50);
        config.gateway.other_cursor_interval = ms(50);
        // On a machine that pauses a new device is still told to be one.
        config.gateway.recovery.device_wait = ms(4_000);
        config.auth.secret = SECRET.into();
        config.store.url = match postgres::schema_of_its_own().await {
            Some(database) => database,
            None => Database::Sqlite(dir.path().join("tidings.db")),
        };
        config.courier.poll_interval = ms(20);
        config.courier.ladder = vec![ms(30_000), ms(120_000)];
        // What has climbed the whole ladder has ended, unless a test wants to see the last rung repeated.
        config.courier.give_up_after = ms(1);
        // Tests that count what is in the inbox may fill a mailbox.
        config.inbox.mailbox_rows = std::num::NonZeroUsize::new(1_000_000).unwrap();
        config.kafka.properties.insert("heartbeat.interval.ms".into(), Scalar::Number(500));
        config.shutdown.drain_timeout = ms(20_000);
        config.shutdown.reconnect_spread = ms(500);
        change(&mut config);
        let log = Log::new(brokers);
        let world = Self { config, log, topic, dir, leavings: Arc::new(Leavings::new(brokers, &name)) };
        world.log.create(&world.topic, PARTITIONS, &[]).await;
        world.create_topics().await;
        world
    }

    /// Makes the topics of tidings' own that are not there.
    pub(crate) async fn create_topics(&self) {
        let plan = topics::Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        topics::create(&Cluster::new(&self.config.kafka).unwrap(), &plan, Clock::start().now()).await.unwrap();
    }

    /// Begins the next epoch, with so many partitions.
    pub(crate) async fn grow(&self, partitions: i32) -> Result<(), topics::TopicsError> {
        let plan = topics::Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        topics::grow(&Cluster::new(&self.config.kafka).unwrap(), &plan, partitions, Clock::start().now()).await.map(|_| ())
    }

    /// The epoch in force, if all its topics are as they must be.
    pub(crate) async fn epoch(&self) -> EpochRecord {
        let plan = topics::Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        topics::check(&Cluster::new(&self.config.kafka).unwrap(), &plan).await.unwrap()
    }

    /// The full name of a topic of tidings' own.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}{name}", self.config.kafka.topic_prefix)
    }

    pub(crate) fn group(&self, service: &str) -> String {
        format!("{}{service}", self.config.kafka.group_prefix)
    }

    /// All services in this process, ready.
    pub(crate) async fn start(&self) -> Running {
        self.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier]).await
    }

    /// Some services in this process, ready.
    pub(crate) async fn start_roles(&self, roles: &[Role]) -> Running {
        let running = self.start_unready(roles).await;
        running.await_ready().await;
        running
    }

    /// Some services in this process, ready or not.
    pub(crate) async fn start_unready(&self, roles: &[Role]) -> Running {
        self.start_by(Clock::start(), roles).await
    }

    /// Some services in this process by a clock of the test's, ready or not.
    pub(crate) async fn start_by(&self, clock: Clock, roles: &[Role]) -> Running {
        let app = App::prepare_by(clock, self.config.clone(), roles, Source::Configured).await.unwrap();
        let (address, stop) = (app.address(), CancellationToken::new());
        Running { address, stop: stop.clone(), services: tokio::spawn(app.run(stop)), _leavings: self.leavings.clone() }
    }

    /// A token of a user without roles.
    pub(crate) fn token(user: &str) -> String {
        Self::token_of(&json!({"sub": user, "exp": unix_now() + 3600}))
    }

    /// A token with any claims.
    pub(crate) fn token_of(claims: &Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
    }

    /// Produces an event as a domain service would: what concerns one user lies in one partition, so it keeps its order.
    pub(crate) async fn emit(&self, event: &Value) -> (i32, i64) {
        self.log.produce(&self.topic, event["data"]["userId"].as_str(), event.to_string().as_bytes()).await
    }

    /// Produces a request as a service would that has a Kafka client. Those for one audience lie in one partition, as they do
    /// when they come over HTTP.
    pub(crate) async fn ask(&self, request: &Value) -> (i32, i64) {
        let value = request.to_string();
        let key = request::read(value.as_bytes()).expect("a request").key();
        self.log.produce(&self.own("requests"), key.as_deref(), value.as_bytes()).await
    }

    /// Waits until a topic of tidings' own has at least `count` records, and gives all.
    pub(crate) async fn own_records(&self, name: &str, count: usize) -> Vec<Seen> {
        let topic = self.own(name);
        eventually(&format!("{count} records on {topic}"), async || {
            let records = self.log.records(&topic).await;
            (records.len() >= count).then_some(records)
        })
        .await
    }
}

/// The event of a confirmed booking, which the shipped rules turn into one for the user and one for `booking-updates`.
pub(crate) fn booking(id: &str, user: &str) -> Value {
    json!({"type": "booking:confirmed", "id": id, "data": {"userId": user, "bookingId": format!("b-{id}"), "vehicleName": "Tesla Model 3"}})
}

/// The event of a due payment, which the shipped rules turn into one for the user.
pub(crate) fn payment(id: &str, user: &str) -> Value {
    json!({"type": "payment:due", "id": id, "data": {"userId": user, "paymentId": format!("p-{id}"), "amount": "120.50", "dueDate": "2026-02-01"}})
}

pub(crate) fn ms(millis: u64) -> Delay {
    Delay(Duration::from_millis(millis))
}

pub(crate) fn unix_now() -> i64 {
    Clock::start().now().as_millis() / 1000
}

/// Services of this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    services: JoinHandle<anyhow::Result<()>>,
    /// Services whose topics are gone end, and not well.
    _leavings: Arc<Leavings>,
}

impl Running {
    /// The answer of an HTTP route: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await
    }

    pub(crate) async fn await_ready(&self) {
        await_ready(self.address).await;
    }

    /// Opens a connection of `user` that acknowledges by itself, on the device `d1`.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        let query = format!("token={}&deviceId=d1&ack=client", World::token(user));
        Client::greeted(self.address, &query).await.0
    }

    /// The value of a metric, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        metric(self.address, name).await
    }

    /// The value of one line of a counter, told by its labels.
    pub(crate) async fn labelled(&self, name: &str, labels: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let line = format!("{name}{{{labels}}} ");
        text.lines().find_map(|sample| sample.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("no {line}in {text}"))
    }

    /// How often something went wrong with records in a stage, by cause, fate and class.
    pub(crate) async fn failed(&self, stage: &str, labels: (&str, &str, &str)) -> u64 {
        failed(self.address, stage, labels).await
    }

    /// Asks the services to drain.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Drains, and asserts that nothing went wrong.
    pub(crate) async fn stop(self) {
        self.begin_stop();
        self.ended().await.unwrap();
    }

    /// How the services ended by themselves.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(super::HANG, self.services).await.expect("the services did not end").unwrap()
    }
}

/// The value of a metric, summed over its labels. One that is not there is a mistake of the test's, and no 0.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> f64 {
    let (_, text) = get(address, "/metrics").await;
    sum(&text, name).unwrap_or_else(|| panic!("no metric {name} in {text}"))
}

/// The sum of a metric's samples, if it has any.
pub(crate) fn sum(metrics: &str, name: &str) -> Option<f64> {
    let named = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let mut values = named.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).peekable();
    values.peek()?;
    Some(values.sum())
}

/// How often something went wrong with records in a stage, by cause, fate and class.
pub(crate) async fn failed(address: SocketAddr, stage: &str, (cause, fate, class): (&str, &str, &str)) -> u64 {
    assert!(["pipeline", "gateway", "inbox", "courier"].contains(&stage), "there is no stage {stage}");
    let (_, text) = get(address, "/metrics").await;
    let labels = format!(r#"cause="{cause}",fate="{fate}",class="{class}""#);
    let line = format!("tidings_{stage}_failed_records_total{{{labels}}} ");
    text.lines().find_map(|sample| sample.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// What asks over HTTP. To make one reads all certificates of the system, so all share it; it keeps no connection, which would belong to the
/// runtime of one test.
pub(crate) fn http() -> &'static reqwest::Client {
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
    });
    &HTTP
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = http().get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub(crate) async fn await_ready(address: SocketAddr) {
    let mut last = String::new();
    eventually("the services are ready; what they wait for is printed above", async || {
        let answer = http().get(format!("http://{address}/ready")).send().await.ok()?;
        let (ready, body) = (answer.status().is_success(), answer.text().await.ok()?);
        if body != last {
            println!("{address}: {body}");
            last = body;
        }
        ready.then_some(())
    })
    .await;
}
