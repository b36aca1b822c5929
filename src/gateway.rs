//! The gateway: WebSocket connections, what they are sent, and what they acknowledge.
//!
//! Owns: the feed, the ring, the shards, every connection and the cursors on the log. Reads the store for devices that were away
//! longer than the ring reaches back, if there is one; refuses to write to it. Neighbours: `http` mounts its routes; courier and
//! inbox meet it on the log. Long because what everybody shares is made and documented here.

mod connection;
mod cursor;
mod desk;
mod ending;
mod ends;
mod fed;
mod feed;
mod frames;
mod hearing;
mod inlet;
mod intake;
mod line;
mod metrics;
mod moment;
mod outbox;
mod presence;
mod reads;
mod receipts;
mod ring;
mod session;
mod shard;
mod socket;
mod tally;
mod transport;
mod unproven;
mod upgrade;
mod wording;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::select_all;
use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tidings_core::channel::{Access, Grant};
use tidings_core::fate::Cause;
use tidings_core::ids::{NodeId, NotificationId, UserId};
use tidings_core::position::Epoch;
use tidings_core::protocol::server::ServerFrame;
use tidings_core::record::meta::EpochRecord;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use self::cursor::{CursorTicket, CursorWriter};
pub use self::desk::{Absent, Census, Desk, Everywhere};
use self::ends::Ends;
use self::fed::FedError;
use self::feed::Feed;
use self::hearing::Hearing;
use self::inlet::{Control, Inlet, Outlet};
use self::metrics::{GatewayMetrics, Limit};
use self::moment::Moment;
use self::outbox::{Outbox, Pushed};
pub use self::presence::Muster;
use self::presence::Roster;
use self::reads::Reads;
use self::receipts::ReceiptWriter;
pub use self::receipts::{Located, Marked, Misplaced, Scope, Unsettled, Unwritten};
use self::ring::Ring;
use self::shard::Shard;
use self::tally::Tally;
pub use self::transport::{Talk, Transport};
use self::unproven::Unproven;
pub use self::upgrade::{Caller, Page, RefusedUpgrade};
use crate::auth::Auth;
use crate::clock::Clock;
use crate::config::{GatewayConfig, GrantConfig};
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::Producer;
use crate::store::Store;
use crate::telemetry::health::Role;
use crate::telemetry::{Complaints, Metrics, Place, Traces};
use crate::worker::{Worker, WorkerError};

/// How long acknowledgements that are on their way may still arrive, once clients were told to reconnect.
const GRACE: Duration = Duration::from_millis(250);
/// How long the brokers may take for the last cursors.
const FLUSH: Duration = Duration::from_secs(5);

/// What the gateway is made of.
pub struct Parts {
    /// The cluster.
    pub cluster: Cluster,
    /// Its section of the configuration.
    pub config: GatewayConfig,
    /// How clients are known.
    pub auth: Arc<Auth>,
    /// Clients are told to come back within this time.
    pub reconnect_spread: Duration,
    /// The epoch and its partition count.
    pub epoch: EpochRecord,
    /// Where what devices missed is read, if there is a store.
    pub store: Option<Store>,
    /// This process, as signals name it.
    pub node: NodeId,
    /// The clocks.
    pub clock: Clock,
    /// Where its metrics are registered.
    pub metrics: Metrics,
    /// What is done is shown in.
    pub traces: Traces,
    /// Its entry in the process's health.
    pub role: Role,
}

/// Why the gateway cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// librdkafka refused.
    #[error("the gateway's Kafka client failed")]
    Kafka(#[from] KafkaError),
    /// The topic is not the one of the epoch.
    #[error("{topic} has {found} partitions, its epoch has {expected}: a topic never grows within an epoch")]
    Partitions {
        /// Which topic.
        topic: String,
        /// What the epoch says.
        expected: i32,
        /// What the brokers say.
        found: usize,
    },
    /// Records were deleted before they were read.
    #[error("the feed's position lies outside its log: records were lost to this process, whose clients must resume elsewhere")]
    PositionLost,
    /// One of its threads.
    #[error("the gateway cannot go on")]
    Worker(#[from] WorkerError),
    /// A thread ended that should not have.
    #[error("a thread of the gateway ended early")]
    Ended,
}

impl GatewayError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Partitions { .. } => Cause::Refused,
            Self::Kafka(_) | Self::PositionLost => Cause::Dependency,
            Self::Worker(error) => error.cause(),
            Self::Ended => Cause::Bug,
        }
    }
}

