//! Pending: what waits in mailboxes for an acknowledgement, with what was tried of it.
//!
//! Owns: the queries. Of one user everything counts that nobody has acknowledged; over all users what was tried at least once, in the order
//! of mailboxes, so that the cost of a page does not depend on how much waits. Neighbours: `attempts` keeps the rows, `read` the evidence.

use std::num::NonZeroUsize;

use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Reach;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::{Attempt, Delivery, Outcome};
use tidings_core::time::Timestamp;

use super::{PageToken, is_not_withdrawn};
use crate::store::connection::run;
use crate::store::read::read_epoch;
use crate::store::{Asked, Store, StoreError};

/// The most rows that are looked at for one page: beyond, the page ends early, and the next one goes on.
const LOOKED_AT: usize = 5_000;
/// So many are looked at a time.
const LOOK: usize = 1_000;

/// What is wanted of all that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWanted {
    /// Only that of which the last attempt but one came to this.
    pub outcome: Option<Outcome>,
    /// Only what lies behind the end of an earlier page.
    pub after: Option<PageToken>,
    /// At most so many.
    pub limit: NonZeroUsize,
    /// What time it is: what has expired by then does not wait.
    pub now: Timestamp,
}

/// A page of what waits.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingPage {
    /// In the order of mailboxes, and in each the oldest first.
    pub items: Vec<Pending>,
    /// Where the next page begins, if there may be more.
    pub next: Option<PageToken>,
}

/// A notification that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The notification with its mailbox.
    pub record: NotificationRecord,
    /// Where it lies.
    pub place: Asked,
    /// When it was appended to the log.
    pub appended_at: Timestamp,
    /// What was tried; nothing yet, if the first acknowledgement is still waited for.
    pub tried: Option<TriedUntil>,
    /// The epoch and the offset by which it is in order.
    listed_at: (i64, i64),
}

/// What was tried of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedUntil {
    /// How often.
    pub made: u32,
    /// The latest attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Why the last attempt was needed, or why there is none more.
    pub outcome: Outcome,
    /// Whether it has ended without success.
    pub is_undelivered: bool,
    /// When the next attempt is due, or it ended.
    pub next_at: Timestamp,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingCounts {
    /// What no device had been written to.
    pub offline: u64,
    /// What a device was written to, and was not acknowledged.
    pub unacknowledged: u64,
}

impl Pending {
    /// The position behind it.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::after(self.place.epoch, self.place.offset)
    }

    fn token(&self) -> PageToken {
        let (epoch, offset) = self.listed_at;
        PageToken { appended_at: self.appended_at.as_millis(), channel: self.place.channel.clone(), epoch, offset }
    }

    /// The same as a delivery.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let Self { record, place, appended_at, tried, .. } = self;
        let attempts = tried.as_ref().map(|tried| tried.attempts.clone()).unwrap_or_default();
        let made = tried.as_ref().map_or(0, |tried| tried.made);
        Delivery {
            channel: record.channel.clone(),
            notification: record.notification.clone(),
            epoch: place.epoch,
            offset: place.offset,
            appended_at: Some(*appended_at),
            ladder: record.ladder.clone(),
            attempts_forgotten: made.saturating_sub(u32::try_from(attempts.len()).unwrap_or(u32::MAX)),
            attempts,
        }
    }
}

/// The columns of [`tried!`].
pub(super) type TriedRow = (Option<i64>, Option<String>, Option<String>, Option<i32>, Option<i64>);
/// A channel and an id, the epoch and offset by which they are in order, those where it lies, when it was appended, its body, and what was
/// tried.
#[rustfmt::skip]
type Row = (String, String, i64, i64, i64, i64, i64, String, Option<i64>, Option<String>, Option<String>, Option<i32>, Option<i64>);

/// What was tried, as five columns of `tried`.
macro_rules! tried {
    () => {
        "tried.made, tried.history, tried.outcome, tried.is_undelivered, tried.next_at"
    };
}
pub(super) use tried;

