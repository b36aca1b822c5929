//! The assembly: which services run, with what, and how the process ends.
//!
//! Owns: start, the wait for brokers and topics, the one drain. Refuses to do a service's work. Bind early, then wait for the
//! cluster, then start; on SIGTERM stop in order under one deadline; a service that ends by itself ends the process.

pub mod demo;
mod reload;
mod roles;
mod services;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tidings_core::fate::Fate;
use tidings_core::ids::NodeId;
use tidings_core::position::Epoch;
use tidings_core::record::meta::EpochRecord;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use self::reload::Reload;
use self::services::{Services, Stage};
use crate::auth::Auth;
use crate::cli::{Role, ServeArgs};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Door, Guard, Listener, ListenerParts};
use crate::kafka::cluster::{Cluster, Flavour};
use crate::kafka::embedded::Embedded;
use crate::kafka::probe;
use crate::kafka::topics::{self, Plan};
use crate::registry::Registry;
use crate::telemetry::health::{self, Health};
use crate::telemetry::{Exporting, Metrics, Traces};

/// How often brokers that are away, or topics that are not there, are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How many partitions a domain topic of an embedded cluster has.
const EMBEDDED_PARTITIONS: i32 = 4;

const ALL: [Role; 4] = [Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier];

/// Which cluster the services meet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The one that the configuration names.
    Configured,
    /// One in this process, for trying things.
    Embedded,
}

/// Services that are about to run; their address is already taken.
pub struct App {
    assembly: Assembly,
    listener: Listener,
    exporting: Exporting,
    reload: Reload,
    /// Kept for as long as the services run.
    embedded: Option<Embedded>,
}

/// What services are made of. Each is given its own part of it.
struct Assembly {
    config: Config,
    roles: Vec<Role>,
    node: NodeId,
    clock: Clock,
    cluster: Cluster,
    health: Health,
    metrics: Metrics,
    traces: Traces,
    registry: Registry,
    /// Changes when everything that may change is to be read again.
    reloads: watch::Receiver<u64>,
    /// How clients are known, if this process faces any.
    auth: Option<Arc<Auth>>,
    /// Lets callers of REST in, likewise.
    guard: Option<Guard>,
}

/// Where the gateway's route is mounted once it can be made.
type Doorway = watch::Sender<BoxedFilter<(Response,)>>;

/// `tidings serve`: runs until SIGTERM or SIGINT.
///
/// # Errors
/// If something does not start, a service fails, or the drain is not finished in time.
pub async fn serve(config: Config, args: ServeArgs) -> anyhow::Result<ExitCode> {
    let roles = if args.roles.is_empty() { ALL.to_vec() } else { args.roles };
    let source = if args.embedded { Source::Embedded } else { Source::Configured };
    let app = App::prepare(config, &roles, source).await?;
    let stop = CancellationToken::new();
    tracing::info!(address = %app.address(), node = %app.assembly.node, "listening");
    let running = app.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => ended?,
        () = signalled() => {
            stop.cancel();
            running.await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl App {
    /// Takes the address and, if asked to, starts the embedded cluster. Nothing else runs yet, and no broker is needed.
    ///
    /// # Errors
    /// If the address is taken, a property file or key cannot be read, or the embedded cluster does not start.
    pub async fn prepare(config: Config, roles: &[Role], source: Source) -> anyhow::Result<Self> {
        Self::prepare_by(Clock::start(), config, roles, source).await
    }

    /// The same by another clock than the machine's.
    ///
    /// # Errors
    /// As [`App::prepare`].
    pub async fn prepare_by(clock: Clock, config: Config, roles: &[Role], source: Source) -> anyhow::Result<Self> {
        // reqwest, which exports spans, asks for one although nobody but the registry's client encrypts with it. Whoever was first is as good.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let node = config.node.name()?;
        let auth = roles.contains(&Role::Gateway).then(|| Auth::new(&config.auth)).transpose()?.map(Arc::new);
        let mut cluster = Cluster::new(&config.kafka)?.of_node(&node);
        let embedded = match source {
            Source::Configured => None,
            Source::Embedded => Some(Embedded::start(embedded_topics(&config))?),
        };
        if let Some(embedded) = &embedded {
            tracing::warn!(brokers = embedded.brokers(), "the cluster is embedded: for trying things, gone with this process");
            cluster = cluster.embedded_at(embedded.brokers().to_owned());
        }
        let roles = roles.to_vec();
        let reload = Reload::listen().context("SIGHUP cannot be heard")?;
        let (health, metrics) = (Health::new(clock), Metrics::new());
        let cluster = cluster.measured(&metrics);
        let registry = Registry::start(&config.registry, clock, &metrics)?;
        let (traces, exporting) = Traces::start(&config.telemetry.otlp, node.as_str(), &metrics)?;
        let listener = Listener::bind(&ListenerParts { gateway: &config.gateway, http: &config.http, clock, metrics: &metrics })?;
        // From the first answer on, a process is only ready with everything it is going to do.
        for name in ["kafka", "topics"].into_iter().chain(roles.iter().map(|role| role.name())) {
            let _ = health.role(name);
        }
        let reloads = reload.requests();
        let guard = auth.clone().map(|auth| listener.guard(auth, clock));
        let assembly = Assembly { config, roles, node, clock, cluster, health, metrics, traces, registry, reloads, auth, guard };
        Ok(Self { assembly, listener, exporting, reload, embedded })
    }

    /// Where HTTP and WebSocket connections are accepted.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Where the services meet: the brokers' addresses.
    #[must_use]
    pub fn brokers(&self) -> &str {
        self.assembly.cluster.brokers()
    }

    /// The states of all roles, for whoever waits for them.
    #[must_use]
    pub fn health(&self) -> Health {
        self.assembly.health.clone()
    }

    /// Where all metrics of the process are registered.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.assembly.metrics.clone()
    }

    /// Runs until `stop` is cancelled, then drains.
    ///
    /// # Errors
    /// If a service fails, or the drain is not finished in time. What was not finished is done again at the next start.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { mut assembly, listener, exporting, reload, embedded } = self;
        let mut services = Services::default();
        let (door, routes) = watch::channel(assembly.routes(assembly.closed_door()));
        let reloads = assembly.reloads.clone();
        services.start("listener", Stage::Watch, |stop| listener.serve(routes, reloads, stop).map(anyhow::Ok));
        services.start("listener for SIGHUP", Stage::Watch, |stop| reload.serve(stop).map(anyhow::Ok));
        let probe = (assembly.cluster.clone(), assembly.health.role("kafka"));
        let doom = assembly.cluster.doom();
        services.start("watch over producers", Stage::Watch, |stop| doom.watch(stop));
        let registry = assembly.registry.clone();
        services.start("schema registry's thread", Stage::Watch, |stop| registry.served(stop));
        services.start("broker probe", Stage::Watch, |stop| probe::run(probe.0, probe.1, stop));

        let outcome = assembly.serve(&mut services, &door, &stop).await;
        if let Err(error) = &outcome {
            tracing::error!(error = format!("{error:#}"), "a service failed; stopping the process");
        }
        let drained = services.drain(assembly.config.shutdown.drain_timeout.0).await;
        tokio::task::spawn_blocking(move || exporting.finish()).await?;
        drop(embedded);
        outcome.and(drained)
    }
}

