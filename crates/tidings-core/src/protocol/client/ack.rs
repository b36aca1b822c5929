//! The frame `ack`: by position, or by single ids.

use serde::Deserialize;

use super::{ClientFrame, FRAME_IDS};
use crate::channel::Channel;
use crate::ids::NotificationId;
use crate::position::Position;
use crate::protocol::server::{ErrorCode, Problem};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ack {
    #[serde(default)]
    channel: Option<Channel>,
    #[serde(default)]
    position: Option<Position>,
    #[serde(default)]
    except: Vec<NotificationId>,
    #[serde(default)]
    notification_ids: Vec<NotificationId>,
}

impl Ack {
    pub(super) fn said(self) -> Result<ClientFrame, Problem> {
        if self.except.len() > FRAME_IDS || self.notification_ids.len() > FRAME_IDS {
            return Err(Problem::new(ErrorCode::Limit, format!("an acknowledgement names at most {FRAME_IDS} notifications")));
        }
        match (self.channel, self.position) {
            (Some(channel), Some(position)) if self.notification_ids.is_empty() => {
                Ok(ClientFrame::AckBelow { channel, position, except: self.except })
            }
            (channel, None) if self.except.is_empty() && !self.notification_ids.is_empty() => {
                Ok(ClientFrame::AckIds { channel, ids: self.notification_ids })
            }
            _ => Err(Problem::new(ErrorCode::BadFrame, "an `ack` has either `channel` and `position`, or `notificationIds`")),
        }
    }
}
