//! The store: the projection of the log in SQL, and what it answers.
//!
//! Owns: the schema (`migrations/`), the one transaction in which rows and Kafka positions move together, retention, and the reads.
//! Refuses to be the truth: it can be deleted and is folded again. Only `inbox` writes. Neighbours: `inbox` above folds; `courier` and
//! `gateway` read.

mod attempts;
mod backend;
mod connection;
mod devices;
mod error;
mod fold;
mod inbox;
mod interests;
mod notified;
mod postgres;
pub mod probe;
mod read;
mod receipts;
mod recover;
mod schema;
mod shadow;
mod sqlite;
mod stretches;
#[cfg(test)]
mod tests;
mod trim;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Epoch;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::time::Timestamp;

pub use attempts::Tried;
pub use backend::Store;
pub use error::StoreError;
pub use inbox::{
    About, Counts, Courses, Device, Found, Item, ItemState, ListWanted, Page, PageToken, PageTokenError, Pending, PendingCounts,
    PendingPage, PendingWanted, Place, TriedUntil, Withdrawn,
};
pub use read::Evidence;
pub use recover::{Gap, PageSize};
pub use shadow::{Beginning, Extent, Extents, Locked, Shadow, Swapped};
pub use trim::{Ours, Trimmed};

/// Whether waiting may mend an error of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Passing,
    Denied,
    Final,
}

/// What one batch of records changes, to be folded whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    /// How far it brings each partition.
    pub moves: Vec<Move>,
    /// The notifications in it, in the order of their partitions.
    pub notifications: Vec<Notified>,
    /// The cursors in it, in the order of their partitions.
    pub cursors: Vec<Heard>,
    /// The receipts in it, in the order of their partitions.
    pub receipts: Vec<Received>,
    /// The deliveries in it that were tried, in the order of their partitions.
    pub attempts: Vec<Tried>,
    /// The topic of requests with its prefix: what follows from one is found by the request's id.
    pub requests: Arc<str>,
}

/// A step of one partition: from the next offset to read before the batch to the one behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Where the store must stand.
    pub from: i64,
    /// Where it stands then.
    pub to: i64,
    /// The latest append time of what lies between, if anything does.
    pub clock: Option<Timestamp>,
    /// Whether what lies between was lost rather than folded.
    pub is_loss: bool,
}

/// A record of `notifications` with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Notified {
    /// The value.
    pub record: NotificationRecord,
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was appended.
    pub appended: Timestamp,
}

/// A record of `cursors` with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The value.
    pub record: CursorRecord,
    /// The partition it lies in.
    pub partition: i32,
    /// When it was appended.
    pub appended: Timestamp,
}

/// A record of `receipts` with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The value.
    pub record: ReceiptRecord,
    /// The partition it lies in.
    pub partition: i32,
    /// When it was appended.
    pub appended: Timestamp,
}

/// How long things are kept. What "now" is, the log says: the latest append time that was folded of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Rows of notifications.
    pub rows: Duration,
    /// Ids of notifications: as long as the log may be read again, and at least as long as rows.
    pub ids: Duration,
    /// What was tried of notifications that ended without success: as long as the log tells of them.
    pub undelivered: Duration,
    /// The most rows of a mailbox.
    pub mailbox_rows: NonZeroUsize,
    /// The most rows of any other channel.
    pub channel_rows: NonZeroUsize,
    /// Devices that write no cursor.
    pub devices: Duration,
    /// The most devices of a user.
    pub devices_per_user: NonZeroUsize,
    /// The most channels of its own choice of which it is kept what a device said.
    pub channels_per_device: NonZeroUsize,
    /// What receipts said, beyond the notifications they speak of.
    pub receipts: Duration,
    /// The most states of single notifications of a user, but for those of notifications that are there.
    pub states_per_user: NonZeroUsize,
}

impl Retention {
    /// What was appended up to then, in milliseconds, is forgotten when the log says that it is `now`: ids.
    fn ids_before(&self, now: Timestamp) -> i64 {
        before(now, self.ids)
    }

    /// The same for devices, by their last use.
    fn devices_before(&self, now: Timestamp) -> i64 {
        before(now, self.devices)
    }

    fn rows(&self, channel: &Channel) -> NonZeroUsize {
        if channel.is_mailbox() { self.mailbox_rows } else { self.channel_rows }
    }
}

fn before(now: Timestamp, age: Duration) -> i64 {
    now.as_millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Where a channel lies on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The channel.
    pub channel: Channel,
    /// The generation of the topics.
    pub epoch: Epoch,
    /// The topic `notifications` with its prefix.
    pub topic: Arc<str>,
    /// The channel's partition of it.
    pub partition: i32,
}

/// A record of `notifications` whose id its channel knows already with another content. Only what was said first is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// Whether a fold took place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Folded {
    /// Rows and positions are committed.
    Committed {
        /// What contradicted an earlier record, as far as that one is not trimmed yet.
        conflicts: Vec<Conflict>,
        /// States that had no room.
        crowded_out: u64,
        /// Channels of devices that had no room.
        lapsed: u64,
    },
    /// Some partition did not stand where the fold begins: somebody else moved it. Nothing was changed.
    Moved,
}

/// How far a partition is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset to fold.
    pub next: i64,
}

/// A notification whose delivery is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its channel, a mailbox.
    pub channel: Channel,
    /// Its id.
    pub id: NotificationId,
    /// The generation its offset belongs to.
    pub epoch: Epoch,
    /// Its offset.
    pub offset: i64,
}
