//! Lists: pages of a user's inbox, newest first.
//!
//! Owns: the order (time of appending, channel, epoch, offset, all descending) and the merging of channels. Each channel is asked for as
//! many as are wanted in all, in its own order.

use std::cmp::Reverse;
use std::num::NonZeroUsize;

use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::position::Position;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::time::Timestamp;

use super::{ItemState, PageToken, behind, is_dismissed, is_not_withdrawn, is_read, told, with_state_of};
use crate::store::connection::{Connection, run};
use crate::store::{Store, StoreError};

/// Which notifications are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListWanted {
    /// Only those that are not read.
    pub unread: bool,
    /// Also those that were put away.
    pub dismissed: bool,
    /// Only those of a type.
    pub kind: Option<String>,
    /// Only those of one channel.
    pub channel: Option<Channel>,
    /// Only those that were appended then or later.
    pub since: Option<Timestamp>,
    /// Only those behind the end of an earlier page.
    pub before: Option<PageToken>,
    /// At most so many.
    pub limit: NonZeroUsize,
    /// What time it is: what has expired by then is left out.
    pub now: Timestamp,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Newest first.
    pub items: Vec<Item>,
    /// Where the next page begins, if there is more.
    pub next: Option<PageToken>,
}

/// A notification in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The notification with its channel.
    pub record: NotificationRecord,
    /// The position behind it.
    pub position: Position,
    /// When it was appended to the log.
    pub appended_at: Timestamp,
    /// What it is to the user.
    pub state: ItemState,
    token: PageToken,
}

impl Item {
    /// Where it stands in lists, newest first.
    fn key(&self) -> (i64, &Channel, i64, i64) {
        (self.token.appended_at, &self.token.channel, self.token.epoch, self.token.offset)
    }
}

type Row = (i64, i64, i64, String, i64, Option<i64>, i64, i64);

impl Store {
    /// A page of what a user is shown of `channels`, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list(&self, user: &UserId, channels: &[Channel], wanted: &ListWanted) -> Result<Page, StoreError> {
        self.answered(async {
            let mut reader = self.reader().await?;
            let mut items = Vec::new();
            for channel in channels.iter().filter(|channel| wanted.channel.as_ref().is_none_or(|only| only == *channel)) {
                items.extend(of_channel(&mut reader, user, channel, wanted).await?);
            }
            items.sort_by(|one, other| Reverse(one.key()).cmp(&Reverse(other.key())));
            let is_all = items.len() <= wanted.limit.get();
            items.truncate(wanted.limit.get());
            let next = items.last().filter(|_| !is_all).map(|last| last.token.clone());
            Ok(Page { items, next })
        })
        .await
    }
}

/// The newest of a channel, one more than wanted if there are.
async fn of_channel(
    reader: &mut Connection,
    user: &UserId,
    channel: &Channel,
    wanted: &ListWanted,
) -> Result<Vec<Item>, StoreError> {
    let limit = wanted.limit.get() + 1;
    let mut before = wanted.before.as_ref().map_or((i64::MAX, i64::MAX, i64::MAX), |token| token.bound(channel));
    let mut items = Vec::new();
    loop {
        let rows = rows(reader, (user, channel), wanted, (before, limit)).await?;
        let is_last = rows.len() < limit;
        for row in rows {
            before = (row.2, row.0, row.1);
            let item = item(channel, row)?;
            if !item.record.exclude.contains(user) {
                items.push(item);
            }
        }
        if is_last || items.len() >= limit {
            return Ok(items);
        }
    }
}

async fn rows(
    reader: &mut Connection,
    (user, channel): (&UserId, &Channel),
    wanted: &ListWanted,
    ((appended_at, epoch, offset), limit): ((i64, i64, i64), usize),
) -> Result<Vec<Row>, StoreError> {
    Ok(run!(reader, |it| {
        sqlx::query_as(concat!(
            "SELECT kept.epoch, kept.\"offset\", kept.appended_at, kept.body, ",
            told!(),
            " FROM notifications AS kept",
            with_state_of!("$1"),
            "WHERE kept.channel = $2 AND kept.body IS NOT NULL AND (kept.appended_at, kept.epoch, kept.\"offset\") < ($3, $4, $5)
               AND kept.appended_at >= $6 AND (CAST($7 AS text) IS NULL OR kept.kind = $7)
               AND (kept.expires_at IS NULL OR kept.expires_at > $8) AND ($9 = 1 OR ",
            is_dismissed!(),
            " = 0) AND ($10 = 0 OR ",
            is_read!(),
            " = 0) AND",
            is_not_withdrawn!(),
            "ORDER BY kept.appended_at DESC, kept.epoch DESC, kept.\"offset\" DESC LIMIT $11",
        ))
        .bind(user.as_str())
        .bind(channel.as_str())
        .bind(appended_at)
        .bind(epoch)
        .bind(offset)
        .bind(wanted.since.map_or(i64::MIN, Timestamp::as_millis))
        .bind(wanted.kind.as_deref())
        .bind(wanted.now.as_millis())
        .bind(i64::from(wanted.dismissed))
        .bind(i64::from(wanted.unread))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(it)
        .await
    })?)
}

fn item(channel: &Channel, (epoch, offset, appended_at, body, read, read_at, seen, dismissed): Row) -> Result<Item, StoreError> {
    let record = serde_json::from_str(&body).map_err(|source| StoreError::unreadable("notifications", source))?;
    Ok(Item {
        record,
        position: behind(epoch, offset),
        appended_at: Timestamp::from_millis(appended_at),
        state: (read, read_at, seen, dismissed).into(),
        token: PageToken { appended_at, channel: channel.clone(), epoch, offset },
    })
}
