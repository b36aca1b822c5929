//! One record of the feed on its way to the shards, decoded and encoded once, and only if somebody listens.

use std::borrow::Cow;
use std::sync::OnceLock;

use tidings_core::channel::Channel;
use tidings_core::fate::Cause;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::{Epoch, Position};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::Delivery;
use tidings_core::record::trace::TraceContext;
use tidings_core::record::{self, RecordError};
use tidings_core::time::Timestamp;

use super::wording::{Again, Around, Wording};

/// A record of `notifications` as it was read.
pub(super) struct Fed {
    pub(super) channel: Channel,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) version: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) trace: Option<TraceContext>,
    /// Shared: the first shard with somebody to write to fills it for all.
    pub(super) frame: OnceLock<Option<Encoded>>,
}

/// A notification as frames, the same for every connection of one locale.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) id: NotificationId,
    pub(super) wording: Wording,
    /// When the event was written to its topic, as Kafka says.
    pub(super) event_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// Whether it is withdrawn from the user's other devices once one has acknowledged it.
    pub(super) once: bool,
    /// Who is left out, in order.
    exclude: Box<[UserId]>,
}

impl Encoded {
    /// The frames of a record that has `position` behind it.
    pub(super) fn new(mut record: NotificationRecord, position: Position, now: Timestamp) -> Result<Self, FedError> {
        let around = Around { channel: record.channel, position: Some(position), again: None, at: now };
        record.exclude.sort_unstable();
        let (id, once, exclude) = (record.notification.id, record.notification.once, record.exclude.into());
        Ok(Self {
            id,
            expires_at: record.notification.expires_at,
            wording: Wording::new(around, Cow::Owned(record.notification))?,
            event_at: record.origin.timestamp,
            once,
            exclude,
        })
    }

    /// Whether it is of no use to anybody any more.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

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

impl FedError {
    /// Whose fault it is.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Record(error) => error.cause(),
            Self::Channel | Self::Json(_) => Cause::Poison,
        }
    }

    /// A short name that does not change between releases.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Record(error) => error.class(),
            Self::Channel => "unlike_its_key",
            Self::Json(_) => "unwritable",
        }
    }
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
        let record: NotificationRecord = record::decode(self.version.as_deref(), &self.value)?;
        if record.channel != self.channel {
            return Err(FedError::Channel);
        }
        Encoded::new(record, Position::after(epoch, self.offset), now)
    }
}

/// The frames of a delivery that is tried again.
pub(super) fn again(delivery: &Delivery, again: Again, now: Timestamp) -> Result<Wording, serde_json::Error> {
    let around = Around { channel: delivery.channel.clone(), position: None, again: Some(again), at: now };
    Wording::new(around, Cow::Borrowed(&delivery.notification))
}
