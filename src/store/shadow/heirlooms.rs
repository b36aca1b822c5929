//! Heirlooms: what the tables in use hold and the log no longer does.
//!
//! Owns: what is taken over from the old tables into the new ones, which is nothing that the log still says. Retention on Kafka goes by the
//! wall's clock and whole segments, that of the tables by the log's own: a partition that stood still has lost records whose rows are still
//! shown. Refuses to judge rows that the log contradicts: the log wins.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tidings_core::channel::Channel;
use tidings_core::position::Epoch;

use super::{Extent, Extents, execute};
use crate::store::StoreError;
use crate::store::connection::{Connection, run};
use crate::store::fold::sql_epoch;
use crate::store::read::read_epoch;

/// Before the log is folded, for what is folded later goes by it: rows whose place the log has lost, and where their partitions stood.
/// Says how many rows.
pub(super) async fn notifications(session: &mut Connection, new: &str, extents: &Extents) -> Result<u64, StoreError> {
    if !has_lost_any(&extents.notifications) {
        return standings(session, new).await.map(|()| 0);
    }
    let there = Value::from_iter(extents.notifications.iter().flat_map(|extent| {
        let partitions = extent.partitions.iter().enumerate();
        partitions.map(|(number, beginning)| json!([sql_epoch(extent.epoch), number, beginning.offset]))
    }));
    let rows = format!(
        "INSERT INTO {new}.notifications SELECT kept.* FROM notifications AS kept
         LEFT JOIN json_each($1) AS part ON CAST(part.value ->> 0 AS bigint) = kept.epoch
           AND CAST(part.value ->> 1 AS integer) = kept.partition
         WHERE part.key IS NULL OR kept.\"offset\" < CAST(part.value ->> 2 AS bigint)"
    );
    let mut count = write(session, rows, &there).await?;
    count += places(session, new, &extents.notifications).await?;
    let trims = format!("INSERT INTO {new}.trims SELECT channel, epoch, \"offset\" FROM trims");
    execute(session, trims).await?;
    standings(session, new).await?;
    Ok(count)
}

/// Further places that the log has lost. A row that has moved to a place that the log still has begins at the one it had before, and
/// moves again.
async fn places(session: &mut Connection, new: &str, extents: &[Extent]) -> Result<u64, StoreError> {
    let lost = lost_copies(session, extents).await?;
    let origins = format!(
        "INSERT INTO {new}.notifications (channel, id, epoch, partition, \"offset\", first_epoch, first_offset, seq, appended_at, placed_at,
           expires_at, kind, request_id, body)
         SELECT kept.channel, kept.id, CAST(lost.value ->> 2 AS bigint), kept.partition, CAST(lost.value ->> 3 AS bigint),
           kept.first_epoch, kept.first_offset, kept.seq, kept.appended_at, kept.appended_at, kept.expires_at, kept.kind, kept.request_id, kept.body
         FROM json_each($1) AS lost CROSS JOIN notifications AS kept
         WHERE kept.channel = lost.value ->> 0 AND kept.id = lost.value ->> 1 AND kept.body IS NOT NULL
         ORDER BY lost.key ON CONFLICT DO NOTHING"
    );
    let copies = format!(
        "INSERT INTO {new}.copies (channel, id, epoch, \"offset\")
         SELECT kept.channel, kept.id, CAST(lost.value ->> 2 AS bigint), CAST(lost.value ->> 3 AS bigint)
         FROM json_each($1) AS lost CROSS JOIN {new}.notifications AS kept
         WHERE kept.channel = lost.value ->> 0 AND kept.id = lost.value ->> 1
           AND (kept.epoch, kept.\"offset\") <> (CAST(lost.value ->> 2 AS bigint), CAST(lost.value ->> 3 AS bigint))"
    );
    let count = write(session, origins, &lost).await?;
    write(session, copies, &lost).await?;
    Ok(count)
}

