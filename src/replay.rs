//! Replay: what was buried, ended undelivered or lies on a domain topic is looked at and tried once more, by who asks for it.
//!
//! Owns: reading `dlq`, `undelivered`, domain topics and `audit` beside those who live by them, in no group; deciding by rules of the
//! caller's choice; and writing what follows, with a record of it on `audit`. Never writes to a domain topic. Neighbours: core `selection` says which and
//! in which order, `cli` and `http` ask. Long because what a call may be refused for is to be read in one place.

mod anew;
mod audit;
mod breaker;
mod groups;
mod letters;
mod part;
mod planned;
mod redrive;
mod report;
mod run;
mod scribe;
mod shown;
mod tally;
mod undelivered;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tidings_core::event::{Explained, SourceHeader, SourceRecord};
use tidings_core::fate::Cause;
use tidings_core::ids::{NodeId, UserId};
use tidings_core::position::Epoch;
use tidings_core::record::RecordError;
use tidings_core::record::letter::{Letter, LetterId};
use tidings_core::rules::{Burial, RuleSet, Verdict};
use tidings_core::selection::FilterError;
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{PipelineConfig, Settings, TopicPattern, Topics};
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::ProduceError;
use crate::kafka::scan::ScanError;
use crate::kafka::topics::TopicsError;
use crate::kafka::transaction::TransactionError;
use crate::registry::{Registry, RegistryError};
use crate::store::StoreError;

pub use anew::{Anew, RedriveUndelivered};
pub use breaker::reset_breaker;
pub use groups::{Group, GroupBy, Listing, Wanted};
pub use part::{Part, PartEnd, PartEndError};
pub use planned::{PlanError, Planned, Selected};
pub use redrive::{Again, Redrive};
pub use report::{ReplayReport, Report};
pub use run::{Replay, Replayed};
pub use shown::{ShownLetter, Trial};
pub use tally::{Skipped, StillBuried, Tally};
pub use undelivered::{
    Undelivered, UndeliveredGroup, UndeliveredListing, UndeliveredReport, UndeliveredShown, UndeliveredWanted,
};

/// Where dead letters are looked at. All its calls block, and end early when their caller's token is cancelled.
pub struct DeadLetters {
    site: Site,
}

/// Where domain topics are replayed. All its calls block, and end early when their caller's token is cancelled.
pub struct Events {
    site: Site,
    /// For how long what was notified is known by its id.
    ids_kept: Duration,
}

/// Whether anything is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: what would follow is counted.
    Try,
    /// The notifications, on behalf of somebody.
    Execute {
        /// Whose name stands on `audit`.
        who: UserId,
    },
}

/// Where it is read, how it is decided on, and who does it.
struct Site {
    cluster: Cluster,
    sources: Vec<TopicPattern>,
    topics: Topics,
    registry: Registry,
    node: NodeId,
    clock: Clock,
}

/// Why it cannot be said what becomes of a record.
enum Undecided {
    /// Only a later release can.
    Newer(RecordError),
    /// Its schema is not there.
    Registry(Arc<RegistryError>),
    /// The caller waits for its schema no longer.
    Stopped,
}

impl Undecided {
    fn class(&self) -> &'static str {
        match self {
            Self::Newer(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Stopped => RegistryError::Stopped.class(),
        }
    }

    fn in_full(&self) -> String {
        match self {
            Self::Newer(error) => error.in_full(),
            Self::Registry(error) => error.in_full(),
            Self::Stopped => RegistryError::Stopped.in_full(),
        }
    }
}

/// Who waits for a call: what stops it, and who is told how far it is.
pub struct Watch<'a> {
    /// Ends it early.
    pub stop: &'a CancellationToken,
    /// Told every so often.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// Of how much.
    pub all: u64,
}

