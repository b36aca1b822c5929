//! Where a partition is read from when the group gives it to us.
//!
//! Owns: the start policy. What an entry of the configuration means and the group has never committed anything of begins where its
//! [`Start`] says; a partition or topic that appears later is read from its first record. One member says it for all, in one
//! commit: who has the first partition. The others wait for that. What cannot be asked concerns its own partitions, and no
//! others. Neighbours: `round` asks the brokers; `handover` holds what has no beginning yet; `standing` knows which topics came late.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Plan;
use super::round::{Round, is_gone};
use crate::config::Start;
use crate::kafka::consumer::{Consumer, Partition};

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// At this offset.
    At(i64),
    /// The group stands at `from`, and the log begins at `to`.
    Gone { from: i64, to: i64 },
    /// Whoever has the first partition has not said it yet.
    Unsaid,
}

/// Where each partition begins, or why that is not known.
pub(super) type Beginnings = Vec<(Partition, Result<Beginning, KafkaError>)>;

/// What decides where a new topic begins.
pub(super) struct Policy<'a> {
    pub(super) plan: &'a Plan,
    pub(super) start: &'a dyn Fn(&str) -> Start,
}

impl Policy<'_> {
    /// The topics of `there` that are read for an entry with an expression; none for a name, whose only topic is known already.
    fn siblings(
        &self,
        entry: Option<usize>,
        there: impl FnOnce() -> Result<Vec<String>, KafkaError>,
    ) -> Result<Vec<Arc<str>>, KafkaError> {
        let expression = entry.and_then(|entry| self.plan.topics.get(entry)).filter(|pattern| pattern.name().is_none());
        let Some(pattern) = expression else { return Ok(Vec::new()) };
        let topics = there()?.into_iter();
        Ok(topics.filter(|topic| pattern.matches(topic) && self.plan.entry(topic) == entry).map(Arc::from).collect())
    }
}

/// Where each of `partitions` begins. Blocks for as long as the brokers take, and for a few seconds at most on those that don't
/// answer.
pub(super) fn beginnings(consumer: &Consumer, partitions: &[Partition], policy: &Policy<'_>) -> Beginnings {
    let mut round = Round::new(consumer);
    let mut entries = BTreeMap::<Option<usize>, Vec<&Partition>>::new();
    for partition in partitions {
        entries.entry(policy.plan.entry(&partition.topic)).or_default().push(partition);
    }
    entries.into_iter().flat_map(|(entry, wanted)| of_entry(&mut round, entry, &wanted, policy)).collect()
}

fn of_entry(round: &mut Round<'_>, entry: Option<usize>, wanted: &[&Partition], policy: &Policy<'_>) -> Beginnings {
    let mut known = Known::default();
    wanted.iter().for_each(|partition| known.ask(round, &partition.topic));
    let uncommitted = wanted.iter().any(|partition| matches!(known.commit(partition), Ok(None)));
    let said = if uncommitted { said(round, entry, wanted, policy, &mut known) } else { Ok(Said::Yes) };
    let begins = |partition: &Partition| match (known.commit(partition)?, &said) {
        (None, Err(error)) => Err(error.clone()),
        (None, Ok(Said::NotYet)) => Ok(Beginning::Unsaid),
        (committed, _) => round.log(partition).map(|(low, _)| beginning(committed, low)),
    };
    let mut begins = begins;
    wanted.iter().map(|partition| ((*partition).clone(), begins(partition))).collect()
}

/// `committed`: none for a partition that appeared after its entry had begun.
fn beginning(committed: Option<i64>, low: i64) -> Beginning {
    match committed {
        None => Beginning::At(low),
        Some(from) if from < low => Beginning::Gone { from, to: low },
        Some(offset) => Beginning::At(offset),
    }
}

/// What the group has committed of a topic, by partition.
type Committed = BTreeMap<i32, Option<i64>>;

/// What could be asked about the topics of an entry.
#[derive(Default)]
struct Known {
    topics: BTreeMap<Arc<str>, Committed>,
    /// Why the others could not.
    unknown: BTreeMap<Arc<str>, KafkaError>,
}

impl Known {
    fn ask(&mut self, round: &mut Round<'_>, topic: &Arc<str>) {
        if self.topics.contains_key(topic) || self.unknown.contains_key(topic) {
            return;
        }
        match round.committed(topic) {
            Ok(committed) => {
                self.topics.insert(Arc::clone(topic), committed);
            }
            Err(error) => {
                self.unknown.insert(Arc::clone(topic), error);
            }
        }
    }

    /// What is committed of a partition, if its topic could be asked about.
    fn commit(&self, partition: &Partition) -> Result<Option<i64>, KafkaError> {
        if let Some(error) = self.unknown.get(&partition.topic) {
            return Err(error.clone());
        }
        let committed = self.topics.get(&partition.topic);
        Ok(committed.and_then(|committed| committed.get(&partition.number)).copied().flatten())
    }

    fn is_begun(&self) -> bool {
        self.topics.values().flat_map(Committed::values).any(Option::is_some)
    }

    /// Why it is not known whether the entry has begun. A topic that is not there any more takes no part in that.
    fn doubt(&self) -> Option<&KafkaError> {
        self.unknown.values().find(|error| !is_gone(error))
    }

    /// A group gives each partition to one member, and takes commits only from members of its present generation: so no two
    /// members say at the same time where an entry begins.
    fn is_ours_to_say(&self, wanted: &[&Partition]) -> bool {
        let first = self.topics.first_key_value().map(|(topic, _)| topic);
        wanted.iter().any(|partition| partition.number == 0 && Some(&partition.topic) == first)
    }
}

