//! The process that is measured: tidings' gateway, or the bare loop.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header, encode};
use rdkafka::ClientConfig;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

const SECRET: &str = "a-secret-for-nothing-but-benchmarks";
pub(crate) const CHANNEL: &str = "booking-updates";

/// A running server under load. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    producer: FutureProducer,
    topic: String,
}

impl Server {
    /// tidings' gateway alone, on topics of its own with one partition.
    pub(crate) async fn tidings(brokers: &str) -> anyhow::Result<Self> {
        let prefix = format!("bench-{}.", uuid::Uuid::new_v4().simple());
        let port = free_port()?;
        let command = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
            command.args(args).env("TIDINGS_KAFKA__BROKERS", brokers).env("TIDINGS_KAFKA__TOPIC_PREFIX", &prefix);
            command.env("TIDINGS_KAFKA__TOPICS__PARTITIONS", "1").env("TIDINGS_GATEWAY__HOST", "127.0.0.1");
            command.env("TIDINGS_GATEWAY__PORT", port.to_string()).env("TIDINGS_AUTH__SECRET", SECRET);
            command.env("TIDINGS_LOG__LEVEL", "error").stdout(Stdio::null());
            command
        };
        anyhow::ensure!(command(&["topics", "create"]).status()?.success(), "`tidings topics create` failed");
        let child = command(&["serve", "--role", "gateway"]).spawn()?;
        let server = Self { child, port, producer: producer(brokers)?, topic: format!("{prefix}notifications") };
        server.await_ready().await?;
        Ok(server)
    }

    /// The bare loop, on a topic of its own.
    pub(crate) async fn bare(brokers: &str) -> anyhow::Result<Self> {
        let port = free_port()?;
        let topic = format!("bench-{}", uuid::Uuid::new_v4().simple());
        create(brokers, &topic).await?;
        let child = Command::new(std::env::current_exe()?).args(["bare", &port.to_string(), brokers, &topic]).spawn()?;
        let server = Self { child, port, producer: producer(brokers)?, topic };
        server.await_port().await?;
        // The consumer needs a moment to find the end of its topic.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// The request that opens a connection for a user.
    pub(crate) fn request(&self, user: &str) -> anyhow::Result<String> {
        let expiry = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 3600;
        let claims = serde_json::json!({"sub": user, "exp": expiry});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
        Ok(format!(
            "GET /ws?deviceId=bench&ack=client HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
    }

    /// Resident memory, in bytes (`VmRSS` of proc(5)).
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }

    /// CPU time used, in microseconds (`utime` and `stime` of proc(5), 100 ticks a second).
    pub(crate) fn cpu_us(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("an unreadable stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks * 10_000.0)
    }

    /// Produces notifications to the channel, one each `interval`.
    pub(crate) async fn produce(&mut self, events: u64, interval: Duration) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(interval);
        for number in 0..events {
            ticks.tick().await;
            let value = notification(number);
            let headers = OwnedHeaders::new().insert(KafkaHeader { key: "tidings-version", value: Some("1") });
            let record = FutureRecord::to(&self.topic).key(CHANNEL).payload(&value).headers(headers);
            self.producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// Ends the process.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    async fn await_ready(&self) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/ready", self.port);
        for _ in 0..300 {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the gateway did not become ready within 30 s")
    }

    async fn await_port(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(self.address()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the bare loop did not listen within 10 s")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn producer(brokers: &str) -> anyhow::Result<FutureProducer> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create()?)
}

async fn create(brokers: &str, topic: &str) -> anyhow::Result<()> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A record of `notifications` as the pipeline writes it, about 500 bytes.
fn notification(number: u64) -> String {
    serde_json::json!({
        "channel": CHANNEL,
        "rule": "booking-confirmed-updates",
        "origin": {"topic": "bookings", "partition": 0, "offset": number},
        "notification": {
            "id": uuid::Uuid::new_v4(),
            "eventId": format!("event-{number}"),
            "type": "booking_update",
            "createdAt": "2026-01-31T12:00:00.000Z",
            "title": "Booking Confirmed",
            "message": "A booking has been confirmed.",
            "data": {"booking_id": format!("b-{number}"), "note": "x".repeat(60)},
            "priority": "medium",
            "source": "bookings",
        },
    })
    .to_string()
}
