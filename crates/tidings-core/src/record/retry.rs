//! The values of `retry.<delay>` and `undelivered`: a delivery that waits, and one that has ended.

use serde::{Deserialize, Serialize};

use super::Record;
use super::context::{Context, Failure, Original};
use super::trace::TraceContext;
use crate::channel::Channel;
use crate::fate::Cause;
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
    /// When it was appended there, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appended_at: Option<Timestamp>,
    /// What was tried, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// What is said beside a record that holds it: `node` found that `outcome` came of its notification, which lies in the partition
    /// `at` of `notifications`.
    #[must_use]
    pub fn context<'a>(
        &'a self,
        (topic, partition): (&'a str, i32),
        outcome: Outcome,
        trace: Option<&'a TraceContext>,
        node: &'a NodeId,
    ) -> Context<'a> {
        let key = Some(self.channel.as_str().as_bytes());
        let original = Original { topic, partition, offset: self.offset, timestamp: self.appended_at, key };
        let (class, message) = (outcome.name(), outcome.in_words());
        let failure = Failure { stage: "deliver", cause: Cause::Recipient, class, message, rule: None };
        Context { original, failure, attempt: Some(u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)), trace, node }
    }
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

impl Outcome {
    /// The name in values, headers and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unacknowledged => "unacknowledged",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Offline => "no device of the user had been written to",
            Self::Unacknowledged => "a device was written to and has not acknowledged in time",
        }
    }
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
