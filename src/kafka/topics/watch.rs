//! The watch over the epoch, which is for ever once it has begun, and over partition counts, which are fixed for as long as it lasts.
//!
//! Owns: ending the process once another epoch has begun, or a topic has another count than its epoch: keys would lie elsewhere than
//! before, and positions and cursors would mean other records. Refuses to judge a topic that the brokers do not show just now.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tidings_core::record::meta::EpochRecord;
use tokio_util::sync::CancellationToken;

use super::epoch::{self, blocking};
use super::{Count, Plan, TopicsError};
use crate::kafka::cluster::Cluster;
use crate::kafka::said::Quiet;
use crate::telemetry::health::Role;

const INTERVAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(2);

/// What is looked at.
struct Watched {
    client: BaseConsumer<Quiet>,
    /// Topics with the number of partitions that they must keep, as soon as it is known.
    topics: Mutex<Vec<(String, Option<i32>)>>,
    meta: String,
}

/// Looks until `stop` is cancelled.
///
/// # Errors
/// If `epoch` is over, a topic has another number of partitions than it says, or a property is wrong.
pub async fn watch(
    cluster: Cluster,
    plan: Plan,
    epoch: EpochRecord,
    role: Role,
    stop: CancellationToken,
) -> Result<(), TopicsError> {
    let own = plan.of_epoch(&epoch).topics(0).into_iter().map(|topic| match topic.count {
        Count::OfEpoch => (topic.name, Some(topic.partitions)),
        Count::Any => (topic.name, None),
    });
    let (topics, meta) = (Mutex::new(own.collect()), cluster.names().meta());
    let watched = Arc::new(Watched { client: cluster.client("topics").create_with_context(Quiet)?, topics, meta });
    let mut known_end = None;
    loop {
        let asked = Arc::clone(&watched);
        let (end, change) = blocking(move || Ok((asked.end(), asked.change()))).await?;
        if end.is_some() && end != known_end {
            match epoch::read(&cluster).await {
                Ok(found) => {
                    known_end = end;
                    if let Some(why) = found.and_then(|found| later(&epoch, &found)) {
                        return Err(stop_for(&role, why));
                    }
                    role.ready();
                }
                Err(error @ TopicsError::Epoch { .. }) => {
                    known_end = end;
                    unread(&role, &error);
                }
                // What the brokers do not say is asked again.
                Err(_) => {}
            }
        }
        if let Some(why) = change {
            return Err(stop_for(&role, why));
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// The last record does not read, as one of a later release. What it says may concern us or not: the process goes on by what it knows,
/// and says that it should not be counted on.
fn unread(role: &Role, error: &TopicsError) {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let why = format!("{error}: {source}; going on as before");
    tracing::error!("{why}");
    role.waiting(why);
}

fn stop_for(role: &Role, why: String) -> TopicsError {
    role.waiting(&why);
    TopicsError::Wrong(vec![why])
}

/// Whether another epoch has begun, in words.
fn later(ours: &EpochRecord, found: &EpochRecord) -> Option<String> {
    (found.epoch != ours.epoch).then(|| {
        format!(
            "epoch {} with {} partitions has begun, and this process serves epoch {}: it stops; start it again",
            found.epoch, found.partitions, ours.epoch
        )
    })
}

impl Watched {
    /// Where `meta` ends: behind the record of the epoch in force.
    fn end(&self) -> Option<i64> {
        self.client.fetch_watermarks(&self.meta, 0, PATIENCE).ok().map(|(_, end)| end)
    }

    /// What has changed, in words.
    fn change(&self) -> Option<String> {
        self.topics.lock().iter_mut().find_map(|(name, expected)| {
            let metadata = self.client.fetch_metadata(Some(name), PATIENCE).ok()?;
            let found = metadata.topics().first().filter(|topic| topic.error().is_none())?.partitions().len();
            let found = i32::try_from(found).ok().filter(|found| *found > 0)?;
            let expected = *expected.get_or_insert(found);
            (found != expected).then(|| {
                format!(
                    "topic {name} has {found} partitions, and had {expected}: a partition count is fixed for as long as the epoch lasts, \
                     and other topics' while a process runs. Start it again; what must not change is named then"
                )
            })
        })
    }
}