/// The gateway. Its routes may be mounted before it runs; until the feed has started they answer 503.
pub struct Gateway {
    shared: Arc<Shared>,
    cluster: Cluster,
    role: Role,
    producer: Arc<Producer<CursorTicket>>,
    /// Taken by `run`.
    outlets: Mutex<Vec<Outlet>>,
    reconnect_spread: Duration,
}

/// What the feed, the shards and all connections share. Immutable, but for its phase.
pub(crate) struct Shared {
    config: GatewayConfig,
    clock: Clock,
    access: Access,
    /// Shared: `http` knows callers by it too.
    auth: Arc<Auth>,
    unproven: Arc<Unproven>,
    epoch: Epoch,
    partitions: i32,
    node: NodeId,
    /// The topic's name.
    notifications: Arc<str>,
    ring: Ring,
    reads: Reads,
    roster: Roster,
    receipts: ReceiptWriter,
    tally: Tally,
    metrics: GatewayMetrics,
    traces: Traces,
    complaints: Complaints,
    inlets: Vec<Arc<Inlet>>,
    connections: TaskTracker,
    /// Cancelled when the gateway drains: for clients that no shard knows of yet.
    draining: CancellationToken,
    phase: AtomicU8,
}

/// How far the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Starting,
    Open,
    Draining,
}

impl Gateway {
    /// A gateway that does not run yet.
    ///
    /// # Errors
    /// If a Kafka property is wrong.
    pub fn new(parts: Parts) -> Result<Self, GatewayError> {
        let Parts { cluster, config, auth, reconnect_spread, epoch, store, node, clock, metrics, traces, role } = parts;
        let shards = if config.shards == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { config.shards };
        let (inlets, outlets): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (inlet, outlet) = Inlet::new(config.queue_records.get());
                (Arc::new(inlet), outlet)
            })
            .unzip();
        let producer = Arc::new(Producer::new(&cluster, "gateway")?);
        let notifications: Arc<str> = cluster.names().notifications().into();
        let metrics = GatewayMetrics::register(&metrics);
        let ends = Ends::new(cluster.clone(), &notifications, epoch.partitions, metrics.end_reads.clone());
        let cursors = cluster.names().cursors();
        let said = Ends::new(cluster.clone(), &cursors, epoch.partitions, metrics.end_reads.clone());
        let reads = Reads::new(store, (ends, Hearing::new(said, &cursors)), &config);
        let tally = Tally::new(&config.counts, reads.archive(), metrics.clone());
        let shared = Shared {
            access: access(&config),
            unproven: Unproven::new(config.unauthenticated_per_address.get(), config.unauthenticated.get()),
            auth,
            epoch: epoch.epoch,
            partitions: epoch.partitions,
            roster: Roster::new(&cluster, &config.presence, (&node, clock), &metrics)?,
            node,
            ring: Ring::new(&config.recovery, metrics.clone()),
            reads,
            receipts: ReceiptWriter::new(&cluster, config.receipt_timeout.0)?,
            tally,
            notifications,
            metrics,
            traces,
            complaints: Complaints::new("gateway", clock),
            inlets,
            connections: TaskTracker::new(),
            draining: CancellationToken::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            config,
            clock,
        };
        Ok(Self { shared: Arc::new(shared), cluster, role, producer, outlets: Mutex::new(outlets), reconnect_spread })
    }

    /// The WebSocket's route.
    #[must_use]
    pub fn routes(&self) -> BoxedFilter<(Response,)> {
        upgrade::routes(self.shared.clone())
    }

    /// Where operators ask about connections.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk::new(self.shared.clone())
    }

    /// Runs until `stop` is cancelled, then drains: clients are told to reconnect and closed, their cursors written. Runs once.
    ///
    /// # Errors
    /// If the feed or a shard ends before that.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), GatewayError> {
        let reading = CancellationToken::new();
        let feed = Feed::new(self.shared.clone(), self.cluster.clone(), self.role.clone(), reading.clone());
        let mut shards = self.start_shards()?;
        let mut feed = Worker::start("gateway-feed".into(), move || feed.run())?;
        let early = tokio::select! {
            () = self.shared.roster.run(&self.shared, &stop) => None,
            ended = feed.ended() => Some(ended.and(Err(GatewayError::Ended))),
            (ended, ..) = select_all(shards.iter_mut().map(|shard| shard.ended().boxed())) => {
                Some(ended.and(Err(GatewayError::Ended)))
            }
            never = self.shared.tally.run(&self.shared) => match never {},
        };
        self.role.waiting("draining");
        self.shared.set(Phase::Draining);
        self.shared.draining.cancel();
        reading.cancel();
        if let Some(early) = early {
            return early;
        }
        feed.ended().await?;
        self.drain(shards).await
    }

    fn start_shards(&self) -> Result<Vec<Worker<GatewayError>>, GatewayError> {
        let outlets = std::mem::take(&mut *self.outlets.lock());
        let topic = self.cluster.names().cursors();
        let start = |(number, (inlet, outlet)): (usize, (&Arc<Inlet>, Outlet))| {
            let cursors = CursorWriter::new(self.producer.clone(), self.shared.clone(), topic.clone());
            let shard = Shard::new(self.shared.clone(), inlet.clone(), outlet, cursors);
            Worker::start(format!("gateway-shard-{number}"), move || shard.run())
        };
        Ok(self.shared.inlets.iter().zip(outlets).enumerate().map(start).collect::<Result<_, _>>()?)
    }

    /// Reconnect, grace, close, wait for the last connection, write the last cursors.
    async fn drain(&self, shards: Vec<Worker<GatewayError>>) -> Result<(), GatewayError> {
        self.shared.tell_all(|| Control::Reconnect(self.reconnect_spread)).await?;
        tokio::time::sleep(GRACE).await;
        self.shared.tell_all(|| Control::Drain).await?;
        self.shared.connections.close();
        self.shared.connections.wait().await;
        self.shared.tell_all(|| Control::Finish).await?;
        for mut shard in shards {
            shard.ended().await?;
        }
        let (producer, shared) = (self.producer.clone(), self.shared.clone());
        let flushed = tokio::task::spawn_blocking(move || {
            // Who was not told learns of it when the lease ends.
            let _ = shared.roster.flush(FLUSH);
            shared.receipts.flush(FLUSH).and(producer.flush(FLUSH))
        });
        if !matches!(flushed.await, Ok(Ok(()))) {
            tracing::error!("the brokers did not take the last cursors; what they acknowledge will be delivered again");
        }
        Ok(())
    }
}

