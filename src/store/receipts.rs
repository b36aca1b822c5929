//! The rows of receipts: what users did with notifications, and what is withdrawn.
//!
//! Owns: reading and writing what a batch of receipts speaks of, once for all of it. Rows stand beside those of notifications and never
//! look at them, so it does not matter which topic is folded first. Neighbours: `ledger` knows what receipts mean, `fold` calls this in
//! its transaction, `inbox` joins the rows, `trim` lets them age.

mod ledger;
mod room;

use serde_json::{Value, json};
use tidings_core::record::receipt::{MarkState, ReceiptRecord, WithdrawalCause};

use super::connection::{Connection, run};
use super::{Received, Retention, StoreError};
use ledger::{Entry, Ledger, Mark, State};

/// Folds records of `receipts`, in the order of their partitions.
/// Says how many states had no room.
pub(super) async fn add(connection: &mut Connection, retention: &Retention, receipts: &[Received]) -> Result<u64, StoreError> {
    if receipts.is_empty() {
        return Ok(0);
    }
    let mut ledger = Ledger::default();
    read_states(connection, receipts, &mut ledger).await?;
    read_marks(connection, receipts, &mut ledger).await?;
    read_withdrawals(connection, receipts, &mut ledger).await?;
    ledger.apply(receipts);
    write_states(connection, &ledger).await?;
    write_marks(connection, &ledger).await?;
    write_withdrawals(connection, &ledger).await?;
    room::make(connection, retention, &ledger.fresh).await
}

type StateRow = (String, String, Option<i64>, Option<i64>, i32, i32, Option<String>, Option<i64>, Option<i64>, i32, i64);

/// Those that receipts name, and those that a mark may change.
async fn read_states(connection: &mut Connection, receipts: &[Received], ledger: &mut Ledger) -> Result<(), StoreError> {
    let (mut named, mut marked) = (Vec::new(), Vec::new());
    for one in receipts {
        match &one.record {
            ReceiptRecord::State { user_id, items, .. } => named.extend(items.iter().map(|item| json!([user_id, item.id]))),
            ReceiptRecord::UpTo { user_id, state: MarkState::Read, channel, .. } => marked.push(json!([user_id, channel])),
            ReceiptRecord::UpTo { .. } | ReceiptRecord::Withdrawn { .. } => {}
        }
    }
    if named.is_empty() && marked.is_empty() {
        return Ok(());
    }
    let (named, marked) = (Value::Array(named).to_string(), Value::Array(marked).to_string());
    let rows: Vec<StateRow> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.user_id, kept.id, kept.is_read, kept.read_at, kept.is_seen, kept.is_dismissed, kept.channel, kept.marked_epoch,
               kept.marked_offset, kept.partition, kept.changed_at
             FROM json_each($1) AS named CROSS JOIN states AS kept
             WHERE kept.user_id = named.value ->> 0 AND kept.id = named.value ->> 1
             UNION
             SELECT kept.user_id, kept.id, kept.is_read, kept.read_at, kept.is_seen, kept.is_dismissed, kept.channel, kept.marked_epoch,
               kept.marked_offset, kept.partition, kept.changed_at
             FROM json_each($2) AS marked CROSS JOIN states AS kept
             WHERE kept.user_id = marked.value ->> 0 AND kept.channel = marked.value ->> 1 AND kept.is_read = 0",
        )
        .bind(&named)
        .bind(&marked)
        .fetch_all(it)
        .await
    })?;
    for (user, id, read, read_at, seen, dismissed, channel, marked_epoch, marked_offset, partition, at) in rows {
        let user = user.parse().map_err(|source| StoreError::unreadable("states", source))?;
        let id = id.parse().map_err(|source| StoreError::unreadable("states", source))?;
        let channel = channel.map(|channel| channel.parse()).transpose();
        let channel = channel.map_err(|source| StoreError::unreadable("states", source))?;
        let (read, seen, dismissed) = (read.map(|read| read == 1), seen == 1, dismissed == 1);
        let row = State { read, read_at, seen, dismissed, channel, marked: marked_epoch.zip(marked_offset) };
        ledger.states.insert((user, id), Entry { row, partition, at, is_changed: false });
    }
    Ok(())
}

async fn write_states(connection: &mut Connection, ledger: &Ledger) -> Result<(), StoreError> {
    let changed = ledger.states.iter().filter(|(_, entry)| entry.is_changed);
    let rows = changed.map(|((user, id), Entry { row, partition, at, .. })| {
        let (epoch, offset) = row.marked.unzip();
        let [read, seen, dismissed] = [row.read, Some(row.seen), Some(row.dismissed)].map(|said| said.map(i32::from));
        json!([user, id, read, row.read_at, seen, dismissed, row.channel, epoch, offset, partition, at])
    });
    connection
        .write(
            "INSERT INTO states (user_id, id, is_read, read_at, is_seen, is_dismissed, channel, marked_epoch, marked_offset, partition,
               changed_at)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS integer),
               CAST(value ->> 5 AS integer), value ->> 6, CAST(value ->> 7 AS bigint), CAST(value ->> 8 AS bigint),
               CAST(value ->> 9 AS integer), CAST(value ->> 10 AS bigint)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (id, user_id) DO UPDATE SET is_read = excluded.is_read, read_at = excluded.read_at, is_seen = excluded.is_seen,
               is_dismissed = excluded.is_dismissed, channel = excluded.channel, marked_epoch = excluded.marked_epoch,
               marked_offset = excluded.marked_offset,
               partition = excluded.partition, changed_at = excluded.changed_at",
            rows,
        )
        .await
}

