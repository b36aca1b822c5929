//! The inbox: folds the log into SQL.
//!
//! Owns: the projector, one thread that reads `notifications`, `cursors`, `receipts`, the rungs and `undelivered` as a member of a group,
//! and is the store's only writer. Where it reads on stands in the store, beside the rows, not in the group's offsets. Refuses to let a record it
//! cannot read block a partition: that is buried in `dlq`. Neighbours: `store` below; courier waits for it through the store.

mod batch;
mod burial;
mod metrics;
mod progress;
mod projector;
mod rebuild;

use std::time::Duration;

use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::Delay;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::InboxConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::ProduceError;
use crate::store::{Store, StoreError};
use crate::telemetry::health::Role;
use crate::telemetry::{Metrics, Traces};
use crate::worker::{Worker, WorkerError};
pub use rebuild::{Heirlooms, Progressed, RebuildError, RebuildParts, Rebuilt, rebuild};

/// How long leaving the group may take. Brokers that are away must not hold up the end of the process.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// What the inbox needs.
pub struct Parts {
    /// The cluster.
    pub cluster: Cluster,
    /// Its section.
    pub config: InboxConfig,
    /// The courier's rungs.
    pub rungs: Vec<Delay>,
    /// The generation of the topics.
    pub epoch: EpochRecord,
    /// Who buries.
    pub node: NodeId,
    /// The clock.
    pub clock: Clock,
    /// The store it writes.
    pub store: Store,
    /// Where its metrics are registered.
    pub metrics: Metrics,
    /// What is done is shown in.
    pub traces: Traces,
    /// Its health.
    pub role: Role,
}

/// Why the inbox ended.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// librdkafka gave up or refused.
    #[error("the inbox can no longer read the log")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The store says no for good.
    #[error("the inbox can no longer write the store")]
    Store(#[from] StoreError),
    /// A record that cannot be folded cannot be buried either, and nothing may be folded over it.
    #[error("the inbox can no longer write to `dlq`")]
    Bury(#[from] ProduceError),
    /// Its thread.
    #[error("the inbox cannot go on")]
    Worker(#[from] WorkerError),
}

impl InboxError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Kafka(_) => Cause::Dependency,
            Self::Bury(error) => error.cause(),
            Self::Worker(error) => error.cause(),
            Self::Store(error) => error.cause(),
        }
    }
}

/// Folds until `stop` is cancelled; what was read by then is folded if the store takes it at once, and read again if not.
///
/// # Errors
/// If it cannot go on; waiting would not help.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), InboxError> {
    let runtime = tokio::runtime::Handle::current();
    let body = move || {
        let (projector, consumer) = projector::Projector::new(parts, runtime)?;
        let end = projector.run(&consumer, &stop);
        consumer.leave(LEAVE_LIMIT);
        end
    };
    Worker::start("inbox".into(), body)?.ended().await
}
