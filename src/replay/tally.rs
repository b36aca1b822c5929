//! What becomes of records that are decided on once more, counted.
//!
//! Owns: the counts that a redrive and a replay have in common, and how many places of one kind are named. Holds two notifications, the
//! first and the last.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tidings_core::channel::ChannelKind;
use tidings_core::record::audit::Decided;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::rules::Burial;
use utoipa::ToSchema;

/// How many places of one kind are named.
const NAMED: usize = 10;
/// The most names that are counted apart: a template can make a type of each event.
const LIMIT_NAMES: usize = 1_000;
/// What no other name has room for.
const OTHERS: &str = "(others)";

/// What follows from records, and what does not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Of how many records there are notifications.
    pub notified: u64,
    /// How many notifications.
    pub notifications: u64,
    /// Those, by their rules.
    pub by_rule: BTreeMap<String, u64>,
    /// Those, by their types.
    pub by_type: BTreeMap<String, u64>,
    /// Those, by whom they are for: `user`, `role`, `everyone` or `channel`.
    pub by_audience: BTreeMap<String, u64>,
    /// How many records give none and nothing is wrong, by the reason.
    pub ignored: BTreeMap<String, u64>,
    /// What would be buried, by the class of error. Nothing is written to `dlq`.
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

/// Records that would be buried for the same kind of error.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RecordsStillBuried)]
pub struct StillBuried {
    /// How many.
    pub count: u64,
    /// The first of them: partition and offset, as `2@17`.
    pub ids: Vec<String>,
    /// What is wrong with the first.
    pub message: String,
    /// The line of the rule to go to, if it is one.
    pub line: Option<String>,
}

/// Records that cannot be decided on for the same kind of reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = RecordsSkipped)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The first of them: partition and offset, as `2@17`.
    pub ids: Vec<String>,
    /// Why the first is.
    pub why: String,
}

impl Skipped {
    /// Counts one more.
    pub(super) fn add(&mut self, id: &impl fmt::Display, why: &impl fmt::Display) {
        if self.count == 0 {
            self.why = why.to_string();
        }
        self.count += 1;
        if self.ids.len() < NAMED {
            self.ids.push(id.to_string());
        }
    }
}

impl Tally {
    /// Whether nothing is left behind by a fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.buried.is_empty() && self.skipped.is_empty()
    }

    /// The same in sums, for `audit`.
    pub(super) fn decided(&self) -> Decided {
        Decided {
            notified: self.notified,
            notifications: self.notifications,
            ignored: self.ignored.values().sum(),
            buried: self.buried.values().map(|still| still.count).sum(),
            skipped: self.skipped.values().map(|skipped| skipped.count).sum(),
        }
    }

    pub(super) fn skip(&mut self, class: &'static str, id: &impl fmt::Display, why: &impl fmt::Display) {
        self.skipped.entry(class.to_owned()).or_default().add(id, why);
    }

    pub(super) fn ignore(&mut self, reason: &'static str) {
        count(&mut self.ignored, reason);
    }

    pub(super) fn bury(&mut self, id: &impl fmt::Display, burial: Burial) {
        let Burial { class, message, rule, .. } = burial;
        let line = rule.map(|blamed| blamed.line);
        let new = || StillBuried { count: 0, ids: Vec::new(), message, line };
        let still = self.buried.entry(class.to_owned()).or_insert_with(new);
        still.count += 1;
        if still.ids.len() < NAMED {
            still.ids.push(id.to_string());
        }
    }

    pub(super) fn notify(&mut self, notifications: Vec<NotificationRecord>) {
        self.notified += 1;
        for notification in &notifications {
            self.notifications += 1;
            count(&mut self.by_rule, &notification.rule);
            count(&mut self.by_type, &notification.notification.kind);
            let audience = match notification.channel.kind() {
                ChannelKind::Mailbox(_) => "user",
                ChannelKind::Role(_) => "role",
                ChannelKind::Everyone => "everyone",
                ChannelKind::Topic => "channel",
            };
            count(&mut self.by_audience, audience);
        }
        if self.first.is_none() {
            self.first = notifications.first().cloned();
        }
        self.last = notifications.into_iter().next_back().or(self.last.take());
    }
}

/// Most names were counted before: those cost no copy.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
        return;
    }
    let name = if counts.len() < LIMIT_NAMES { name } else { OTHERS };
    *counts.entry(name.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_are_counted_and_not_kept() {
        let mut counts = BTreeMap::new();
        (0..LIMIT_NAMES + 7).for_each(|number| count(&mut counts, &number.to_string()));
        count(&mut counts, "3");
        assert_eq!((counts.len(), counts[OTHERS], counts["3"]), (LIMIT_NAMES + 1, 7, 2));
    }
}
