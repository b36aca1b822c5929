//! Folding: the one transaction in which rows and positions move together.
//!
//! Owns: compare-and-set of positions, and the order in which a batch becomes rows. Neighbours: `notified` has the rows of
//! notifications, `stretches` those of cursors, `receipts` those of receipts.

use serde_json::{Value, json};
use tidings_core::position::Epoch;
use tidings_core::time::Timestamp;

use super::connection::{Connection, run};
use super::{Fold, Folded, Move, Retention, Standing, Store, StoreError, attempts, notified, receipts, stretches};

impl Store {
    /// Registers partitions that are not known yet at the offset given with them, and says where all of them stand.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn claim(&self, epoch: Epoch, starts: &[Standing]) -> Result<Vec<Standing>, StoreError> {
        self.answered(async {
            let mut transaction = self.writer().await?.begin_writing().await?;
            let claimed = claim(transaction.connection(), epoch, starts).await?;
            transaction.commit().await?;
            Ok(claimed)
        })
        .await
    }

    /// Folds a batch: all of it and the new positions, or nothing.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn fold(&self, epoch: Epoch, retention: &Retention, batch: &Fold) -> Result<Folded, StoreError> {
        self.answered(async {
            let mut transaction = self.writer().await?.begin_writing().await?;
            let connection = transaction.connection();
            if !advance(connection, epoch, &batch.moves).await? {
                transaction.rollback().await?;
                return Ok(Folded::Moved);
            }
            attempts::take_turns(connection, batch).await?;
            let conflicts = notified::add(connection, epoch, retention, batch).await?;
            let lapsed = stretches::merge(connection, retention, &batch.cursors).await?;
            let crowded_out = receipts::add(connection, retention, &batch.receipts).await?;
            attempts::add(connection, &batch.attempts).await?;
            attempts::close(connection, &batch.cursors, &batch.receipts).await?;
            transaction.commit().await?;
            Ok(Folded::Committed { conflicts, crowded_out, lapsed })
        })
        .await
    }
}

async fn claim(connection: &mut Connection, epoch: Epoch, starts: &[Standing]) -> Result<Vec<Standing>, StoreError> {
    let mut claimed = Vec::with_capacity(starts.len());
    for start in starts {
        run!(connection, |it| {
            sqlx::query(
                "INSERT INTO projection (epoch, topic, partition, next_offset, first_offset, clock)
                 VALUES ($1, $2, $3, $4, $4, 0) ON CONFLICT DO NOTHING",
            )
            .bind(sql_epoch(epoch))
            .bind(&*start.topic)
            .bind(start.partition)
            .bind(start.next)
            .execute(it)
            .await
            .map(|_| ())
        })?;
        let next = run!(connection, |it| {
            sqlx::query_scalar("SELECT next_offset FROM projection WHERE epoch = $1 AND topic = $2 AND partition = $3")
                .bind(sql_epoch(epoch))
                .bind(&*start.topic)
                .bind(start.partition)
                .fetch_one(it)
                .await
        })?;
        claimed.push(Standing { next, ..start.clone() });
    }
    Ok(claimed)
}

/// Moves every partition that stands where its move begins. Says whether all did.
pub(super) async fn advance(connection: &mut Connection, epoch: Epoch, moves: &[Move]) -> Result<bool, StoreError> {
    let rows = moves.iter().map(|step| {
        let first = step.is_loss.then_some(step.to);
        json!([step.topic, step.partition, step.from, step.to, first, step.clock.map(Timestamp::as_millis)])
    });
    let rows = Value::from_iter(rows).to_string();
    let moved = run!(connection, |it| {
        sqlx::query(
            "UPDATE projection SET next_offset = CAST(step.value ->> 3 AS bigint),
               first_offset = COALESCE(CAST(step.value ->> 4 AS bigint), first_offset),
               clock = CASE WHEN CAST(step.value ->> 5 AS bigint) > clock THEN CAST(step.value ->> 5 AS bigint) ELSE clock END
             FROM json_each($1) AS step
             WHERE epoch = $2 AND topic = step.value ->> 0 AND partition = CAST(step.value ->> 1 AS integer)
               AND next_offset = CAST(step.value ->> 2 AS bigint)",
        )
        .bind(&rows)
        .bind(sql_epoch(epoch))
        .execute(it)
        .await
        .map(|done| done.rows_affected())
    })?;
    Ok(moved == moves.len() as u64)
}

/// Epochs are counted up from 1 by hand; SQL's integers are signed.
pub(super) fn sql_epoch(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}
