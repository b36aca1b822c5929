//! What the gateway says.
//!
//! Owns: the frames, their fields and error codes as JSON. Refuses to draw ids or read clocks: both are arguments. A
//! notification's frame has its id as `messageId` (with `/n` behind it when it is redelivered), so that one encoding serves every
//! connection; all other frames are counted within their connection.

mod receipts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channel::Channel;
use crate::ids::{ConnectionId, DeviceId, NotificationId, UserId};
use crate::notification::Notification;
use crate::position::Position;
use crate::presence::Status;
use crate::time::Timestamp;

/// A frame with what every frame has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent<'a> {
    /// What it says.
    #[serde(flatten)]
    pub frame: ServerFrame<'a>,
    /// Unique within the connection, but for a notification that is sent again.
    pub message_id: &'a str,
    /// The `messageId` of the client's frame that this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<&'a str>,
    /// When it was made.
    pub timestamp: Timestamp,
}

impl Sent<'_> {
    /// The frame as JSON.
    ///
    /// # Errors
    /// If a value cannot be written as JSON, which no value that was read from JSON can cause.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ServerFrame<'a> {
    /// The first frame of every connection.
    Connected {
        /// Whom the token names.
        user_id: &'a UserId,
        /// This connection.
        connection_id: ConnectionId,
        /// The device, drawn by the server if the client named none.
        device_id: &'a DeviceId,
        /// How often the server pings, in milliseconds.
        heartbeat_interval: u64,
        /// What it is subscribed to from the start, each with the position it begins at.
        channels: BTreeMap<&'a str, Position>,
        /// What is unread, if that was known in time.
        #[serde(skip_serializing_if = "Option::is_none")]
        counts: Option<Counts>,
    },
    /// The answer to `refresh`.
    Refreshed {
        /// Until when the token says it is valid.
        expires_at: Timestamp,
    },
    /// The answer to `ping`.
    Pong {
        /// What the ping carried.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    },
    /// The answer to `subscribe`, one for each channel.
    Subscribed {
        /// Which.
        channel: &'a Channel,
        /// Where it begins: everything from there on is sent.
        position: Position,
        /// Whether a gap is sent first.
        recovering: bool,
    },
    /// Of what is to be recovered, some is no longer kept. Comes before anything that lies behind it.
    Truncated {
        /// In which channel.
        channel: &'a Channel,
        /// What is missing.
        #[serde(flatten)]
        hole: Hole,
    },
    /// The end of a recovery.
    Recovered {
        /// Which channel.
        channel: &'a Channel,
        /// Where it goes on: what comes next lies there or behind.
        position: Position,
        /// Whether everything was sent that is kept, from where it began. If not, only what comes from `position` on is sure to
        /// be complete.
        recovered: bool,
        /// What was no longer kept, from the first offset that is missing to behind the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        truncated: Option<Hole>,
    },
    /// The answer to `unsubscribe`, one for each channel.
    Unsubscribed {
        /// Which.
        channel: &'a Channel,
    },
    /// A notification.
    #[serde(rename = "notification:new")]
    NotificationNew {
        /// The channel it was sent to.
        channel: &'a Channel,
        /// The position behind it. Absent in a redelivered one, which moves no position and is acknowledged by its id.
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        /// What is shown.
        notification: &'a Notification,
        /// The number of the attempt, from 1, if it is sent again.
        #[serde(skip_serializing_if = "Option::is_none")]
        redelivery: Option<u32>,
    },
    /// The answer to `presence`.
    Presence {
        /// Which channel.
        channel: &'a Channel,
        /// How many users listen, on all nodes.
        count: u64,
        /// The first of them, in order, that follow the one that was named.
        users: &'a [UserId],
        /// The last of them, if more follow: what to name next.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a UserId>,
        /// Whether some node did not say all it knows in time.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    },
    /// Another device of the user has come, or is gone.
    #[serde(rename = "device:status")]
    DeviceStatus {
        /// Which.
        device_id: &'a DeviceId,
        /// What it is now.
        status: Status,
    },
    /// Some of the user's notifications are read: these, or everything of the channel before a position.
    #[serde(rename = "notification:read")]
    NotificationRead {
        /// Of which channel; absent if it is not known, or not the same for all.
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a Channel>,
        /// Which.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notification_ids: Vec<NotificationId>,
        /// Or everything before it.
        #[serde(skip_serializing_if = "Option::is_none")]
        up_to: Option<Position>,
    },
    /// What the user has done with a notification, or with everything of a channel before a position, on another connection.
    #[serde(rename = "notification:sync")]
    NotificationSync {
        /// Which.
        #[serde(skip_serializing_if = "Option::is_none")]
        notification_id: Option<NotificationId>,
        /// Of which channel, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a Channel>,
        /// Everything before it, in place of a single one.
        #[serde(skip_serializing_if = "Option::is_none")]
        up_to: Option<Position>,
        /// What has become of it.
        #[serde(flatten)]
        change: Change,
        /// The device that did it; absent if none did.
        #[serde(skip_serializing_if = "Option::is_none")]
        source_device: Option<&'a DeviceId>,
        /// The connection that did it; absent if none did.
        #[serde(skip_serializing_if = "Option::is_none")]
        source_connection: Option<ConnectionId>,
    },
    /// Nobody is to see a notification any more.
    #[serde(rename = "notification:withdrawn")]
    NotificationWithdrawn {
        /// The channel it was sent to.
        channel: &'a Channel,
        /// Which.
        notification_id: NotificationId,
    },
    /// What is unread has changed.
    Counts(Counts),
    /// The process is about to close the connection with 1012.
    Reconnect {
        /// How long to wait before coming back, in milliseconds; drawn for each connection.
        retry_after: u64,
    },
    /// The answer to a frame that was not obeyed. The connection stays.
    Error {
        /// What kind of error.
        code: ErrorCode,
        /// What is wrong.
        message: &'a str,
        /// Whether the same frame may succeed later.
        retryable: bool,
    },
}

/// How much of a user's mailbox is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Those that are not read.
    pub unread: u64,
    /// Those that are not even seen.
    pub unseen: u64,
    /// Notifications before this position of the mailbox are counted, none from there on.
    pub as_of: Position,
}

