//! Trimming: what has grown old goes, a little at a time.
//!
//! Owns: which rows are too old by the clock of their partition, which is the latest append time that was folded of it: so whoever folds
//! the same log has the same rows in the end. Only what our own partitions stand for is trimmed; of two processes that believe they
//! own one, both are right. Neighbours: `notified` keeps channels short, `stretches` knows when a device was used.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_core::position::Epoch;

use super::attempts::Limits;
use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::notified::Trims;
use super::{Retention, Store, StoreError, attempts, stretches};

/// The most rows, ids and devices of one transaction.
const LIMIT: u32 = 500;

/// Partitions whose rows somebody answers for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// Of the topic `notifications`, with its full name.
    pub notifications: Vec<(Arc<str>, i32)>,
    /// Of the topic `cursors`.
    pub cursors: Vec<(Arc<str>, i32)>,
    /// Of the topic `receipts`.
    pub receipts: Vec<(Arc<str>, i32)>,
}

/// What one step of trimming did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Notifications that can no longer be read.
    pub notifications: usize,
    /// Ids that are no longer remembered.
    pub ids: usize,
    /// Devices that were forgotten.
    pub devices: usize,
    /// States, marks and withdrawals that were forgotten.
    pub receipts: usize,
    /// Deliveries that wait no more, or whose attempts were forgotten.
    pub attempts: usize,
}

impl Trimmed {
    /// Whether there may be more to trim.
    #[must_use]
    pub fn is_full(&self) -> bool {
        [self.notifications, self.ids, self.devices, self.receipts, self.attempts].iter().any(|count| *count >= LIMIT as usize)
    }
}

impl Store {
    /// Trims some of what is too old.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn trim(&self, epoch: Epoch, retention: &Retention, ours: &Ours) -> Result<Trimmed, StoreError> {
        self.answered(async {
            let mut transaction = self.writer().await?.begin_writing().await?;
            let connection = transaction.connection();
            let notifications = clocks(connection, epoch, &ours.notifications).await?;
            let cursors = clocks(connection, epoch, &ours.cursors).await?;
            let receipts = clocks(connection, epoch, &ours.receipts).await?;
            let trimmed = Trimmed {
                notifications: take_bodies(connection, epoch, limits(&notifications, retention.rows)).await?,
                ids: forget_ids(connection, epoch, limits(&notifications, retention.ids)).await?,
                devices: forget_devices(connection, limits(&cursors, retention.devices)).await?,
                receipts: forget_receipts(connection, limits(&receipts, retention.receipts)).await?,
                attempts: age_attempts(connection, &notifications, retention).await?,
            };
            transaction.commit().await?;
            Ok(trimmed)
        })
        .await
    }
}

/// Each partition with its clock.
async fn clocks(
    connection: &mut Connection,
    epoch: Epoch,
    partitions: &[(Arc<str>, i32)],
) -> Result<Vec<(i32, i64)>, StoreError> {
    let asked = Value::from_iter(partitions.iter().map(|(topic, number)| json!([topic, number]))).to_string();
    Ok(run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.partition, kept.clock FROM json_each($1) AS asked CROSS JOIN projection AS kept
             WHERE kept.epoch = $2 AND kept.topic = asked.value ->> 0 AND kept.partition = CAST(asked.value ->> 1 AS integer)",
        )
        .bind(&asked)
        .bind(sql_epoch(epoch))
        .fetch_all(it)
        .await
    })?)
}

/// For each partition, the last append time that is too old.
fn limits(clocks: &[(i32, i64)], age: Duration) -> String {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Value::from_iter(clocks.iter().map(|(partition, clock)| json!([partition, clock.saturating_sub(age)]))).to_string()
}