/// What waits on the rungs and is of an outcome. What was carried over lies elsewhere than where it was tried: pages go by the latter.
macro_rules! open_rows {
    ($outcome:literal) => {
        concat!(
            "SELECT tried.channel, tried.id, tried.epoch, tried.\"offset\", kept.epoch, kept.\"offset\", kept.appended_at, kept.body, ",
            tried!(),
            " FROM attempts AS tried CROSS JOIN notifications AS kept
             WHERE tried.is_open = 1 AND (tried.channel, tried.epoch, tried.\"offset\") > ($1, $2, $3)
               AND (tried.expires_at IS NULL OR tried.expires_at > $4) AND ",
            $outcome,
            " AND kept.id = tried.id AND kept.channel = tried.channel AND kept.body IS NOT NULL
             ORDER BY tried.channel, tried.epoch, tried.\"offset\" LIMIT $6",
        )
    };
}

impl Store {
    /// A page of what waits on the rungs, in the order of mailboxes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn pending(&self, wanted: &PendingWanted) -> Result<PendingPage, StoreError> {
        let mut page = PendingPage { items: Vec::new(), next: None };
        let (mut after, mut looked_at) = (wanted.after.clone(), 0);
        loop {
            let rows = self.open_rows(wanted, after.as_ref()).await?;
            let is_last = rows.len() < LOOK;
            looked_at += rows.len();
            for item in self.still_pending(rows, &mut after).await? {
                if page.items.len() == wanted.limit.get() {
                    page.next = page.items.last().map(Pending::token);
                    return Ok(page);
                }
                page.items.push(item);
            }
            if is_last {
                return Ok(page);
            }
            if looked_at >= LOOKED_AT {
                page.next = after;
                return Ok(page);
            }
        }
    }

    /// What waits in one mailbox, oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn pending_of(&self, user: &UserId, wanted: &PendingWanted) -> Result<PendingPage, StoreError> {
        let mut page = PendingPage { items: Vec::new(), next: None };
        let mut after = wanted.after.clone();
        loop {
            let rows = self.mailbox_rows(&Channel::mailbox(user), wanted, after.as_ref()).await?;
            let is_last = rows.len() < LOOK;
            for item in self.still_pending(rows, &mut after).await? {
                if page.items.len() == wanted.limit.get() {
                    page.next = page.items.last().map(Pending::token);
                    return Ok(page);
                }
                page.items.push(item);
            }
            if is_last {
                return Ok(page);
            }
        }
    }

    /// How much waits on the rungs. What was acknowledged only at a further place of its own on the log may be counted as well.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn pending_counts(&self, now: Timestamp) -> Result<PendingCounts, StoreError> {
        let rows: Vec<(String, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(
                        "SELECT outcome, COUNT(*) FROM attempts WHERE is_open = 1 AND (expires_at IS NULL OR expires_at > $1)
                         GROUP BY outcome",
                    )
                    .bind(now.as_millis())
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let mut counts = PendingCounts::default();
        for (outcome, count) in rows {
            let count = u64::try_from(count).unwrap_or(0);
            match read_outcome(&outcome) {
                Outcome::Offline => counts.offline += count,
                Outcome::Unacknowledged => counts.unacknowledged += count,
            }
        }
        Ok(counts)
    }

    async fn open_rows(&self, wanted: &PendingWanted, after: Option<&PageToken>) -> Result<Vec<Row>, StoreError> {
        let from = after.map_or(("", 0, 0), |after| (after.channel.as_str(), after.epoch, after.offset));
        // One text for both would leave the index by outcome unused.
        let sql = match wanted.outcome {
            None => open_rows!("CAST($5 AS text) IS NULL"),
            Some(_) => open_rows!("tried.outcome = $5"),
        };
        self.rows(sql, from, wanted).await
    }

    async fn mailbox_rows(
        &self,
        mailbox: &Channel,
        wanted: &PendingWanted,
        after: Option<&PageToken>,
    ) -> Result<Vec<Row>, StoreError> {
        let (epoch, offset) = after.map_or((0, -1), |after| (after.epoch, after.offset));
        let sql = concat!(
            "SELECT kept.channel, kept.id, kept.epoch, kept.\"offset\", kept.epoch, kept.\"offset\", kept.appended_at, kept.body, ",
            tried!(),
            " FROM notifications AS kept LEFT JOIN attempts AS tried ON tried.id = kept.id AND tried.channel = kept.channel
             WHERE kept.channel = $1 AND (kept.epoch, kept.\"offset\") > ($2, $3) AND kept.body IS NOT NULL
               AND (kept.expires_at IS NULL OR kept.expires_at > $4) AND COALESCE(tried.is_undelivered, 0) = 0
               AND (CAST($5 AS text) IS NULL OR tried.outcome = $5) AND",
            is_not_withdrawn!(),
            "ORDER BY kept.epoch, kept.\"offset\" LIMIT $6",
        );
        self.rows(sql, (mailbox.as_str(), epoch, offset), wanted).await
    }

    /// The rows of a statement that are wanted: `$1` to `$3` are behind which channel, epoch and offset they lie.
    async fn rows(
        &self,
        sql: &'static str,
        (channel, epoch, offset): (&str, i64, i64),
        wanted: &PendingWanted,
    ) -> Result<Vec<Row>, StoreError> {
        self.answered(async {
            Ok(run!(&mut self.reader().await?, |it| {
                sqlx::query_as(sql)
                    .bind(channel)
                    .bind(epoch)
                    .bind(offset)
                    .bind(wanted.now.as_millis())
                    .bind(wanted.outcome.map(Outcome::name))
                    .bind(LOOK as i64)
                    .fetch_all(it)
                    .await
            })?)
        })
        .await
    }

    /// Those that nobody has acknowledged by now. Leaves in `after` where the rows end.
    async fn still_pending(&self, rows: Vec<Row>, after: &mut Option<PageToken>) -> Result<Vec<Pending>, StoreError> {
        let items = rows.into_iter().map(pending).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = items.last() {
            *after = Some(last.token());
        }
        let asked = items.iter().map(|item| item.place.clone()).collect::<Vec<_>>();
        let evidence = if asked.is_empty() { Vec::new() } else { self.evidence(&asked).await? };
        let waits = items.into_iter().zip(evidence).filter(|(_, known)| known.reach() != Reach::Delivered && !known.is_withdrawn);
        Ok(waits.map(|(item, _)| item).collect())
    }
}

