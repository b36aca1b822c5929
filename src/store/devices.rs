//! The devices of users: which are kept, and who goes for whom.
//!
//! Owns: the rows of `devices`, and what a batch of cursors makes of them and of what they said. A device that was silent for long begins
//! with nothing. One whose id was drawn has none. A user has so many at most; what the one that goes has said of the mailbox stays, under no name, for what was acknowledged
//! must not be sent again. Neighbours: `stretches` unites what is said with what is stored, `interests` bounds of how many channels, `trim` forgets devices
//! that don't come back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidings_core::delivery::decide::Said;
use tidings_core::stretch::Stretches;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::interests::{self, Interests};
use super::stretches::{BEGAN, is_mailbox, kind};
use super::{Heard, Retention, StoreError};

/// User and device.
pub(super) type Device = (String, String);
/// A device, channel, epoch, kind.
pub(super) type Key = (Device, String, i64, &'static str);

/// Under which what devices said is kept that had to go, or that nobody named. No device has it.
const NO_NAME: &str = "";

/// What a batch says, each device and key once.
#[derive(Default)]
pub(super) struct News {
    pub(super) stretches: BTreeMap<Key, Stretches>,
    pub(super) interests: Interests,
    /// All devices of the users who say something.
    known: BTreeMap<Device, Use>,
    /// What is stored of these is theirs no more.
    pub(super) forgotten: BTreeSet<Device>,
    /// What is stored of these goes to the one without a name.
    pub(super) displaced: BTreeSet<Device>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    partition: i32,
    last: i64,
    /// Whether it was forgotten in a channel: of one where nothing is known of it, nobody can say that it is new there.
    has_lapsed: bool,
    is_news: bool,
}

/// What a batch says, given the devices that are stored.
pub(super) async fn news(connection: &mut Connection, retention: &Retention, heard: &[Heard]) -> Result<News, StoreError> {
    let known = stored_uses(connection, heard).await?;
    let interests = Interests::stored(connection, heard, retention.channels_per_device.get()).await?;
    let mut news = News { known, interests, ..News::default() };
    for one in heard {
        news.hear(retention, one);
    }
    news.stretches.retain(|_, stretches| !stretches.is_empty());
    Ok(news)
}

impl News {
    fn hear(&mut self, retention: &Retention, one: &Heard) {
        let cursor = &one.record;
        let name = if cursor.drawn { NO_NAME } else { cursor.device_id.as_str() };
        let device = (cursor.user_id.to_string(), name.to_owned());
        let silent_since = retention.devices_before(one.appended);
        self.forget_if_silent(&device, silent_since);
        let is_new = !self.known.contains_key(&device);
        self.used(&device, one.partition, one.appended.as_millis());
        self.take_interest(retention, &device, one);
        // Of other channels nobody asks what was said under no name.
        let is_kept = !cursor.drawn || cursor.channel.is_mailbox();
        for (said, stretches) in
            [(Said::Offered, &cursor.offered), (Said::Acknowledged, &cursor.acknowledged)].into_iter().filter(|_| is_kept)
        {
            let key = (device.clone(), cursor.channel.to_string(), sql_epoch(cursor.epoch), kind(said));
            self.stretches.entry(key).or_default().merge(stretches);
        }
        if let Some(began) = cursor.began.filter(|_| !cursor.drawn) {
            let key = (device.clone(), cursor.channel.to_string(), sql_epoch(cursor.epoch), BEGAN);
            self.stretches.entry(key).or_default().insert(began, began.saturating_add(1));
        }
        if is_new && !cursor.drawn {
            self.make_room(retention, &device, silent_since);
        }
    }

    fn take_interest(&mut self, retention: &Retention, device: &Device, one: &Heard) {
        if !interests::is_one(one) {
            return;
        }
        let (channel, at) = (one.record.channel.as_str(), one.appended.as_millis());
        for gone in self.interests.take(device, channel, at, retention.channels_per_device.get()) {
            self.known.entry(device.clone()).and_modify(|using| using.has_lapsed = true);
            let all = (device.clone(), gone.clone(), i64::MIN, "")..(device.clone(), gone, i64::MAX, "\u{10ffff}");
            self.stretches.extract_if(all, |_, _| true).for_each(drop);
        }
    }

    fn forget_if_silent(&mut self, device: &Device, silent_since: i64) {
        if self.known.get(device).is_none_or(|known| known.last > silent_since) {
            return;
        }
        self.known.remove(device);
        self.interests.forget(device);
        self.forgotten.insert(device.clone());
        self.stretches.retain(|(owner, ..), _| owner != device);
        if device.1 == NO_NAME {
            self.displaced.retain(|(user, _)| *user != device.0);
        }
    }

    fn used(&mut self, device: &Device, partition: i32, at: i64) {
        let newcomer = Use { partition, last: at, has_lapsed: false, is_news: true };
        let using = self.known.entry(device.clone()).or_insert(newcomer);
        *using = Use { partition, last: using.last.max(at), is_news: true, ..*using };
    }

    /// Lets the device go that was silent for longest, if `newcomer` is one too many.
    fn make_room(&mut self, retention: &Retention, newcomer: &Device, silent_since: i64) {
        let of_user = self.known.range((newcomer.0.clone(), String::new())..);
        let of_user = of_user.take_while(|((user, _), _)| *user == newcomer.0).filter(|((_, device), _)| device != NO_NAME);
        let of_user = of_user.map(|(device, using)| (using.last, device, using.partition)).collect::<Vec<_>>();
        let oldest = of_user.iter().filter(|(_, device, _)| *device != newcomer).min();
        let Some((last, device, partition)) = oldest.filter(|_| of_user.len() > retention.devices_per_user.get()) else { return };
        let (last, device, partition) = (*last, (*device).clone(), *partition);
        if last <= silent_since {
            // As if somebody had come to trim it.
            return self.forget_if_silent(&device, silent_since);
        }
        let heir = (newcomer.0.clone(), NO_NAME.to_owned());
        self.forget_if_silent(&heir, silent_since);
        self.used(&heir, partition, last);
        if !self.forgotten.contains(&device) {
            self.displaced.insert(device.clone());
        }
        self.known.remove(&device);
        self.interests.forget(&device);
        let said = self.stretches.extract_if(.., |(owner, ..), _| *owner == device).collect::<Vec<_>>();
        // Nobody comes back as the one without a name.
        for ((_, channel, epoch, kind), stretches) in
            said.into_iter().filter(|((_, channel, _, kind), _)| *kind != BEGAN && is_mailbox(channel))
        {
            self.stretches.entry((heir.clone(), channel, epoch, kind)).or_default().merge(&stretches);
        }
        self.forgotten.insert(device);
    }

    /// What was stored of a displaced device.
    pub(super) fn inherit(&mut self, user: String, channel: String, epoch: i64, stretches: (&'static str, i64, i64)) {
        let (kind, from, to) = stretches;
        self.stretches.entry(((user, NO_NAME.to_owned()), channel, epoch, kind)).or_default().insert(from, to);
    }
}

/// When the devices of all users who say something were last used.
async fn stored_uses(connection: &mut Connection, heard: &[Heard]) -> Result<BTreeMap<Device, Use>, StoreError> {
    let users = heard.iter().map(|one| &one.record.user_id).collect::<BTreeSet<_>>();
    let asked = Value::from_iter(users.into_iter().map(|user| json!([user]))).to_string();
    let uses: Vec<(String, String, i32, i64, i32)> = run!(connection, |it| {
        sqlx::query_as(
            "SELECT kept.user_id, kept.device_id, kept.partition, kept.used_at, kept.has_lapsed
             FROM json_each($1) AS asked CROSS JOIN devices AS kept WHERE kept.user_id = asked.value ->> 0",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    let known = |(user, device, partition, last, has_lapsed)| {
        ((user, device), Use { partition, last, has_lapsed: has_lapsed != 0, is_news: false })
    };
    Ok(uses.into_iter().map(known).collect())
}

/// Writes which devices there are now.
pub(super) async fn store(connection: &mut Connection, news: &News) -> Result<(), StoreError> {
    let used = news.known.iter().filter(|(_, using)| using.is_news);
    let rows =
        used.map(|((user, device), using)| json!([user, device, using.partition, using.last, i32::from(using.has_lapsed)]));
    connection
        .write(
            "INSERT INTO devices (user_id, device_id, partition, used_at, has_lapsed)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS integer), CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS integer)
             FROM json_each($1) AS new WHERE true
             ON CONFLICT (user_id, device_id) DO UPDATE SET partition = excluded.partition, used_at = excluded.used_at,
               has_lapsed = excluded.has_lapsed",
            rows,
        )
        .await
}