/// Who may subscribe to what, as configured.
fn access(config: &GatewayConfig) -> Access {
    let grant = |grant: &GrantConfig| Grant { pattern: grant.pattern.clone(), roles: grant.roles.clone() };
    Access::new(config.open_channels.clone(), config.channels.iter().map(grant).collect())
}

impl Shared {
    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    /// The shard of a user's connections, as a number.
    fn shard(&self, user: &UserId) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(user);
        usize::try_from(hash % self.inlets.len().max(1) as u64).unwrap_or(0)
    }

    /// The shard of a user's connections.
    fn inlet(&self, user: &UserId) -> &Inlet {
        &self.inlets[self.shard(user)]
    }

    /// Opens the gateway: every shard learns where each partition begins, and what was withdrawn before, before any connection joins.
    fn begin(&self, starts: Arc<[i64]>, withdrawn: Arc<[NotificationId]>) {
        for inlet in &self.inlets {
            inlet.say_blocking(Control::Begin(starts.clone(), withdrawn.clone()));
        }
        // A stop that came in between stays.
        let _ = self.phase.compare_exchange(Phase::Starting as u8, Phase::Open as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    async fn tell_all(&self, control: impl Fn() -> Control) -> Result<(), GatewayError> {
        for inlet in &self.inlets {
            inlet.say(control()).await.map_err(|inlet::Ended| GatewayError::Ended)?;
        }
        Ok(())
    }

    /// Says something to one connection, and counts it.
    fn say(&self, outbox: &Outbox, frame: ServerFrame<'_>, reply_to: Option<&str>, now: Moment) -> Pushed {
        if let ServerFrame::Error { code, .. } = &frame {
            self.metrics.refused(*code);
        }
        self.counted(outbox.say(frame, reply_to, now))
    }

    /// Hands one connection a frame that others get too, and counts it.
    fn push(&self, outbox: &Outbox, frame: &Bytes, now_ms: u64) -> Pushed {
        self.counted(outbox.push(frame, now_ms))
    }

    fn counted(&self, pushed: Pushed) -> Pushed {
        match pushed {
            Pushed::Taken => {
                self.metrics.frames_sent.inc();
            }
            Pushed::Overflowed => {
                self.metrics.crossed(Limit::OutboxBytes);
            }
            Pushed::Ended => {}
        }
        pushed
    }

    /// Counts a record that does not read, and says so. One of `notifications` the inbox reads too, and buries it.
    fn unreadable(&self, place: Place<'_>, error: &FedError) {
        self.metrics.fates.count(error.cause(), error.class(), 1);
        self.complaints.say(place, error.class(), "a record does not read, and was left out");
    }

    /// The same of a notification that no frame can be made of.
    fn without_frame(&self, partition: i32, offset: i64, error: &FedError) {
        self.unreadable(Place { topic: &self.notifications, partition, offset }, error);
    }
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
