//! The rows of notifications: which records become one, and which rows have to go for it.
//!
//! Owns: one row for each id of a channel, with its first place on the log in the latest epoch in which it lies; every other place is kept
//! as a copy, since a device may have met it only there, and the first of all in the row, since marks go by it. A channel holds so many rows at most; the id of a row that went is remembered.
//! Refuses to look at a clock: what counts is when a record was appended. Neighbours: `fold` calls it in its transaction, `trim` lets
//! rows age. Long because a record is judged by all that may be there of its id.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::position::Epoch;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::time::Timestamp;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::{Conflict, Fold, Notified, Retention, StoreError};

/// What is there already.
struct Known {
    /// The rows of ids, by the index of the record that has the id.
    rows: HashMap<usize, Row>,
    /// The number of the newest row, by channel.
    newest: HashMap<String, i64>,
}

/// A row that is there already.
struct Row {
    epoch: i64,
    offset: i64,
    /// The first place that it ever had.
    first: (i64, i64),
    placed_at: i64,
    /// The record's value; none once it was trimmed.
    body: Option<String>,
    request: Option<String>,
}

impl Row {
    /// Whether it is known to say something else than `one`, which has its id, or to others. What does not read is not known. What was
    /// carried over from a rung no longer says for whom it is not: a mailbox is its owner's.
    fn contradicts(&self, one: &Notified) -> bool {
        let said = self.body.as_deref().and_then(|body| serde_json::from_str::<NotificationRecord>(body).ok());
        said.is_some_and(|said| {
            let excluded = |record: &NotificationRecord| record.exclude.iter().cloned().collect::<BTreeSet<_>>();
            let are_others = !one.record.channel.is_mailbox() && excluded(&said) != excluded(&one.record);
            !said.notification.agrees_with(&one.record.notification) || are_others
        })
    }
}

/// What becomes of some records.
#[derive(Default)]
struct Plan {
    /// Rows whose id is no longer remembered, by channel and id.
    expired: Vec<Value>,
    rows: Vec<Value>,
    /// Rows that move to a place in a later epoch.
    moved: Vec<Value>,
    copies: Vec<Value>,
    /// Rows that have had a place before the first that was known.
    older: Vec<Value>,
    /// Rows of which it was not known that they follow from a request.
    asked_for: Vec<Value>,
    conflicts: Vec<Conflict>,
    trims: Trims,
    /// The number of the newest row of each channel that gets one.
    newest: HashMap<Channel, i64>,
}

/// Folds records of `notifications`, in the order of their partitions, and says which of them contradict what is there.
pub(super) async fn add(
    connection: &mut Connection,
    epoch: Epoch,
    retention: &Retention,
    batch: &Fold,
) -> Result<Vec<Conflict>, StoreError> {
    let (mut rest, mut conflicts) = (batch.notifications.as_slice(), Vec::new());
    // Of two records with one id the second is judged by what the first has become.
    while !rest.is_empty() {
        let (distinct, later) = rest.split_at(distinct(rest));
        let mut left = distinct.iter().collect::<Vec<_>>();
        // Of a process of a neighbouring epoch, which reads other topics, some may be there since they were looked for: then they are known.
        while !left.is_empty() {
            let known = known(connection, &left).await?;
            let mut plan = plan((epoch, &batch.requests), retention, (&left, known))?;
            conflicts.append(&mut plan.conflicts);
            let slower = carry_out(connection, retention, plan).await?;
            left.retain(|one| slower.contains(&(one.record.channel.to_string(), one.record.notification.id.to_string())));
        }
        rest = later;
    }
    Ok(conflicts)
}

/// A channel and an id.
type Name = (String, String);

/// How many records there are before an id of a channel comes again.
fn distinct(notified: &[Notified]) -> usize {
    let mut seen = HashSet::with_capacity(notified.len());
    let mut ids = notified.iter().map(|one| (&one.record.channel, one.record.notification.id));
    ids.position(|id| !seen.insert(id)).unwrap_or(notified.len())
}

