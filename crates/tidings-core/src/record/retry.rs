//! The values of `retry.<delay>` and `undelivered`: a delivery that waits, and one that has ended.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::Record;
use super::context::{Context, Failure, Original};
use super::notified::{NotificationRecord, Origin};
use super::trace::TraceContext;
use crate::channel::Channel;
use crate::fate::Cause;
use crate::ids::{NodeId, UserId};
use crate::notification::Notification;
use crate::position::Epoch;
use crate::time::{Delay, Timestamp};

/// A notification on a mailbox that no device has acknowledged yet, with what was tried. The key is the channel's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Whose mailbox.
    pub channel: Channel,
    /// What is to be delivered.
    pub notification: Notification,
    /// The generation its offset belongs to.
    pub epoch: Epoch,
    /// Its offset on `notifications`.
    pub offset: i64,
    /// When it was appended there, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appended_at: Option<Timestamp>,
    /// The rungs that its rule names; none: all, and the last until the notification expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Vec<Delay>>,
    /// How many attempts came before `attempts` and are told no more.
    #[serde(default, deserialize_with = "any_count", skip_serializing_if = "is_none_forgotten")]
    pub attempts_forgotten: u32,
    /// What was tried, oldest first; at most the last [`LIMIT_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
}

/// The most attempts that a delivery tells of.
pub const LIMIT_ATTEMPTS: usize = 64;
/// What stands for the rule of a notification that is written again by who only has its delivery.
const CARRIED: &str = "carried-over";

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(super) fn is_none_forgotten(attempts: &u32) -> bool {
    *attempts == 0
}

/// More than any ladder comes to while its notification is worth it. What is more was never counted by us.
const LIMIT_FORGOTTEN: u32 = 1_000_000;

/// A number that nobody of ours wrote decides nothing, so it is no reason to refuse the record either: it is ignored.
pub(super) fn any_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let count = i64::deserialize(deserializer)?;
    Ok(u32::try_from(count).ok().filter(|count| *count <= LIMIT_FORGOTTEN).unwrap_or(0))
}

impl Delivery {
    /// What is said beside a record that holds it: `node` found that `outcome` came of its notification, which lies in the partition
    /// `at` of `notifications`.
    #[must_use]
    pub fn context<'a>(
        &'a self,
        (topic, partition): (&'a str, i32),
        outcome: Outcome,
        trace: Option<&'a TraceContext>,
        node: &'a NodeId,
    ) -> Context<'a> {
        let key = Some(self.channel.as_str().as_bytes());
        let original = Original { topic, partition, offset: self.offset, timestamp: self.appended_at, key };
        let (class, message) = (outcome.name(), outcome.in_words());
        let failure = Failure { stage: "deliver", cause: Cause::Recipient, class, message, rule: None };
        Context { original, failure, attempt: Some(self.made()), trace, node }
    }

    /// Its notification, which lay in the partition `at` of `notifications`, as it is written there once more, so that it has a ladder from
    /// there. What made it is not known any more: it counts as made of itself.
    #[must_use]
    pub fn notified(&self, (topic, partition): (&str, i32)) -> NotificationRecord {
        NotificationRecord {
            channel: self.channel.clone(),
            notification: self.notification.clone(),
            rule: CARRIED.to_owned(),
            origin: Origin { topic: topic.to_owned(), partition, offset: self.offset, timestamp: self.appended_at },
            exclude: Vec::new(),
            ladder: self.ladder.clone(),
            attempts_forgotten: self.attempts_forgotten,
            attempts: self.attempts.clone(),
        }
    }

    /// As much of it as tells which it is: without the texts and the data of its notification.
    #[must_use]
    pub fn in_part(&self) -> Self {
        let Notification { id, event_id, kind, created_at, priority, expires_at, .. } = &self.notification;
        let notification = Notification {
            id: *id,
            event_id: event_id.clone(),
            kind: kind.clone(),
            created_at: *created_at,
            title: None,
            message: None,
            data: serde_json::Map::new(),
            priority: *priority,
            action_url: None,
            source: None,
            category: None,
            expires_at: *expires_at,
            once: false,
            locales: std::collections::BTreeMap::new(),
        };
        Self {
            notification,
            attempts: self.attempts.clone(),
            channel: self.channel.clone(),
            ladder: self.ladder.clone(),
            ..*self
        }
    }

    /// Its attempts are counted, and told no more.
    pub fn forget_attempts(&mut self) {
        self.attempts_forgotten = self.made();
        self.attempts = Vec::new();
    }

    /// How many attempts were made.
    #[must_use]
    pub fn made(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX).saturating_add(self.attempts_forgotten)
    }

    /// Tells of one attempt more; of too many the oldest is forgotten.
    pub fn tell(&mut self, attempt: Attempt) {
        let over = (self.attempts.len() + 1).saturating_sub(LIMIT_ATTEMPTS);
        self.attempts.drain(..over);
        self.attempts_forgotten = self.attempts_forgotten.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        self.attempts.push(attempt);
    }
}

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// By which process.
    pub node: NodeId,
    /// By which way.
    pub sink: Sink,
    /// How it came to be needed.
    pub outcome: Outcome,
    /// When it is looked at next, unless what lies before it in its partition is due later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The operator who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
}

