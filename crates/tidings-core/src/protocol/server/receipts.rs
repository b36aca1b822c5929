//! Receipts as frames: what a user's other connections are told of one, and the answer to who asked for it.

use super::{Change, ServerFrame};
use crate::channel::Channel;
use crate::position::Position;
use crate::record::receipt::{MarkState, ReadState, ReceiptItem, Source};

impl Change {
    /// What a state says of a notification, whatever it was before.
    #[must_use]
    pub fn to(state: ReadState) -> Self {
        match state {
            ReadState::Read => Self { is_seen: Some(true), is_read: Some(true), is_dismissed: None },
            ReadState::Unread => Self { is_read: Some(false), ..Self::default() },
            ReadState::Seen => Self { is_seen: Some(true), ..Self::default() },
            ReadState::Dismissed => Self { is_seen: Some(true), is_dismissed: Some(true), is_read: None },
        }
    }
}

impl<'a> ServerFrame<'a> {
    /// Single notifications are read.
    #[must_use]
    pub fn read(items: &'a [ReceiptItem]) -> Self {
        let channel = items.first().and_then(|first| first.channel.as_ref());
        let is_common = items.iter().all(|item| item.channel.as_ref() == channel);
        let notification_ids = items.iter().map(|item| item.id).collect();
        Self::NotificationRead { channel: channel.filter(|_| is_common), notification_ids, up_to: None }
    }

    /// Everything of a channel before a position is read.
    #[must_use]
    pub fn read_before(channel: &'a Channel, position: Position) -> Self {
        Self::NotificationRead { channel: Some(channel), notification_ids: Vec::new(), up_to: Some(position) }
    }

    /// What a single notification has become.
    #[must_use]
    pub fn sync(item: &'a ReceiptItem, state: ReadState, source: Option<&'a Source>) -> Self {
        Self::NotificationSync {
            notification_id: Some(item.id),
            channel: item.channel.as_ref(),
            up_to: None,
            change: Change::to(state),
            source_device: source.map(|source| &source.device_id),
            source_connection: source.map(|source| source.connection_id),
        }
    }

    /// What everything of a channel before a position has become.
    #[must_use]
    pub fn sync_before(channel: &'a Channel, position: Position, state: MarkState, source: Option<&'a Source>) -> Self {
        let state = match state {
            MarkState::Read => ReadState::Read,
            MarkState::Seen => ReadState::Seen,
        };
        Self::NotificationSync {
            notification_id: None,
            channel: Some(channel),
            up_to: Some(position),
            change: Change::to(state),
            source_device: source.map(|source| &source.device_id),
            source_connection: source.map(|source| source.connection_id),
        }
    }
}
