//! The rows of attempts: what was tried of deliveries, and which of them still wait.
//!
//! Owns: one row for each delivery that left the first rung, as the record with the most attempts says, and whether it is open. Rows are told
//! apart by what records say, so it does not matter which rung is folded first. What is open may have been acknowledged at another place
//! of its notification: who lists them looks at the evidence. Neighbours: `fold` calls it in its transaction, `pending` reads, `replay` asks
//! whether a ladder that has ended was begun anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::record::retry::{Delivery, Outcome};
use tidings_core::time::Timestamp;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::{Asked, Fold, Heard, Received, Store, StoreError};

/// The class of our advisory locks on PostgreSQL.
const TURNS: i32 = 0x7469_646e;

/// A record of a retry topic, or of `undelivered`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The delivery with its attempts.
    pub delivery: Delivery,
    /// Why there are no more.
    pub undelivered: Option<Outcome>,
    /// When the next one is due, or it ended.
    pub next_at: Timestamp,
    /// The partition of its mailbox.
    pub home: i32,
    /// The topic that it lies on.
    pub topic: Arc<str>,
    /// The partition there.
    pub partition: i32,
}

impl Tried {
    /// Of two records of a delivery the one with more attempts is the later one, and at the end there is none more.
    fn rank(&self) -> (u64, u32, bool) {
        (self.delivery.epoch.0, self.delivery.made(), self.undelivered.is_some())
    }

    fn row(&self) -> Value {
        let Delivery { channel, notification, epoch, offset, appended_at, attempts, .. } = &self.delivery;
        let last = self.undelivered.or_else(|| attempts.last().map(|attempt| attempt.outcome)).unwrap_or(Outcome::Offline);
        let history = serde_json::to_string(attempts).unwrap_or_default();
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
        json!([
            channel,
            notification.id,
            sql_epoch(*epoch),
            offset,
            self.home,
            millis(*appended_at),
            millis(notification.expires_at),
            self.delivery.made(),
            history,
            last.name(),
            i32::from(self.undelivered.is_some()),
            self.next_at.as_millis(),
            channel.mailbox_user(),
        ])
    }
}

impl Store {
    /// Of each delivery that ended after so many attempts, in the order asked, whether it is known of more: then its ladder was begun anew, and
    /// goes on or has ended since. Says nothing of what the projection has not folded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn are_tried_again(&self, ended: &[(Asked, u32)]) -> Result<Vec<bool>, StoreError> {
        let asked = ended.iter().map(|(one, made)| json!([one.channel, one.id, sql_epoch(one.epoch), made]));
        let asked = Value::from_iter(asked).to_string();
        let rows: Vec<(i64,)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(
                        "SELECT CAST(asked.key AS bigint) FROM json_each($1) AS asked CROSS JOIN attempts AS tried
                         WHERE tried.id = asked.value ->> 1 AND tried.channel = asked.value ->> 0
                           AND (tried.epoch, tried.made) > (CAST(asked.value ->> 2 AS bigint), CAST(asked.value ->> 3 AS bigint))",
                    )
                    .bind(&asked)
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let mut again = vec![false; ended.len()];
        for (index,) in rows {
            if let Some(known) = usize::try_from(index).ok().and_then(|index| again.get_mut(index)) {
                *known = true;
            }
        }
        Ok(again)
    }
}

