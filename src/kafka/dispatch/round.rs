//! One round of questions about where partitions begin.
//!
//! Owns: asking nobody again within the round who did not answer, so that a round costs a few seconds however many partitions
//! it is about. Refuses to try again by itself: `handover` begins the next round. Neighbour: `start` says what the answers mean.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::clock::Clock;
use crate::kafka::consumer::{Consumer, Partition};

/// How long the brokers may take for each answer.
const WAIT: Duration = Duration::from_secs(3);
/// How long all answers of a round may take: the group goes on without a member that asks for minutes. What is not asked then is asked in
/// the next round.
const ROUND: Duration = Duration::from_secs(30);

pub(super) struct Round<'a> {
    consumer: &'a Consumer,
    clock: Clock,
    /// The broker that leads each partition of the topics that were asked about; none if there is none now.
    leaders: HashMap<Arc<str>, BTreeMap<i32, Option<i32>>>,
    /// What came instead of an answer that any broker, or the group's, could have given.
    silence: Option<KafkaError>,
    /// The same of single brokers.
    silent: HashMap<i32, KafkaError>,
}

impl<'a> Round<'a> {
    pub(super) fn new(consumer: &'a Consumer) -> Self {
        Self { consumer, clock: Clock::start(), leaders: HashMap::new(), silence: None, silent: HashMap::new() }
    }

    /// What the group has committed of each partition of a topic.
    pub(super) fn committed(&mut self, topic: &Arc<str>) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
        let leaders = self.ask(|consumer| consumer.leaders(topic, WAIT))?;
        let all = leaders.keys().map(|number| Partition { topic: Arc::clone(topic), number: *number }).collect::<Vec<_>>();
        self.leaders.insert(Arc::clone(topic), leaders);
        let answer = self.ask(|consumer| consumer.committed(&all, WAIT))?;
        Ok(answer.into_iter().map(|(partition, offset)| (partition.number, offset)).collect())
    }

    /// The first offset of a partition and the one behind its last. Its topic was asked about before.
    pub(super) fn log(&mut self, partition: &Partition) -> Result<(i64, i64), KafkaError> {
        let leader = self.leaders.get(&partition.topic).and_then(|leaders| leaders.get(&partition.number)).copied().flatten();
        let leader = leader.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable))?;
        if let Some(error) = self.silent.get(&leader) {
            return Err(error.clone());
        }
        self.in_time()?;
        self.consumer.watermarks(partition, WAIT).inspect_err(|error| {
            if is_silence(error) {
                self.silent.insert(leader, error.clone());
            }
        })
    }

    /// The names of all topics.
    pub(super) fn topics(&mut self) -> Result<Vec<String>, KafkaError> {
        self.ask(|consumer| consumer.topics(WAIT))
    }

    /// Commits where partitions begin, all of them or none.
    pub(super) fn say(&mut self, starts: &[(Partition, i64)]) -> Result<(), KafkaError> {
        self.ask(|consumer| consumer.commit(starts, CommitMode::Sync))
    }

    fn ask<T>(&mut self, question: impl FnOnce(&Consumer) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
        if let Some(error) = &self.silence {
            return Err(error.clone());
        }
        self.in_time()?;
        question(self.consumer).inspect_err(|error| {
            if is_silence(error) {
                self.silence = Some(error.clone());
            }
        })
    }

    fn in_time(&self) -> Result<(), KafkaError> {
        let late = self.clock.elapsed() > ROUND;
        if late { Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)) } else { Ok(()) }
    }
}

/// Whether nobody answered, rather than somebody with a refusal.
fn is_silence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
        OperationTimedOut, RequestTimedOut, Resolve, WaitingForCoordinator,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            AllBrokersDown
                | BrokerTransportFailure
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | NotCoordinator
                | OperationTimedOut
                | RequestTimedOut
                | Resolve
                | WaitingForCoordinator
        )
    )
}

/// Whether a topic, or a partition of it, is not there, or hidden from us.
pub(super) fn is_gone(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}