impl Assembly {
    async fn serve(&mut self, services: &mut Services, door: &Doorway, stop: &CancellationToken) -> anyhow::Result<()> {
        let role = self.health.role("topics");
        let epoch = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            failure = services.failure() => return Err(failure),
            epoch = self.agree(&role) => epoch?,
        };
        let plan = Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        self.cluster = self.cluster.clone().of_epoch(&epoch);
        let watch = (self.cluster.clone(), epoch.clone(), role);
        services.start("topic watch", Stage::Watch, |stop| topics::watch(watch.0, plan, watch.1, watch.2, stop));
        self.start(services, door, &epoch).await?;
        tracing::info!(epoch = %epoch.epoch, "services started");
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            failure = services.failure() => Err(failure),
        }
    }

    /// Waits until the brokers answer and every topic is as it must be.
    async fn agree(&self, role: &health::Role) -> anyhow::Result<EpochRecord> {
        let plan = Plan::new(&self.config.kafka, &self.config.pipeline, &self.config.courier, &self.config.inbox);
        if self.cluster.flavour() == Flavour::Embedded {
            // The log begins anew with each embedded cluster, so its epoch must be later than any before it.
            let epoch = Epoch(self.clock.now().as_millis().cast_unsigned() / 1000);
            let record = EpochRecord { epoch, ..EpochRecord::first(plan.partitions(), self.clock.now()) };
            topics::write_epoch(&self.cluster, record).await?;
        }
        loop {
            match topics::check(&self.cluster, &plan).await {
                Ok(epoch) => {
                    if epoch.partitions != plan.partitions() {
                        let (configured, in_force) = (plan.partitions(), epoch.partitions);
                        tracing::info!(configured, in_force, epoch = %epoch.epoch, "the epoch says how many partitions there are");
                    }
                    role.ready();
                    return Ok(epoch);
                }
                Err(error) if error.cause().fate() == Fate::RetryInPlace => {
                    role.waiting(format!("{:#}", anyhow::Error::from(error)));
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn closed_door(&self) -> Door {
        if self.roles.contains(&Role::Gateway) { Door::Closed { path: self.config.gateway.path.clone() } } else { Door::Absent }
    }

    fn routes(&self, door: Door) -> BoxedFilter<(Response,)> {
        let console = self.config.gateway.console.then(|| self.config.gateway.path.clone());
        http::routes(http::Parts { health: self.health.clone(), metrics: self.metrics.clone(), clock: self.clock, door, console })
    }
}

/// What an embedded cluster holds: tidings' own topics and the domain topics.
fn embedded_topics(config: &Config) -> Vec<(String, i32)> {
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
    let own = plan.topics(0).into_iter().map(|topic| (topic.name, topic.partitions));
    own.chain(plan.named_sources().map(|topic| (topic.to_owned(), EMBEDDED_PARTITIONS))).collect()
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be heard; only a kill ends this process");
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "draining");
}
