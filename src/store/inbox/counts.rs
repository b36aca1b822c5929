//! Counts: how much of their mailboxes users have not read or seen.

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::position::Position;
use tidings_core::time::Timestamp;

use super::{Courses, is_dismissed, is_not_withdrawn, is_read, is_seen, with_state_of};
use crate::store::connection::run;
use crate::store::fold::sql_epoch;
use crate::store::{Store, StoreError};

/// What waits in a mailbox. What was put away, is withdrawn or has expired does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Not read.
    pub unread: u64,
    /// Not seen.
    pub unseen: u64,
    /// Notifications before this position are counted, none from there on.
    pub as_of: Position,
}

impl Store {
    /// The counts of many users' mailboxes at once, each in the order asked.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn counts(&self, courses: &Courses, users: &[UserId], now: Timestamp) -> Result<Vec<(UserId, Counts)>, StoreError> {
        let asked = users.iter().map(|user| {
            let course = courses.of(&Channel::mailbox(user));
            json!([user, course.channel, course.partition])
        });
        let asked = Value::from_iter(asked).to_string();
        let rows: Vec<(i64, i64, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(concat!(
                        "SELECT COALESCE(MIN(projected.next_offset), 0), CAST(SUM(CASE WHEN kept.id IS NULL OR ",
                        is_dismissed!(),
                        " = 1 THEN 0 ELSE 1 - ",
                        is_read!(),
                        " END) AS bigint), CAST(SUM(CASE WHEN kept.id IS NULL OR ",
                        is_dismissed!(),
                        " = 1 THEN 0 ELSE 1 - ",
                        is_seen!(),
                        " END) AS bigint) FROM json_each($1) AS asked
                         LEFT JOIN projection AS projected ON projected.epoch = $2 AND projected.topic = $3
                           AND projected.partition = CAST(asked.value ->> 2 AS integer)
                         LEFT JOIN notifications AS kept ON kept.channel = asked.value ->> 1 AND kept.body IS NOT NULL
                           AND (kept.expires_at IS NULL OR kept.expires_at > $4) AND",
                        is_not_withdrawn!(),
                        with_state_of!("asked.value ->> 0"),
                        "GROUP BY asked.key ORDER BY asked.key",
                    ))
                    .bind(&asked)
                    .bind(sql_epoch(courses.epoch))
                    .bind(&*courses.notifications)
                    .bind(now.as_millis())
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let counts = |(next, unread, unseen): (i64, i64, i64)| Counts {
            unread: u64::try_from(unread).unwrap_or(0),
            unseen: u64::try_from(unseen).unwrap_or(0),
            as_of: Position { epoch: courses.epoch, offset: next },
        };
        Ok(users.iter().cloned().zip(rows.into_iter().map(counts)).collect())
    }
}
