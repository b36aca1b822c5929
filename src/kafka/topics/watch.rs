//! The watch over partition counts, which are fixed for as long as an epoch lasts.
//!
//! Owns: ending the process once a topic of tidings' own has another count than its epoch: keys would lie elsewhere than before, and
//! positions and cursors would mean other records. Refuses to judge a topic that the brokers do not show just now.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio_util::sync::CancellationToken;

use super::epoch::blocking;
use super::{Plan, TopicsError};
use crate::kafka::cluster::Cluster;
use crate::kafka::said::Quiet;
use crate::telemetry::health::Role;

const INTERVAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks until `stop` is cancelled.
///
/// # Errors
/// If a topic has another number of partitions than `plan` says, or a property is wrong.
pub async fn watch(cluster: Cluster, plan: Plan, role: Role, stop: CancellationToken) -> Result<(), TopicsError> {
    let client: Arc<BaseConsumer<Quiet>> = Arc::new(cluster.client("topics").create_with_context(Quiet)?);
    let wanted = plan.topics(0).into_iter().map(|topic| (topic.name, topic.partitions)).collect::<Arc<[_]>>();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let (client, wanted) = (Arc::clone(&client), Arc::clone(&wanted));
        if let Some(why) = blocking(move || Ok(change(&client, &wanted))).await? {
            role.waiting(&why);
            return Err(TopicsError::Wrong(vec![why]));
        }
    }
}

/// What has changed, in words.
fn change(client: &BaseConsumer<Quiet>, wanted: &[(String, i32)]) -> Option<String> {
    wanted.iter().find_map(|(name, expected)| {
        let metadata = client.fetch_metadata(Some(name), PATIENCE).ok()?;
        let found = metadata.topics().first().filter(|topic| topic.error().is_none())?.partitions().len();
        let same = found == 0 || i32::try_from(found) == Ok(*expected);
        (!same).then(|| {
            format!(
                "topic {name} has {found} partitions, and had {expected}: a partition count is fixed for as long as the epoch lasts. \
                 Make the topics anew, with the next epoch"
            )
        })
    })
}
