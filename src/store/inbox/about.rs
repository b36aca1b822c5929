//! About: all that is known of one notification, for the service that asked for it.
//!
//! Owns: the queries. Refuses to say what nobody can know: who else might have been shown a channel that is no mailbox.

use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Said;
use tidings_core::ids::{DeviceId, NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::receipt::WithdrawalCause;
use tidings_core::time::Timestamp;
use uuid::Uuid;

use super::{ItemState, behind, told, with_state_of};
use crate::store::connection::run;
use crate::store::read::read_epoch;
use crate::store::receipts::read_cause;
use crate::store::{Asked, Store, StoreError};

/// The most users who are told of.
const LIMIT_USERS: i64 = 100;

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
    /// Users who have seen it or put it away, at most 100 of them in the order of their ids. Of a mailbox only the owner.
    pub users: Vec<(UserId, ItemState)>,
    /// Whether nobody is to see it any more.
    pub withdrawn: Option<Withdrawn>,
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

type Row = (String, i64, i64, i64, Option<String>, Option<String>, Option<i64>);

impl Store {
    /// What is known of a notification; nothing, if it was never folded or its id is forgotten.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn state_of(&self, id: NotificationId) -> Result<Option<About>, StoreError> {
        let rows: Vec<Row> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(
                        "SELECT kept.channel, kept.epoch, kept.\"offset\", kept.appended_at, kept.body, gone.cause, gone.withdrawn_at
                         FROM notifications AS kept LEFT JOIN withdrawals AS gone ON gone.id = kept.id AND gone.channel = kept.channel
                         WHERE kept.id = $1 ORDER BY kept.channel LIMIT 1",
                    )
                    .bind(id.to_string())
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let Some((channel, epoch, offset, appended_at, body, cause, withdrawn_at)) = rows.into_iter().next() else {
            return Ok(None);
        };
        let channel: Channel = channel.parse().map_err(|source| StoreError::unreadable("notifications", source))?;
        let asked = Asked { channel: channel.clone(), id, epoch: read_epoch(epoch), offset };
        let unreadable = |source| StoreError::unreadable("notifications", source);
        Ok(Some(About {
            position: behind(epoch, offset),
            appended_at: Timestamp::from_millis(appended_at),
            record: body.as_deref().map(serde_json::from_str).transpose().map_err(unreadable)?,
            acknowledged: self.acknowledged(asked).await?,
            users: self.users_of(id, &channel).await?,
            withdrawn: cause
                .zip(withdrawn_at)
                .map(|(cause, at)| Withdrawn { cause: read_cause(&cause), at: Timestamp::from_millis(at) }),
            channel,
        }))
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

    async fn acknowledged(&self, asked: Asked) -> Result<Vec<DeviceId>, StoreError> {
        let sightings = self.evidence(&[asked]).await?.into_iter().flat_map(|evidence| evidence.sightings);
        let mut devices =
            sightings.filter(|sighting| sighting.said == Said::Acknowledged).map(|sighting| sighting.device).collect::<Vec<_>>();
        devices.sort_unstable();
        devices.dedup();
        Ok(devices)
    }

    async fn users_of(&self, id: NotificationId, channel: &Channel) -> Result<Vec<(UserId, ItemState)>, StoreError> {
        let owner = channel.mailbox_user();
        let rows: Vec<(String, i64, Option<i64>, i64, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT told.user_id, ",
                        told!(),
                        " FROM (SELECT user_id FROM states WHERE id = $1 UNION SELECT user_id FROM marks WHERE channel = $2) AS told
                         CROSS JOIN notifications AS kept",
                        with_state_of!("told.user_id"),
                        "WHERE kept.id = $1 AND kept.channel = $2 AND (CAST($3 AS text) IS NULL OR told.user_id = $3) AND ",
                        super::is_seen!(),
                        " = 1 ORDER BY told.user_id LIMIT $4",
                    ))
                    .bind(id.to_string())
                    .bind(channel.as_str())
                    .bind(owner.as_ref().map(UserId::as_str))
                    .bind(LIMIT_USERS)
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let told = |(user, read, read_at, seen, dismissed): (String, i64, Option<i64>, i64, i64)| {
            let user = user.parse().map_err(|source| StoreError::unreadable("states", source))?;
            Ok((user, (read, read_at, seen, dismissed).into()))
        };
        rows.into_iter().map(told).collect()
    }
}
