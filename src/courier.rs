//! The courier: gets what was not acknowledged tried again, and ends what never is.
//!
//! Owns: one thread that reads `notifications` and every retry topic as a member of a group, waits for what is due, and moves
//! it on in transactions. Refuses to decide before the projection has passed: a store that is behind or away burns no attempt. A topic that
//! takes nothing holds up only what would go there.
//! Neighbours: `core::delivery` decides, `store` has the evidence; gateways hear of attempts by `signals`.

mod attempt;
mod carry;
mod ends;
mod hour;
mod line;
mod member;
mod metrics;
mod plan;
mod proof;
mod round;
mod rung;

use std::time::Duration;

use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::RecordError;
use tidings_core::record::meta::EpochRecord;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::CourierConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::transaction::TransactionError;
use crate::store::{Store, StoreError};
use crate::telemetry::health::Role;
use crate::telemetry::{Metrics, Traces};
use crate::worker::{Worker, WorkerError};

/// How long leaving the group may take. Brokers that are away must not hold up the end of the process.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// What the courier needs.
pub struct Parts {
    /// The cluster.
    pub cluster: Cluster,
    /// Its section.
    pub config: CourierConfig,
    /// The generation of the topics.
    pub epoch: EpochRecord,
    /// The topic that notifications are carried over to, if that generation is over.
    pub onward: Option<String>,
    /// Who attempts; also part of the transactional id, so no two processes may share it.
    pub node: NodeId,
    /// The clock.
    pub clock: Clock,
    /// The store it reads.
    pub store: Store,
    /// Where its metrics are registered.
    pub metrics: Metrics,
    /// What is done is shown in.
    pub traces: Traces,
    /// Its health.
    pub role: Role,
}

/// Why the courier ended.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// librdkafka gave up or refused.
    #[error("the courier can no longer read the log")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// No transaction is possible.
    #[error("the courier can no longer write")]
    Transaction(#[from] TransactionError),
    /// Taken away again sooner than a transaction can run out of time.
    #[error("the courier's transactional id was taken away twice in a row: does another process run with the same `node.id`?")]
    Contested(#[source] TransactionError),
    /// The store says no for good.
    #[error("the courier can no longer read the store")]
    Store(#[from] StoreError),
    /// A record could not be encoded.
    #[error("the courier could not write a record")]
    Record(#[from] RecordError),
    /// Its thread.
    #[error("the courier cannot go on")]
    Worker(#[from] WorkerError),
}

impl CourierError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Kafka(_) => Cause::Dependency,
            Self::Worker(error) => error.cause(),
            Self::Transaction(error) => error.cause(),
            Self::Contested(_) => Cause::Refused,
            Self::Store(error) => error.cause(),
            Self::Record(_) => Cause::Bug,
        }
    }
}

/// Moves deliveries on until `stop` is cancelled. A transaction that has begun is ended first; what merely waits, waits on the
/// log.
///
/// # Errors
/// If it cannot go on; waiting would not help.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), CourierError> {
    let runtime = tokio::runtime::Handle::current();
    let body = move || {
        let (member, consumer) = member::Member::new(parts, runtime)?;
        let end = member.run(&consumer, &stop);
        consumer.leave(LEAVE_LIMIT);
        end
    };
    Worker::start("courier".into(), body)?.ended().await
}
