//! About: all that is known of one notification, for the service that asked for it.
//!
//! Owns: the queries. Refuses to say what nobody can know: who else might have been shown a channel that is no mailbox.

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Said;
use tidings_core::ids::{DeviceId, NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::receipt::WithdrawalCause;
use tidings_core::time::Timestamp;
use uuid::Uuid;

use super::pending::{TriedUntil, read_tried, tried};
use super::{ItemState, behind, told, with_state_of};
use crate::store::connection::run;
use crate::store::read::read_epoch;
use crate::store::receipts::read_cause;
use crate::store::{Asked, Store, StoreError};

/// The most users who are told of.
const LIMIT_USERS: i64 = 100;
/// The most states, and as many marks, that are looked through for them.
const LIMIT_LOOKED_THROUGH: i64 = 10_000;

/// What is known of a notification.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Its channel.
    pub channel: Channel,
    /// The position behind it.
    pub position: Position,
    /// When it was appended to the log.
    pub appended_at: Timestamp,
    /// What it says; nothing once it was trimmed.
    pub record: Option<NotificationRecord>,
    /// Devices of the mailbox's owner that have acknowledged it; those that are no longer kept are told as one, the nil UUID. Of other
    /// channels none is told.
    pub acknowledged: Vec<DeviceId>,
    /// Users who have seen it or put it away, at most 100 of them in the order of their ids, of those 10,000 whose ids come first. Of a mailbox
    /// only the owner; of another channel those of whom it was known, when they said so, that it is theirs to see.
    pub users: Vec<(UserId, ItemState)>,
    /// Whether nobody is to see it any more.
    pub withdrawn: Option<Withdrawn>,
    /// What was tried of it, of a mailbox, if it was not acknowledged in time.
    pub tried: Option<TriedUntil>,
}

/// Where a notification lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: NotificationId,
    /// Its channel.
    pub channel: Channel,
    /// The position behind it.
    pub position: Position,
}

/// That a notification is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn {
    /// Why.
    pub cause: WithdrawalCause,
    /// Since when.
    pub at: Timestamp,
}

type Row = (
    i64,
    String,
    i64,
    i64,
    i64,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i32>,
    Option<i64>,
);

