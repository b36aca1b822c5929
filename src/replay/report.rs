//! What a redrive comes to, or would.

use std::collections::BTreeMap;

use serde::Serialize;
use tidings_core::channel::ChannelKind;
use tidings_core::record::audit::RedriveCounts;
use tidings_core::record::letter::LetterId;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::rules::{Burial, IgnoreReason};
use utoipa::ToSchema;

/// How many places of one kind are named.
const NAMED: usize = 10;

/// What a redrive came to, or would come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RedriveReport)]
pub struct Report {
    /// Whether notifications were sent; if not, nothing was written at all.
    pub executed: bool,
    /// The version of the rules that decided.
    pub rules: String,
    /// How many letters are meant and have not been redriven before.
    pub letters: u64,
    /// How many of those that are meant were redriven before, and are left alone.
    pub redriven_before: u64,
    /// How many letters are of a record that another one is of, too.
    pub duplicates: u64,
    /// Of how many letters there are notifications.
    pub notified: u64,
    /// How many notifications.
    pub notifications: u64,
    /// Those, by their rules.
    pub by_rule: BTreeMap<String, u64>,
    /// Those, by their types.
    pub by_type: BTreeMap<String, u64>,
    /// Those, by whom they are for: `user`, `role`, `everyone` or `channel`.
    pub by_audience: BTreeMap<String, u64>,
    /// How many letters give none and nothing is wrong, by the reason.
    pub ignored: BTreeMap<String, u64>,
    /// What would be buried again, by the class of error. It stays where it is; nothing is written to `dlq`.
    pub buried: BTreeMap<String, StillBuried>,
    /// What cannot be decided on, by why.
    pub skipped: BTreeMap<String, Skipped>,
    /// The first notification.
    #[schema(value_type = Option<Object>)]
    pub first: Option<NotificationRecord>,
    /// The last one.
    #[schema(value_type = Option<Object>)]
    pub last: Option<NotificationRecord>,
}

/// Letters that would be buried again for the same kind of error.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = DeadLettersStillBuried)]
pub struct StillBuried {
    /// How many.
    pub letters: u64,
    /// The first of them.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<LetterId>,
    /// What is wrong with the first.
    pub message: String,
    /// The line of the rule to go to, if it is one.
    pub line: Option<String>,
}

/// Records of `dlq` that cannot be decided on for the same kind of reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = DeadLettersSkipped)]
pub struct Skipped {
    /// How many.
    pub letters: u64,
    /// The first of them.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<LetterId>,
    /// Why the first is.
    pub why: String,
}

impl Skipped {
    /// Counts one more.
    pub(super) fn add(&mut self, id: LetterId, why: &impl ToString) {
        if self.letters == 0 {
            self.why = why.to_string();
        }
        self.letters += 1;
        if self.ids.len() < NAMED {
            self.ids.push(id);
        }
    }
}

impl Report {
    /// Whether all that was meant is redriven, or would be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.buried.is_empty() && self.skipped.is_empty()
    }

    /// The same for `audit`.
    #[must_use]
    pub fn counts(&self) -> RedriveCounts {
        RedriveCounts {
            letters: self.letters,
            notified: self.notified,
            notifications: self.notifications,
            ignored: self.ignored.values().sum(),
            buried: self.buried.values().map(|still| still.letters).sum(),
            skipped: self.skipped.values().map(|skipped| skipped.letters).sum(),
        }
    }

    pub(super) fn skip(&mut self, class: &'static str, id: LetterId, why: &impl ToString) {
        self.skipped.entry(class.to_owned()).or_default().add(id, why);
    }

    pub(super) fn ignore(&mut self, reason: IgnoreReason) {
        *self.ignored.entry(reason.name().to_owned()).or_default() += 1;
    }

    pub(super) fn bury(&mut self, id: LetterId, burial: Burial) {
        let Burial { class, message, rule, .. } = burial;
        let line = rule.map(|blamed| blamed.line);
        let new = || StillBuried { letters: 0, ids: Vec::new(), message, line };
        let still = self.buried.entry(class.to_owned()).or_insert_with(new);
        still.letters += 1;
        if still.ids.len() < NAMED {
            still.ids.push(id);
        }
    }

    pub(super) fn notify(&mut self, notifications: Vec<NotificationRecord>) {
        self.notified += 1;
        for notification in &notifications {
            self.notifications += 1;
            *self.by_rule.entry(notification.rule.clone()).or_default() += 1;
            *self.by_type.entry(notification.notification.kind.clone()).or_default() += 1;
            let audience = match notification.channel.kind() {
                ChannelKind::Mailbox(_) => "user",
                ChannelKind::Role(_) => "role",
                ChannelKind::Everyone => "everyone",
                ChannelKind::Topic => "channel",
            };
            *self.by_audience.entry(audience.to_owned()).or_default() += 1;
        }
        if self.first.is_none() {
            self.first = notifications.first().cloned();
        }
        self.last = notifications.into_iter().next_back().or(self.last.take());
    }
}