/// What is there of the ids of some records, by their index, and the number of the newest row of each of their channels that has one. Asked
/// apart: nearly all ids are new, and each row of an answer costs as much as half of one that is written.
async fn known(connection: &mut Connection, notified: &[&Notified]) -> Result<Known, StoreError> {
    let asked = notified.iter().map(|one| json!([one.record.channel, one.record.notification.id]));
    let asked = Value::from_iter(asked).to_string();
    type Found = (i64, i64, i64, i64, i64, i64, Option<String>, Option<String>);
    let found: Vec<Found> = run!(&mut *connection, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint), kept.epoch, kept.\"offset\", kept.first_epoch, kept.first_offset, kept.placed_at, kept.body,
               kept.request_id
             FROM json_each($1) AS asked CROSS JOIN notifications AS kept
             WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    let row = |(index, epoch, offset, first_epoch, first_offset, placed_at, body, request): Found| {
        let row = Row { epoch, offset, first: (first_epoch, first_offset), placed_at, body, request };
        Some((usize::try_from(index).ok()?, row))
    };
    let channels = notified.iter().map(|one| one.record.channel.as_str()).collect::<BTreeSet<_>>();
    let asked = Value::from_iter(channels.into_iter().map(|channel| json!([channel]))).to_string();
    let newest: Vec<(String, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT asked.channel, asked.newest
             FROM (SELECT value ->> 0 AS channel,
                     (SELECT last.seq FROM notifications AS last WHERE last.channel = asked.value ->> 0 AND last.body IS NOT NULL
                      ORDER BY last.seq DESC LIMIT 1) AS newest
                   FROM json_each($1) AS asked) AS asked
             WHERE asked.newest IS NOT NULL",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    Ok(Known { rows: found.into_iter().filter_map(row).collect(), newest: newest.into_iter().collect() })
}

fn plan(
    (epoch, requests): (Epoch, &str),
    retention: &Retention,
    (records, mut known): (&[&Notified], Known),
) -> Result<Plan, StoreError> {
    let epoch = sql_epoch(epoch);
    let mut plan = Plan::default();
    for (index, one) in records.iter().enumerate() {
        let (channel, id) = (&one.record.channel, one.record.notification.id);
        let newest_seq = known.newest.get(channel.as_str()).copied().unwrap_or(0);
        if let Some(row) = known.rows.remove(&index) {
            if row.placed_at > retention.ids_before(one.appended) {
                plan.names_request(one, &row, requests);
                if (row.epoch, row.offset) != (epoch, one.offset) {
                    plan.again(epoch, one, &row, newest_seq);
                }
                continue;
            }
            plan.expired.push(json!([channel, id]));
            if row.body.is_some() {
                plan.trims.below(channel.as_str(), row.epoch, row.offset);
            }
        }
        let seq = plan.next_seq(channel, newest_seq);
        let body =
            serde_json::to_string(&one.record).map_err(|source| StoreError::Unwritable { table: "notifications", source })?;
        let expires_at = one.record.notification.expires_at.map(Timestamp::as_millis);
        // No text of SQL's holds it, and a type is only compared.
        let kind = one.record.notification.kind.replace('\0', "\u{fffd}");
        let appended_at = one.appended.as_millis();
        let NotificationRecord { origin, notification, .. } = &one.record;
        let request = (origin.topic == requests).then_some(&notification.event_id);
        plan.rows.push(json!([channel, id, epoch, one.partition, one.offset, seq, appended_at, expires_at, kind, body, request]));
    }
    Ok(plan)
}

impl Plan {
    /// The number of a channel's next row.
    fn next_seq(&mut self, channel: &Channel, newest: i64) -> i64 {
        let seq = self.newest.entry(channel.clone()).or_insert(newest);
        *seq += 1;
        *seq
    }

    /// A notification that was carried over no longer says which request it follows from; its record of before does.
    fn names_request(&mut self, one: &Notified, row: &Row, requests: &str) {
        let NotificationRecord { channel, origin, notification, .. } = &one.record;
        if row.request.is_none() && origin.topic == requests {
            self.asked_for.push(json!([channel, notification.id, notification.event_id]));
        }
    }

    /// `one` is what `row` holds already.
    fn again(&mut self, epoch: i64, one: &Notified, row: &Row, newest_seq: i64) {
        let (channel, id) = (&one.record.channel, one.record.notification.id);
        self.conflicts.extend(row.contradicts(one).then_some(Conflict { partition: one.partition, offset: one.offset }));
        self.older.extend(((epoch, one.offset) < row.first).then(|| json!([channel, id, epoch, one.offset])));
        if row.epoch >= epoch {
            self.copies.push(json!([channel, id, epoch, one.offset]));
        } else if row.body.is_some() {
            // Positions of this epoch lead to it only if it has one.
            let seq = self.next_seq(channel, newest_seq);
            self.moved.push(json!([channel, id, epoch, one.partition, one.offset, seq, one.appended.as_millis()]));
            self.copies.push(json!([channel, id, row.epoch, row.offset]));
        } else {
            self.copies.push(json!([channel, id, epoch, one.offset]));
            self.trims.below(channel.as_str(), epoch, one.offset);
        }
    }
}

/// Gives those whose rows were not made, because there is one.
async fn carry_out(connection: &mut Connection, retention: &Retention, plan: Plan) -> Result<HashSet<Name>, StoreError> {
    delete(connection, plan.expired).await?;
    let slower = insert(connection, &plan.rows).await?;
    relocate(connection, plan.moved).await?;
    insert_copies(connection, plan.copies).await?;
    predate(connection, plan.older).await?;
    name_requests(connection, plan.asked_for).await?;
    let mut trims = plan.trims;
    let over = plan.newest.into_iter().filter_map(|(channel, newest)| {
        let last_gone = newest - i64::try_from(retention.rows(&channel).get()).unwrap_or(i64::MAX);
        (last_gone > 0).then(|| json!([channel, last_gone]))
    });
    let over = over.collect::<Vec<_>>();
    if !over.is_empty() {
        cut(connection, over, &mut trims).await?;
    }
    trims.store(connection).await?;
    Ok(slower)
}

async fn delete(connection: &mut Connection, ids: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "DELETE FROM notifications WHERE (channel, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1) AS gone)",
            ids,
        )
        .await
}

