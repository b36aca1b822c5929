//! The values of `signals`: short-lived words to the nodes. Losing one loses nothing that the log does not hold elsewhere.

use serde::{Deserialize, Serialize};

use super::Record;
use super::retry::Delivery;
use crate::ids::{NodeId, UserId};

/// A word to every node. The key is the mailbox's name.
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
}

impl Record for SignalRecord {
    const NAME: &'static str = "signal";
    const VERSION: u32 = 1;
}