type MarkRow = (i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, i32, i64);

async fn read_marks(connection: &mut Connection, receipts: &[Received], ledger: &mut Ledger) -> Result<(), StoreError> {
    let keys = receipts.iter().filter_map(|one| match &one.record {
        ReceiptRecord::UpTo { user_id, channel, .. } => Some((user_id.clone(), channel.clone())),
        ReceiptRecord::State { .. } | ReceiptRecord::Withdrawn { .. } => None,
    });
    let keys = keys.collect::<Vec<_>>();
    if keys.is_empty() {
        return Ok(());
    }
    let asked = Value::from_iter(keys.iter().map(|(user, channel)| json!([user, channel]))).to_string();
    let rows: Vec<MarkRow> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint), kept.read_epoch, kept.read_offset, kept.read_at, kept.seen_epoch, kept.seen_offset,
               kept.partition, kept.set_at
             FROM json_each($1) AS asked CROSS JOIN marks AS kept
             WHERE kept.user_id = asked.value ->> 0 AND kept.channel = asked.value ->> 1",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    for (index, read_epoch, read_offset, read_at, seen_epoch, seen_offset, partition, at) in rows {
        if let Some(key) = usize::try_from(index).ok().and_then(|index| keys.get(index)) {
            let row = Mark { read: read_epoch.zip(read_offset), read_at, seen: seen_epoch.zip(seen_offset) };
            ledger.marks.insert(key.clone(), Entry { row, partition, at, is_changed: false });
        }
    }
    Ok(())
}

async fn write_marks(connection: &mut Connection, ledger: &Ledger) -> Result<(), StoreError> {
    let changed = ledger.marks.iter().filter(|(_, entry)| entry.is_changed);
    let rows = changed.map(|((user, channel), Entry { row, partition, at, .. })| {
        let ((read_epoch, read_offset), (seen_epoch, seen_offset)) = (row.read.unzip(), row.seen.unzip());
        json!([user, channel, read_epoch, read_offset, row.read_at, seen_epoch, seen_offset, partition, at])
    });
    connection
        .write(
            "INSERT INTO marks (user_id, channel, read_epoch, read_offset, read_at, seen_epoch, seen_offset, partition, set_at)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS bigint),
               CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS integer), CAST(value ->> 8 AS bigint)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (channel, user_id) DO UPDATE SET read_epoch = excluded.read_epoch, read_offset = excluded.read_offset,
               read_at = excluded.read_at, seen_epoch = excluded.seen_epoch, seen_offset = excluded.seen_offset,
               partition = excluded.partition, set_at = excluded.set_at",
            rows,
        )
        .await
}

async fn read_withdrawals(connection: &mut Connection, receipts: &[Received], ledger: &mut Ledger) -> Result<(), StoreError> {
    let keys = receipts.iter().filter_map(|one| match &one.record {
        ReceiptRecord::Withdrawn { channel, id, .. } => Some((channel.clone(), *id)),
        ReceiptRecord::State { .. } | ReceiptRecord::UpTo { .. } => None,
    });
    let keys = keys.collect::<Vec<_>>();
    if keys.is_empty() {
        return Ok(());
    }
    let asked = Value::from_iter(keys.iter().map(|(channel, id)| json!([channel, id]))).to_string();
    let rows: Vec<(i64, String, i32, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint), kept.cause, kept.partition, kept.withdrawn_at
             FROM json_each($1) AS asked CROSS JOIN withdrawals AS kept
             WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    for (index, cause, partition, at) in rows {
        if let Some(key) = usize::try_from(index).ok().and_then(|index| keys.get(index)) {
            ledger.withdrawals.insert(key.clone(), Entry { row: read_cause(&cause), partition, at, is_changed: false });
        }
    }
    Ok(())
}

async fn write_withdrawals(connection: &mut Connection, ledger: &Ledger) -> Result<(), StoreError> {
    let changed = ledger.withdrawals.iter().filter(|(_, entry)| entry.is_changed);
    let rows = changed.map(|((channel, id), entry)| json!([channel, id, cause(entry.row), entry.partition, entry.at]));
    connection
        .write(
            "INSERT INTO withdrawals (channel, id, cause, partition, withdrawn_at)
             SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS integer), CAST(value ->> 4 AS bigint)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (id, channel) DO UPDATE SET cause = excluded.cause, partition = excluded.partition,
               withdrawn_at = excluded.withdrawn_at",
            rows,
        )
        .await
}

fn cause(cause: WithdrawalCause) -> &'static str {
    match cause {
        WithdrawalCause::Once => "once",
        WithdrawalCause::Service => "service",
    }
}

/// The table takes no other text.
pub(super) fn read_cause(text: &str) -> WithdrawalCause {
    if text == cause(WithdrawalCause::Once) { WithdrawalCause::Once } else { WithdrawalCause::Service }
}
