//! Growth: topics of the next epoch, with more partitions, beside those that are there.
//!
//! Owns: the order in which an epoch begins. Its topics are made first; its record on `meta` comes last and is the one step that counts, so
//! a kill leaves the old epoch whole, or the new one. Refuses to begin an epoch while the one before the last has not been finished: who
//! starts then would know of two epochs only. Neighbours: `app` stops what serves an earlier epoch; its couriers and inboxes finish it.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::Timestamp;

use super::epoch::{self, blocking};
use super::{Count, Made, PATIENCE, Plan, Topic, TopicsError, check_topics, create, make_own, settled};
use crate::kafka::cluster::Cluster;
use crate::kafka::said::Quiet;

/// What of an epoch's topics nobody has decided about yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The topic.
    pub topic: String,
    /// How many offsets.
    pub offsets: i64,
}

/// Makes topics with `partitions` partitions and the next epoch's record, and gives that epoch; without any epoch yet, the first one.
/// Begins none if the one in force has as many, so it can be run again after it was interrupted.
///
/// # Errors
/// If the brokers do not answer or refuse, if there would be fewer partitions than before, or if an epoch before this one is not
/// finished.
pub async fn grow(
    cluster: &Cluster,
    plan: &Plan,
    partitions: i32,
    now: Timestamp,
) -> Result<(Vec<(Topic, Made)>, Option<EpochRecord>), TopicsError> {
    let plan = plan.with_partitions(partitions);
    let before = match epoch::current(cluster).await? {
        Some(epoch) if epoch.partitions != partitions => epoch,
        _ => return Ok((create(cluster, &plan, now).await?, None)),
    };
    may_end(cluster, &plan, &before, partitions).await?;
    let next = before.next(partitions, now);
    let plan = plan.of_epoch(&next);
    let report = make_own(cluster, &plan).await?;
    settled(&report, async || check_made(cluster, &plan).await).await?;
    if epoch::current(cluster).await?.as_ref() != Some(&before) {
        return Err(wrong("somebody else has begun an epoch meanwhile: run `tidings topics check`".into()));
    }
    epoch::write_epoch(cluster, next.clone()).await?;
    Ok((report, Some(next)))
}

/// Whether another epoch may follow `before`.
async fn may_end(cluster: &Cluster, plan: &Plan, before: &EpochRecord, partitions: i32) -> Result<(), TopicsError> {
    let (epoch, now) = (before.epoch, before.partitions);
    if partitions < now {
        return Err(wrong(format!("epoch {epoch} has {now} partitions, and the next one cannot have fewer")));
    }
    let Some(earlier) = &before.earlier else { return Ok(()) };
    let left = waiting(cluster, plan, earlier).await?;
    if left.is_empty() {
        return Ok(());
    }
    let epoch = earlier.epoch;
    let left = left.into_iter().map(|Waiting { topic, offsets }| {
        format!(
            "topic {topic} of epoch {epoch} holds {offsets} offsets that are not carried over yet: wait for couriers and inboxes, or delete the \
             topic if nobody is to be sent what lies there"
        )
    });
    Err(TopicsError::Wrong(left.collect()))
}

/// Topics that an attempt before this one has made may have another size. Nobody uses them yet.
async fn check_made(cluster: &Cluster, plan: &Plan) -> Result<(), TopicsError> {
    for Topic { name, partitions, .. } in plan.topics(0).iter().filter(|topic| topic.count == Count::OfEpoch) {
        if let Some(found) = epoch::partition_count(cluster, name).await?.filter(|found| found != partitions) {
            return Err(wrong(format!(
                "topic {name} was made with {found} partitions by an attempt that did not come to its end: finish that with `tidings \
                 topics create --partitions {found}`, or delete the topic, which nobody uses yet"
            )));
        }
    }
    check_topics(cluster, plan).await
}

/// What couriers have not decided about and inboxes have not folded in the topics of `epoch`, which is over; a topic that is gone
/// holds nothing.
///
/// # Errors
/// If the brokers do not answer.
pub async fn waiting(cluster: &Cluster, plan: &Plan, epoch: &EpochRecord) -> Result<Vec<Waiting>, TopicsError> {
    let (cluster, plan) = (cluster.clone().of_epoch(epoch), plan.of_epoch(epoch));
    let decided = plan.ladder().into_iter().map(|topic| ("courier", topic));
    let folded = plan.folded().into_iter().map(|topic| ("inbox", topic));
    let mut waiting = BTreeMap::new();
    for (service, topic) in decided.chain(folded) {
        let Some(partitions) = epoch::partition_count(&cluster, &topic).await? else { continue };
        let offsets = ahead(&cluster, service, &topic, partitions).await?;
        let most = waiting.entry(topic).or_insert(0);
        *most = offsets.max(*most);
    }
    Ok(waiting.into_iter().filter(|(_, offsets)| *offsets > 0).map(|(topic, offsets)| Waiting { topic, offsets }).collect())
}

/// The offsets of a topic that the group of a service has not committed.
async fn ahead(cluster: &Cluster, service: &'static str, topic: &str, partitions: i32) -> Result<i64, TopicsError> {
    let (cluster, topic) = (cluster.clone(), topic.to_owned());
    blocking(move || {
        let consumer: BaseConsumer<Quiet> = cluster.consumer(service).create_with_context(Quiet)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, PATIENCE)?;
        let mut offsets = 0;
        for element in committed.elements() {
            element.error()?;
            let (low, high) = consumer.fetch_watermarks(&topic, element.partition(), PATIENCE)?;
            let next = if let Offset::Offset(next) = element.offset() { next.max(low) } else { low };
            offsets += (high - next).max(0);
        }
        Ok(offsets)
    })
    .await
}

fn wrong(what: String) -> TopicsError {
    TopicsError::Wrong(vec![what])
}
