//! One record of the feed on its way to the shards, decoded and encoded once, and only if somebody listens.

use std::sync::OnceLock;

use bytes::Bytes;
use tidings_core::channel::Channel;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::{Epoch, Position};
use tidings_core::protocol::server::{Sent, ServerFrame};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::Delivery;
use tidings_core::record::{self, RecordError};
use tidings_core::time::Timestamp;

use super::frames;

/// A record of `notifications` as it was read.
pub(super) struct Fed {
    pub(super) channel: Channel,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) version: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    /// Shared: the first shard with somebody to write to fills it for all.
    pub(super) frame: OnceLock<Option<Encoded>>,
}

/// A notification as a frame, the same for every connection.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) id: NotificationId,
    pub(super) frame: Bytes,
    /// When the event was written to its topic, as Kafka says.
    pub(super) event_at: Option<Timestamp>,
    /// Who is left out, in order.
    exclude: Box<[UserId]>,
}

impl Encoded {
    /// Whether anybody is left out.
    pub(super) fn is_exclusive(&self) -> bool {
        !self.exclude.is_empty()
    }

    /// Whether `user` is left out.
    pub(super) fn excludes(&self, user: &UserId) -> bool {
        self.exclude.binary_search(user).is_ok()
    }
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FedError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("a notification that names another channel than its key does")]
    Channel,
    #[error("a notification that cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Fed {
    /// The frame; `failed` is told once if there can be none.
    pub(super) fn encoded(&self, epoch: Epoch, now: Timestamp, failed: impl FnOnce(&Self, &FedError)) -> Option<&Encoded> {
        let frame = self.frame.get_or_init(|| match self.encode(epoch, now) {
            Ok(encoded) => Some(encoded),
            Err(error) => {
                failed(self, &error);
                None
            }
        });
        frame.as_ref()
    }

    fn encode(&self, epoch: Epoch, now: Timestamp) -> Result<Encoded, FedError> {
        let mut record: NotificationRecord = record::decode(self.version.as_deref(), &self.value)?;
        if record.channel != self.channel {
            return Err(FedError::Channel);
        }
        let notification = &record.notification;
        let frame = ServerFrame::NotificationNew {
            channel: &self.channel,
            position: Some(Position::after(epoch, self.offset)),
            notification,
            redelivery: None,
        };
        let message_id = notification.id.to_string();
        let frame = frames::text(&Sent { frame, message_id: &message_id, reply_to: None, timestamp: now })?;
        record.exclude.sort_unstable();
        Ok(Encoded { id: record.notification.id, frame, event_at: record.origin.timestamp, exclude: record.exclude.into() })
    }
}

/// The frame of a delivery that is tried again.
pub(super) fn again(delivery: &Delivery, redelivery: u32, now: Timestamp) -> Result<Bytes, serde_json::Error> {
    let frame = ServerFrame::NotificationNew {
        channel: &delivery.channel,
        position: None,
        notification: &delivery.notification,
        redelivery: Some(redelivery),
    };
    let message_id = format!("{}/{redelivery}", delivery.notification.id);
    frames::text(&Sent { frame, message_id: &message_id, reply_to: None, timestamp: now })
}
