//! The process that is measured: tidings with some roles, or a bare loop.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header, encode};

use crate::broker;

const SECRET: &str = "a-secret-for-nothing-but-benchmarks";
/// The channel that every client listens to.
pub(crate) const CHANNEL: &str = "booking-updates";
const NOTIFICATIONS: &str = "notifications";

/// How tidings is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    pub(crate) roles: Vec<&'static str>,
    /// Of tidings' own topics.
    pub(crate) partitions: i32,
    /// Keys of the configuration, as the environment names them.
    pub(crate) config: Vec<(&'static str, String)>,
}

impl Setup {
    /// The gateway alone, with one partition.
    pub(crate) fn gateway() -> Self {
        Self { roles: vec!["gateway"], partitions: 1, config: Vec::new() }
    }
}

/// A running server under load. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    tls: bool,
    /// Where the notifications of this server lie.
    pub(crate) notifications: String,
}

impl Server {
    /// tidings, on topics of its own.
    pub(crate) async fn tidings(brokers: &str, setup: &Setup) -> anyhow::Result<Self> {
        let prefix = format!("bench-{}.", uuid::Uuid::new_v4().simple());
        anyhow::ensure!(
            command(brokers, setup, &prefix, 0).args(["topics", "create"]).status()?.success(),
            "`tidings topics create` failed"
        );
        Self::start(brokers, setup, &prefix).await
    }

    /// The same tidings once more, in a new process.
    pub(crate) async fn restarted(self, brokers: &str, setup: &Setup) -> anyhow::Result<Self> {
        let prefix = self.notifications.strip_suffix(NOTIFICATIONS).context("a server of tidings")?.to_owned();
        self.stop()?;
        Self::start(brokers, setup, &prefix).await
    }

    async fn start(brokers: &str, setup: &Setup, prefix: &str) -> anyhow::Result<Self> {
        let port = free_port()?;
        let roles = setup.roles.iter().flat_map(|role| ["--role", *role]);
        let child = command(brokers, setup, prefix, port).arg("serve").args(roles).spawn()?;
        let tls = setup.config.iter().any(|(key, _)| key.starts_with("GATEWAY__TLS"));
        let server = Self { child, port, tls, notifications: format!("{prefix}{NOTIFICATIONS}") };
        if tls {
            server.await_port().await?;
        } else {
            server.await_ready().await?;
        }
        Ok(server)
    }

    /// The bare fan-out, on a topic of its own.
    pub(crate) async fn bare_fanout(brokers: &str) -> anyhow::Result<Self> {
        let port = free_port()?;
        let topic = broker::topic(brokers, 1).await?;
        let server = Self::bare(&["fanout", &port.to_string(), brokers, &topic], port, topic.clone())?;
        server.await_port().await?;
        // The consumer needs a moment to find the end of its topic.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(server)
    }

    /// The bare copy of `from` to a topic with so many partitions.
    pub(crate) async fn bare_copy(brokers: &str, from: &str, (partitions, count): (i32, u64)) -> anyhow::Result<Self> {
        let topic = broker::topic(brokers, partitions).await?;
        Self::bare(&["copy", brokers, from, &topic, &count.to_string()], 0, topic.clone())
    }

    /// What passes new records of `from` on to a topic with so many partitions, one by one. It needs a moment to begin.
    pub(crate) async fn bare_forward(brokers: &str, from: &str, partitions: i32) -> anyhow::Result<Self> {
        let topic = broker::topic(brokers, partitions).await?;
        Self::bare(&["forward", brokers, from, &topic], 0, topic.clone())
    }

    fn bare(args: &[&str], port: u16, notifications: String) -> anyhow::Result<Self> {
        let child = Command::new(std::env::current_exe()?).arg("bare").args(args).spawn()?;
        Ok(Self { child, port, tls: false, notifications })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The request that opens a connection for a user, with more parameters, each behind `&`.
    pub(crate) fn request(&self, user: &str, query: &str) -> anyhow::Result<String> {
        let expiry = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 3600;
        let claims = serde_json::json!({"sub": user, "exp": expiry});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
        Ok(format!(
            "GET /ws?deviceId=bench&ack=client{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
    }

    /// Resident memory, in bytes (`VmRSS` of proc(5)).
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that was resident since [`Server::forget_peak`], in bytes (`VmHWM` of proc(5)).
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    /// Lets the peak of memory begin anew (`clear_refs` of proc(5)).
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn memory(&self, field: &'static str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context(field)?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).context("no such metric")?;
        Ok(value.parse()?)
    }

    /// CPU time used, in microseconds (`utime` and `stime` of proc(5), 100 ticks a second).
    pub(crate) fn cpu_us(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("an unreadable stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks * 10_000.0)
    }

    /// Ends the process.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    async fn await_ready(&self) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/ready", self.port);
        for _ in 0..600 {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("tidings did not become ready within 30 s")
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

fn command(brokers: &str, setup: &Setup, prefix: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.env("TIDINGS_KAFKA__BROKERS", brokers).env("TIDINGS_KAFKA__TOPIC_PREFIX", prefix);
    command.env("TIDINGS_KAFKA__GROUP_PREFIX", prefix);
    command.env("TIDINGS_KAFKA__TOPICS__PARTITIONS", setup.partitions.to_string());
    command.env("TIDINGS_GATEWAY__HOST", "127.0.0.1").env("TIDINGS_GATEWAY__PORT", port.to_string());
    command.env("TIDINGS_AUTH__SECRET", SECRET).env("TIDINGS_LOG__LEVEL", "error").stdout(Stdio::null());
    for (key, value) in &setup.config {
        command.env(format!("TIDINGS_{key}"), value);
    }
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
