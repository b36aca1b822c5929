//! Frames about read state: `mark_read` and `notification_action`.
//!
//! Owns: each id once, and at most so many. Refuses to judge whether a notification is one of the user's: the gateway looks it up.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ClientFrame, FRAME_IDS};
use crate::channel::Channel;
use crate::ids::NotificationId;
use crate::position::Position;
use crate::protocol::server::{ErrorCode, Problem};
use crate::record::receipt::ReadState;

/// What `mark_read` marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// These, each once and in the order of the frame; never empty.
    Ids(Vec<NotificationId>),
    /// Everything of a channel before a position.
    UpTo {
        /// Which channel; the user's mailbox, if none is named.
        channel: Option<Channel>,
        /// Everything before it.
        position: Position,
    },
}

/// The actions, and what each makes of a notification.
const ACTIONS: [(&str, ReadState); 4] =
    [("read", ReadState::Read), ("unread", ReadState::Unread), ("seen", ReadState::Seen), ("dismiss", ReadState::Dismissed)];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MarkRead {
    #[serde(default)]
    channel: Option<Channel>,
    #[serde(default)]
    notification_id: Option<NotificationId>,
    #[serde(default)]
    notification_ids: Option<Vec<NotificationId>>,
    #[serde(default)]
    up_to: Option<Position>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Act {
    notification_id: NotificationId,
    action: String,
}

impl MarkRead {
    pub(super) fn said(self) -> Result<ClientFrame, Problem> {
        let marked = match (self.notification_id, self.notification_ids, self.up_to) {
            (Some(id), None, None) => Marked::Ids(vec![id]),
            (None, Some(ids), None) if ids.len() > FRAME_IDS => {
                return Err(Problem::new(ErrorCode::Limit, format!("a frame marks at most {FRAME_IDS} notifications")));
            }
            (None, Some(mut ids), None) if !ids.is_empty() => {
                let mut seen = BTreeSet::new();
                ids.retain(|id| seen.insert(*id));
                Marked::Ids(ids)
            }
            (None, None, Some(position)) => Marked::UpTo { channel: self.channel, position },
            _ => {
                let message = "a `mark_read` has one of `notificationId`, `notificationIds` and `upTo`";
                return Err(Problem::new(ErrorCode::BadFrame, message));
            }
        };
        Ok(ClientFrame::MarkRead(marked))
    }
}

impl Act {
    pub(super) fn said(self) -> Result<ClientFrame, Problem> {
        let known = ACTIONS.into_iter().find(|(name, _)| *name == self.action);
        let (_, state) = known.ok_or_else(|| {
            let names = ACTIONS.map(|(name, _)| name).join(", ");
            Problem::new(ErrorCode::BadFrame, format!("an `action` is one of {names}"))
        })?;
        Ok(ClientFrame::Act { id: self.notification_id, state })
    }
}
