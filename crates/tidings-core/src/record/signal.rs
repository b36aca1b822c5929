//! The values of `signals`: short-lived words to the nodes. Losing one loses nothing that the log does not hold elsewhere.

use serde::{Deserialize, Serialize};

use super::Record;
use super::retry::Delivery;

/// A word to every node. The key is the mailbox's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "camelCase")]
pub enum SignalRecord {
    /// Write this delivery again to the owner's connections; frames say `redelivery: n`.
    Redeliver {
        /// What to write.
        delivery: Delivery,
        /// The attempt's number, from 1.
        redelivery: u32,
    },
}

impl Record for SignalRecord {
    const NAME: &'static str = "signal";
    const VERSION: u32 = 1;
}
