//! The values of `audit`: what operators did to the log, told by whoever did it for them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Record;
use crate::ids::{NodeId, UserId};
use crate::stretch::Stretches;
use crate::time::Timestamp;

/// A step of something that somebody did. The key is who. An act that a reader does not know is passed over, so that a release can add
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "camelCase")]
pub enum AuditRecord {
    /// Dead letters were tried again.
    Redrive(Redrive),
    /// Records of a domain topic were decided on once more.
    Replay(Replay),
    /// Topics whose breaker is open were to be read again.
    BreakerReset(BreakerReset),
    /// What was pending was sent again.
    Retry(Retry),
    /// Ladders that had ended were begun anew.
    Undelivered(UndeliveredRedriven),
    /// An act of a later release.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Pending notifications were sent again to devices that were connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Its own.
    pub id: Uuid,
    /// Who asked for it.
    pub who: UserId,
    /// The process that did it.
    pub node: NodeId,
    /// Of whom, and of which outcome, in the words of the command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selection: String,
    /// How many notifications.
    pub sent: u64,
    /// To how many users.
    pub users: u64,
}

/// Ladders are begun anew: which are meant, before any is; then, in the transaction of this record, which were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredRedriven {
    /// All records of one call have the same.
    pub id: Uuid,
    /// Who asked for it.
    pub who: UserId,
    /// The process that did it.
    pub node: NodeId,
    /// Which are meant, in the words of the command line. Said once, in the first record of a call; written empty in the others, since the release
    /// before needs it.
    #[serde(default)]
    pub selection: String,
    /// The records of `undelivered` whose ladders were begun: they are not redriven again. Written empty in the first record of
    /// a call, for the same reason.
    #[serde(default)]
    pub redriven: Vec<Redriven>,
}

/// A step of a redrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// All steps of one redrive have the same.
    pub id: Uuid,
    /// Who asked for it: the caller over HTTP, the name that the command line was given.
    pub who: UserId,
    /// The process that did it.
    pub node: NodeId,
    /// Which step.
    pub step: RedriveStep,
}

/// How far a redrive has come. Of one that was killed there is no end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum RedriveStep {
    /// It begins: nothing is sent yet.
    Begun {
        /// Which letters are meant, in the words of the command line.
        selection: String,
        /// The version of the rules.
        rules: String,
    },
    /// What follows from these letters is on the log: they are not tried again unless somebody says so.
    Progress {
        /// Which.
        redriven: Vec<Redriven>,
    },
    /// It has ended.
    Ended {
        /// How.
        outcome: Ending,
        /// Why, if not well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What it came to.
        counts: RedriveCounts,
    },
}

/// Letters of one partition of `dlq`, or records of one of `undelivered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// The partition.
    pub partition: i32,
    /// Their offsets.
    pub offsets: Stretches,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// To its end.
    Done,
    /// As far as it was to go, for somebody to look.
    Paused,
    /// Somebody stopped it.
    Interrupted,
    /// It could not go on.
    Failed,
}

/// What a redrive came to, in letters unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedriveCounts {
    /// How many were meant and had not been redriven before.
    pub letters: u64,
    /// What became of them.
    #[serde(flatten)]
    pub decided: Decided,
}

/// What became of letters, or records, that were decided on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Of how many notifications were made.
    pub notified: u64,
    /// How many notifications.
    pub notifications: u64,
    /// How many give none, and nothing is wrong with them.
    pub ignored: u64,
    /// How many would be buried.
    pub buried: u64,
    /// How many cannot be decided on.
    pub skipped: u64,
}

/// A step of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// All steps of one replay have the same, also those of who goes on with it.
    pub id: Uuid,
    /// Who asked for it.
    pub who: UserId,
    /// The process that did it.
    pub node: NodeId,
    /// Which step.
    pub step: ReplayStep,
}

/// How far a replay has come. Of one that was killed there is no end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum ReplayStep {
    /// It begins, or somebody goes on with it.
    Begun {
        /// What it is to do from its first beginning on.
        plan: Box<ReplayPlan>,
        /// The version of the rules.
        rules: String,
    },
    /// What follows from the records in front of these offsets is on the log.
    Progress {
        /// By partition.
        reached: Vec<Reached>,
    },
    /// It has ended, for now or for good.
    Ended {
        /// How.
        outcome: Ending,
        /// Why, if not well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What it came to since it was begun, or gone on with.
        counts: ReplayCounts,
    },
}

/// Everything that who goes on with a replay has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayPlan {
    /// The topic whose records are decided on.
    pub topic: String,
    /// Its offsets; their ends are those the topic had at the first beginning, or earlier ones.
    pub spans: Vec<ReplaySpan>,
    /// Which of those records.
    pub events: EventSelection,
    /// Where the notifications are written, if that is not `notifications`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_topic: Option<String>,
    /// Whose mailbox gets all of them, if not whom the rules say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_user: Option<UserId>,
    /// Whether they have ids of this replay's own, so that they are shown to who was shown them before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_ids: bool,
}

/// Offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaySpan {
    /// The partition.
    pub partition: i32,
    /// The first offset inside.
    pub from: i64,
    /// The first offset behind.
    pub to: i64,
}

/// Which records of a topic are meant, in the words of the command line. Every condition must hold; of several values of one, any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventSelection {
    /// Those with one of these keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Those with these headers, `name=value`, or `name` for any value; of one name any of the values, of different names all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Those with an event of one of these types, or of a type that one of these patterns matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Those with an event for which this holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Those of this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Those of before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl EventSelection {
    /// Whether any record is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// How far a partition is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The partition.
    pub partition: i32,
    /// The first offset that is not done.
    pub next: i64,
}

/// What a replay came to, in records unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayCounts {
    /// How many were read.
    pub read: u64,
    /// How many of those were meant.
    pub selected: u64,
    /// What became of them.
    #[serde(flatten)]
    pub decided: Decided,
}

/// Somebody wants what a breaker stopped to be read again now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerReset {
    /// Of each reset another one; the word to the nodes has the same.
    pub id: Uuid,
    /// Who asked for it.
    pub who: UserId,
    /// The process that told the nodes.
    pub node: NodeId,
    /// The topic; every one that is not read, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl AuditRecord {
    /// Who did it; nothing is known of an act of a later release.
    #[must_use]
    pub fn who(&self) -> Option<&UserId> {
        match self {
            Self::Redrive(redrive) => Some(&redrive.who),
            Self::Replay(replay) => Some(&replay.who),
            Self::BreakerReset(reset) => Some(&reset.who),
            Self::Retry(retry) => Some(&retry.who),
            Self::Undelivered(redriven) => Some(&redriven.who),
            Self::Unknown => None,
        }
    }
}

impl Record for AuditRecord {
    const NAME: &'static str = "audit";
    const VERSION: u32 = 1;
}
