//! Interests: the channels of their own choice that devices speak of.
//!
//! Owns: the rows of `interests`, and how many a device has at most. A device may name any number of channels over time; of the one that it
//! was silent of for longest all is forgotten that it said, when there is one too many. Mailboxes, roles and what is for everyone are nobody's choice, and are no
//! interests. Neighbours: `devices` asks record by record, so that it does not matter how the log is cut into batches; `stretches` has what was said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidings_core::channel::ChannelKind;

use super::connection::{Connection, run};
use super::devices::Device;
use super::{Heard, StoreError};

/// What the devices are interested in that speak of such channels in a batch.
#[derive(Default)]
pub(super) struct Interests {
    own: BTreeMap<Device, Own>,
    /// What is stored of these is theirs no more.
    lapsed: BTreeSet<(Device, String)>,
    lapses: u64,
}

/// The interests of a device: those that it speaks of in a batch, and of the others the oldest, as many as may have to go.
#[derive(Default)]
struct Own {
    /// When it last spoke of each.
    spoken: BTreeMap<String, i64>,
    by_age: BTreeSet<(i64, String)>,
    news: BTreeSet<String>,
    /// That are stored and were not read.
    others: usize,
}

impl Own {
    fn len(&self) -> usize {
        self.spoken.len() + self.others
    }

    /// One that is stored.
    fn read(&mut self, channel: String, at: i64) {
        self.by_age.insert((at, channel.clone()));
        self.spoken.insert(channel, at);
    }

    fn speak(&mut self, channel: &str, at: i64) {
        let before = self.spoken.get(channel).copied();
        if let Some(before) = before {
            self.by_age.remove(&(before, channel.to_owned()));
        }
        self.read(channel.to_owned(), before.map_or(at, |before| before.max(at)));
        self.news.insert(channel.to_owned());
    }

    /// Lets the oldest go, but never `kept`.
    fn lapse(&mut self, kept: &str) -> Option<String> {
        let oldest = self.by_age.iter().find(|(_, channel)| channel != kept).cloned()?;
        self.by_age.remove(&oldest);
        self.spoken.remove(&oldest.1);
        self.news.remove(&oldest.1);
        Some(oldest.1)
    }
}

/// Whether what a cursor says is bounded here.
pub(super) fn is_one(heard: &Heard) -> bool {
    !heard.record.drawn && !heard.record.says_nothing() && heard.record.channel.kind() == ChannelKind::Topic
}

impl Interests {
    /// What has to be read for a batch, where a device may have `most`. Of one that speaks of nothing new nothing else is.
    pub(super) async fn stored(connection: &mut Connection, heard: &[Heard], most: usize) -> Result<Self, StoreError> {
        // How often each is spoken of.
        let mut named = BTreeMap::<Device, BTreeMap<String, usize>>::new();
        for record in heard.iter().filter(|one| is_one(one)).map(|one| &one.record) {
            let device = (record.user_id.to_string(), record.device_id.to_string());
            *named.entry(device).or_default().entry(record.channel.to_string()).or_default() += 1;
        }
        let mut this = Self::default();
        for (device, channel, at) in named_ones(connection, &named).await? {
            this.own.entry(device).or_default().read(channel, at);
        }
        let is_known =
            |device: &Device, channel: &String| this.own.get(device).is_some_and(|own| own.spoken.contains_key(channel));
        named.retain(|device, channels| !channels.keys().all(|channel| is_known(device, channel)));
        let mut wanted = Vec::new();
        for (device, count) in counts(connection, named.keys()).await? {
            let own = this.own.entry(device.clone()).or_default();
            own.others = count.saturating_sub(own.spoken.len());
            // One that has to go may come back and push out the next. Those that are named are among the oldest, or not.
            let spoken = named.get(&device).map_or(0, |channels| channels.values().sum());
            let gone = (count + spoken).saturating_sub(most);
            if gone > 0 {
                wanted.push(json!([device.0, device.1, gone + own.spoken.len()]));
            }
        }
        for (device, channel, at) in oldest(connection, wanted).await? {
            let own = this.own.entry(device).or_default();
            if !own.spoken.contains_key(&channel) {
                own.read(channel, at);
                own.others = own.others.saturating_sub(1);
            }
        }
        Ok(this)
    }

    /// How many were read.
    #[cfg(test)]
    pub(super) fn count_read(&self) -> usize {
        self.own.values().map(|own| own.spoken.len()).sum()
    }

