//! Where a partition is read from when the group gives it to us.
//!
//! Owns: the start policy. What an entry of the configuration means and the group has never committed anything of begins where its
//! [`Start`] says; a partition or topic that appears later is read from its first record. One member says it for all, in one
//! commit: who has the first partition. The others wait for that. Neighbours: `dispatch`; `standing` knows which topics came late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use rdkafka::error::KafkaError;

use crate::config::{Start, TopicPattern};
use crate::kafka::consumer::{Consumer, Partition};

/// How long the brokers may take for each answer.
const WAIT: Duration = Duration::from_secs(3);

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// At this offset.
    At(i64),
    /// The group stands at `from`, and the log begins at `to`.
    Gone { from: i64, to: i64 },
    /// Whoever has the first partition has not said it yet; the log begins at `low`.
    Unsaid { low: i64 },
}

/// What decides where a new topic begins.
pub(super) struct Policy<'a> {
    pub(super) topics: &'a [TopicPattern],
    pub(super) start: &'a dyn Fn(&str) -> Start,
}

impl Policy<'_> {
    /// The entry that a topic is read for: its name, if that is there, else the first that matches.
    fn entry(&self, topic: &str) -> Option<usize> {
        let named = self.topics.iter().position(|pattern| pattern.name() == Some(topic));
        named.or_else(|| self.topics.iter().position(|pattern| pattern.matches(topic)))
    }
}

/// What the group has committed of a topic, by partition.
type Committed = BTreeMap<i32, Option<i64>>;

/// Where each of `partitions` begins. Blocks for as long as the brokers take.
pub(super) fn beginnings(
    consumer: &Consumer,
    partitions: &[Partition],
    policy: &Policy<'_>,
) -> Result<Vec<(Partition, Beginning)>, KafkaError> {
    let mut entries = BTreeMap::<Option<usize>, Vec<&Partition>>::new();
    for partition in partitions {
        entries.entry(policy.entry(&partition.topic)).or_default().push(partition);
    }
    let mut beginnings = Vec::with_capacity(partitions.len());
    for (entry, wanted) in entries {
        let known = starts(consumer, entry, &wanted, policy)?;
        for partition in wanted {
            let (low, _) = consumer.watermarks(partition, WAIT)?;
            let found = known.as_ref().map(|known| known.get(partition).copied());
            beginnings.push((partition.clone(), beginning(found, low)));
        }
    }
    Ok(beginnings)
}

/// `committed`: none if nobody has said yet where its entry begins; none within for a partition that appeared later.
fn beginning(committed: Option<Option<i64>>, low: i64) -> Beginning {
    match committed {
        None => Beginning::Unsaid { low },
        Some(None) => Beginning::At(low),
        Some(Some(from)) if from < low => Beginning::Gone { from, to: low },
        Some(Some(offset)) => Beginning::At(offset),
    }
}

/// What is committed of the partitions of an entry, as far as it is; none if nothing is and it is not on us to say it.
fn starts(
    consumer: &Consumer,
    entry: Option<usize>,
    wanted: &[&Partition],
    policy: &Policy<'_>,
) -> Result<Option<BTreeMap<Partition, i64>>, KafkaError> {
    let wanted_topics = wanted.iter().map(|partition| (Arc::clone(&partition.topic), ())).collect::<BTreeMap<_, ()>>();
    let mut all = BTreeMap::new();
    for topic in wanted_topics.into_keys() {
        all.insert(Arc::clone(&topic), committed(consumer, &topic)?);
    }
    if wanted.iter().any(|partition| is_uncommitted(&all, partition)) {
        for topic in siblings(consumer, entry, policy)? {
            if !all.contains_key(&topic) {
                all.insert(Arc::clone(&topic), committed(consumer, &topic)?);
            }
        }
        if all.values().flat_map(Committed::values).all(Option::is_none) {
            return if is_ours_to_say(&all, wanted) { first_sight(consumer, &all, policy).map(Some) } else { Ok(None) };
        }
    }
    let placed = |(topic, committed): (Arc<str>, Committed)| {
        let place = move |(number, offset): (i32, Option<i64>)| {
            offset.map(|offset| (Partition { topic: Arc::clone(&topic), number }, offset))
        };
        committed.into_iter().filter_map(place)
    };
    Ok(Some(all.into_iter().flat_map(placed).collect()))
}

