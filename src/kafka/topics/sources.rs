//! The domain topics that are there: what expressions of the configuration mean now, and how large records may be.

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::epoch::blocking;
use super::{PATIENCE, Plan, TopicsError, plan, settings};
use crate::kafka::cluster::Cluster;
use crate::kafka::said::Quiet;

/// The largest `max.message.bytes` of the domain topics that are there; what cannot be asked counts as the brokers' default.
pub(super) async fn largest_bytes(cluster: &Cluster, admin: &AdminClient<Quiet>, plan: &Plan) -> Result<i64, TopicsError> {
    let sources = present(cluster, plan).await?;
    let sources = sources.iter().map(String::as_str).collect::<Vec<_>>();
    let limits = settings(admin, &sources).await?.into_iter().flatten().filter_map(|found| {
        let entry = found.into_iter().find(|entry| entry.name == "max.message.bytes")?;
        entry.value?.parse::<i64>().ok()
    });
    Ok(limits.max().unwrap_or(plan::DEFAULT_MESSAGE_BYTES))
}

/// Every topic that is named, there or not, and those that are there for an expression.
async fn present(cluster: &Cluster, plan: &Plan) -> Result<Vec<String>, TopicsError> {
    let named = plan.named_sources().map(str::to_owned).collect::<Vec<_>>();
    if named.len() == plan.sources().len() {
        return Ok(named);
    }
    let (cluster, patterns) = (cluster.clone(), plan.sources().to_vec());
    blocking(move || {
        let consumer: BaseConsumer<Quiet> = cluster.consumer("topics").create_with_context(Quiet)?;
        let metadata = consumer.fetch_metadata(None, PATIENCE)?;
        let there = metadata.topics().iter().map(|topic| topic.name().to_owned());
        let meant = there.filter(|topic| patterns.iter().any(|pattern| pattern.name().is_none() && pattern.matches(topic)));
        Ok(named.into_iter().chain(meant).collect())
    })
    .await
}
