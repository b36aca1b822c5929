//! tidings' own topics: making them, checking them, and the epoch they belong to.
//!
//! Owns: which topics there must be, with how many partitions and which settings. Refuses to change a topic that is there: what
//! is wrong is said, with what to do. Neighbours: `topic` has the names, `app` checks at start, `cli` creates, `grow` begins epochs.

mod epoch;
mod grow;
mod plan;
mod sources;
mod watch;

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidings_core::fate::Cause;
use tidings_core::position::Epoch;
use tidings_core::record::RecordError;
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::Timestamp;

use super::cluster::{Cluster, Flavour};
use super::said::Quiet;
use crate::clock::Clock;
pub use epoch::write_epoch;
pub use grow::{Waiting, grow, waiting};
pub use plan::{Count, NOTIFICATIONS_KEPT, Plan, RECEIPTS_KEPT, Topic, UNDELIVERED_KEPT};
pub use watch::watch;

const PATIENCE: Duration = Duration::from_secs(10);
/// How long new topics may take until every broker knows of them and who leads them.
const SETTLING: Duration = Duration::from_secs(45);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why topics could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The brokers did not answer, or refused the question.
    #[error("the brokers did not answer a question about topics")]
    Brokers(#[from] KafkaError),
    /// The brokers refused to make a topic.
    #[error("{topic} was not made: {code}")]
    Refused {
        /// Which.
        topic: String,
        /// Why, in Kafka's words.
        code: RDKafkaErrorCode,
    },
    /// The epoch's record does not read.
    #[error("the epoch on {place}")]
    Epoch {
        /// Where it lies, or is to lie.
        place: String,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// Topics are missing or not as they must be; each with what to do.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

impl TopicsError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            // Of a later release: waited for as for any other dependency, until it is taken back or we are upgraded.
            Self::Brokers(_) | Self::Epoch { source: RecordError::Newer { .. }, .. } => Cause::Dependency,
            Self::Refused { .. } | Self::Wrong(_) | Self::Epoch { .. } => Cause::Refused,
        }
    }
}

/// What [`create`] did with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was not there, and is now.
    Created,
    /// It was there, and was not touched.
    Kept,
}

/// Makes every topic of the epoch that is not there, and the first epoch if there is none.
///
/// # Errors
/// If the brokers do not answer or refuse, or what is there is not as it must be.
pub async fn create(cluster: &Cluster, plan: &Plan, now: Timestamp) -> Result<Vec<(Topic, Made)>, TopicsError> {
    let plan = planned(cluster, plan).await?;
    let report = make_own(cluster, &plan).await?;
    settled(&report, async || {
        epoch::ensure(cluster, plan.partitions(), now).await?;
        check(cluster, &plan).await.map(|_| ())
    })
    .await?;
    Ok(report)
}

/// The epoch that is on `meta`, which must be there.
///
/// # Errors
/// If the brokers do not answer, or its record does not read.
pub async fn in_force(cluster: &Cluster) -> Result<Option<EpochRecord>, TopicsError> {
    epoch::read(cluster).await
}

/// What there must be in the epoch that is on `meta`; if there is none, what the configuration asks for.
async fn planned(cluster: &Cluster, plan: &Plan) -> Result<Plan, TopicsError> {
    Ok(epoch::current(cluster).await?.map_or_else(|| plan.clone(), |epoch| plan.of_epoch(&epoch)))
}

async fn make_own(cluster: &Cluster, plan: &Plan) -> Result<Vec<(Topic, Made)>, TopicsError> {
    let admin = admin(cluster)?;
    let topics = plan.topics(sources::largest_bytes(cluster, &admin, plan).await?);
    make(&admin, plan, topics).await
}