fn is_uncommitted(all: &BTreeMap<Arc<str>, Committed>, partition: &Partition) -> bool {
    all.get(&partition.topic).and_then(|committed| committed.get(&partition.number)).copied().flatten().is_none()
}

/// A group gives each partition to one member, and takes commits only from members of its present generation: so no two members
/// say at the same time where an entry begins.
fn is_ours_to_say(all: &BTreeMap<Arc<str>, Committed>, wanted: &[&Partition]) -> bool {
    let first = all.first_key_value().map(|(topic, _)| topic);
    wanted.iter().any(|partition| partition.number == 0 && Some(&partition.topic) == first)
}

/// The topics that are there for an entry with an expression; a name's only topic is known already.
fn siblings(consumer: &Consumer, entry: Option<usize>, policy: &Policy<'_>) -> Result<Vec<Arc<str>>, KafkaError> {
    let expression = entry.and_then(|entry| policy.topics.get(entry)).filter(|pattern| pattern.name().is_none());
    let Some(pattern) = expression else { return Ok(Vec::new()) };
    let topics = consumer.topics(WAIT)?.into_iter();
    Ok(topics.filter(|topic| pattern.matches(topic) && policy.entry(topic) == entry).map(Arc::from).collect())
}

fn committed(consumer: &Consumer, topic: &Arc<str>) -> Result<Committed, KafkaError> {
    let count = i32::try_from(consumer.partition_count(topic, WAIT)?).unwrap_or(i32::MAX);
    let all = (0..count).map(|number| Partition { topic: Arc::clone(topic), number }).collect::<Vec<_>>();
    let answer = consumer.committed(&all, WAIT)?;
    Ok(answer.into_iter().map(|(partition, offset)| (partition.number, offset)).collect())
}

/// Commits the start of every partition of an entry's topics, those of other members too, in one request: whoever is given one of
/// them later must not take it for one that has been added since.
fn first_sight(
    consumer: &Consumer,
    all: &BTreeMap<Arc<str>, Committed>,
    policy: &Policy<'_>,
) -> Result<BTreeMap<Partition, i64>, KafkaError> {
    let mut starts = Vec::new();
    for (topic, seen) in all {
        let start = (policy.start)(topic);
        for number in seen.keys() {
            let partition = Partition { topic: Arc::clone(topic), number: *number };
            let (low, high) = consumer.watermarks(&partition, WAIT)?;
            starts.push((partition, if start == Start::End { high } else { low }));
        }
        tracing::info!(%topic, ?start, partitions = seen.len(), "topic seen for the first time; where it is read from is committed");
    }
    consumer.commit(&starts, CommitMode::Sync)?;
    Ok(starts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_within_the_log_is_where_reading_goes_on() {
        assert_eq!(beginning(Some(Some(7)), 7), Beginning::At(7));
        assert_eq!(beginning(Some(Some(9)), 7), Beginning::At(9));
    }

    #[test]
    fn a_committed_offset_below_the_log_names_the_range_that_is_gone() {
        assert_eq!(beginning(Some(Some(3)), 7), Beginning::Gone { from: 3, to: 7 });
    }

    #[test]
    fn a_partition_that_appears_later_is_read_from_its_first_record() {
        assert_eq!(beginning(Some(None), 0), Beginning::At(0));
        assert_eq!(beginning(Some(None), 7), Beginning::At(7));
    }

    #[test]
    fn of_all_members_only_the_one_with_the_first_partition_says_where_an_entry_begins() {
        let topic = |name: &str| (Arc::<str>::from(name), BTreeMap::from([(0, None), (1, None)]));
        let all = BTreeMap::from([topic("b"), topic("a")]);
        let partition = |topic: &str, number| Partition { topic: topic.into(), number };
        let ours = |partitions: &[Partition]| is_ours_to_say(&all, &partitions.iter().collect::<Vec<_>>());
        assert!(ours(&[partition("b", 1), partition("a", 0)]));
        assert!(!ours(&[partition("b", 0), partition("a", 1)]));
        assert_eq!(beginning(None, 7), Beginning::Unsaid { low: 7 });
    }

    #[test]
    fn a_topic_belongs_to_its_name_before_any_expression() {
        let topics = ["^a.*", "ab", "^.b"].map(|text| text.parse::<TopicPattern>().unwrap());
        let policy = Policy { topics: &topics, start: &|_| Start::End };
        assert_eq!(["ab", "ac", "bb", "cc"].map(|topic| policy.entry(topic)), [Some(1), Some(0), Some(2), None]);
    }
}
