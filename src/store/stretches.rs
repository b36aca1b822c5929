//! Merging stretches: what is stored of a device and a channel, and what a cursor says more.
//!
//! Owns: the rows of `stretches` and `devices`. A cursor's record says everything its device knew when it was written, but a device may
//! have begun anew since, so both are united; only what changed is written. A device that was unused for long begins with nothing.
//! Neighbours: `fold` calls it in its transaction, `trim` forgets devices that don't come back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidings_core::delivery::decide::Said;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::time::Timestamp;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::{Heard, Retention, StoreError};

/// User and device.
type Device = (String, String);
/// A device, channel, epoch, kind.
type Key = (Device, String, i64, &'static str);

/// What a batch says, each device and key once.
#[derive(Default)]
struct News {
    stretches: BTreeMap<Key, Stretches>,
    /// With the first and the last use in the batch.
    devices: BTreeMap<Device, Use>,
    /// What is stored of these counts no more.
    forgotten: BTreeSet<Device>,
}

struct Use {
    partition: i32,
    first: Timestamp,
    last: Timestamp,
}

/// Unites `heard` with what is stored.
pub(super) async fn merge(connection: &mut Connection, retention: &Retention, heard: &[Heard]) -> Result<(), StoreError> {
    if heard.is_empty() {
        return Ok(());
    }
    let mut news = united(retention, heard);
    for (device, used_at) in stored_uses(connection, &news.devices).await? {
        if let Some(using) = news.devices.get_mut(&device) {
            if used_at <= retention.devices_before(using.first) {
                news.forgotten.insert(device);
            } else {
                using.last = using.last.max(Timestamp::from_millis(used_at));
            }
        }
    }
    forget(connection, &news.forgotten).await?;
    store_uses(connection, &news.devices).await?;
    let stored = stored(connection, &news.stretches).await?;
    let (gone, grown) = changes(&stored, &news.stretches);
    delete(connection, gone).await?;
    upsert(connection, grown).await
}

/// The rows that go, and those that come or change.
fn changes(stored: &BTreeMap<Key, Stretches>, news: &BTreeMap<Key, Stretches>) -> (Vec<Value>, Vec<Value>) {
    let (mut gone, mut grown) = (Vec::new(), Vec::new());
    for (key, more) in news {
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
    (gone, grown)
}

fn united(retention: &Retention, heard: &[Heard]) -> News {
    let mut news = News::default();
    for one in heard {
        let cursor = &one.record;
        let device = (cursor.user_id.to_string(), cursor.device_id.to_string());
        let using = news.devices.entry(device.clone());
        let using = using.or_insert(Use { partition: one.partition, first: one.appended, last: one.appended });
        if using.last.as_millis() <= retention.devices_before(one.appended) {
            news.stretches.retain(|(owner, ..), _| *owner != device);
            news.forgotten.insert(device.clone());
        }
        using.last = using.last.max(one.appended);
        using.partition = one.partition;
        for (said, stretches) in [(Said::Offered, &cursor.offered), (Said::Acknowledged, &cursor.acknowledged)] {
            let key = (device.clone(), cursor.channel.to_string(), sql_epoch(cursor.epoch), kind(said));
            news.stretches.entry(key).or_default().merge(stretches);
        }
    }
    news.stretches.retain(|_, stretches| !stretches.is_empty());
    news
}

/// When devices were last used, as far as it is known.
async fn stored_uses(connection: &mut Connection, devices: &BTreeMap<Device, Use>) -> Result<Vec<(Device, i64)>, StoreError> {
    let asked = Value::from_iter(devices.keys().map(|(user, device)| json!([user, device]))).to_string();
    let uses: Vec<(String, String, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.user_id, kept.device_id, kept.used_at FROM json_each($1) AS asked CROSS JOIN devices AS kept
             WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    Ok(uses.into_iter().map(|(user, device, used_at)| ((user, device), used_at)).collect())
}

async fn store_uses(connection: &mut Connection, devices: &BTreeMap<Device, Use>) -> Result<(), StoreError> {
    let rows = devices.iter().map(|((user, device), using)| json!([user, device, using.partition, using.last.as_millis()]));
    connection
        .write(
            "INSERT INTO devices (user_id, device_id, partition, used_at)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS integer), CAST(value ->> 3 AS bigint)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (user_id, device_id) DO UPDATE SET partition = excluded.partition, used_at = excluded.used_at",
            rows,
        )
        .await
}

/// Forgets devices and all they said.
pub(super) async fn forget(connection: &mut Connection, devices: &BTreeSet<Device>) -> Result<(), StoreError> {
    let gone = || devices.iter().map(|(user, device)| json!([user, device]));
    connection
        .write(
            "DELETE FROM stretches WHERE (user_id, channel, epoch, device_id, kind, from_offset) IN (
               SELECT kept.user_id, kept.channel, kept.epoch, kept.device_id, kept.kind, kept.from_offset
               FROM json_each($1) AS gone CROSS JOIN stretches AS kept
               WHERE kept.user_id = gone.value ->> 0 AND kept.device_id = gone.value ->> 1)",
            gone(),
        )
        .await?;
    connection
        .write(
            "DELETE FROM devices WHERE (user_id, device_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1) AS gone)",
            gone(),
        )
        .await
}

async fn stored(connection: &mut Connection, wanted: &BTreeMap<Key, Stretches>) -> Result<BTreeMap<Key, Stretches>, StoreError> {
    let keys = wanted.keys().map(|((user, device), channel, epoch, kind)| json!([user, channel, epoch, device, kind]));
    let asked = Value::from_iter(keys).to_string();
    let rows: Vec<(i64, i64, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint), kept.from_offset, kept.to_offset
             FROM json_each($1) AS asked CROSS JOIN stretches AS kept
             WHERE kept.user_id = asked.value ->> 0 AND kept.channel = asked.value ->> 1
               AND kept.epoch = CAST(asked.value ->> 2 AS bigint) AND kept.device_id = asked.value ->> 3
               AND kept.kind = asked.value ->> 4",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    let keys = wanted.keys().collect::<Vec<_>>();
    let mut found = BTreeMap::<Key, Stretches>::new();
    for (index, from, to) in rows {
        if let Some(key) = usize::try_from(index).ok().and_then(|index| keys.get(index)) {
            found.entry((*key).clone()).or_default().insert(from, to);
        }
    }
    Ok(found)
}

async fn delete(connection: &mut Connection, rows: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "DELETE FROM stretches WHERE (user_id, channel, epoch, device_id, kind, from_offset) IN
             (SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), value ->> 3, value ->> 4, CAST(value ->> 5 AS bigint)
              FROM json_each($1) AS gone)",
            rows,
        )
        .await
}

async fn upsert(connection: &mut Connection, rows: Vec<Value>) -> Result<(), StoreError> {
    connection
        .write(
            "INSERT INTO stretches (user_id, channel, epoch, device_id, kind, from_offset, to_offset)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint), value ->> 3, value ->> 4,
               CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (user_id, channel, epoch, device_id, kind, from_offset) DO UPDATE SET to_offset = excluded.to_offset",
            rows,
        )
        .await
}

fn row(((user, device), channel, epoch, kind): &Key, stretch: Stretch) -> Value {
    json!([user, channel, epoch, device, kind, stretch.from, stretch.to])
}

pub(super) fn kind(said: Said) -> &'static str {
    match said {
        Said::Offered => "offered",
        Said::Acknowledged => "acknowledged",
    }
}