/// Copies whose place the log has lost, the latest epoch first, and within it the first place.
async fn lost_copies(session: &mut Connection, extents: &[Extent]) -> Result<Value, StoreError> {
    let sql = "SELECT channel, id, epoch, \"offset\" FROM copies ORDER BY epoch DESC, \"offset\"";
    let copies: Vec<(String, String, i64, i64)> = run!(session, |it| sqlx::query_as(sql).fetch_all(it).await)?;
    let mut lost = Vec::new();
    for (channel, id, epoch, offset) in copies {
        let name: Channel = channel.parse().map_err(|source| StoreError::unreadable("copies", source))?;
        if extents.iter().find(|extent| extent.epoch == read_epoch(epoch)).is_none_or(|extent| extent.has_lost(&name, offset)) {
            lost.push(json!([channel, id, epoch, offset]));
        }
    }
    Ok(Value::Array(lost))
}

/// Partitions whose beginning the old tables still have begin where they did there, and their clocks go on; those of epochs that are gone
/// stand where they stood.
async fn standings(session: &mut Connection, new: &str) -> Result<(), StoreError> {
    let begun = format!(
        "UPDATE {new}.projection AS begun SET first_offset = kept.first_offset, clock = kept.clock FROM projection AS kept
         WHERE kept.epoch = begun.epoch AND kept.topic = begun.topic AND kept.partition = begun.partition
           AND kept.next_offset >= begun.next_offset AND begun.next_offset > 0"
    );
    let gone = format!("INSERT INTO {new}.projection SELECT * FROM projection WHERE true ON CONFLICT DO NOTHING");
    for sql in [begun, gone] {
        execute(session, sql).await?;
    }
    Ok(())
}

/// When the log is folded: what users did before it begins, and what devices said in epochs whose cursors are gone. Says how many rows.
pub(super) async fn receipts(session: &mut Connection, new: &str, extents: &Extents) -> Result<u64, StoreError> {
    let epochs = Value::from_iter(extents.cursors.iter().map(|extent| json!([sql_epoch(extent.epoch)])));
    let mut count = 0;
    for sql in of_cursors(new) {
        count += write(session, sql, &epochs).await?;
    }
    // What the log still says of a delivery says all of it.
    let attempts = format!("INSERT INTO {new}.attempts SELECT * FROM attempts WHERE true ON CONFLICT DO NOTHING");
    count += write_plain(session, attempts).await?;
    let silent = silent_until(&extents.receipts);
    if silent.as_array().is_none_or(Vec::is_empty) {
        return Ok(count);
    }
    for sql in of_receipts(new) {
        count += write(session, sql, &silent).await?;
    }
    Ok(count)
}

/// What was said in epochs that are gone; `$1` are those that are there.
fn of_cursors(new: &str) -> [String; 3] {
    let is_gone = "NOT EXISTS (SELECT 1 FROM json_each($1) AS there WHERE CAST(there.value ->> 0 AS bigint) = kept.epoch)";
    [
        format!("INSERT INTO {new}.stretches SELECT kept.* FROM stretches AS kept WHERE {is_gone}"),
        format!(
            "INSERT INTO {new}.interests SELECT held.* FROM interests AS held WHERE EXISTS (
               SELECT 1 FROM stretches AS kept WHERE kept.user_id = held.user_id AND kept.device_id = held.device_id
                 AND kept.channel = held.channel AND {is_gone})
             ON CONFLICT DO NOTHING"
        ),
        format!(
            "INSERT INTO {new}.devices AS built SELECT used.* FROM devices AS used WHERE EXISTS (
               SELECT 1 FROM stretches AS kept WHERE kept.user_id = used.user_id AND kept.device_id = used.device_id AND {is_gone})
             ON CONFLICT (user_id, device_id) DO UPDATE SET
               has_lapsed = CASE WHEN built.has_lapsed = 1 THEN 1 ELSE excluded.has_lapsed END"
        ),
    ]
}

