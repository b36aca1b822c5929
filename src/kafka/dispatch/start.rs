//! Where a partition is read from when the group gives it to us.
//!
//! Owns: the start policy. A topic that the group has never committed anything of begins where its [`Start`] says, and that is
//! committed at once, for all its partitions; a partition that appears later is read from its first record. Refuses to skip:
//! where committed records are gone, the partition is not read. Neighbours: `dispatch`; `standing` knows which topics came late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use rdkafka::error::KafkaError;

use crate::config::Start;
use crate::kafka::consumer::{Consumer, Partition};

/// How long the brokers may take for each answer.
const WAIT: Duration = Duration::from_secs(3);

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// At this offset.
    At(i64),
    /// Nowhere: the group stands at `from`, and the log begins at `to`.
    Gone { from: i64, to: i64 },
}

/// What the group knows of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acquaintance {
    /// It has committed an offset of some partition.
    Known,
    /// It has never committed anything of it.
    New,
}

fn beginning(committed: Option<i64>, low: i64) -> Beginning {
    match committed {
        Some(from) if from < low => Beginning::Gone { from, to: low },
        Some(offset) => Beginning::At(offset),
        None => Beginning::At(low),
    }
}

/// Where each of `partitions` begins; `start` says it for a topic that is new. Blocks for as long as the brokers take.
pub(super) fn beginnings(
    consumer: &Consumer,
    partitions: &[Partition],
    start: impl Fn(&str) -> Start,
) -> Result<Vec<(Partition, Beginning)>, KafkaError> {
    let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.number);
    }
    let mut beginnings = Vec::with_capacity(partitions.len());
    for (topic, wanted) in topics {
        let mut committed = committed(consumer, topic)?;
        if acquaintance(&committed) == Acquaintance::New {
            committed = first_sight(consumer, topic, committed, start(topic))?;
        }
        for number in wanted {
            let partition = Partition { topic: Arc::clone(topic), number };
            let (low, _) = consumer.watermarks(&partition, WAIT)?;
            beginnings.push((partition, beginning(committed.get(&number).copied().flatten(), low)));
        }
    }
    Ok(beginnings)
}

type Committed = BTreeMap<i32, Option<i64>>;

fn acquaintance(committed: &Committed) -> Acquaintance {
    if committed.values().any(Option::is_some) { Acquaintance::Known } else { Acquaintance::New }
}

fn committed(consumer: &Consumer, topic: &Arc<str>) -> Result<Committed, KafkaError> {
    let count = i32::try_from(consumer.partition_count(topic, WAIT)?).unwrap_or(i32::MAX);
    let all = (0..count).map(|number| Partition { topic: Arc::clone(topic), number }).collect::<Vec<_>>();
    let answer = consumer.committed(&all, WAIT)?;
    Ok(answer.into_iter().map(|(partition, offset)| (partition.number, offset)).collect())
}

/// Commits the start of every partition of a topic, those of other members too: whoever is given one of them later must not
/// take it for one that has been added since.
fn first_sight(consumer: &Consumer, topic: &Arc<str>, seen: Committed, start: Start) -> Result<Committed, KafkaError> {
    let mut starts = Vec::with_capacity(seen.len());
    for number in seen.into_keys() {
        let partition = Partition { topic: Arc::clone(topic), number };
        let (low, high) = consumer.watermarks(&partition, WAIT)?;
        starts.push((partition, if start == Start::End { high } else { low }));
    }
    consumer.commit(&starts, CommitMode::Sync)?;
    tracing::info!(%topic, ?start, partitions = starts.len(), "topic seen for the first time; where it is read from is committed");
    Ok(starts.into_iter().map(|(partition, offset)| (partition.number, Some(offset))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_within_the_log_is_where_reading_goes_on() {
        assert_eq!(beginning(Some(7), 7), Beginning::At(7));
        assert_eq!(beginning(Some(9), 7), Beginning::At(9));
    }

    #[test]
    fn a_committed_offset_below_the_log_stops_the_partition_and_names_the_range() {
        assert_eq!(beginning(Some(3), 7), Beginning::Gone { from: 3, to: 7 });
    }

    #[test]
    fn a_partition_that_appears_later_is_read_from_its_first_record() {
        assert_eq!(beginning(None, 0), Beginning::At(0));
        assert_eq!(beginning(None, 7), Beginning::At(7));
    }

    #[test]
    fn a_topic_is_new_only_if_no_partition_was_ever_committed() {
        assert_eq!(acquaintance(&BTreeMap::from([(0, None), (1, None)])), Acquaintance::New);
        assert_eq!(acquaintance(&BTreeMap::from([(0, None), (1, Some(0))])), Acquaintance::Known);
    }
}
