//! The value of `notifications`: one notification for one channel.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Record;
use super::retry::{Attempt, any_count, is_none_forgotten};
use crate::channel::Channel;
use crate::ids::UserId;
use crate::notification::Notification;
use crate::time::{Delay, Timestamp};

/// The most users that a notification leaves out.
pub const LIMIT_EXCLUDED: usize = 1_000;

/// A rendered notification on its way to a channel. The record's key is the channel's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationRecord {
    /// Where it goes.
    pub channel: Channel,
    /// What is shown.
    pub notification: Notification,
    /// The name of the rule that made it.
    pub rule: String,
    /// Where its event came from.
    pub origin: Origin,
    /// Who is not shown it, although listening to the channel; at most [`LIMIT_EXCLUDED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<UserId>,
    /// The rungs on which it waits if nobody acknowledges it, and behind which it ends; none: all rungs, the last until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Vec<Delay>>,
    /// How many attempts came before `attempts` and are told no more.
    #[serde(default, deserialize_with = "any_count", skip_serializing_if = "is_none_forgotten")]
    pub attempts_forgotten: u32,
    /// What was tried where it lay before: of one that was carried over from an earlier epoch, or begun anew from one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl NotificationRecord {
    /// The same for `user` alone, in place of whom it is for.
    #[must_use]
    pub fn redirected(mut self, user: &UserId) -> Self {
        self.channel = Channel::mailbox(user);
        self.notification.id = self.notification.id.redirected(user);
        self.exclude.clear();
        self
    }

    /// The same with an id of `replay`'s own, for those who know it already.
    #[must_use]
    pub fn renewed(mut self, replay: Uuid) -> Self {
        self.notification.id = self.notification.id.renewed(replay);
        self
    }
}

/// The coordinates of a record on a domain topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp there, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
}

impl Record for NotificationRecord {
    const NAME: &'static str = "notification";
    const VERSION: u32 = 1;
}
