//! Where the log ends, as the brokers say.
//!
//! Owns: the question, asked once for all who wait for its answer. Asked seldom: only for positions that lie ahead of what this
//! node has read, so its client lives for one question.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::reader::Reader;

const CLIENT_ID: &str = "gateway-ends";

/// The ends of the partitions of one topic.
pub(super) struct Ends {
    cluster: Cluster,
    topic: Arc<str>,
    /// The last answers and when they were asked for. Held over the question, so that who comes meanwhile gets its answer or asks
    /// the next one.
    known: Mutex<HashMap<i32, (i64, Duration)>>,
}

impl Ends {
    pub(super) fn new(cluster: Cluster, topic: Arc<str>) -> Self {
        Self { cluster, topic, known: Mutex::default() }
    }

    /// The end of a partition, not older than this call; nothing if the brokers do not say it within `wait`.
    pub(super) async fn end(&self, partition: i32, clock: Clock, wait: Duration) -> Option<i64> {
        let called = clock.elapsed();
        let mut known = timeout(wait, self.known.lock()).await.ok()?;
        if let Some((end, _)) = known.get(&partition).filter(|(_, asked)| *asked >= called) {
            return Some(*end);
        }
        let asked = clock.elapsed();
        let (cluster, place) = (self.cluster.clone(), Partition { topic: self.topic.clone(), number: partition });
        let asking = tokio::task::spawn_blocking(move || Reader::new(&cluster, CLIENT_ID)?.ends(&[place], wait));
        let answer = asking.await.ok()?.inspect_err(|error| tracing::debug!(%error, "the brokers do not say where the log ends"));
        let (_, end) = answer.ok()?.pop()?;
        known.insert(partition, (end, asked));
        Some(end)
    }
}