/// Why something could not be looked at or tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A filter that no letter passes.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// What is to be replayed is not there, or not meant so.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A topic could not be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// There is no such letter any more, or not yet.
    #[error("there is no dead letter {id}: {why}")]
    Gone {
        /// Which.
        id: LetterId,
        /// Why.
        why: String,
    },
    /// What lies there is no letter.
    #[error("the record {id} of dlq is no dead letter: {why}")]
    Broken {
        /// Where.
        id: LetterId,
        /// Why.
        why: String,
    },
    /// A client could not be made.
    #[error("the Kafka client that writes could not be made: a property is wrong")]
    Client(#[source] KafkaError),
    /// A record was not written.
    #[error("a record was not written; what is on the log by then is told by `audit`, so the same call goes on from there")]
    Unwritten(#[source] ProduceError),
    /// No transaction is possible, or another process has begun to redrive.
    #[error("the redrive was ended by the brokers: does another one run? What was done by then stands on `audit`; ask again")]
    Transaction(#[from] TransactionError),
    /// The brokers do not take transactions now.
    #[error("the brokers do not take transactions; what was done by then stands on `audit`: ask again")]
    Brokers,
    /// The store does not say what was delivered meanwhile.
    #[error("the store does not say what was delivered meanwhile")]
    Store(#[from] StoreError),
    /// A record of our own could not be encoded.
    #[error("a record could not be written as JSON; this is a bug")]
    Encode(#[source] RecordError),
    /// Not even what was redriven is known by the time that the caller gave.
    #[error(
        "what one request asks for could not be done in the time that it has (`http.request_timeout`): ask for less, by `since` or fewer \
         letters, or give requests more time; `tidings dlq` and `tidings undelivered list` take theirs"
    )]
    Late,
    /// Letters that were redriven before are meant, too, and not all were by the time that the caller gave.
    #[error(
        "the time that one request has (`http.request_timeout`) was over when {done} of {all} letters were sent once more, and the same call \
         would begin with the same ones: ask for the others by their ids or times, without `again`, or use `tidings dlq redrive --again`, \
         which takes its time"
    )]
    Unfinished {
        /// How many were sent by then.
        done: u64,
        /// Of how many.
        all: u64,
    },
    /// Who redrove just now may have done more than the store tells.
    #[error(
        "the inbox has folded {topic}[{partition}] up to {next} of {end}, so it does not know yet which ladders were begun anew: nothing was \
         written. Ask again; if it stays behind, look at `/ready` of the processes with the role inbox"
    )]
    Behind {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that is folded.
        next: i64,
        /// What was written there by now.
        end: i64,
    },
    /// Another epoch has begun.
    #[error(
        "epoch {now} has begun, and this process is of epoch {ours}: nothing was written. It ends by itself; ask one that was started since"
    )]
    Over {
        /// That of the process.
        ours: Epoch,
        /// That of the cluster.
        now: Epoch,
    },
    /// It is not known which epoch is in force.
    #[error("the brokers do not say which epoch is in force; nothing was written: ask again")]
    Epoch(#[source] TopicsError),
    /// What was selected is too much to be said on `audit`.
    #[error(
        "what is selected is more text than a record of `audit` takes (`max.message.bytes`), and nothing was written: name fewer at a time, or \
         say it by time, type or reason"
    )]
    Wordy,
    /// More letters than the caller takes.
    #[error(
        "more than {most} letters are meant, and nothing was written: a place of each has to be kept to send them in their order. Narrow the \
         selection (`since`, `until`, `reasons`, `topics`), use `tidings dlq redrive`, which has no such limit, or raise `http.redrive_letters`"
    )]
    TooMany {
        /// How many are taken.
        most: NonZeroUsize,
    },
    /// The schemas of records are not there.
    #[error(
        "a record's schema is not there: {0}; what is on the log by then is told by `audit`, so the same call goes on from there"
    )]
    Registry(String),
    /// The caller stopped it.
    #[error("stopped; what is on the log by then is told by `audit`, so the same call goes on from there")]
    Stopped,
}