/// What was last said before the log begins, and what was said by then of rows that were spoken of since. `$1` are partitions and when
/// what is there of them begins.
fn of_receipts(new: &str) -> [String; 5] {
    let of = |table: &str| {
        format!("json_each($1) AS silent CROSS JOIN {table} AS kept WHERE kept.partition = CAST(silent.value ->> 0 AS integer)")
    };
    let by_then = |time: &str| format!("kept.{time} < CAST(silent.value ->> 1 AS bigint)");
    let (states, marks, was_read) = (of("states"), of("marks"), by_then("read_at"));
    [
        format!("INSERT INTO {new}.states SELECT kept.* FROM {states} AND {} ON CONFLICT DO NOTHING", by_then("changed_at")),
        format!("INSERT INTO {new}.marks SELECT kept.* FROM {marks} AND {} ON CONFLICT DO NOTHING", by_then("set_at")),
        format!(
            "INSERT INTO {new}.withdrawals SELECT kept.* FROM {} AND {} ON CONFLICT (id, channel) DO UPDATE SET cause = excluded.cause,
               partition = excluded.partition, withdrawn_at = excluded.withdrawn_at",
            of("withdrawals"),
            by_then("withdrawn_at")
        ),
        format!(
            "UPDATE {new}.states AS said SET
               is_seen = CASE WHEN kept.is_seen = 1 THEN 1 ELSE said.is_seen END,
               is_dismissed = CASE WHEN kept.is_dismissed = 1 THEN 1 ELSE said.is_dismissed END,
               is_read = CASE WHEN kept.is_read = 1 AND {was_read} THEN 1 ELSE said.is_read END,
               read_at = CASE WHEN kept.is_read = 1 AND {was_read} THEN kept.read_at ELSE said.read_at END
             FROM {states} AND said.id = kept.id AND said.user_id = kept.user_id
               AND (kept.is_seen > said.is_seen OR kept.is_dismissed > said.is_dismissed OR kept.is_read = 1 AND {was_read})"
        ),
        format!(
            "UPDATE {new}.marks AS said SET
               read_epoch = CASE WHEN {was_read} THEN kept.read_epoch ELSE said.read_epoch END,
               read_offset = CASE WHEN {was_read} THEN kept.read_offset ELSE said.read_offset END,
               read_at = CASE WHEN {was_read} THEN kept.read_at ELSE said.read_at END,
               seen_epoch = kept.seen_epoch, seen_offset = kept.seen_offset
             FROM {marks} AND said.channel = kept.channel AND said.user_id = kept.user_id
               AND (said.seen_epoch, said.seen_offset) <= (kept.seen_epoch, kept.seen_offset)"
        ),
    ]
}

/// The partitions of `receipts` whose beginning is lost, each with when what is there of it begins. A row's partition is that of the epoch in
/// which it was last spoken of; in an earlier one that was before any later one began.
fn silent_until(extents: &[Extent]) -> Value {
    let (mut silent, mut next) = (Vec::new(), Epoch(1));
    for extent in extents {
        let is_first = extent.epoch != next;
        next = Epoch(extent.epoch.0.saturating_add(1));
        for (number, beginning) in extent.partitions.iter().enumerate() {
            if is_first || beginning.offset > 0 {
                silent.push(json!([number, beginning.appended.map_or(i64::MAX, |at| at.as_millis())]));
            }
        }
    }
    Value::Array(silent)
}

fn has_lost_any(extents: &[Extent]) -> bool {
    let are_all = extents.iter().zip(1..).all(|(extent, number)| extent.epoch == Epoch(number));
    !are_all || extents.iter().flat_map(|extent| &extent.partitions).any(|beginning| beginning.offset > 0)
}

async fn write_plain(session: &mut Connection, sql: String) -> Result<u64, StoreError> {
    let sql = AssertSqlSafe(sql);
    Ok(run!(session, |it| sqlx::query(sql).execute(it).await.map(|done| done.rows_affected()))?)
}

/// Runs a statement in which `$1` is a list.
async fn write(session: &mut Connection, sql: String, list: &Value) -> Result<u64, StoreError> {
    let (sql, list) = (AssertSqlSafe(sql), list.to_string());
    Ok(run!(session, |it| sqlx::query(sql).bind(&list).execute(it).await.map(|done| done.rows_affected()))?)
}

impl Extent {
    /// Whether the log has no longer what lay there.
    fn has_lost(&self, channel: &Channel, offset: i64) -> bool {
        let number = i32::try_from(self.partitions.len()).map_or(0, |count| channel.partition(count));
        let beginning = usize::try_from(number).ok().and_then(|number| self.partitions.get(number));
        beginning.is_none_or(|beginning| offset < beginning.offset)
    }
}
