//! The values of `signals`: short-lived words to the nodes. Losing one loses nothing that the log does not hold elsewhere, or that is
//! not told again.

pub mod nodes;

use serde::{Deserialize, Serialize};

use self::nodes::{Announcement, Answer, Question, Recount, SnapshotPage};
use super::Record;
use super::audit::BreakerReset;
use super::retry::Delivery;
use crate::ids::{NodeId, UserId};

/// A word to every node. The key is the mailbox's name, or, where nodes speak of themselves, the name of the node.
///
/// A kind that a reader does not know is passed over, so that a release can add one. What nobody may overlook is a new version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "camelCase")]
pub enum SignalRecord {
    /// Write this delivery again to the owner's connections; frames say `redelivery: n`.
    Redeliver {
        /// What to write.
        delivery: Box<Delivery>,
        /// The attempt's number, from 1.
        redelivery: u32,
    },
    /// Close the user's connections: an operator wants them gone.
    #[serde(rename_all = "camelCase")]
    Disconnect {
        /// Whose.
        user_id: UserId,
        /// The node that was asked, and has closed its own.
        by: NodeId,
    },
    /// Devices have come to a node or left it; with neither, the node says that it lives.
    Announcement(Announcement),
    /// A part of all devices that a node has.
    Snapshot(SnapshotPage),
    /// Nodes are asked to tell of all their devices.
    Recount(Recount),
    /// Nodes are asked what only they know.
    Question(Question),
    /// What a node knows.
    Answer(Box<Answer>),
    /// Read again what a breaker stopped: an operator wants it.
    ResetBreaker(BreakerReset),
    /// A kind of a later release.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Record for SignalRecord {
    const NAME: &'static str = "signal";
    const VERSION: u32 = 1;
}
