//! Finding: where notifications that somebody names lie, and what they are to the user.

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::notified::NotificationRecord;

use super::{ItemState, behind, is_not_withdrawn, told, with_state_of};
use crate::store::connection::run;
use crate::store::{Store, StoreError};

/// A notification that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: NotificationId,
    /// Where it was found.
    pub channel: Channel,
    /// The position behind it.
    pub position: Position,
    /// What it is to the user.
    pub state: ItemState,
}

type Row = (i64, i64, i64, i64, String, i64, Option<i64>, i64, i64);

impl Store {
    /// Those of `ids` that a user is shown in `channels`. What is not there may still be to come: the projection may be behind.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn find(&self, user: &UserId, channels: &[Channel], ids: &[NotificationId]) -> Result<Vec<Found>, StoreError> {
        let within = Value::from_iter(channels.iter().map(|channel| json!([channel]))).to_string();
        let asked = Value::from_iter(ids.iter().map(|id| json!([id]))).to_string();
        let rows: Vec<Row> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT CAST(asked.key AS bigint), CAST(within.key AS bigint), kept.epoch, kept.\"offset\", kept.body, ",
                        told!(),
                        " FROM json_each($2) AS asked CROSS JOIN json_each($3) AS within CROSS JOIN notifications AS kept",
                        with_state_of!("$1"),
                        "WHERE kept.id = asked.value ->> 0 AND kept.channel = within.value ->> 0 AND kept.body IS NOT NULL AND",
                        is_not_withdrawn!(),
                        "ORDER BY asked.key, within.key",
                    ))
                    .bind(user.as_str())
                    .bind(&asked)
                    .bind(&within)
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let mut all = Vec::with_capacity(rows.len());
        for (id, channel, epoch, offset, body, read, read_at, seen, dismissed) in rows {
            let (Some(id), Some(channel)) = (nth(ids, id), nth(channels, channel)) else { continue };
            if !channel.is_mailbox() && excludes(&body, user)? {
                continue;
            }
            let (position, state) = (behind(epoch, offset), (read, read_at, seen, dismissed).into());
            all.push(Found { id: *id, channel: channel.clone(), position, state });
        }
        Ok(all)
    }
}

fn nth<T>(of: &[T], index: i64) -> Option<&T> {
    usize::try_from(index).ok().and_then(|index| of.get(index))
}

fn excludes(body: &str, user: &UserId) -> Result<bool, StoreError> {
    let record = serde_json::from_str::<NotificationRecord>(body);
    Ok(record.map_err(|source| StoreError::unreadable("notifications", source))?.exclude.contains(user))
}
