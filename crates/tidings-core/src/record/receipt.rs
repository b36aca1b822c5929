//! The values of `receipts`: what users did with notifications, and which of those nobody is to see any more.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::channel::Channel;
use crate::ids::{ConnectionId, DeviceId, NotificationId, UserId};
use crate::position::Position;

/// The most notifications that one receipt names.
pub const LIMIT_ITEMS: usize = 100;

/// One fact. All of a user's lie in one partition, so their order on the log is the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "receipt", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ReceiptRecord {
    /// A user did something with single notifications.
    State {
        /// Who.
        user_id: UserId,
        /// What they are from here on.
        state: ReadState,
        /// Which, at most [`LIMIT_ITEMS`].
        items: Vec<ReceiptItem>,
        /// Where the user did it; absent if no device was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// A user did something with all that a channel holds before a position. Of several the furthest counts.
    UpTo {
        /// Who.
        user_id: UserId,
        /// What they are from here on.
        state: MarkState,
        /// The channel.
        channel: Channel,
        /// The first that is not meant.
        position: Position,
        /// Where the user did it; absent if no device was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// Nobody is to see a notification any more.
    Withdrawn {
        /// Its channel.
        channel: Channel,
        /// Its id.
        id: NotificationId,
        /// The position behind it, if it was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        /// Why.
        cause: WithdrawalCause,
        /// Where it was acknowledged, if that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
}

/// A notification that a user did something with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptItem {
    /// Its id.
    pub id: NotificationId,
    /// Its channel; absent while nobody who was asked had seen it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// The position behind it, as its frame says; absent with the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// What a notification is to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReadState {
    /// Read, and so seen.
    Read,
    /// Not read, whatever was said before. Seen stays seen. Only of a notification whose position is known.
    Unread,
    /// Seen.
    Seen,
    /// Put away, and so seen: left out of lists and counts. Says nothing of reading.
    Dismissed,
}

/// What all notifications before a position are to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MarkState {
    /// Read, and so seen.
    Read,
    /// Seen.
    Seen,
}

/// Why a notification is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WithdrawalCause {
    /// Its rule says `once`, and one device has acknowledged it.
    Once,
    /// A service asked for it.
    Service,
}

/// The device and connection that a user did something on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The device.
    pub device_id: DeviceId,
    /// The connection.
    pub connection_id: ConnectionId,
}

impl ReceiptRecord {
    /// The channel whose name is the record's key, and in whose partition it lies: the user's mailbox, or where what is withdrawn lies.
    #[must_use]
    pub fn home(&self) -> Channel {
        match self {
            Self::State { user_id, .. } | Self::UpTo { user_id, .. } => Channel::mailbox(user_id),
            Self::Withdrawn { channel, .. } => channel.clone(),
        }
    }
}

impl Record for ReceiptRecord {
    const NAME: &'static str = "receipt";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts() -> [ReceiptRecord; 3] {
        let user_id: UserId = "alice".parse().unwrap();
        let position = "1:57".parse().unwrap();
        [
            ReceiptRecord::State { user_id: user_id.clone(), state: ReadState::Read, items: Vec::new(), source: None },
            ReceiptRecord::UpTo { user_id, state: MarkState::Read, channel: Channel::everyone(), position, source: None },
            ReceiptRecord::Withdrawn {
                channel: "role-driver".parse().unwrap(),
                id: NotificationId(uuid::Uuid::nil()),
                position: Some(position),
                cause: WithdrawalCause::Service,
                source: None,
            },
        ]
    }

    #[test]
    fn what_a_user_did_lies_with_the_mailbox_and_what_is_withdrawn_with_its_channel() {
        assert_eq!(receipts().map(|receipt| receipt.home().to_string()), ["user-alice", "user-alice", "role-driver"]);
    }
}
