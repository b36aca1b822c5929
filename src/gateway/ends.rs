//! Where the log ends, as the brokers say.
//!
//! Owns: one client for it, and the question: one at a time, for all partitions, asked once for all who wait for its answer. Asked
//! seldom: only for positions that lie ahead of what this node has read, and for devices that nothing is known of. However many clients
//! there are of either kind, the brokers are asked at most ten times a second.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::reader::Reader;

const CLIENT_ID: &str = "gateway-ends";
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// The ends of the partitions of one topic.
pub(super) struct Ends {
    cluster: Cluster,
    partitions: Arc<[Partition]>,
    /// Held over the question, also if nobody waits for it any more, so that there is never more than one.
    asked: Arc<Mutex<Asked>>,
    questions: Counter,
}

/// The last question.
#[derive(Default)]
struct Asked {
    /// Made for the first one.
    reader: Option<Reader>,
    at: Option<Duration>,
    ends: Option<Arc<[i64]>>,
}

impl Ends {
    pub(super) fn new(cluster: Cluster, topic: &str, partitions: i32, questions: Counter) -> Self {
        let topic: Arc<str> = topic.into();
        let partitions = (0..partitions).map(|number| Partition { topic: topic.clone(), number }).collect();
        Self { cluster, partitions, asked: Arc::default(), questions }
    }

    /// The end of each partition, not older than this call; nothing if the brokers do not say it within `wait`.
    pub(super) async fn all(&self, clock: Clock, wait: Duration) -> Option<Arc<[i64]>> {
        let called = clock.elapsed();
        timeout(wait, self.since(called, clock, wait)).await.ok()?
    }

    async fn since(&self, called: Duration, clock: Clock, wait: Duration) -> Option<Arc<[i64]>> {
        let mut asked = self.asked.clone().lock_owned().await;
        if asked.at.is_some_and(|at| at >= called) {
            return asked.ends.clone();
        }
        if let Some(at) = asked.at {
            sleep((at + PAUSE).saturating_sub(clock.elapsed())).await;
        }
        asked.at = Some(clock.elapsed());
        self.questions.inc();
        let (cluster, partitions) = (self.cluster.clone(), self.partitions.clone());
        let asking = tokio::task::spawn_blocking(move || {
            asked.ends = asked.ask(&cluster, &partitions, wait);
            asked.ends.clone()
        });
        asking.await.ok()?
    }
}

impl Asked {
    fn ask(&mut self, cluster: &Cluster, partitions: &[Partition], wait: Duration) -> Option<Arc<[i64]>> {
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => Reader::new(cluster, CLIENT_ID),
        };
        let ends = reader.and_then(|reader| self.reader.insert(reader).ends(partitions, wait));
        let ends = ends.inspect_err(|error| tracing::debug!(%error, "the brokers do not say where the log ends")).ok()?;
        let mut offsets = vec![0; partitions.len()];
        for (partition, end) in ends {
            *usize::try_from(partition.number).ok().and_then(|number| offsets.get_mut(number))? = end;
        }
        Some(offsets.into())
    }
}
