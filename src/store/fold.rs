//! Folding: the one transaction in which rows and positions move together.
//!
//! Owns: compare-and-set of positions and the rows of notifications. A notification's first place on the log is its row;
//! every further one is kept as a copy, since a device may have met it only there. Neighbours: `stretches` merges cursors.

use serde_json::{Value, json};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Sqlite, SqliteConnection};
use tidings_core::position::Epoch;

use super::{Fold, Folded, Move, Notified, Standing, Store, StoreError, stretches};

impl Store {
    /// Registers partitions that are not known yet at the offset given with them, and says where all of them stand.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn claim(&self, epoch: Epoch, starts: &[Standing]) -> Result<Vec<Standing>, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let claimed = claim(&mut writer, epoch, starts).await;
        kept_if_well(writer, claimed)
    }

    /// Folds a batch: all of it and the new positions, or nothing.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn fold(&self, epoch: Epoch, batch: &Fold) -> Result<Folded, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let folded = fold(&mut writer, epoch, batch).await;
        kept_if_well(writer, folded)
    }
}

/// A connection that saw an error is given up: on a full disk SQLite may have ended the transaction by itself
/// (<https://sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>), and sqlx would not know.
fn kept_if_well<T>(mut writer: PoolConnection<Sqlite>, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    if outcome.is_err() {
        writer.close_on_drop();
    }
    outcome
}

async fn claim(writer: &mut SqliteConnection, epoch: Epoch, starts: &[Standing]) -> Result<Vec<Standing>, StoreError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut claimed = Vec::with_capacity(starts.len());
    for start in starts {
        sqlx::query(
            "INSERT INTO projection (epoch, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )
        .bind(sql_epoch(epoch))
        .bind(&*start.topic)
        .bind(start.partition)
        .bind(start.next)
        .execute(&mut *transaction)
        .await?;
        let next = sqlx::query_scalar("SELECT next_offset FROM projection WHERE epoch = ?1 AND topic = ?2 AND partition = ?3")
            .bind(sql_epoch(epoch))
            .bind(&*start.topic)
            .bind(start.partition)
            .fetch_one(&mut *transaction)
            .await?;
        claimed.push(Standing { next, ..start.clone() });
    }
    transaction.commit().await?;
    Ok(claimed)
}

async fn fold(writer: &mut SqliteConnection, epoch: Epoch, fold: &Fold) -> Result<Folded, StoreError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    if !advance(&mut transaction, epoch, &fold.moves).await? {
        transaction.rollback().await?;
        return Ok(Folded::Moved);
    }
    if !fold.notifications.is_empty() {
        insert(&mut transaction, epoch, &fold.notifications).await?;
    }
    if !fold.cursors.is_empty() {
        stretches::merge(&mut transaction, &fold.cursors).await?;
    }
    transaction.commit().await?;
    Ok(Folded::Committed)
}

/// Moves every partition that stands where its move begins. Says whether all did.
async fn advance(connection: &mut SqliteConnection, epoch: Epoch, moves: &[Move]) -> Result<bool, StoreError> {
    let rows = moves.iter().map(|step| json!([step.topic, step.partition, step.from, step.to]));
    let moved = sqlx::query(
        "UPDATE projection SET next_offset = step.value ->> 3 FROM json_each(?1) AS step
         WHERE epoch = ?2 AND topic = step.value ->> 0 AND partition = step.value ->> 1 AND next_offset = step.value ->> 2",
    )
    .bind(Value::from_iter(rows).to_string())
    .bind(sql_epoch(epoch))
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == moves.len() as u64)
}

async fn insert(connection: &mut SqliteConnection, epoch: Epoch, notified: &[Notified]) -> Result<(), StoreError> {
    let rows = notified.iter().map(row).collect::<Result<Value, _>>()?.to_string();
    // `ORDER BY key` is the order of the batch: of two records of one notification the first makes the row.
    sqlx::query(
        "INSERT INTO notifications (epoch, channel, id, partition, \"offset\", rule, body, created_at, expires_at)
         SELECT ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
         FROM json_each(?1) WHERE true ORDER BY key ON CONFLICT (channel, id) DO NOTHING",
    )
    .bind(&rows)
    .bind(sql_epoch(epoch))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO copies (channel, id, epoch, \"offset\")
         SELECT kept.channel, kept.id, ?2, new.value ->> 3
         FROM json_each(?1) AS new CROSS JOIN notifications AS kept
         WHERE kept.channel = new.value ->> 0 AND kept.id = new.value ->> 1
           AND (kept.epoch, kept.\"offset\") <> (?2, new.value ->> 3) ON CONFLICT DO NOTHING",
    )
    .bind(&rows)
    .bind(sql_epoch(epoch))
    .execute(connection)
    .await?;
    Ok(())
}

fn row(notified: &Notified) -> Result<Value, StoreError> {
    let notification = &notified.record.notification;
    let body = serde_json::to_string(notification).map_err(|source| StoreError::Unwritable { table: "notifications", source })?;
    Ok(json!([
        notified.record.channel,
        notification.id,
        notified.partition,
        notified.offset,
        notified.record.rule,
        body,
        notified.appended.as_millis(),
        notification.expires_at.map(tidings_core::time::Timestamp::as_millis),
    ]))
}

/// Epochs are counted up from 1 by hand; SQL's integers are signed.
pub(super) fn sql_epoch(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}