impl Store {
    /// What is known of a notification; nothing, if it was never folded or is forgotten: its id, and of what ended without success also what
    /// was tried.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn state_of(&self, id: NotificationId) -> Result<Option<About>, StoreError> {
        Ok(self.states_of(&[id]).await?.pop().map(|(_, about)| about))
    }

    /// What is known of notifications, each once, in the order asked. Those that were never folded or are forgotten are left out.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn states_of(&self, ids: &[NotificationId]) -> Result<Vec<(NotificationId, About)>, StoreError> {
        let rows = self.rows_about(ids).await?;
        let mut all = Vec::<(NotificationId, About)>::with_capacity(rows.len());
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (
                index,
                channel,
                epoch,
                offset,
                appended_at,
                body,
                cause,
                withdrawn_at,
                made,
                history,
                outcome,
                is_undelivered,
                next_at,
            ) = row;
            let id = usize::try_from(index).ok().and_then(|index| ids.get(index)).copied();
            let Some(id) = id.filter(|id| all.last().is_none_or(|(last, _)| last != id)) else { continue };
            let unreadable = |source| StoreError::unreadable("notifications", source);
            let channel: Channel = channel.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
            places.push(Asked { channel: channel.clone(), id, epoch: read_epoch(epoch), offset });
            let withdrawn = cause.zip(withdrawn_at);
            let about = About {
                channel,
                position: behind(epoch, offset),
                appended_at: Timestamp::from_millis(appended_at),
                record: body.as_deref().map(serde_json::from_str).transpose().map_err(unreadable)?,
                acknowledged: Vec::new(),
                users: Vec::new(),
                withdrawn: withdrawn.map(|(cause, at)| Withdrawn { cause: read_cause(&cause), at: Timestamp::from_millis(at) }),
                tried: read_tried((made, history, outcome, is_undelivered, next_at))?,
            };
            all.push((id, about));
        }
        self.tell_devices(&places, &mut all).await?;
        self.tell_users(&mut all).await?;
        Ok(all)
    }

    async fn rows_about(&self, ids: &[NotificationId]) -> Result<Vec<Row>, StoreError> {
        let asked = Value::from_iter(ids.iter().map(|id| json!([id]))).to_string();
        self.answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT CAST(asked.key AS bigint), kept.channel, kept.epoch, kept.\"offset\", kept.appended_at, kept.body,
                           gone.cause, gone.withdrawn_at, ",
                        tried!(),
                        " FROM json_each($1) AS asked CROSS JOIN notifications AS kept
                         LEFT JOIN withdrawals AS gone ON gone.id = kept.id AND gone.channel = kept.channel
                         LEFT JOIN attempts AS tried ON tried.id = kept.id AND tried.channel = kept.channel
                         WHERE kept.id = asked.value ->> 0
                         UNION ALL SELECT CAST(asked.key AS bigint), tried.channel, tried.epoch, tried.\"offset\",
                           COALESCE(tried.appended_at, 0), NULL, gone.cause, gone.withdrawn_at, ",
                        tried!(),
                        " FROM json_each($1) AS asked CROSS JOIN attempts AS tried
                         LEFT JOIN withdrawals AS gone ON gone.id = tried.id AND gone.channel = tried.channel
                         WHERE tried.id = asked.value ->> 0 AND tried.is_undelivered = 1
                           AND NOT EXISTS (SELECT 1 FROM notifications AS kept WHERE kept.id = tried.id AND kept.channel = tried.channel)
                         ORDER BY 1, 2",
                    ))
                    .bind(&asked)
                    .fetch_all(it)
                    .await
                })?)
        })
        .await
    }

    /// Where all the notifications lie that follow from a request, in the order of their channels.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn asked_for(&self, request: Uuid) -> Result<Vec<Place>, StoreError> {
        let rows: Vec<(String, String, i64, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(
                        "SELECT id, channel, epoch, \"offset\" FROM notifications WHERE request_id = $1 ORDER BY channel, id",
                    )
                    .bind(request.to_string())
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let place = |(id, channel, epoch, offset): (String, String, i64, i64)| {
            let id = id.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
            let channel = channel.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
            Ok(Place { id, channel, position: behind(epoch, offset) })
        };
        rows.into_iter().map(place).collect()
    }

    async fn tell_devices(&self, places: &[Asked], all: &mut [(NotificationId, About)]) -> Result<(), StoreError> {
        for ((_, about), evidence) in all.iter_mut().zip(self.evidence(places).await?) {
            let sightings = evidence.sightings.into_iter().filter(|sighting| sighting.said == Said::Acknowledged);
            about.acknowledged = sightings.map(|sighting| sighting.device).collect();
            about.acknowledged.sort_unstable();
            about.acknowledged.dedup();
        }
        Ok(())
    }

    /// Owners are asked about all at once. Of another channel those are looked through whose ids come first, and there is seldom more than
    /// one such notification.
    async fn tell_users(&self, all: &mut [(NotificationId, About)]) -> Result<(), StoreError> {
        for (index, told) in self.owners(all).await? {
            if let Some((_, about)) = usize::try_from(index).ok().and_then(|index| all.get_mut(index)) {
                about.users = vec![told];
            }
        }
        for (id, about) in all.iter_mut().filter(|(_, about)| !about.channel.is_mailbox()) {
            about.users = self.users_of(*id, &about.channel).await?;
        }
        Ok(())
    }

    async fn owners(&self, all: &[(NotificationId, About)]) -> Result<Vec<(i64, (UserId, ItemState))>, StoreError> {
        let asked = all
            .iter()
            .zip(0_i64..)
            .filter_map(|((id, about), index)| Some(json!([id, about.channel, about.channel.mailbox_user()?, index])));
        let asked = Value::from_iter(asked).to_string();
        let rows: Vec<(i64, String, i64, Option<i64>, i64, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT CAST(asked.value ->> 3 AS bigint), asked.value ->> 2, ",
                        told!(),
                        " FROM json_each($1) AS asked CROSS JOIN notifications AS kept",
                        with_state_of!("asked.value ->> 2"),
                        "WHERE kept.id = asked.value ->> 0 AND kept.channel = asked.value ->> 1 AND ",
                        super::is_seen!(),
                        " = 1",
                    ))
                    .bind(&asked)
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        rows.into_iter()
            .map(|(index, user, read, at, seen, dismissed)| Ok((index, user_told((user, read, at, seen, dismissed))?)))
            .collect()
    }

    async fn users_of(&self, id: NotificationId, channel: &Channel) -> Result<Vec<(UserId, ItemState)>, StoreError> {
        let rows: Vec<UserRow> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT told.user_id, ",
                        told!(),
                        " FROM (SELECT user_id FROM (SELECT user_id FROM states WHERE id = $1 AND channel = $2 ORDER BY user_id LIMIT $4) AS said
                                UNION SELECT user_id FROM (SELECT user_id FROM marks WHERE channel = $2 ORDER BY user_id LIMIT $4) AS marked)
                           AS told
                         CROSS JOIN notifications AS kept",
                        with_state_of!("told.user_id"),
                        "WHERE kept.id = $1 AND kept.channel = $2 AND ",
                        super::is_seen!(),
                        " = 1 ORDER BY told.user_id LIMIT $3",
                    ))
                    .bind(id.to_string())
                    .bind(channel.as_str())
                    .bind(LIMIT_USERS)
                    .bind(LIMIT_LOOKED_THROUGH)
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        rows.into_iter().map(user_told).collect()
    }
}

type UserRow = (String, i64, Option<i64>, i64, i64);

fn user_told((user, read, read_at, seen, dismissed): UserRow) -> Result<(UserId, ItemState), StoreError> {
    let user = user.parse().map_err(|source| StoreError::unreadable("states", source))?;
    Ok((user, (read, read_at, seen, dismissed).into()))
}
