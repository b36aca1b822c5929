//! A storm: everybody who was connected to a node comes back within a second, and has missed notifications. How long until all are
//! current, what it costs, and what it does to others whose notifications are live meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::clients::Clients;
use crate::machine::{Machine, part};
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};
use crate::{Size, broker};

/// Users whose notifications are live all the time, and notifications a second to all of them together.
const BYSTANDERS: usize = 200;
const RATE: u64 = 500;
/// How long a server may take to give back what it no longer needs.
const SETTLE: Duration = Duration::from_secs(5);
const FOLD_LIMIT: Duration = Duration::from_secs(600);
/// How long the machine may take to come to rest behind it.
const CALM_LIMIT: Duration = Duration::from_secs(60);
/// Within which all devices come back.
const ARRIVAL: Duration = Duration::from_secs(1);
/// How long devices that are closed count as there (`gateway.presence.grace`), and a little more.
const GRACE: Duration = Duration::from_secs(12);
/// How long the bystanders' notifications go on before they are measured.
const WARM: Duration = Duration::from_secs(2);

/// What one run measured.
#[derive(Debug, Clone, Copy)]
struct Figures {
    current_s: f64,
    cpu_s: f64,
    peak_mib: f64,
    before_p99_ms: f64,
    meanwhile_p99_ms: f64,
    after_kib: f64,
    /// Of all that came and went.
    signals: f64,
}

/// All devices come back, each with `size.missed` notifications.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    for run in 1..=size.runs {
        figures.push(once(size).await?);
        say(&format!("storm {run}: {:?}", figures.last()));
    }
    let what = format!("{} devices come back, {} missed each", size.connections, size.missed);
    let alone = |field: fn(&Figures) -> f64| Pair { ours: figures.iter().map(field).collect(), bare: Vec::new() };
    report.add(&format!("{what}: until all are current"), "s", alone(|figures| figures.current_s), Budget::None);
    report.add(&format!("{what}: CPU"), "s", alone(|figures| figures.cpu_s), Budget::None);
    report.add(
        &format!("{what}: peak of memory above what was there before"),
        "MiB",
        alone(|figures| figures.peak_mib),
        Budget::None,
    );
    let p99 = Pair {
        ours: figures.iter().map(|figures| figures.meanwhile_p99_ms).collect(),
        bare: figures.iter().map(|figures| figures.before_p99_ms).collect(),
    };
    report.add(&format!("{BYSTANDERS} bystanders meanwhile, {RATE}/s: p99 (bare: before)"), "ms", p99, Budget::Ratio(2.0));
    let after = alone(|figures| figures.after_kib);
    report.add("resident per idle connection after it", "KiB", after, Budget::AtMost(8.0));
    let few = Budget::AtMost(size.connections as f64 / 10.0);
    report.add("records on `signals` as all of them come and go", "", alone(|figures| figures.signals), few);
    Ok(())
}

async fn once(size: &Size) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("tidings.db").display());
    // All come from one address here, which is no limit that a storm of many has.
    let places = ("GATEWAY__HTTP_CONNECTIONS_PER_ADDRESS", (size.connections + BYSTANDERS).to_string());
    let setup = Setup { roles: vec!["gateway", "inbox"], partitions: 4, config: vec![("STORE__URL", url), places] };
    let server = Arc::new(Server::tidings(&size.brokers, &setup).await?);
    let missed = size.missed * size.connections as u64;
    backlog(size, &server, missed)?;
    await_folded(&server, missed).await?;
    Machine::calm(CALM_LIMIT).await?;

    // On a thread of their own, so that what they see is not the delay of all other clients in this process.
    let apart = Apart::new()?;
    let their = server.clone();
    let names = (0..BYSTANDERS).map(|number| (format!("bystander-{number}"), String::new()));
    let bystanders = apart.handle.spawn(async move { Clients::open(&their, names).await }).await??;
    let live = Live::begin(size, &server)?;
    tokio::time::sleep(WARM).await;
    drop(bystanders.take_latencies_ms());
    tokio::time::sleep(Duration::from_secs(size.seconds)).await;
    let before_p99_ms = part(bystanders.take_latencies_ms(), 0.99);

    let signals = server.notifications.replace(".notifications", ".signals");
    let written = broker::reader(&size.brokers, &signals)?;
    let told = broker::written(&written, &signals)?;
    let (resident, cpu) = (server.resident_bytes()?, server.cpu_us()?);
    server.forget_peak()?;
    let start = Instant::now();
    let devices = Clients::arrive(&server, (0..size.connections).map(device), ARRIVAL).await?;
    devices.await_frames(missed).await?;
    devices.await_recovered(size.connections as u64).await?;
    let current_s = start.elapsed().as_secs_f64();
    let meanwhile_p99_ms = part(bystanders.take_latencies_ms(), 0.99);
    let cpu_s = (server.cpu_us()? - cpu) / 1_000_000.0;
    let peak_mib = (server.peak_bytes()? - resident) / f64::from(1 << 20);
    live.end().await?;
    tokio::time::sleep(SETTLE).await;
    let after_kib = (server.resident_bytes()? - resident) / 1024.0 / size.connections as f64;
    drop(devices);
    tokio::time::sleep(GRACE).await;
    let signals = (broker::written(&written, &signals)? - told) as f64;
    Ok(Figures { current_s, cpu_s, peak_mib, before_p99_ms, meanwhile_p99_ms, after_kib, signals })
}

/// A user, and where the user's device stopped.
fn device(number: usize) -> (String, String) {
    let user = format!("user-{number}");
    let since = format!(r#"{{"user-{user}":"1:0"}}"#);
    let since = form_urlencoded::byte_serialize(since.as_bytes()).collect::<String>();
    (user, format!("&since={since}"))
}

/// What all devices miss, one of each after the other.
fn backlog(size: &Size, server: &Server, missed: u64) -> anyhow::Result<()> {
    let devices = size.connections as u64;
    broker::fill(&size.brokers, &server.notifications, (missed, &broker::version()), |number| {
        let channel = format!("user-user-{}", number % devices);
        let value = broker::notification(&channel, number);
        (channel, value)
    })
}

async fn await_folded(server: &Server, count: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    while server.metric("tidings_inbox_folded_notifications_total").await? < count as f64 {
        anyhow::ensure!(start.elapsed() < FOLD_LIMIT, "the projection did not come to the end of what was missed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A runtime with a thread of its own. It is not waited for, which a future may not do.
struct Apart {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Apart {
    fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The bystanders' notifications, until it is ended.
struct Live {
    ends: Arc<AtomicBool>,
    producing: JoinHandle<anyhow::Result<()>>,
}

impl Live {
    fn begin(size: &Size, server: &Server) -> anyhow::Result<Self> {
        let producer = broker::prompt(&size.brokers)?;
        let (topic, ends) = (server.notifications.clone(), Arc::new(AtomicBool::new(false)));
        let end = ends.clone();
        let producing = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            for number in 0.. {
                broker::pace(start, RATE, number);
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let channel = format!("user-bystander-{}", number % BYSTANDERS as u64);
                let value = broker::notification(&channel, number);
                producer
                    .send(BaseRecord::to(&topic).key(&channel).payload(&value).headers(broker::version()))
                    .map_err(|(error, _)| error)?;
            }
            Ok(producer.flush(Duration::from_secs(10))?)
        });
        Ok(Self { ends, producing })
    }

    async fn end(self) -> anyhow::Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.producing.await?
    }
}