/// A way to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// To the user's open connections.
    Websocket,
}

/// What was known of the delivery when the attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No device of the user had been written to.
    Offline,
    /// A device was written to and has not acknowledged.
    Unacknowledged,
}

impl Outcome {
    /// The name in values, headers and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unacknowledged => "unacknowledged",
        }
    }

    /// All of them.
    pub const ALL: [Self; 2] = [Self::Offline, Self::Unacknowledged];

    fn in_words(self) -> &'static str {
        match self {
            Self::Offline => "no device of the user had been written to",
            Self::Unacknowledged => "a device was written to and has not acknowledged in time",
        }
    }
}

/// A text that names no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an outcome is `offline` or `unacknowledged`")]
pub struct OutcomeError;

impl FromStr for Outcome {
    type Err = OutcomeError;

    fn from_str(text: &str) -> Result<Self, OutcomeError> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == text).ok_or(OutcomeError)
    }
}

/// A delivery that is waiting on a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetryRecord(pub Delivery);

impl Record for RetryRecord {
    const NAME: &'static str = "retry";
    const VERSION: u32 = 1;
}

/// A delivery that ended without success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredRecord {
    /// What could not be delivered, and what was tried.
    pub delivery: Delivery,
    /// Why it ended.
    pub reason: Outcome,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why no topic took it whole, as the class of its letter in `dlq`. It is told here in part then, and cannot be begun anew from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Record for UndeliveredRecord {
    const NAME: &'static str = "undelivered";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: usize) -> Attempt {
        let at = Timestamp::from_millis(i64::try_from(number).unwrap());
        let node = "node-1".parse().unwrap();
        Attempt { at, node, sink: Sink::Websocket, outcome: Outcome::Offline, next_at: None, by: None }
    }

    fn delivery(forgotten: &str) -> Delivery {
        let text = format!(
            r#"{{"channel": "user-1", "epoch": 1, "offset": 7, "attempts": [], "attemptsForgotten": {forgotten},
                "notification": {{"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t",
                                  "createdAt": "2026-01-31T12:00:00.000Z"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_delivery_tells_of_its_last_attempts_and_counts_all() {
        let mut delivery = delivery("0");
        (0..LIMIT_ATTEMPTS + 10).for_each(|number| delivery.tell(attempt(number)));
        assert_eq!(delivery.attempts.len(), LIMIT_ATTEMPTS);
        assert_eq!(delivery.attempts.first(), Some(&attempt(10)));
        assert_eq!((delivery.attempts_forgotten, delivery.made()), (10, LIMIT_ATTEMPTS as u32 + 10));
    }

    #[test]
    fn in_part_it_is_the_same_delivery_without_texts_and_forgotten_attempts_are_counted() {
        let mut whole = delivery("3");
        whole.notification.message = Some("m".repeat(10_000));
        whole.notification.data.insert("k".into(), "v".into());
        whole.tell(attempt(1));
        let mut part = whole.in_part();
        assert_eq!((part.notification.id, part.made(), part.attempts.len()), (whole.notification.id, 4, 1));
        part.forget_attempts();
        assert_eq!((part.made(), part.attempts.len()), (4, 0));
        assert!(serde_json::to_string(&part).unwrap().len() < 300);
    }

    #[test]
    fn a_forged_count_of_attempts_is_ignored_and_refuses_no_record() {
        for (forged, read) in
            [("-1", 0), ("1000000", LIMIT_FORGOTTEN), ("1000001", 0), ("2147483648", 0), ("9223372036854775807", 0)]
        {
            let mut delivery = delivery(forged);
            assert_eq!(delivery.attempts_forgotten, read, "{forged}");
            (0..=LIMIT_ATTEMPTS).for_each(|number| delivery.tell(attempt(number)));
            assert_eq!(delivery.made(), read.saturating_add(LIMIT_ATTEMPTS as u32 + 1), "{forged}");
        }
    }
}
