//! Receipts: what a user has done with notifications, from a client's wish to the log.
//!
//! Owns: who may, and what is written. Refuses to tell other connections: the feed reads what was written, here as on any other node,
//! and the shards tell it. Neighbours: `connection` asks and answers, `find` looks, `writer` writes.

mod find;
mod writer;

use tidings_core::channel::Channel;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::protocol::server::{ErrorCode, Problem};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, ReceiptRecord, Source};
use tidings_core::recovery::Loss;

use self::find::Found;
pub(super) use self::find::forget;
pub(super) use self::writer::{ReceiptWriter, Withdrawal};
use super::Shared;

/// Who asks.
pub(super) struct Asker {
    pub(super) user: UserId,
    /// What the user's inbox shows.
    pub(super) channels: Vec<Channel>,
    pub(super) source: Source,
}

/// What has become of notifications that a client named.
pub(super) struct Outcome {
    /// Those whose receipt the brokers have.
    pub(super) written: Vec<ReceiptItem>,
    /// What is wrong with the first of the others.
    pub(super) refused: Option<Problem>,
}

/// Writes what a user has done with single notifications. Those that are none of the user's are left out.
pub(super) async fn mark(shared: &Shared, asker: Asker, ids: &[NotificationId], state: ReadState) -> Outcome {
    let mut places = find::find(shared, &asker, ids).await;
    let (mut items, mut refused) = (Vec::with_capacity(ids.len()), None);
    for id in ids.iter().copied() {
        match places.of(id) {
            Found::At(channel, position) => items.push(ReceiptItem { id, channel: Some(channel), position: Some(position) }),
            // Where it lies decides whether a mark behind it counts, so this cannot be kept for later.
            Found::Unseen if state == ReadState::Unread => {
                let message = format!("{id} is not known here yet: ask again");
                refused.get_or_insert_with(|| Problem::new(ErrorCode::NotYet, message));
            }
            Found::Unseen => items.push(ReceiptItem { id, channel: None, position: None }),
            Found::Nowhere => {
                let message = format!("Notification not found: {id} is not in this user's inbox");
                refused.get_or_insert_with(|| Problem::new(ErrorCode::NotFound, message));
            }
        }
    }
    if items.is_empty() {
        return Outcome { written: items, refused };
    }
    let record = ReceiptRecord::State { user_id: asker.user, state, items: items.clone(), source: Some(asker.source) };
    match shared.receipts.write(shared, &record).await {
        Ok(()) => Outcome { written: items, refused },
        Err(problem) => Outcome { written: Vec::new(), refused: Some(problem) },
    }
}

/// Writes that a user has read everything of a channel before a position; of the mailbox, if none is named. Gives the channel.
pub(super) async fn mark_before(
    shared: &Shared,
    asker: Asker,
    channel: Option<Channel>,
    position: Position,
) -> Result<Channel, Problem> {
    let channel = channel.unwrap_or_else(|| Channel::mailbox(&asker.user));
    if !asker.channels.contains(&channel) {
        return Err(Problem::new(ErrorCode::Forbidden, format!("{channel} is not in this user's inbox")));
    }
    shared.reads.is_on_the_log(shared, &channel, position).await.map_err(|loss| match loss {
        Loss::Unanswered => Problem::new(
            ErrorCode::NotYet,
            format!("the brokers do not say whether {position} is a position of {channel}: ask again"),
        ),
        Loss::Epoch => {
            Problem::new(ErrorCode::Forbidden, format!("{position} is a position of another epoch than {}", shared.epoch))
        }
        _ => Problem::new(ErrorCode::Forbidden, format!("{position} lies beyond the end of {channel}")),
    })?;
    let record = ReceiptRecord::UpTo {
        user_id: asker.user,
        state: MarkState::Read,
        channel: channel.clone(),
        position,
        source: Some(asker.source),
    };
    shared.receipts.write(shared, &record).await?;
    Ok(channel)
}
