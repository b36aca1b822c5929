//! Receipts: what a user has done with notifications, from a wish to the log.
//!
//! Owns: who may, and what is written, for clients on sockets and over HTTP alike. Refuses to tell other connections: the feed reads what
//! was written, here as on any other node, and the shards tell it. Neighbours: `connection` and, over the desk, `http` ask and answer;
//! `find` looks, `once` withdraws, `writer` writes.

mod find;
mod once;
mod writer;

use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::{Epoch, Position};
use tidings_core::protocol::server::{ErrorCode, Problem};
use tidings_core::record::receipt::{LIMIT_ITEMS, ReadState, ReceiptItem, ReceiptRecord, Source};
use tidings_core::recovery::Loss;

use self::find::Depth;
pub(super) use self::find::forget;
pub use self::find::{Located, Scope};
pub use self::once::Unsettled;
pub use self::writer::Unwritten;
pub(super) use self::writer::{ReceiptWriter, Withdrawal};
use super::Shared;
use super::desk::Desk;

/// What has become of notifications that a user named.
#[derive(Debug)]
pub struct Marked {
    /// Those whose receipt the brokers have.
    pub written: Vec<ReceiptItem>,
    /// Those of which nothing can be written yet.
    pub awaited: Vec<NotificationId>,
    /// Those that are not in the user's inbox.
    pub absent: Vec<NotificationId>,
}

/// Why a position is none that a user can have been shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Nothing lies there yet.
    #[error("{position} is a position of a later epoch than {epoch}")]
    Later {
        /// What was named.
        position: Position,
        /// The epoch in force.
        epoch: Epoch,
    },
    /// The same.
    #[error("{position} lies beyond the end of {channel}")]
    Beyond {
        /// What was named.
        position: Position,
        /// Where.
        channel: Channel,
    },
    /// Nobody can say.
    #[error("the brokers do not say whether {position} is a position of {channel}: ask again")]
    Unanswered {
        /// What was named.
        position: Position,
        /// Where.
        channel: Channel,
    },
}

impl From<Misplaced> for Problem {
    fn from(misplaced: Misplaced) -> Self {
        let code = match misplaced {
            Misplaced::Unanswered { .. } => ErrorCode::NotYet,
            Misplaced::Later { .. } | Misplaced::Beyond { .. } => ErrorCode::Forbidden,
        };
        Self::new(code, misplaced.to_string())
    }
}

/// Writes what a user has done with single notifications. What cannot be found nor ruled out is written without its place, and counts
/// once it is there, if it is the user's.
pub(super) async fn mark(
    shared: &Shared,
    scope: Scope<'_>,
    ids: &[NotificationId],
    (state, source): (ReadState, Option<Source>),
) -> Result<Marked, Unwritten> {
    let Located { found, mut awaited, absent } = find::locate(shared, scope, ids, Depth::Ring).await;
    let item =
        |place: crate::store::Place| ReceiptItem { id: place.id, channel: Some(place.channel), position: Some(place.position) };
    let mut written = found.into_iter().map(item).collect::<Vec<_>>();
    // Where it lies decides whether a mark behind it counts, so this alone cannot be kept for later.
    if state != ReadState::Unread {
        written.extend(awaited.drain(..).map(|id| ReceiptItem { id, channel: None, position: None }));
    }
    for items in written.chunks(LIMIT_ITEMS) {
        let (user_id, items, source) = (scope.user.clone(), items.to_vec(), source.clone());
        shared.receipts.write(shared, &ReceiptRecord::State { user_id, state, items, source }).await?;
    }
    Ok(Marked { written, awaited, absent })
}

/// Judges a position that stands for all before it. One of an earlier epoch means what that epoch held before it, which lists still
/// show; nothing can come to it any more.
pub(super) async fn judge(shared: &Shared, channel: &Channel, position: Position) -> Result<(), Misplaced> {
    if position.epoch < shared.epoch {
        return Ok(());
    }
    shared.reads.is_on_the_log(shared, channel, position).await.map_err(|loss| match loss {
        Loss::Unanswered => Misplaced::Unanswered { position, channel: channel.clone() },
        Loss::Epoch => Misplaced::Later { position, epoch: shared.epoch },
        _ => Misplaced::Beyond { position, channel: channel.clone() },
    })
}

impl Desk {
    /// Writes what a user has done with single notifications. See [`Marked`].
    ///
    /// # Errors
    /// If the brokers do not confirm it in time.
    pub async fn mark(&self, scope: Scope<'_>, ids: &[NotificationId], state: ReadState) -> Result<Marked, Unwritten> {
        mark(&self.shared, scope, ids, (state, None)).await
    }

    /// Looks where notifications lie, as far as the store has folded them.
    pub async fn locate(&self, scope: Scope<'_>, ids: &[NotificationId]) -> Located {
        find::locate(&self.shared, scope, ids, Depth::Store).await
    }

    /// Whether the store has folded a channel's partition up to an offset, or does so soon.
    pub async fn has_folded(&self, channel: &Channel, offset: i64) -> bool {
        find::has_folded(&self.shared, channel, offset).await
    }

    /// Whether the store has folded all that lies on the log now, or does so within `patience`.
    pub async fn has_folded_all(&self, patience: Duration) -> bool {
        find::has_folded_all(&self.shared, patience).await
    }

    /// Judges a position that stands for all before it.
    ///
    /// # Errors
    /// If no user can have been shown what lies before it, or nobody can say.
    pub async fn judge(&self, channel: &Channel, position: Position) -> Result<(), Misplaced> {
        judge(&self.shared, channel, position).await
    }

    /// Writes a receipt.
    ///
    /// # Errors
    /// If the brokers do not confirm it in time. To write it twice does no harm.
    pub async fn write(&self, receipt: &ReceiptRecord) -> Result<(), Unwritten> {
        self.shared.receipts.write(&self.shared, receipt).await
    }
}
