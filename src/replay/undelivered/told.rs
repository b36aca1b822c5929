//! What is told of deliveries that ended without success.

use std::collections::BTreeMap;

use serde::Serialize;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::FoundEnd;
use crate::replay::part::PartEnd;

/// The most groups that are counted apart: whoever may write to the topic can make one of each record.
const LIMIT_GROUPS: usize = 1_000;
/// The group of what no other has room for.
const OTHERS: &str = "(others)";

/// What lies on `undelivered`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Undelivered)]
pub struct UndeliveredListing {
    /// How many ladders ended.
    pub undelivered: u64,
    /// How many of them were begun anew.
    pub redriven: u64,
    /// The same by reason and type, the largest first.
    pub groups: Vec<UndeliveredGroup>,
    /// The newest of them, the newest first.
    pub newest: Vec<UndeliveredShown>,
    /// How many records there do not read, and tell of no ladder.
    pub unreadable: u64,
    /// There if this is not all: the `pageToken` of the next call, whose counts are to be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub next_page_token: Option<String>,
    #[serde(skip)]
    counted: BTreeMap<(String, String), UndeliveredGroup>,
    #[serde(skip)]
    limit: usize,
}

/// Those that ended for one reason and are of one type.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredGroup {
    /// `offline`, or `unacknowledged`.
    pub reason: String,
    /// The type of their notifications.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many.
    pub undelivered: u64,
    /// How many of them were begun anew.
    pub redriven: u64,
    /// When the last one ended.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
}

/// One that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UndeliveredNotification)]
pub struct UndeliveredShown {
    /// The notification's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: NotificationId,
    /// Whose it is.
    #[schema(value_type = Option<String>, nullable = false)]
    pub user_id: Option<UserId>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why it ended.
    pub reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether its ladder was begun anew since.
    pub redriven: bool,
}

/// What became of those that were meant.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UndeliveredReport {
    /// Whether anything was written.
    pub executed: bool,
    /// How many were meant.
    pub selected: u64,
    /// How many ladders were begun anew, or would be.
    pub redriven: u64,
    /// How many were left alone, by why: `redriven_before`, `delivered`, `withdrawn`, `expired`, `duplicate` or `too_large`; how many records
    /// are `unreadable`; and how many of the notifications that were named are `gone`, as nothing of them lies there any more, or yet.
    pub skipped: BTreeMap<&'static str, u64>,
    /// How many of those that were redriven ended longer ago than it is known what was begun anew (as long as ids are: `inbox.retention`, and 7
    /// days at least). If such an end lies there twice, and its ladder was begun anew and acknowledged before, it was begun once more.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unproven: u64,
    /// There if this is not all: the `pageToken` of the next call, whose counts are to be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub next_page_token: Option<String>,
}

/// That nothing need be said.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl UndeliveredReport {
    pub(in crate::replay) fn skip(&mut self, why: &'static str) {
        self.skip_some(why, 1);
    }

    pub(in crate::replay) fn skip_some(&mut self, why: &'static str, count: u64) {
        if count > 0 {
            *self.skipped.entry(why).or_default() += count;
        }
    }
}

impl UndeliveredListing {
    pub(in crate::replay) fn new(limit: usize) -> Self {
        let (groups, newest, counted) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { undelivered: 0, redriven: 0, groups, newest, unreadable: 0, next_page_token: None, counted, limit }
    }

    /// Takes one in.
    pub(in crate::replay) fn add(&mut self, found: &FoundEnd) {
        let (FoundEnd { record, at, .. }, redriven) = (found, u64::from(found.is_redriven));
        let at = *at;
        let (reason, mut kind) = (record.reason.name().to_owned(), record.delivery.notification.kind.clone());
        if self.counted.len() >= LIMIT_GROUPS && !self.counted.contains_key(&(reason.clone(), kind.clone())) {
            kind = OTHERS.to_owned();
        }
        let fresh = || UndeliveredGroup { reason: reason.clone(), kind: kind.clone(), undelivered: 0, redriven: 0, last_at: at };
        let group = self.counted.entry((reason.clone(), kind.clone())).or_insert_with(fresh);
        group.undelivered += 1;
        group.redriven += redriven;
        group.last_at = group.last_at.max(at);
        self.undelivered += 1;
        self.redriven += redriven;
        self.name(found);
    }

    /// Keeps the newest, with room for as many again before they are sorted.
    fn name(&mut self, FoundEnd { record, at, is_redriven, .. }: &FoundEnd) {
        if self.limit == 0 {
            return;
        }
        let delivery = &record.delivery;
        self.newest.push(UndeliveredShown {
            id: delivery.notification.id,
            user_id: delivery.channel.mailbox_user(),
            kind: delivery.notification.kind.clone(),
            reason: record.reason.name().to_owned(),
            ended_at: *at,
            attempts: delivery.made(),
            redriven: *is_redriven,
        });
        if self.newest.len() >= self.limit.saturating_mul(2) {
            self.sort_newest();
        }
    }

    fn sort_newest(&mut self) {
        self.newest.sort_by_key(|shown| (std::cmp::Reverse(shown.ended_at), shown.id));
        self.newest.truncate(self.limit);
    }

    pub(in crate::replay) fn sorted(mut self, next: Option<PartEnd>) -> Self {
        self.next_page_token = next.map(|next| next.to_string());
        self.sort_newest();
        self.groups = std::mem::take(&mut self.counted).into_values().collect();
        self.groups.sort_by(|one, other| {
            (other.undelivered, &one.reason, &one.kind).cmp(&(one.undelivered, &other.reason, &other.kind))
        });
        self
    }
}