/// Gives those that are there already: their rows have another place, of a later epoch or an earlier one.
async fn insert(connection: &mut Connection, rows: &[Value]) -> Result<HashSet<Name>, StoreError> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let asked = serde_json::to_string(rows).map_err(|source| StoreError::Unwritable { table: "notifications", source })?;
    let made = run!(&mut *connection, |it| {
        sqlx::query(
            "INSERT INTO notifications (channel, id, epoch, partition, \"offset\", first_epoch, first_offset, seq, appended_at, placed_at,
               expires_at, kind, body, request_id)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS integer),
               CAST(value ->> 4 AS bigint), CAST(value ->> 2 AS bigint), CAST(value ->> 4 AS bigint), CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint),
               CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS bigint), value ->> 8, value ->> 9, value ->> 10
             FROM json_each($1) AS new WHERE true ORDER BY key ON CONFLICT DO NOTHING",
        )
        .bind(&asked)
        .execute(it)
        .await
        .map(|done| done.rows_affected())
    })?;
    if made == rows.len() as u64 {
        return Ok(HashSet::new());
    }
    // Rare, so it is asked for rather than given back with each. A row of somebody else's may be gone again by now.
    let ours: Vec<(i64,)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT CAST(new.key AS bigint) FROM json_each($1) AS new CROSS JOIN notifications AS kept
             WHERE kept.channel = new.value ->> 0 AND kept.id = new.value ->> 1
               AND (kept.epoch, kept.\"offset\") = (CAST(new.value ->> 2 AS bigint), CAST(new.value ->> 4 AS bigint))",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    let ours = ours.into_iter().filter_map(|(index,)| usize::try_from(index).ok()).collect::<HashSet<_>>();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let slower = rows.iter().enumerate().filter(|(index, _)| !ours.contains(index));
    Ok(slower.map(|(_, row)| (text(row.get(0)), text(row.get(1)))).collect())
}

