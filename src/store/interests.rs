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

/// When a device last spoke of a channel.
#[derive(Debug, Clone, Copy)]
struct Interest {
    last: i64,
    is_news: bool,
}

/// What the devices are interested in that speak of such channels in a batch.
#[derive(Default)]
pub(super) struct Interests {
    own: BTreeMap<Device, BTreeMap<String, Interest>>,
    /// What is stored of these is theirs no more.
    lapsed: BTreeSet<(Device, String)>,
    lapses: u64,
}

/// Whether what a cursor says is bounded here.
pub(super) fn is_one(heard: &Heard) -> bool {
    !heard.record.drawn && !heard.record.says_nothing() && heard.record.channel.kind() == ChannelKind::Topic
}

impl Interests {
    pub(super) async fn stored(connection: &mut Connection, heard: &[Heard]) -> Result<Self, StoreError> {
        let named = heard.iter().filter(|one| is_one(one)).map(|one| (&one.record.user_id, &one.record.device_id));
        let named = named.collect::<BTreeSet<_>>();
        let mut this = Self::default();
        if named.is_empty() {
            return Ok(this);
        }
        let asked = Value::from_iter(named.into_iter().map(|(user, device)| json!([user, device]))).to_string();
        let rows: Vec<(String, String, String, i64)> = run!(connection, |it| {
            sqlx::query_as(
                "SELECT kept.user_id, kept.device_id, kept.channel, kept.spoken_at FROM json_each($1) AS asked CROSS JOIN interests AS kept
                 WHERE kept.user_id = asked.value ->> 0 AND kept.device_id = asked.value ->> 1",
            )
            .bind(&asked)
            .fetch_all(it)
            .await
        })?;
        for (user, device, channel, last) in rows {
            this.own.entry((user, device)).or_default().insert(channel, Interest { last, is_news: false });
        }
        Ok(this)
    }

    /// A device speaks of a channel. Gives those that have to go for it.
    pub(super) fn take(&mut self, device: &Device, channel: &str, at: i64, most: usize) -> Vec<String> {
        let own = self.own.entry(device.clone()).or_default();
        let last = own.get(channel).map_or(at, |known| known.last.max(at));
        own.insert(channel.to_owned(), Interest { last, is_news: true });
        let mut gone = Vec::new();
        while own.len() > most {
            let others = own.iter().filter(|(name, _)| *name != channel);
            let Some((oldest, _)) = others.min_by_key(|(name, interest)| (interest.last, *name)) else { break };
            let oldest = oldest.clone();
            own.remove(&oldest);
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
        let of = |((user, device), own): (&Device, &BTreeMap<String, Interest>)| {
            let news = own.iter().filter(|(_, interest)| interest.is_news);
            news.map(|(channel, interest)| json!([user, device, channel, interest.last])).collect::<Vec<_>>()
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