/// Whether it has been said where an entry begins.
enum Said {
    Yes,
    NotYet,
}

/// Looks whether the entry has begun, and says where it begins if that is on us.
fn said(
    round: &mut Round<'_>,
    entry: Option<usize>,
    wanted: &[&Partition],
    policy: &Policy<'_>,
    known: &mut Known,
) -> Result<Said, KafkaError> {
    for topic in policy.siblings(entry, || round.topics())? {
        known.ask(round, &topic);
    }
    if known.is_begun() {
        return Ok(Said::Yes);
    }
    match known.doubt() {
        Some(error) => Err(error.clone()),
        None if known.is_ours_to_say(wanted) => first_sight(round, known, policy),
        None => Ok(Said::NotYet),
    }
}

/// Commits the start of every partition of an entry's topics, those of other members too, in one request: whoever is given one of
/// them later must not take it for one that has been added since. So all of them must be known.
fn first_sight(round: &mut Round<'_>, known: &mut Known, policy: &Policy<'_>) -> Result<Said, KafkaError> {
    let mut starts = Vec::new();
    for (topic, seen) in &known.topics {
        let start = (policy.start)(topic);
        for number in seen.keys() {
            let partition = Partition { topic: Arc::clone(topic), number: *number };
            let (low, high) = round.log(&partition)?;
            starts.push((partition, if start == Start::End { high } else { low }));
        }
    }
    match round.say(&starts) {
        Ok(()) => {}
        // Whoever has the first partition after that says it.
        Err(error) if is_changing_hands(&error) => {
            tracing::debug!(%error, "the group is giving partitions out anew; where topics begin is said behind that");
            return Ok(Said::NotYet);
        }
        Err(error) => return Err(error),
    }
    for (topic, seen) in &known.topics {
        let start = (policy.start)(topic);
        tracing::info!(%topic, ?start, partitions = seen.len(), "topic seen for the first time; where it is read from is committed");
    }
    for (partition, offset) in starts {
        known.topics.entry(partition.topic).or_default().insert(partition.number, Some(offset));
    }
    Ok(Said::Yes)
}

/// Whether the group refuses a commit because it does not count us in as it did when it gave us our partitions. The next
/// assignment brings them again, to us or to others; it comes only once we have answered this one.
fn is_changing_hands(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AssignmentLost, FencedInstanceId, FencedMemberEpoch, IllegalGeneration, RebalanceInProgress, StaleMemberEpoch,
        UnknownMemberId,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            UnknownMemberId
                | IllegalGeneration
                | RebalanceInProgress
                | FencedInstanceId
                | FencedMemberEpoch
                | StaleMemberEpoch
                | AssignmentLost
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, number: i32) -> Partition {
        Partition { topic: topic.into(), number }
    }

    #[test]
    fn a_committed_offset_within_the_log_is_where_reading_goes_on() {
        assert_eq!(beginning(Some(7), 7), Beginning::At(7));
        assert_eq!(beginning(Some(9), 7), Beginning::At(9));
    }

    #[test]
    fn a_committed_offset_below_the_log_names_the_range_that_is_gone() {
        assert_eq!(beginning(Some(3), 7), Beginning::Gone { from: 3, to: 7 });
    }

    #[test]
    fn a_partition_that_appears_later_is_read_from_its_first_record() {
        assert_eq!(beginning(None, 0), Beginning::At(0));
        assert_eq!(beginning(None, 7), Beginning::At(7));
    }

    fn known(topics: &[&str]) -> Known {
        let uncommitted = |name: &&str| (Arc::<str>::from(*name), BTreeMap::from([(0, None), (1, None)]));
        Known { topics: topics.iter().map(uncommitted).collect(), unknown: BTreeMap::new() }
    }

    #[test]
    fn of_all_members_only_the_one_with_the_first_partition_says_where_an_entry_begins() {
        let known = known(&["b", "a"]);
        let ours = |partitions: &[Partition]| known.is_ours_to_say(&partitions.iter().collect::<Vec<_>>());
        assert!(ours(&[partition("b", 1), partition("a", 0)]));
        assert!(!ours(&[partition("b", 0), partition("a", 1)]));
    }

    #[test]
    fn a_topic_that_is_gone_leaves_no_doubt_and_one_that_cannot_be_asked_about_does() {
        let mut known = known(&["a"]);
        let unknown = |code| KafkaError::MetadataFetch(code);
        known.unknown.insert("gone".into(), unknown(RDKafkaErrorCode::UnknownTopicOrPartition));
        assert_eq!((known.doubt(), known.is_begun()), (None, false));
        known.unknown.insert("hidden".into(), unknown(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(known.doubt(), Some(&unknown(RDKafkaErrorCode::TopicAuthorizationFailed)));
        assert!(known.commit(&partition("hidden", 0)).is_err());
        assert_eq!(known.commit(&partition("a", 1)), Ok(None), "the others have their answers");
    }

    #[test]
    fn what_a_member_is_refused_while_the_group_changes_is_left_to_the_next_assignment() {
        let refused = |code| is_changing_hands(&KafkaError::ConsumerCommit(code));
        use RDKafkaErrorCode as Code;
        let member = [Code::UnknownMemberId, Code::IllegalGeneration, Code::FencedInstanceId, Code::RebalanceInProgress];
        assert!(member.into_iter().chain([Code::StaleMemberEpoch, Code::FencedMemberEpoch]).all(refused));
        assert!(!refused(Code::CoordinatorNotAvailable) && !refused(Code::UnknownTopicOrPartition));
    }
}