/// Of two processes one may fold an attempt and the other what ends it, and neither sees what the other has not committed: it would wait
/// for ever. So whoever adds attempts of mailboxes of a partition is alone with it, among those that say something of them, until the
/// transaction ends. A database with one writer needs none of that.
pub(super) async fn take_turns(connection: &mut Connection, batch: &Fold) -> Result<(), StoreError> {
    let Connection::Postgres(connection) = connection else { return Ok(()) };
    let said = batch.cursors.iter().map(|heard| heard.partition).chain(batch.receipts.iter().map(|received| received.partition));
    let mut turns = said.map(|partition| (partition, "beside")).collect::<BTreeMap<_, _>>();
    turns.extend(batch.attempts.iter().map(|tried| (tried.home, "alone")));
    if turns.is_empty() {
        return Ok(());
    }
    // Everybody takes them in the same order, so nobody waits for who waits for him.
    let turns = Value::from_iter(turns.into_iter().map(|turn| json!(turn))).to_string();
    sqlx::query(
        "SELECT CASE WHEN turn.value ->> 1 = 'alone' THEN pg_advisory_xact_lock($2, CAST(turn.value ->> 0 AS integer))
           ELSE pg_advisory_xact_lock_shared($2, CAST(turn.value ->> 0 AS integer)) END
         FROM (SELECT value FROM json_each($1) ORDER BY key) AS turn",
    )
    .bind(&turns)
    .bind(TURNS)
    .execute(&mut **connection)
    .await?;
    Ok(())
}

/// Folds records of retry topics and of `undelivered`.
pub(super) async fn add(connection: &mut Connection, tried: &[Tried]) -> Result<(), StoreError> {
    let mut latest = BTreeMap::<(&Channel, NotificationId), &Tried>::new();
    for one in tried {
        let known = latest.entry((&one.delivery.channel, one.delivery.notification.id)).or_insert(one);
        if known.rank() < one.rank() {
            *known = one;
        }
    }
    let rows = latest.into_values().map(Tried::row).collect::<Vec<_>>();
    connection
        .write(
            "INSERT INTO attempts (channel, id, epoch, \"offset\", partition, appended_at, expires_at, made, history, outcome, is_undelivered,
               next_at, is_open)
             SELECT new.value ->> 0, new.value ->> 1, CAST(new.value ->> 2 AS bigint), CAST(new.value ->> 3 AS bigint),
               CAST(new.value ->> 4 AS integer), CAST(new.value ->> 5 AS bigint), CAST(new.value ->> 6 AS bigint),
               CAST(new.value ->> 7 AS bigint), new.value ->> 8, new.value ->> 9, CAST(new.value ->> 10 AS integer),
               CAST(new.value ->> 11 AS bigint),
               CASE WHEN CAST(new.value ->> 10 AS integer) = 0
                 AND NOT EXISTS (SELECT 1 FROM withdrawals AS gone WHERE gone.id = new.value ->> 1 AND gone.channel = new.value ->> 0)
                 AND NOT EXISTS (SELECT 1 FROM stretches AS said
                   WHERE said.user_id = new.value ->> 12 AND said.channel = new.value ->> 0
                     AND said.epoch = CAST(new.value ->> 2 AS bigint) AND said.kind = 'acknowledged'
                     AND said.from_offset <= CAST(new.value ->> 3 AS bigint) AND said.to_offset > CAST(new.value ->> 3 AS bigint))
                 AND NOT EXISTS (SELECT 1 FROM notifications AS moved CROSS JOIN stretches AS said
                   WHERE moved.id = new.value ->> 1 AND moved.channel = new.value ->> 0 AND moved.epoch > CAST(new.value ->> 2 AS bigint)
                     AND said.user_id = new.value ->> 12 AND said.channel = moved.channel AND said.epoch = moved.epoch
                     AND said.kind = 'acknowledged' AND said.from_offset <= moved.\"offset\" AND said.to_offset > moved.\"offset\")
               THEN 1 ELSE 0 END
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (id, channel) DO UPDATE SET epoch = excluded.epoch, \"offset\" = excluded.\"offset\",
               partition = excluded.partition, appended_at = excluded.appended_at, expires_at = excluded.expires_at,
               made = excluded.made, history = excluded.history, outcome = excluded.outcome, is_undelivered = excluded.is_undelivered,
               next_at = excluded.next_at, is_open = excluded.is_open
             WHERE (attempts.epoch, attempts.made, attempts.is_undelivered) < (excluded.epoch, excluded.made, excluded.is_undelivered)",
            rows,
        )
        .await
}

