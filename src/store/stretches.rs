//! Merging stretches: what is stored of a device and a channel, and what a cursor says more.
//!
//! Owns: the rows of `stretches`. A cursor's record says everything its device knew when it was written, but a device may have
//! begun anew since, so both are united. Only what changed is written. Neighbours: `fold` calls it in its transaction.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection};
use tidings_core::delivery::decide::Said;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::record::cursor::CursorRecord;

use super::StoreError;
use super::fold::sql_epoch;

/// User, channel, epoch, device, kind.
type Key = (String, String, i64, String, &'static str);

/// Unites `cursors` with what is stored.
pub(super) async fn merge(connection: &mut SqliteConnection, cursors: &[CursorRecord]) -> Result<(), StoreError> {
    let new = united(cursors);
    let stored = stored(connection, &new).await?;
    let (mut gone, mut grown) = (Vec::new(), Vec::new());
    for (key, more) in &new {
        let before = stored.get(key).cloned().unwrap_or_default();
        let mut after = before.clone();
        if after.merge(more) {
            let kept = |set: &Stretches, from: i64| set.as_slice().binary_search_by_key(&from, |stretch| stretch.from);
            let left = before.as_slice().iter().filter(|stretch| kept(&after, stretch.from).is_err());
            gone.extend(left.map(|stretch| row(key, *stretch)));
            let changed = after.as_slice().iter().filter(|stretch| before.as_slice().binary_search(stretch).is_err());
            grown.extend(changed.map(|stretch| row(key, *stretch)));
        }
    }
    if !gone.is_empty() {
        delete(connection, gone).await?;
    }
    if !grown.is_empty() {
        upsert(connection, grown).await?;
    }
    Ok(())
}

/// All cursors of a batch, each key once.
fn united(cursors: &[CursorRecord]) -> BTreeMap<Key, Stretches> {
    let mut all = BTreeMap::<Key, Stretches>::new();
    for cursor in cursors {
        for (said, stretches) in [(Said::Offered, &cursor.offered), (Said::Acknowledged, &cursor.acknowledged)] {
            let user = cursor.user_id.to_string();
            let key = (user, cursor.channel.to_string(), sql_epoch(cursor.epoch), cursor.device_id.to_string(), kind(said));
            all.entry(key).or_default().merge(stretches);
        }
    }
    all.retain(|_, stretches| !stretches.is_empty());
    all
}

async fn stored(
    connection: &mut SqliteConnection,
    wanted: &BTreeMap<Key, Stretches>,
) -> Result<BTreeMap<Key, Stretches>, StoreError> {
    let keys = wanted.keys().map(|(user, channel, epoch, device, kind)| json!([user, channel, epoch, device, kind]));
    let rows = sqlx::query(
        "SELECT key.key, from_offset, to_offset FROM json_each(?1) AS key CROSS JOIN stretches
         WHERE user_id = key.value ->> 0 AND channel = key.value ->> 1 AND epoch = key.value ->> 2
           AND device_id = key.value ->> 3 AND kind = key.value ->> 4",
    )
    .bind(Value::from_iter(keys).to_string())
    .fetch_all(connection)
    .await?;
    let keys = wanted.keys().collect::<Vec<_>>();
    let mut found = BTreeMap::<Key, Stretches>::new();
    for row in rows {
        let index = usize::try_from(row.try_get::<i64, _>(0)?).ok();
        if let Some(key) = index.and_then(|index| keys.get(index)) {
            found.entry((*key).clone()).or_default().insert(row.try_get(1)?, row.try_get(2)?);
        }
    }
    Ok(found)
}

async fn delete(connection: &mut SqliteConnection, rows: Vec<Value>) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM stretches WHERE (user_id, channel, epoch, device_id, kind, from_offset) IN
         (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?1))",
    )
    .bind(Value::Array(rows).to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn upsert(connection: &mut SqliteConnection, rows: Vec<Value>) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO stretches (user_id, channel, epoch, device_id, kind, from_offset, to_offset)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6 FROM json_each(?1)
         WHERE true ON CONFLICT DO UPDATE SET to_offset = excluded.to_offset",
    )
    .bind(Value::Array(rows).to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn row((user, channel, epoch, device, kind): &Key, stretch: Stretch) -> Value {
    json!([user, channel, epoch, device, kind, stretch.from, stretch.to])
}

pub(super) fn kind(said: Said) -> &'static str {
    match said {
        Said::Offered => "offered",
        Said::Acknowledged => "acknowledged",
    }
}
