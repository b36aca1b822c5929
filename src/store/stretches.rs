//! Merging stretches: what is stored of a device and a channel, and what a cursor says more.
//!
//! Owns: the rows of `stretches`, among them one of a single offset for where a device began. A cursor's record says everything its device knew when it was written, but a device may have begun anew
//! since, so both are united; only what changed is written. Neighbours: `devices` knows whose words still count, `fold` calls it in its
//! transaction, `trim` forgets devices that don't come back, and ids, with which goes what was said of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Said;
use tidings_core::delivery::stretch::{Stretch, Stretches};

use super::connection::{Connection, run};
use super::devices::{self, Device, Key, News};
use super::{Heard, Retention, StoreError};

/// The kind of the row that says where a device began. It stays for as long as the device.
pub(super) const BEGAN: &str = "began";

/// Unites `heard` with what is stored. Says of how many channels a device's words had no room.
pub(super) async fn merge(connection: &mut Connection, retention: &Retention, heard: &[Heard]) -> Result<u64, StoreError> {
    if heard.is_empty() {
        return Ok(0);
    }
    let mut news = devices::news(connection, retention, heard).await?;
    inherit(connection, &mut news).await?;
    forget(connection, &news.forgotten).await?;
    devices::store(connection, &news).await?;
    let lapsed = news.interests.store(connection).await?;
    let stored = stored(connection, &news.stretches).await?;
    let (gone, grown) = changes(&stored, &news.stretches, retention.channel_rows.get());
    delete(connection, gone).await?;
    upsert(connection, grown).await?;
    Ok(lapsed)
}

/// What is stored of displaced devices becomes news of the one without a name.
async fn inherit(connection: &mut Connection, news: &mut News) -> Result<(), StoreError> {
    if news.displaced.is_empty() {
        return Ok(());
    }
    let asked = Value::from_iter(news.displaced.iter().map(|(user, device)| json!([user, device]))).to_string();
    let rows: Vec<(String, String, i64, String, i64, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.user_id, kept.channel, kept.epoch, kept.kind, kept.from_offset, kept.to_offset
             FROM json_each($1) AS asked CROSS JOIN stretches AS kept
             WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1 AND kept.kind <> 'began'",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    for (user, channel, epoch, said, from, to) in rows.into_iter().filter(|(_, channel, ..)| is_mailbox(channel)) {
        let said = if said == kind(Said::Acknowledged) { Said::Acknowledged } else { Said::Offered };
        news.inherit(user, channel, epoch, (kind(said), from, to));
    }
    Ok(())
}

/// The rows that go, and those that come or change. Of a channel that is no mailbox the newest `most` stretches are kept of each kind: as
/// many as the channel has notifications, so what lies before them is trimmed; were it not, it would be sent again.
fn changes(stored: &BTreeMap<Key, Stretches>, news: &BTreeMap<Key, Stretches>, most: usize) -> (Vec<Value>, Vec<Value>) {
    let (mut gone, mut grown) = (Vec::new(), Vec::new());
    for (key, more) in news {
        let before = stored.get(key).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.merge(more);
        if key.3 == BEGAN {
            after = lowest(&after);
        }
        if after.as_slice().len() > most && !is_mailbox(&key.1) {
            after.keep_newest(most);
        }
        if after != before {
            let kept = |set: &Stretches, from: i64| set.as_slice().binary_search_by_key(&from, |stretch| stretch.from);
            let left = before.as_slice().iter().filter(|stretch| kept(&after, stretch.from).is_err());
            gone.extend(left.map(|stretch| row(key, *stretch)));
            let changed = after.as_slice().iter().filter(|stretch| before.as_slice().binary_search(stretch).is_err());
            grown.extend(changed.map(|stretch| row(key, *stretch)));
        }
    }
    (gone, grown)
}

/// Whether a channel that is stored is a mailbox.
pub(super) fn is_mailbox(channel: &str) -> bool {
    channel.parse::<Channel>().is_ok_and(|channel| channel.is_mailbox())
}

/// Where a device began that is said to have begun at all of these.
fn lowest(began: &Stretches) -> Stretches {
    let lowest = began.as_slice().first().map(|first| Stretch { from: first.from, to: first.from.saturating_add(1) });
    lowest.into_iter().collect()
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
            "DELETE FROM interests WHERE (user_id, device_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1) AS gone)",
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

/// Forgets what devices said of mailboxes below everything that is still known there, as some of it has gone: channel, epoch, offset. The
/// last stretch of each stays, for a device goes on from it. Other channels have no ladder; what is said of them is bounded where it is merged.
pub(super) async fn forget_below(connection: &mut Connection, gone: Vec<(String, i64, i64)>) -> Result<(), StoreError> {
    let mut behind = BTreeMap::<Channel, (i64, i64)>::new();
    for (channel, epoch, offset) in gone {
        let channel: Channel = channel.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
        let last = behind.entry(channel).or_insert((epoch, offset + 1));
        *last = (epoch, offset + 1).max(*last);
    }
    let mailboxes = behind
        .into_iter()
        .filter_map(|(channel, (epoch, offset))| Some(json!([channel.mailbox_user()?, channel, epoch, offset])));
    // What is known begins at the first place that any row ever had.
    connection
        .write(
            "DELETE FROM stretches WHERE (user_id, channel, epoch, device_id, kind, from_offset) IN (
               SELECT said.user_id, said.channel, said.epoch, said.device_id, said.kind, said.from_offset
               FROM json_each($1) AS mailbox CROSS JOIN stretches AS said
               WHERE said.user_id = mailbox.value ->> 0 AND said.channel = mailbox.value ->> 1
                 AND (said.epoch, said.to_offset) <= (CAST(mailbox.value ->> 2 AS bigint), CAST(mailbox.value ->> 3 AS bigint))
                 AND NOT EXISTS (SELECT 1 FROM notifications AS known WHERE known.channel = said.channel
                   AND (known.first_epoch, known.first_offset) < (said.epoch, said.to_offset))
                 AND EXISTS (SELECT 1 FROM stretches AS later WHERE later.user_id = said.user_id AND later.channel = said.channel
                   AND later.device_id = said.device_id AND later.kind = said.kind
                   AND (later.epoch, later.from_offset) > (said.epoch, said.from_offset)))",
            mailboxes,
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
