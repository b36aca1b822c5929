//! The values of `retry.<delay>` and `undelivered`: a delivery that waits, and one that has ended.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::channel::Channel;
use crate::ids::NodeId;
use crate::notification::Notification;
use crate::position::Epoch;
use crate::time::Timestamp;

/// A notification on a mailbox that no device has acknowledged yet, with what was tried. The key is the channel's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Whose mailbox.
    pub channel: Channel,
    /// What is to be delivered.
    pub notification: Notification,
    /// The generation its offset belongs to.
    pub epoch: Epoch,
    /// Its offset on `notifications`.
    pub offset: i64,
    /// What was tried, oldest first.
    pub attempts: Vec<Attempt>,
}

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// By which process.
    pub node: NodeId,
    /// By which way.
    pub sink: Sink,
    /// How it came to be needed.
    pub outcome: Outcome,
}

/// A way to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// To the user's open connections.
    Websocket,
}

/// What was known of the delivery when the attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No device of the user had been written to.
    Offline,
    /// A device was written to and has not acknowledged.
    Unacknowledged,
}

/// A delivery that is waiting on a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetryRecord(pub Delivery);

impl Record for RetryRecord {
    const NAME: &'static str = "retry";
    const VERSION: u32 = 1;
}

/// A delivery that ended without success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredRecord {
    /// What could not be delivered, and what was tried.
    pub delivery: Delivery,
    /// Why it ended.
    pub reason: Outcome,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl Record for UndeliveredRecord {
    const NAME: &'static str = "undelivered";
    const VERSION: u32 = 1;
}