/// What was said of mailboxes just now ends what waits there.
pub(super) async fn close(connection: &mut Connection, heard: &[Heard], received: &[Received]) -> Result<(), StoreError> {
    connection
        .write(
            "UPDATE attempts SET is_open = 0 WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS said CROSS JOIN attempts AS kept
               WHERE kept.is_open = 1 AND kept.channel = said.value ->> 0 AND kept.epoch = CAST(said.value ->> 1 AS bigint)
                 AND kept.\"offset\" >= CAST(said.value ->> 2 AS bigint) AND kept.\"offset\" < CAST(said.value ->> 3 AS bigint))",
            acknowledged(heard),
        )
        .await?;
    // Of what was carried over the row still tells of the earlier epoch, until it is tried in this one.
    connection
        .write(
            "UPDATE attempts SET is_open = 0 WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS said CROSS JOIN attempts AS kept CROSS JOIN notifications AS moved
               WHERE kept.is_open = 1 AND kept.channel = said.value ->> 0 AND kept.epoch < CAST(said.value ->> 1 AS bigint)
                 AND moved.id = kept.id AND moved.channel = kept.channel AND moved.epoch = CAST(said.value ->> 1 AS bigint)
                 AND moved.\"offset\" >= CAST(said.value ->> 2 AS bigint) AND moved.\"offset\" < CAST(said.value ->> 3 AS bigint))",
            acknowledged(heard),
        )
        .await?;
    connection
        .write(
            "UPDATE attempts SET is_open = 0
             WHERE (id, channel) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1) AS gone)",
            withdrawn(received),
        )
        .await
}

/// What devices have acknowledged of mailboxes, as channel, epoch and offsets.
fn acknowledged(heard: &[Heard]) -> Vec<Value> {
    let mut rows = Vec::new();
    for cursor in heard.iter().map(|heard| &heard.record).filter(|cursor| cursor.channel.is_mailbox()) {
        let ranges = cursor.acknowledged.as_slice().iter();
        rows.extend(ranges.map(|range| json!([cursor.channel, sql_epoch(cursor.epoch), range.from, range.to])));
    }
    rows
}

fn withdrawn(received: &[Received]) -> Vec<Value> {
    let row = |received: &Received| match &received.record {
        ReceiptRecord::Withdrawn { channel, id, .. } if channel.is_mailbox() => Some(json!([id, channel])),
        _ => None,
    };
    received.iter().filter_map(row).collect()
}

/// The last times of partitions that are too old.
pub(super) struct Limits {
    /// For what expires.
    pub(super) now: String,
    /// For what waited, or was delivered.
    pub(super) ids: String,
    /// For what ended without success.
    pub(super) undelivered: String,
}

/// Closes what has expired, and forgets what nobody asks about any more. Says how many rows.
pub(super) async fn age(connection: &mut Connection, limits: &Limits, limit: u32) -> Result<usize, StoreError> {
    let (mut count, Limits { now, ids, undelivered }) = (0, limits);
    for (sql, times) in [
        (
            "UPDATE attempts SET is_open = 0 WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN attempts AS kept
               WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.is_open = 1 AND kept.expires_at IS NOT NULL
                 AND kept.expires_at <= CAST(old.value ->> 1 AS bigint) LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM attempts WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN attempts AS kept
               WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.is_undelivered = 0
                 AND kept.next_at <= CAST(old.value ->> 1 AS bigint) LIMIT $2)",
            ids,
        ),
        (
            "DELETE FROM attempts WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN attempts AS kept
               WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.is_undelivered = 1
                 AND kept.next_at <= CAST(old.value ->> 1 AS bigint) LIMIT $2)",
            undelivered,
        ),
    ] {
        let rows = run!(connection, |it| {
            sqlx::query(sql).bind(times).bind(i64::from(limit)).execute(it).await.map(|done| done.rows_affected())
        })?;
        count = count.max(usize::try_from(rows).unwrap_or(usize::MAX));
    }
    Ok(count)
}