/// Waits until `look` finds nothing wrong. Brokers learn of new topics one after the other, so for a moment the answers may differ.
async fn settled(report: &[(Topic, Made)], look: impl AsyncFn() -> Result<(), TopicsError>) -> Result<(), TopicsError> {
    let fresh = report.iter().any(|(_, made)| *made == Made::Created);
    let clock = Clock::start();
    while let Err(error) = look().await {
        if !fresh || clock.elapsed() > SETTLING {
            return Err(error);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Makes the domain topics that are named and not there, for trying things: with as many partitions as tidings' own.
///
/// # Errors
/// If the brokers do not answer or refuse.
pub async fn create_domain(cluster: &Cluster, plan: &Plan) -> Result<Vec<(Topic, Made)>, TopicsError> {
    let partitions = plan.partitions();
    let topic = |name: &str| Topic { name: name.to_owned(), partitions, count: Count::Any, settings: Vec::new() };
    make(&admin(cluster)?, plan, plan.named_sources().map(topic).collect()).await
}

async fn make(admin: &AdminClient<Quiet>, plan: &Plan, topics: Vec<Topic>) -> Result<Vec<(Topic, Made)>, TopicsError> {
    let wanted = topics.iter().map(|topic| {
        let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(plan.replication_factor()));
        topic.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
    });
    let wanted = wanted.collect::<Vec<_>>();
    let answers = admin.create_topics(&wanted, &options()).await?;
    let made = |(topic, answer): (Topic, _)| match answer {
        Ok(_) => Ok((topic, Made::Created)),
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok((topic, Made::Kept)),
        Err((topic, code)) => Err(TopicsError::Refused { topic, code }),
    };
    topics.iter().cloned().zip(answers).map(made).collect()
}

/// Whether there is a topic of this name.
///
/// # Errors
/// If the brokers do not say.
pub async fn is_there(cluster: &Cluster, topic: &str) -> Result<bool, TopicsError> {
    Ok(epoch::partition_count(cluster, topic).await?.is_some())
}

/// Checks that every topic of the epoch is there and as it must be, and gives the epoch. How many partitions topics are to have, the
/// epoch says: the configuration counts when there is none yet.
///
/// # Errors
/// If the brokers do not answer, or with a line for everything that is missing or wrong.
pub async fn check(cluster: &Cluster, plan: &Plan) -> Result<EpochRecord, TopicsError> {
    let epoch = epoch::current(cluster).await?;
    let plan = epoch.as_ref().map_or_else(|| plan.clone(), |epoch| plan.of_epoch(epoch));
    check_topics(cluster, &plan).await?;
    let meta = cluster.names().meta();
    epoch.ok_or_else(|| TopicsError::Wrong(vec![format!("topic {meta} holds no epoch: run `tidings topics create`")]))
}

/// The epochs of which some topic that the inbox folds is still there, the earliest first; the one in force is the last.
///
/// # Errors
/// As [`check`].
pub async fn epochs(cluster: &Cluster, plan: &Plan) -> Result<Vec<EpochRecord>, TopicsError> {
    let last = check(cluster, plan).await?;
    let mut epochs = Vec::new();
    for number in 1..last.epoch.0 {
        let nameless = EpochRecord::numbered(Epoch(number), 0, last.created_at);
        for topic in plan.of_epoch(&nameless).folded() {
            if let Some(partitions) = epoch::partition_count(cluster, &topic).await? {
                epochs.push(EpochRecord { partitions, ..nameless });
                break;
            }
        }
    }
    epochs.push(last);
    Ok(epochs)
}

async fn check_topics(cluster: &Cluster, plan: &Plan) -> Result<(), TopicsError> {
    let mut wrong = Vec::new();
    for Topic { name, partitions, count, .. } in &plan.topics(0) {
        match epoch::partition_count(cluster, name).await? {
            None => wrong.push(format!("topic {name} is missing: run `tidings topics create`")),
            Some(found) if *count == Count::OfEpoch && found != *partitions => wrong.push(format!(
                "topic {name} has {found} partitions, not {partitions}: a partition count is fixed for as long as the epoch lasts. \
                 `tidings topics create --partitions {found}` makes topics of the next one"
            )),
            Some(_) => {}
        }
    }
    if !wrong.is_empty() {
        return Err(TopicsError::Wrong(wrong));
    }
    if cluster.flavour() == Flavour::Brokers { check_settings(cluster, plan).await } else { Ok(()) }
}

async fn check_settings(cluster: &Cluster, plan: &Plan) -> Result<(), TopicsError> {
    let admin = admin(cluster)?;
    let topics = plan.topics(sources::largest_bytes(cluster, &admin, plan).await?);
    let names = topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for (topic, found) in topics.iter().zip(settings(&admin, &names).await?) {
        for problem in found.map(|found| topic.departures(&found)).unwrap_or_default() {
            wrong.push(format!("topic {}: {problem}", topic.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(TopicsError::Wrong(wrong)) }
}

/// The settings of each topic; none for one that may not be asked about or is not there.
async fn settings(admin: &AdminClient<Quiet>, topics: &[&str]) -> Result<Vec<Option<Vec<ConfigEntry>>>, TopicsError> {
    let mut all = Vec::with_capacity(topics.len());
    for topic in topics {
        let answers = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await?;
        all.push(answers.into_iter().next().and_then(Result::ok).map(|resource| resource.entries));
    }
    Ok(all)
}

fn admin(cluster: &Cluster) -> Result<AdminClient<Quiet>, KafkaError> {
    cluster.client("topics").create_with_context(Quiet)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
