//! The values of `audit`: what operators did to the log, told by whoever did it for them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Record;
use crate::ids::{NodeId, UserId};
use crate::stretch::Stretches;

/// A step of something that somebody did. The key is who. An act that a reader does not know is passed over, so that a release can add
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "camelCase")]
pub enum AuditRecord {
    /// Dead letters were tried again.
    Redrive(Redrive),
    /// An act of a later release.
    #[serde(other, skip_serializing)]
    Unknown,
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
        outcome: Outcome,
        /// Why, if not well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What it came to.
        counts: RedriveCounts,
    },
}

/// Letters of one partition of `dlq`.
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
pub enum Outcome {
    /// To its end.
    Done,
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
    /// Of how many notifications were made.
    pub notified: u64,
    /// How many notifications.
    pub notifications: u64,
    /// How many give none, and nothing is wrong with them.
    pub ignored: u64,
    /// How many would be buried again.
    pub buried: u64,
    /// How many cannot be decided on.
    pub skipped: u64,
}

impl AuditRecord {
    /// Who did it; nothing is known of an act of a later release.
    #[must_use]
    pub fn who(&self) -> Option<&UserId> {
        match self {
            Self::Redrive(redrive) => Some(&redrive.who),
            Self::Unknown => None,
        }
    }
}

impl Record for AuditRecord {
    const NAME: &'static str = "audit";
    const VERSION: u32 = 1;
}