/// Rows of earlier epochs are found by the number of their partition, which later epochs have too. A row that has moved is as young as its
/// place: else a younger one before it would count as trimmed.
async fn take_bodies(connection: &mut Connection, epoch: Epoch, limits: String) -> Result<usize, StoreError> {
    let gone: Vec<(String, i64, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "UPDATE notifications SET body = NULL WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN notifications AS kept
               WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.placed_at <= CAST(old.value ->> 1 AS bigint)
                 AND kept.body IS NOT NULL AND kept.epoch <= $2 LIMIT $3)
             RETURNING channel, epoch, \"offset\"",
        )
        .bind(&limits)
        .bind(sql_epoch(epoch))
        .bind(i64::from(LIMIT))
        .fetch_all(it)
        .await
    })?;
    let count = gone.len();
    let mut trims = Trims::default();
    trims.extend(gone);
    trims.store(connection).await?;
    Ok(count)
}

async fn forget_ids(connection: &mut Connection, epoch: Epoch, limits: String) -> Result<usize, StoreError> {
    let gone: Vec<(String, i64, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "DELETE FROM notifications WHERE (id, channel) IN (
               SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN notifications AS kept
               WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.placed_at <= CAST(old.value ->> 1 AS bigint)
                 AND kept.body IS NULL AND kept.epoch <= $2 LIMIT $3)
             RETURNING channel, epoch, \"offset\"",
        )
        .bind(&limits)
        .bind(sql_epoch(epoch))
        .bind(i64::from(LIMIT))
        .fetch_all(it)
        .await
    })?;
    let count = gone.len();
    stretches::forget_below(connection, gone).await?;
    Ok(count)
}

async fn forget_devices(connection: &mut Connection, limits: String) -> Result<usize, StoreError> {
    let gone: Vec<(String, String)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.user_id, kept.device_id FROM json_each($1) AS old CROSS JOIN devices AS kept
             WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.used_at <= CAST(old.value ->> 1 AS bigint) LIMIT $2",
        )
        .bind(&limits)
        .bind(i64::from(LIMIT))
        .fetch_all(it)
        .await
    })?;
    let gone = gone.into_iter().collect::<BTreeSet<_>>();
    stretches::forget(connection, &gone).await?;
    Ok(gone.len())
}

async fn age_attempts(connection: &mut Connection, clocks: &[(i32, i64)], retention: &Retention) -> Result<usize, StoreError> {
    let [now, ids, undelivered] = [Duration::ZERO, retention.ids, retention.undelivered].map(|age| limits(clocks, age));
    attempts::age(connection, &Limits { now, ids, undelivered }, LIMIT).await
}

/// What receipts said of notifications that are still there stays with them, however old: nothing becomes unread by age, and nothing
/// that is withdrawn comes back.
async fn forget_receipts(connection: &mut Connection, limits: String) -> Result<usize, StoreError> {
    let mut gone = 0;
    for sql in [
        "DELETE FROM states WHERE (id, user_id) IN (
           SELECT kept.id, kept.user_id FROM json_each($1) AS old CROSS JOIN states AS kept
           WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.changed_at <= CAST(old.value ->> 1 AS bigint)
             AND NOT EXISTS (SELECT 1 FROM notifications AS held WHERE held.id = kept.id AND held.appended_at <= kept.changed_at)
           LIMIT $2)",
        "DELETE FROM marks WHERE (channel, user_id) IN (
           SELECT kept.channel, kept.user_id FROM json_each($1) AS old CROSS JOIN marks AS kept
           WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.set_at <= CAST(old.value ->> 1 AS bigint)
             AND NOT EXISTS (SELECT 1 FROM notifications AS held
               WHERE held.channel = kept.channel AND held.body IS NOT NULL AND held.appended_at <= kept.set_at)
           LIMIT $2)",
        "DELETE FROM withdrawals WHERE (id, channel) IN (
           SELECT kept.id, kept.channel FROM json_each($1) AS old CROSS JOIN withdrawals AS kept
           WHERE kept.partition = CAST(old.value ->> 0 AS integer) AND kept.withdrawn_at <= CAST(old.value ->> 1 AS bigint)
             AND NOT EXISTS (SELECT 1 FROM notifications AS held
               WHERE held.id = kept.id AND held.channel = kept.channel AND held.appended_at <= kept.withdrawn_at)
           LIMIT $2)",
    ] {
        gone += run!(connection, |it| {
            sqlx::query(sql).bind(&limits).bind(i64::from(LIMIT)).execute(it).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}
