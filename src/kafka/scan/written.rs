//! How much has been written to topics by now, also by transactions that have not ended.
//!
//! Owns: the question. Who waits until a reader has passed these ends knows that it has read whatever was committed before he asked: the end
//! of what is committed may lie in front of that, as long as another transaction in front of it is open. Neighbours: `scan` reads.

use rdkafka::Offset;
use rdkafka::consumer::BaseConsumer;

use super::{PATIENCE, ScanError};
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::lists;
use crate::kafka::said::Quiet;

/// The offset behind the last record of each partition of `topics`.
///
/// # Errors
/// If a topic is not there, or the brokers do not answer.
pub fn written(cluster: &Cluster, topics: &[String]) -> Result<Vec<(Partition, i64)>, ScanError> {
    let Some(one) = topics.first() else { return Ok(Vec::new()) };
    let mut config = cluster.consumer("replay");
    config.set("isolation.level", "read_uncommitted");
    let asking: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(ScanError::brokers(cluster, one))?;
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(lists::partitions_of(&asking, topic, PATIENCE).map_err(ScanError::untold(cluster, topic))?);
    }
    lists::edges(&asking, &partitions, Offset::End, PATIENCE).map_err(ScanError::brokers(cluster, one))
}
