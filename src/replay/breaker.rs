//! Resetting breakers: a word to every node, and a record of who said it.

use tidings_core::ids::{NodeId, UserId};
use tidings_core::record::audit::{AuditRecord, BreakerReset};
use tidings_core::record::signal::SignalRecord;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ReplayError;
use super::scribe::Scribe;
use crate::kafka::cluster::Cluster;

/// Tells all nodes to read `topic` again now, or every topic that a breaker stopped; what they make of it, each says itself. Blocks until
/// the brokers have it.
///
/// # Errors
/// If they do not take it, or the caller stopped it.
pub fn reset_breaker(
    cluster: &Cluster,
    (who, node): (UserId, NodeId),
    topic: Option<String>,
    stop: &CancellationToken,
) -> Result<Uuid, ReplayError> {
    let mut scribe = Scribe::new(cluster, stop)?;
    let id = Uuid::new_v4();
    let reset = BreakerReset { id, who, node: node.clone(), topic };
    // Who did it is known before anybody acts on it.
    scribe.tell(&AuditRecord::BreakerReset(reset.clone()))?;
    scribe.signal(&node, &SignalRecord::ResetBreaker(reset))?;
    Ok(id)
}