    /// A device speaks of a channel. Gives those that have to go for it.
    pub(super) fn take(&mut self, device: &Device, channel: &str, at: i64, most: usize) -> Vec<String> {
        let own = self.own.entry(device.clone()).or_default();
        let is_new = !own.spoken.contains_key(channel);
        own.speak(channel, at);
        let mut gone = Vec::new();
        while is_new && own.len() > most {
            let Some(oldest) = own.lapse(channel) else { break };
            self.lapsed.insert((device.clone(), oldest.clone()));
            gone.push(oldest);
        }
        self.lapses += gone.len() as u64;
        gone
    }

    /// A device is forgotten.
    pub(super) fn forget(&mut self, device: &Device) {
        self.own.remove(device);
    }

    /// Writes what there is now, and takes away what was said of the channels that had to go. Says how many had to.
    pub(super) async fn store(&self, connection: &mut Connection) -> Result<u64, StoreError> {
        let lapsed = || self.lapsed.iter().map(|((user, device), channel)| json!([user, channel, device]));
        connection
            .write(
                "DELETE FROM stretches WHERE (user_id, channel, epoch, device_id, kind, from_offset) IN (
                   SELECT kept.user_id, kept.channel, kept.epoch, kept.device_id, kept.kind, kept.from_offset
                   FROM json_each($1) AS gone CROSS JOIN stretches AS kept
                   WHERE kept.user_id = gone.value ->> 0 AND kept.channel = gone.value ->> 1 AND kept.device_id = gone.value ->> 2)",
                lapsed(),
            )
            .await?;
        connection
            .write(
                "DELETE FROM interests WHERE (user_id, channel, device_id) IN (
                   SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1) AS gone)",
                lapsed(),
            )
            .await?;
        let of = |((user, device), own): (&Device, &Own)| {
            let news = own.spoken.iter().filter(|(channel, _)| own.news.contains(*channel));
            news.map(|(channel, at)| json!([user, device, channel, at])).collect::<Vec<_>>()
        };
        connection
            .write(
                "INSERT INTO interests (user_id, device_id, channel, spoken_at)
                 SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS bigint) FROM json_each($1) AS new WHERE true
                 ON CONFLICT (user_id, device_id, channel) DO UPDATE SET spoken_at = excluded.spoken_at",
                self.own.iter().flat_map(of),
            )
            .await?;
        Ok(self.lapses)
    }
}

/// A device, one of its interests, and when it last spoke of it.
type Row = (Device, String, i64);

/// What is stored of those that are named.
async fn named_ones(
    connection: &mut Connection,
    named: &BTreeMap<Device, BTreeMap<String, usize>>,
) -> Result<Vec<Row>, StoreError> {
    let each = named.iter().flat_map(|((user, device), of)| of.keys().map(move |channel| json!([user, device, channel])));
    read(
        connection,
        "SELECT kept.user_id, kept.device_id, kept.channel, kept.spoken_at FROM json_each($1) AS asked CROSS JOIN interests AS kept
         WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1 AND kept.channel = asked.value ->> 2",
        each.collect(),
    )
    .await
}

/// The oldest of each device: its user, its id, and how many.
async fn oldest(connection: &mut Connection, wanted: Vec<Value>) -> Result<Vec<Row>, StoreError> {
    read(
        connection,
        "SELECT user_id, device_id, channel, spoken_at FROM (
           SELECT kept.user_id, kept.device_id, kept.channel, kept.spoken_at, CAST(asked.value ->> 2 AS bigint) AS wanted,
             ROW_NUMBER() OVER (PARTITION BY kept.user_id, kept.device_id ORDER BY kept.spoken_at, kept.channel) AS place
           FROM json_each($1) AS asked CROSS JOIN interests AS kept
           WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1) AS aged
         WHERE place <= wanted",
        wanted,
    )
    .await
}

async fn read(connection: &mut Connection, sql: &'static str, asked: Vec<Value>) -> Result<Vec<Row>, StoreError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Value::Array(asked).to_string();
    let rows: Vec<(String, String, String, i64)> = run!(connection, |it| sqlx::query_as(sql).bind(&asked).fetch_all(it).await)?;
    Ok(rows.into_iter().map(|(user, device, channel, at)| ((user, device), channel, at)).collect())
}

/// How many interests each of `devices` has.
async fn counts<'a>(
    connection: &mut Connection,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<Vec<(Device, usize)>, StoreError> {
    let asked = Value::from_iter(devices.map(|(user, device)| json!([user, device])));
    if asked.as_array().is_none_or(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let asked = asked.to_string();
    let rows: Vec<(String, String, i64)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT asked.value ->> 0, asked.value ->> 1, (SELECT COUNT(*) FROM interests AS kept
               WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1) FROM json_each($1) AS asked",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    Ok(rows.into_iter().map(|(user, device, count)| ((user, device), usize::try_from(count).unwrap_or(0))).collect())
}