async fn relocate(connection: &mut Connection, rows: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "UPDATE notifications SET epoch = CAST(new.value ->> 2 AS bigint), partition = CAST(new.value ->> 3 AS integer),
               \"offset\" = CAST(new.value ->> 4 AS bigint), seq = CAST(new.value ->> 5 AS bigint),
               placed_at = CAST(new.value ->> 6 AS bigint)
             FROM json_each($1) AS new
             WHERE notifications.channel = new.value ->> 0 AND notifications.id = new.value ->> 1",
            rows,
        )
        .await
}

async fn insert_copies(connection: &mut Connection, copies: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "INSERT INTO copies (channel, id, epoch, \"offset\")
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint)
             FROM json_each($1) AS new WHERE true ON CONFLICT DO NOTHING",
            copies,
        )
        .await
}

async fn name_requests(connection: &mut Connection, rows: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "UPDATE notifications SET request_id = new.value ->> 2 FROM json_each($1) AS new
             WHERE notifications.channel = new.value ->> 0 AND notifications.id = new.value ->> 1",
            rows,
        )
        .await
}

async fn predate(connection: &mut Connection, rows: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "UPDATE notifications SET first_epoch = CAST(new.value ->> 2 AS bigint), first_offset = CAST(new.value ->> 3 AS bigint)
             FROM json_each($1) AS new
             WHERE notifications.channel = new.value ->> 0 AND notifications.id = new.value ->> 1",
            rows,
        )
        .await
}

/// Takes the bodies of rows up to a number, by channel.
async fn cut(connection: &mut Connection, over: Vec<Value>, trims: &mut Trims) -> Result<(), StoreError> {
    let over = Value::Array(over).to_string();
    let gone: Vec<(String, i64, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "UPDATE notifications SET body = NULL WHERE (channel, id) IN (
               SELECT kept.channel, kept.id FROM json_each($1) AS cut CROSS JOIN notifications AS kept
               WHERE kept.channel = cut.value ->> 0 AND kept.seq <= CAST(cut.value ->> 1 AS bigint) AND kept.body IS NOT NULL)
             RETURNING channel, epoch, \"offset\"",
        )
        .bind(&over)
        .fetch_all(it)
        .await
    })?;
    trims.extend(gone);
    Ok(())
}

/// How far channels were trimmed just now.
#[derive(Default)]
pub(super) struct Trims(BTreeMap<String, (i64, i64)>);

impl Trims {
    /// The row at `offset` went.
    pub(super) fn below(&mut self, channel: &str, epoch: i64, offset: i64) {
        let behind = (epoch, offset + 1);
        match self.0.get_mut(channel) {
            Some(known) => *known = behind.max(*known),
            None => drop(self.0.insert(channel.to_owned(), behind)),
        }
    }

    /// These rows went: channel, epoch, offset.
    pub(super) fn extend(&mut self, gone: Vec<(String, i64, i64)>) {
        for (channel, epoch, offset) in gone {
            self.below(&channel, epoch, offset);
        }
    }

    /// Writes it down, for what went may not be missing silently.
    pub(super) async fn store(self, connection: &mut Connection) -> Result<(), StoreError> {
        let rows = self.0.iter().map(|(channel, (epoch, offset))| json!([channel, epoch, offset]));
        connection
            .write(
                "INSERT INTO trims (channel, epoch, \"offset\")
                 SELECT value ->> 0, CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint)
                 FROM json_each($1) AS new WHERE true
                 ON CONFLICT (channel) DO UPDATE SET epoch = excluded.epoch, \"offset\" = excluded.\"offset\"
                 WHERE (trims.epoch, trims.\"offset\") < (excluded.epoch, excluded.\"offset\")",
                rows,
            )
            .await
    }
}
