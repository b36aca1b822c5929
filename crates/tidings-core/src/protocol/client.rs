//! What a client may say.
//!
//! Owns: reading one text frame into a typed frame, or into the refusal that answers it; one file for each family of frames. Unknown
//! fields are ignored. Refuses to judge: whether a channel may be subscribed to is `channel::Access`'s word.

mod ack;
mod channels;
mod receipts;

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use self::ack::Ack;
use self::channels::Channels;
pub use self::receipts::Marked;
use self::receipts::{Act, MarkRead};
use super::server::{ErrorCode, Problem};
use super::since::Since;
use crate::channel::Channel;
use crate::ids::{NotificationId, UserId};
use crate::position::Position;
use crate::record::receipt::ReadState;

/// The most notifications that one frame may name or except.
pub const FRAME_IDS: usize = 100;

/// The most channels that one frame may name.
pub const FRAME_CHANNELS: usize = 128;

/// The longest `messageId` of a client, in bytes; a longer one is cut off from the answer.
const MESSAGE_ID_BYTES: usize = 128;

/// One frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// What the answer carries as `replyTo`.
    pub message_id: Option<String>,
    /// What it wants, or why that cannot be told.
    pub frame: Result<ClientFrame, Problem>,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// `auth`: the first frame of a connection whose request had no token.
    Auth(Token),
    /// `refresh`: a later token of the same user.
    Refresh(Token),
    /// `ping` or `heartbeat`: to be answered with the same data.
    Ping {
        /// Anything.
        data: Option<Value>,
    },
    /// `subscribe` to channels, each from a position on if there is one.
    Subscribe {
        /// Which; names that are none stand as refusals.
        channels: Vec<Result<Channel, Problem>>,
        /// Where the client stopped.
        since: Since,
    },
    /// `unsubscribe` from channels.
    Unsubscribe(Vec<Result<Channel, Problem>>),
    /// `presence`: who listens to a channel.
    Presence {
        /// Which.
        channel: Channel,
        /// So many users at most; as many as the server shows, if none is named.
        limit: Option<u64>,
        /// Users that follow this one.
        after: Option<UserId>,
    },
    /// `ack` of everything before a position, but for exceptions.
    AckBelow {
        /// In which channel.
        channel: Channel,
        /// Everything before it is handled.
        position: Position,
        /// But these.
        except: Vec<NotificationId>,
    },
    /// `ack` of single notifications.
    AckIds {
        /// In which channel; any, if none is named.
        channel: Option<Channel>,
        /// Which.
        ids: Vec<NotificationId>,
    },
    /// `mark_read`.
    MarkRead(Marked),
    /// `notification_action`: something a user has done with a notification.
    Act {
        /// Which.
        id: NotificationId,
        /// What it has become by that.
        state: ReadState,
    },
}

/// A token, which is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Deserialize)]
struct Credentials {
    token: Token,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(rename = "type", default)]
    kind: Option<Value>,
    #[serde(default)]
    message_id: Option<Value>,
}

#[derive(Deserialize)]
struct Ping {
    #[serde(default)]
    data: Option<Value>,
}

#[derive(Deserialize)]
struct Presence {
    channel: Channel,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    after: Option<UserId>,
}

/// Reads one text frame.
#[must_use]
pub fn read(text: &str) -> Said {
    let head = match serde_json::from_str::<Head>(text) {
        Ok(head) => head,
        Err(error) => return Said { message_id: None, frame: Err(failed(error)) },
    };
    let message_id = head.message_id.and_then(|id| match id {
        Value::String(id) if id.len() <= MESSAGE_ID_BYTES => Some(id),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let frame = match head.kind {
        Some(Value::String(kind)) => body(&kind, text),
        _ => Err(Problem::new(ErrorCode::BadFrame, "a frame has a `type`, which is a text")),
    };
    Said { message_id, frame }
}

fn body(kind: &str, text: &str) -> Result<ClientFrame, Problem> {
    match kind {
        "ping" | "heartbeat" => typed::<Ping>(text).map(|ping| ClientFrame::Ping { data: ping.data }),
        "auth" => credentials(text).map(ClientFrame::Auth),
        "refresh" => credentials(text).map(ClientFrame::Refresh),
        "subscribe" => typed::<Channels>(text)?.wanted(),
        "unsubscribe" => typed::<Channels>(text)?.named().map(ClientFrame::Unsubscribe),
        "ack" => typed::<Ack>(text)?.said(),
        "presence" => typed(text).map(|Presence { channel, limit, after }| ClientFrame::Presence { channel, limit, after }),
        "mark_read" => typed::<MarkRead>(text)?.said(),
        "notification_action" => typed::<Act>(text)?.said(),
        _ => Err(Problem::new(ErrorCode::UnknownType, "Unknown message type")),
    }
}

fn typed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(failed)
}

/// Says nothing of what stands where the token should: it may be one.
fn credentials(text: &str) -> Result<Token, Problem> {
    let wrong = |_| Problem::new(ErrorCode::BadFrame, "a `token` is needed, which is a text");
    serde_json::from_str::<Credentials>(text).map(|credentials| credentials.token).map_err(wrong)
}

fn failed(error: impl fmt::Display) -> Problem {
    Problem::new(ErrorCode::BadFrame, format!("Failed to process message: {error}"))
}

#[cfg(test)]
mod tests;
