//! Whether the pipeline has decided about all requests that lay on the log at a question.
//!
//! Owns: one client that asks the brokers where `requests` ends and how far the pipeline's group has committed it, one question at a time.
//! What is committed is decided, and all that follows from it is on the log. Refuses to wait longer than its caller says.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::reader::Reader;

const CLIENT_ID: &str = "http-requests";
/// Whose group decides.
const PIPELINE: &str = "pipeline";
/// How long the brokers may take for one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks how far the pipeline is.
pub(in crate::http::rest) struct Decided {
    cluster: Cluster,
    /// How long who withdraws may have to wait for all that follows from a request.
    pub(super) limit: Duration,
    clock: Clock,
    /// Made for the first question. Held over each, also if nobody waits for it any more, so that there is never more than one.
    reader: Arc<Mutex<Option<Reader>>>,
}

impl Decided {
    pub(in crate::http::rest) fn new(cluster: &Cluster, limit: Duration, clock: Clock) -> Self {
        Self { cluster: cluster.clone(), limit, clock, reader: Arc::default() }
    }

    /// Whether all that `requests` holds now is decided at `until`, by monotonic time, at the latest.
    pub(super) async fn all(&self, until: Duration) -> bool {
        match self.reached(until).await {
            Ok(is_reached) => is_reached,
            Err(error) => {
                tracing::debug!(%error, "the brokers do not say how far the pipeline is");
                false
            }
        }
    }

    async fn reached(&self, until: Duration) -> Result<bool, KafkaError> {
        let topic = self.cluster.names().requests();
        let ends = self.ask(move |reader| held(reader, &topic)).await?;
        let partitions = ends.iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        loop {
            let asked = partitions.clone();
            let committed = self.ask(move |reader| reader.committed(&asked, ANSWER)).await?;
            let has_passed = |(partition, end): &(Partition, i64)| {
                committed.iter().any(|(known, next)| known == partition && next.is_some_and(|next| next >= *end))
            };
            if ends.iter().all(has_passed) {
                return Ok(true);
            }
            if self.clock.elapsed() >= until {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (mut kept, cluster) = (self.reader.clone().lock_owned().await, self.cluster.clone());
        let asking = tokio::task::spawn_blocking(move || {
            let reader = match kept.take() {
                Some(reader) => reader,
                None => Reader::beside(&cluster, PIPELINE, CLIENT_ID)?,
            };
            question(kept.insert(reader))
        });
        asking.await.unwrap_or(Err(KafkaError::Canceled))
    }
}

/// The end of each partition that holds anything.
fn held(reader: &Reader, topic: &str) -> Result<Vec<(Partition, i64)>, KafkaError> {
    let partitions = reader.partitions(topic, ANSWER)?;
    let firsts = reader.beginnings(&partitions, ANSWER)?;
    let mut ends = reader.ends(&partitions, ANSWER)?;
    ends.retain(|(partition, end)| firsts.iter().any(|(known, first)| known == partition && first < end));
    Ok(ends)
}