fn pending(row: Row) -> Result<Pending, StoreError> {
    let (
        channel,
        id,
        listed_epoch,
        listed_offset,
        epoch,
        offset,
        appended_at,
        body,
        made,
        history,
        outcome,
        is_undelivered,
        next_at,
    ) = row;
    let channel: Channel = channel.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
    let id: NotificationId = id.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
    Ok(Pending {
        record: serde_json::from_str(&body).map_err(|source| StoreError::unreadable("notifications", source))?,
        place: Asked { channel, id, epoch: read_epoch(epoch), offset },
        appended_at: Timestamp::from_millis(appended_at),
        tried: read_tried((made, history, outcome, is_undelivered, next_at))?,
        listed_at: (listed_epoch, listed_offset),
    })
}

/// What was tried, if anything was.
pub(super) fn read_tried((made, history, outcome, is_undelivered, next_at): TriedRow) -> Result<Option<TriedUntil>, StoreError> {
    let (Some(made), Some(history), Some(outcome), Some(next_at)) = (made, history, outcome, next_at) else { return Ok(None) };
    Ok(Some(TriedUntil {
        made: u32::try_from(made).unwrap_or(u32::MAX),
        attempts: serde_json::from_str(&history).map_err(|source| StoreError::unreadable("attempts", source))?,
        outcome: read_outcome(&outcome),
        is_undelivered: is_undelivered == Some(1),
        next_at: Timestamp::from_millis(next_at),
    }))
}

fn read_outcome(name: &str) -> Outcome {
    if name == Outcome::Offline.name() { Outcome::Offline } else { Outcome::Unacknowledged }
}
