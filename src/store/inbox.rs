//! The inbox: what users are shown of what was folded.
//!
//! Owns: the queries behind lists, counts and states. A user's inbox is the mailbox and any channels that the caller names, stored once
//! and merged here; what the user did with them lies beside it. What is withdrawn or has expired is in none of the answers. Refuses to
//! decide who may see which channel: callers do. Neighbours: `notified` and `receipts` write what is read here.

mod about;
mod counts;
mod devices;
mod find;
mod list;
mod page;
mod pending;

use std::sync::Arc;

use tidings_core::channel::Channel;
use tidings_core::position::{Epoch, Position};
use tidings_core::time::Timestamp;

use super::Course;
pub use about::{About, Place, Withdrawn};
pub use counts::Counts;
pub use devices::Device;
pub use find::Found;
pub use list::{Item, ListWanted, Page};
pub use page::{PageToken, PageTokenError};
pub use pending::{Pending, PendingCounts, PendingPage, PendingWanted, TriedUntil};

/// Where all channels lie on the log.
#[derive(Debug, Clone)]
pub struct Courses {
    /// The generation of the topics.
    pub epoch: Epoch,
    /// The topic `notifications` with its prefix.
    pub notifications: Arc<str>,
    /// How many partitions it has.
    pub partitions: i32,
}

impl Courses {
    /// Where `channel` lies.
    #[must_use]
    pub fn of(&self, channel: &Channel) -> Course {
        let partition = channel.partition(self.partitions);
        Course { channel: channel.clone(), epoch: self.epoch, topic: self.notifications.clone(), partition }
    }
}

/// What a notification is to a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemState {
    /// Seen, also by being read or dismissed.
    pub seen: bool,
    /// Read.
    pub read: bool,
    /// When it was read: by itself, or by the latest mark that covers it.
    pub read_at: Option<Timestamp>,
    /// Put away.
    pub dismissed: bool,
}

/// The columns of [`told!`].
type Told = (i64, Option<i64>, i64, i64);

impl From<Told> for ItemState {
    fn from((read, read_at, seen, dismissed): Told) -> Self {
        let read = read == 1;
        let read_at = read_at.filter(|_| read).map(Timestamp::from_millis);
        Self { seen: seen == 1, read, read_at, dismissed: dismissed == 1 }
    }
}

/// The position behind a row.
fn behind(epoch: i64, offset: i64) -> Position {
    Position::after(super::read::read_epoch(epoch), offset)
}

/// Whether the notification `kept` is read. What was said of itself wins over marks, but for those that came after it was said to be
/// unread. All are judged by the first place that it ever had: what is carried over to another epoch is as old as it was.
macro_rules! is_read {
    () => {
        "(CASE WHEN state.is_read = 1
           OR state.is_read = 0 AND (kept.first_epoch, kept.first_offset) < (state.marked_epoch, state.marked_offset)
           OR state.is_read IS NULL AND (kept.first_epoch, kept.first_offset) < (mark.read_epoch, mark.read_offset)
         THEN 1 ELSE 0 END)"
    };
}
use is_read;

/// Whether it is seen.
macro_rules! is_seen {
    () => {
        "(CASE WHEN state.is_seen = 1 OR (kept.first_epoch, kept.first_offset) < (mark.seen_epoch, mark.seen_offset) THEN 1 ELSE 0 END)"
    };
}
use is_seen;

/// Whether it is put away.
macro_rules! is_dismissed {
    () => {
        "COALESCE(state.is_dismissed, 0)"
    };
}
use is_dismissed;

/// What the notification `kept` is to a user, as four columns.
macro_rules! told {
    () => {
        concat!(
            "CAST(",
            $crate::store::inbox::is_read!(),
            " AS bigint), COALESCE(state.read_at, mark.read_at), CAST(",
            $crate::store::inbox::is_seen!(),
            " AS bigint), CAST(",
            $crate::store::inbox::is_dismissed!(),
            " AS bigint)"
        )
    };
}
use told;

/// Joins what `$user` did with the notification `kept`.
macro_rules! with_state_of {
    ($user:literal) => {
        concat!(
            " LEFT JOIN states AS state ON state.id = kept.id AND state.user_id = ",
            $user,
            " LEFT JOIN marks AS mark ON mark.channel = kept.channel AND mark.user_id = ",
            $user,
            " "
        )
    };
}
use with_state_of;

/// Whether the notification `kept` is to be seen by anybody.
macro_rules! is_not_withdrawn {
    () => {
        " NOT EXISTS (SELECT 1 FROM withdrawals AS gone WHERE gone.id = kept.id AND gone.channel = kept.channel) "
    };
}
pub(super) use is_not_withdrawn;
