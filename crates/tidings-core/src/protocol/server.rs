//! What the gateway says.
//!
//! Owns: the frames, their fields and error codes as JSON. Refuses to draw ids or read clocks: both are arguments. A
//! notification's frame has its id as `messageId` (with `/n` behind it when it is redelivered), so that one encoding serves every
//! connection; all other frames are counted within their connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channel::Channel;
use crate::ids::{ConnectionId, DeviceId, UserId};
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
    /// Not possible at this moment; to be asked again.
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

    /// The frame that tells it. What is refused now is not taken later, unless it says so.
    #[must_use]
    pub fn frame(&self) -> ServerFrame<'_> {
        let retryable = self.code == ErrorCode::NotYet;
        ServerFrame::Error { code: self.code, message: &self.message, retryable }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::position::Epoch;

    fn shown(frame: ServerFrame<'_>, reply_to: Option<&str>) -> String {
        let sent = Sent { frame, message_id: "3", reply_to, timestamp: Timestamp::from_millis(1_769_860_800_000) };
        String::from_utf8(sent.encode().unwrap()).unwrap()
    }

    fn notification() -> Notification {
        serde_json::from_value(json!({
            "id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e-1", "type": "booking_confirmation",
            "createdAt": "2026-01-31T12:00:00Z", "title": "Booking Confirmed", "data": {"booking_id": 7}
        }))
        .unwrap()
    }

    #[test]
    fn the_frames_of_a_connection_look_like_this() {
        let (user, device): (UserId, DeviceId) = ("42".parse().unwrap(), "phone".parse().unwrap());
        let (channel, position) = (Channel::mailbox(&user), Position { epoch: Epoch(1), offset: 8 });
        let connected = ServerFrame::Connected {
            user_id: &user,
            connection_id: ConnectionId(uuid::Uuid::from_u128(7)),
            device_id: &device,
            heartbeat_interval: 30_000,
            channels: BTreeMap::from([(channel.as_str(), position)]),
        };
        let notification = notification();
        let fresh = ServerFrame::NotificationNew {
            channel: &channel,
            position: Some(position),
            notification: &notification,
            redelivery: None,
        };
        let again =
            ServerFrame::NotificationNew { channel: &channel, position: None, notification: &notification, redelivery: Some(2) };
        let users = ["42".parse().unwrap(), "43".parse().unwrap()];
        let whole = ServerFrame::Presence { channel: &channel, count: 1, users: &users[..1], next: None, partial: false };
        let page = ServerFrame::Presence { channel: &channel, count: 7, users: &users, next: users.last(), partial: true };
        let hole = Hole { from: Position { epoch: Epoch(1), offset: 3 }, to: position, reason: HoleReason::Retention };
        let frames = [
            shown(connected, None),
            shown(ServerFrame::Refreshed { expires_at: Timestamp::from_millis(1_769_864_400_000) }, Some("m-0")),
            shown(ServerFrame::Pong { data: Some(&json!({"n": 1})) }, Some("m-1")),
            shown(ServerFrame::Subscribed { channel: &channel, position, recovering: false }, Some("m-2")),
            shown(ServerFrame::Truncated { channel: &channel, hole }, None),
            shown(ServerFrame::Recovered { channel: &channel, position, recovered: true, truncated: Some(hole) }, None),
            shown(ServerFrame::Recovered { channel: &channel, position, recovered: false, truncated: None }, None),
            shown(ServerFrame::Unsubscribed { channel: &channel }, None),
            shown(fresh, None),
            shown(again, None),
            shown(whole, Some("m-3")),
            shown(page, None),
            shown(ServerFrame::DeviceStatus { device_id: &device, status: Status::Offline }, None),
            shown(ServerFrame::Reconnect { retry_after: 1_250 }, None),
            shown(Problem::new(ErrorCode::UnknownType, "Unknown message type").frame(), Some("m-4")),
        ];
        insta::assert_snapshot!(frames.join("\n"));
    }
}