/// What a receipt changes; what is absent is as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether it was on a screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_seen: Option<bool>,
    /// Whether the user has read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_read: Option<bool>,
    /// Whether it is gone from lists and counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_dismissed: Option<bool>,
}

/// What is missing in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Its first position.
    pub from: Position,
    /// The first position behind it.
    pub to: Position,
    /// Why it is there.
    pub reason: HoleReason,
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoleReason {
    /// It was kept for as long, and as much of it, as is configured.
    Retention,
}

/// What kind of error a frame met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Unknown message type.
    UnknownType,
    /// Failed to process message.
    BadFrame,
    /// Notification not found.
    NotFound,
    /// Not for this user, or not sent yet.
    Forbidden,
    /// More than one may have.
    Limit,
    /// Known, and not offered here.
    Unsupported,
    /// It cannot be done now, and may be later.
    NotYet,
}

impl ErrorCode {
    /// Every code there is.
    pub const ALL: [Self; 7] =
        [Self::UnknownType, Self::BadFrame, Self::NotFound, Self::Forbidden, Self::Limit, Self::Unsupported, Self::NotYet];

    /// The word for it in frames and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::BadFrame => "bad_frame",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Limit => "limit",
            Self::Unsupported => "unsupported",
            Self::NotYet => "not_yet",
        }
    }
}

/// Why a frame of a client is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What kind of error.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// A problem in words for the client's author.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The frame that tells it. What is refused now is refused later, but for what cannot be done yet.
    #[must_use]
    pub fn frame(&self) -> ServerFrame<'_> {
        ServerFrame::Error { code: self.code, message: &self.message, retryable: self.code == ErrorCode::NotYet }
    }
}

#[cfg(test)]
mod tests;