impl ReplayError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Filter(_) | Self::Plan(_) | Self::Gone { .. } | Self::Broken { .. } | Self::Client(_) | Self::Stopped => {
                Cause::Refused
            }
            Self::Wordy | Self::TooMany { .. } => Cause::Refused,
            Self::Epoch(error) => error.cause(),
            Self::Scan(error) => error.cause(),
            Self::Unwritten(error) => error.cause(),
            Self::Transaction(error) => error.cause(),
            Self::Store(error) => error.cause(),
            Self::Brokers | Self::Late | Self::Unfinished { .. } | Self::Behind { .. } | Self::Over { .. } => Cause::Dependency,
            Self::Registry(_) => Cause::Dependency,
            Self::Encode(_) => Cause::Bug,
        }
    }
}

/// That it goes on, unless the caller stops it.
fn going(stop: &CancellationToken) -> Result<bool, ReplayError> {
    if stop.is_cancelled() { Err(ReplayError::Stopped) } else { Ok(true) }
}

impl DeadLetters {
    /// Dead letters of `cluster`, decided on as the pipeline's section says. To be executed, a redrive needs a cluster of the epoch.
    #[must_use]
    pub fn new(cluster: Cluster, config: &PipelineConfig, node: NodeId, clock: Clock) -> Self {
        Self { site: Site::new(cluster, config, (node, clock)) }
    }

    /// With the schemas of this registry.
    #[must_use]
    pub fn with_schemas(mut self, registry: Registry) -> Self {
        self.site.registry = registry;
        self
    }

    /// What becomes of the record of a letter, as if it were decided on when it was buried: an event is not too old for having lain here.
    fn decide(&self, rules: &RuleSet, letter: &Letter, stop: &CancellationToken) -> Result<Verdict, Undecided> {
        if letter.unread_headers > 0 {
            return Ok(Verdict::Bury(Burial::illegible()));
        }
        let headers =
            letter.headers.iter().map(|(name, value)| SourceHeader { name, value: value.as_deref() }).collect::<Vec<_>>();
        let original = &letter.original;
        let record = SourceRecord {
            topic: &original.topic,
            partition: original.partition,
            offset: original.offset,
            // As the pipeline takes one that has none.
            timestamp: original.timestamp.unwrap_or(Timestamp::from_millis(0)),
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            headers: &headers,
        };
        let settings = self.site.topics.of(&original.topic);
        match self.site.explained(&settings, &record, stop)? {
            Ok(explained) => settings.decide(rules, (&record, explained), letter.buried_at).map_err(Undecided::Newer),
            Err(burial) => Ok(Verdict::Bury(burial)),
        }
    }
}

impl Events {
    /// Domain topics of `cluster`, decided on as the pipeline's section says. To be executed, a replay needs a cluster of the epoch.
    #[must_use]
    pub fn new(cluster: Cluster, config: &PipelineConfig, ids_kept: Duration, (node, clock): (NodeId, Clock)) -> Self {
        Self { site: Site::new(cluster, config, (node, clock)), ids_kept }
    }

    /// With the schemas of this registry.
    #[must_use]
    pub fn with_schemas(mut self, registry: Registry) -> Self {
        self.site.registry = registry;
        self
    }
}

impl Site {
    fn new(cluster: Cluster, config: &PipelineConfig, (node, clock): (NodeId, Clock)) -> Self {
        let requests = cluster.names().requests();
        let topics = Topics::new(config, &requests);
        let sources = config.topics.iter().cloned().chain([TopicPattern::named(requests)]).collect();
        Self { cluster, sources, topics, registry: Registry::default(), node, clock }
    }

    /// What schemas make of a record's parts, or why it would be buried.
    fn explained(
        &self,
        settings: &Settings,
        record: &SourceRecord<'_>,
        stop: &CancellationToken,
    ) -> Result<Result<Explained, Burial>, Undecided> {
        if !settings.has_events() {
            return Ok(Ok(Explained::default()));
        }
        self.registry.explained(record, settings.reading(), stop).map_err(|error| match *error {
            RegistryError::Stopped => Undecided::Stopped,
            _ => Undecided::Registry(error),
        })
    }

    /// Whether the pipeline reads a topic. No expression means those of tidings' own.
    fn is_source(&self, topic: &str) -> bool {
        let is_own = topic.starts_with(self.cluster.names().prefix());
        self.sources.iter().any(|source| source.name() == Some(topic) || (!is_own && source.matches(topic)))
    }
}
