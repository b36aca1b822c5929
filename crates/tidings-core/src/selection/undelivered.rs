//! Which deliveries somebody means that ended without success.

use std::collections::BTreeSet;
use std::fmt;

use super::FilterError;
use crate::ids::{NotificationId, UserId};
use crate::record::retry::{Outcome, UndeliveredRecord};
use crate::time::Timestamp;

/// Every condition must hold, of several values of one any. Without a condition: all. Shown in the words of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndeliveredFilter {
    /// Those that ended for this reason.
    pub reason: Option<Outcome>,
    /// Those of these users.
    pub users: BTreeSet<UserId>,
    /// Those of these types.
    pub kinds: BTreeSet<String>,
    /// These notifications.
    pub ids: BTreeSet<NotificationId>,
    /// Those that ended at this time or later.
    pub since: Option<Timestamp>,
    /// Those that ended before this time.
    pub until: Option<Timestamp>,
}

impl UndeliveredFilter {
    /// Refuses what cannot hold for any delivery.
    ///
    /// # Errors
    /// If its times are in the wrong order, or the same.
    pub fn check(&self) -> Result<(), FilterError> {
        FilterError::check(self.since, self.until)
    }

    /// Whether a record is meant that was appended at `at`.
    #[must_use]
    pub fn holds(&self, record: &UndeliveredRecord, at: Timestamp) -> bool {
        let notification = &record.delivery.notification;
        let is_theirs = || record.delivery.channel.mailbox_user().is_some_and(|user| self.users.contains(&user));
        self.reason.is_none_or(|reason| reason == record.reason)
            && (self.kinds.is_empty() || self.kinds.contains(&notification.kind))
            && (self.ids.is_empty() || self.ids.contains(&notification.id))
            && self.may_hold(at)
            && (self.users.is_empty() || is_theirs())
    }

    /// Whether a record may be meant that was appended at `at` and does not read.
    #[must_use]
    pub fn may_hold(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// Whether all are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for UndeliveredFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.map(|reason| format!("--reason {}", reason.name()));
        let users = self.users.iter().map(|user| format!("--user {user}"));
        let kinds = self.kinds.iter().map(|kind| format!("--type {kind}"));
        let ids = self.ids.iter().map(|id| format!("--id {id}"));
        let since = self.since.map(|since| format!("--since {since}"));
        let until = self.until.map(|until| format!("--until {until}"));
        let words = reason.into_iter().chain(users).chain(kinds).chain(ids).chain(since).chain(until).collect::<Vec<_>>();
        if words.is_empty() { f.write_str("--all") } else { f.write_str(&words.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UndeliveredRecord {
        let value = serde_json::json!({
            "delivery": {"channel": "user-1", "epoch": 1, "offset": 7, "attempts": [],
                "notification": {"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "payment_due",
                                 "createdAt": "2026-01-31T12:00:00.000Z"}},
            "reason": "offline", "endedAt": "2026-01-31T12:00:00.000Z",
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_condition_must_hold_and_of_several_values_any() {
        let (record, at) = (record(), Timestamp::from_millis(100));
        let fits = UndeliveredFilter {
            reason: Some(Outcome::Offline),
            users: ["1", "2"].map(|user| user.parse().unwrap()).into(),
            kinds: ["payment_due".to_owned()].into(),
            ids: [record.delivery.notification.id].into(),
            since: Some(at),
            until: Some(Timestamp::from_millis(101)),
        };
        assert!(fits.holds(&record, at) && UndeliveredFilter::default().holds(&record, at));
        let others = [
            UndeliveredFilter { reason: Some(Outcome::Unacknowledged), ..fits.clone() },
            UndeliveredFilter { users: ["2".parse().unwrap()].into(), ..fits.clone() },
            UndeliveredFilter { kinds: ["welcome".to_owned()].into(), ..fits.clone() },
            UndeliveredFilter { ids: [NotificationId(uuid::Uuid::nil())].into(), ..fits.clone() },
            UndeliveredFilter { since: Some(Timestamp::from_millis(101)), ..fits.clone() },
            UndeliveredFilter { until: Some(at), ..fits.clone() },
        ];
        assert!(others.iter().all(|other| !other.holds(&record, at)));
        let shown = fits.to_string();
        assert!(shown.starts_with("--reason offline --user 1 --user 2 --type payment_due --id 438e"), "{shown}");
        assert_eq!(UndeliveredFilter::default().to_string(), "--all");
        assert!(UndeliveredFilter::default().is_all() && !fits.is_all());
        assert!(fits.may_hold(at) && !fits.may_hold(Timestamp::from_millis(101)));
    }
}
