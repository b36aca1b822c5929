//! Presence: which devices are open on which node, as every node knows it.
//!
//! Owns: what a node says of its own devices and when, the fold of what the others say, their leases, and how answers of several
//! nodes become one. Refuses to know a clock or the log: times are arguments, in monotonic milliseconds of this process.
//! Neighbours: `record::signal::nodes` has the words, the gateway writes and reads them.

mod audience;
mod others;
mod own;
#[cfg(test)]
mod tests;

use std::collections::btree_set::Range;
use std::ops::Bound;

use serde::Serialize;

pub use self::audience::{Audience, Extent, Gathered, Local};
use self::others::Others;
pub use self::others::{Crossed, Standing};
use self::own::Own;
use crate::ids::{Incarnation, NodeId, UserId};
use crate::record::signal::SignalRecord;
use crate::record::signal::nodes::{Announcement, Lease, Recount, SnapshotPage, UserDevice};

/// How often a node says that it lives while its lease lasts. One that is silent for a lease is only taken for dead if this node has
/// meanwhile heard itself as often: else it is the log that is silent.
const BEATS: u64 = 3;
/// No lease is believed to last longer.
const LONGEST_LEASE_MS: u64 = 600_000;

/// What is configured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A node of which nothing is heard for so long is gone.
    pub lease_ms: u64,
    /// Between two records of a node.
    pub pause_ms: u64,
    /// A device is gone when it has no connection for so long.
    pub grace_ms: u64,
    /// Devices that one record tells of.
    pub record_devices: usize,
    /// Other nodes that are known.
    pub nodes: usize,
    /// Devices of other nodes that are known, and own ones in their grace period.
    pub devices: usize,
}

/// Whether a device has a connection somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has one.
    Online,
    /// It has had none for the grace period.
    Offline,
}

/// A device that has become what it was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub device: UserDevice,
    /// What it is now.
    pub status: Status,
}

/// Devices, and users who have one, on any node, as far as they are counted.
#[derive(Debug, Default)]
pub struct Totals {
    /// Devices.
    pub devices: usize,
    /// Users who have one.
    pub users: usize,
    /// The last that was counted.
    last: Option<UserDevice>,
}

/// What one node knows.
#[derive(Debug)]
pub struct Presence {
    node: NodeId,
    incarnation: Incarnation,
    settings: Settings,
    started_ms: u64,
    own: Own,
    others: Others,
    /// How often this node has heard itself, counted a few times a lease.
    beats: u64,
    beat_ms: u64,
    /// When everybody was asked for a snapshot.
    asked_all: bool,
}

impl Presence {
    /// A node that knows of nobody.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, settings: Settings, now_ms: u64) -> Self {
        Self {
            node,
            incarnation,
            settings,
            started_ms: now_ms,
            own: Own::default(),
            others: Others::default(),
            beats: 0,
            beat_ms: now_ms,
            asked_all: false,
        }
    }

    /// This run of this node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// A device has its first connection to this node.
    pub fn came(&mut self, device: UserDevice) {
        self.own.came(device);
    }

    /// A device has lost its last connection to this node.
    pub fn left(&mut self, device: UserDevice, now_ms: u64) {
        self.own.left(device, now_ms.saturating_add(self.settings.grace_ms));
    }

    /// What is to be written now, if anything is: at most one record a pause. It counts as written; if it is lost, the next one's
    /// number tells so.
    pub fn say(&mut self, now_ms: u64) -> (Option<SignalRecord>, Vec<Change>) {
        let Some(said) = self.own.say(&self.settings, now_ms) else { return (None, Vec::new()) };
        let (number, said) = said;
        let lease = self.lease(number, self.settings.lease_ms);
        match said {
            own::Said::Page { after, to, present } => {
                (Some(SignalRecord::Snapshot(SnapshotPage { lease, after, to, present })), Vec::new())
            }
            own::Said::Changes { came, left } => {
                let others = &self.others;
                let told = |devices: &[UserDevice], status: Status| {
                    let news = devices.iter().filter(|device| !others.have(device));
                    news.map(|device| Change { device: device.clone(), status }).collect::<Vec<_>>()
                };
                let mut changes = told(&came, Status::Online);
                changes.extend(told(&left, Status::Offline));
                (Some(SignalRecord::Announcement(Announcement { lease, came, left, ends: false })), changes)
            }
        }
    }

    /// The last word of this run: its devices are to come back elsewhere within the grace period.
    pub fn farewell(&mut self) -> SignalRecord {
        let number = self.own.next_number();
        let lease = self.lease(number, self.settings.grace_ms);
        SignalRecord::Announcement(Announcement { lease, came: Vec::new(), left: Vec::new(), ends: true })
    }

    fn lease(&self, number: u64, lasts_ms: u64) -> Lease {
        Lease { node: self.node.clone(), incarnation: self.incarnation, number, lasts_ms }
    }

    /// The snapshots to wish for now: at first everybody's, then those of nodes of which something was missed.
    pub fn wishes(&mut self, now_ms: u64) -> Vec<Recount> {
        let by = self.incarnation;
        if !std::mem::replace(&mut self.asked_all, true) {
            return vec![Recount { by, of: None }];
        }
        let again_ms = self.settings.lease_ms / BEATS;
        self.others.lacking(now_ms, again_ms).into_iter().map(|of| Recount { by, of: Some(of) }).collect()
    }

    /// Somebody wishes for a snapshot.
    pub fn recount(&mut self, wish: &Recount) {
        if wish.by != self.incarnation && wish.of.is_none_or(|of| of == self.incarnation) {
            self.own.recount();
        }
    }

    /// A node has said what changed.
    pub fn announced(&mut self, announcement: Announcement, now_ms: u64) -> Vec<Change> {
        let Announcement { lease, came, left, ends } = announcement;
        if !self.hear(&lease, now_ms) {
            return Vec::new();
        }
        self.others.change(lease.incarnation, came, left);
        if ends {
            self.others.end(lease.incarnation);
        }
        self.news()
    }

    /// A node has said what it has.
    pub fn snapshot(&mut self, page: SnapshotPage, now_ms: u64) -> Vec<Change> {
        if !self.hear(&page.lease, now_ms) {
            return Vec::new();
        }
        self.others.page(page.lease.incarnation, (page.after, page.to), page.present);
        self.news()
    }

    /// Notes the number and the lease. Says whether what the record holds is news.
    fn hear(&mut self, lease: &Lease, now_ms: u64) -> bool {
        if lease.incarnation == self.incarnation {
            if now_ms >= self.beat_ms.saturating_add(self.settings.lease_ms / (BEATS + 1)) {
                self.beats += 1;
                self.beat_ms = now_ms;
            }
            return false;
        }
        let heard = others::Heard { at_ms: now_ms, beats: self.beats };
        self.others.hear(lease, heard, &self.settings)
    }

    /// Takes the nodes whose lease has ended for gone.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Change> {
        self.others.expire(now_ms, self.beats);
        self.news()
    }

    /// What has changed by the last record, but for devices that this node has itself.
    fn news(&mut self) -> Vec<Change> {
        let mut changes = self.others.news();
        changes.retain(|change| !self.own.has_told(&change.device));
        changes
    }

    /// Whether every node that lives must have been heard of by now, if all are configured alike.
    #[must_use]
    pub fn is_settled(&self, now_ms: u64) -> bool {
        self.beats > 0 && now_ms >= self.started_ms.saturating_add(self.settings.lease_ms / BEATS)
    }

    /// Whether another node has a device of the user.
    #[must_use]
    pub fn is_elsewhere(&self, user: &UserId) -> bool {
        self.others.who_may_have(user).any(|standing| standing.has)
    }

    /// The nodes that have a device of the user, or may have one that is not known here.
    #[must_use]
    pub fn who_may_have(&self, user: &UserId) -> Vec<Incarnation> {
        self.others
            .who_may_have(user)
            .filter(|node| !node.ends && (node.has || !node.is_whole))
            .map(|node| node.incarnation)
            .collect()
    }

    /// The other nodes that can be asked.
    #[must_use]
    pub fn askable(&self) -> Vec<Incarnation> {
        self.others.standings().filter(|node| !node.ends).map(|node| node.incarnation).collect()
    }

    /// Every other node.
    pub fn others(&self) -> impl Iterator<Item = Standing<'_>> {
        self.others.standings()
    }

    /// Devices of this node that the others were told of.
    #[must_use]
    pub fn told(&self) -> usize {
        self.own.told()
    }

    /// Counts on, over at most `limit` devices of all nodes. Says whether there are more: with many, who shares this with others lets
    /// them have it in between, and a device that comes or goes meanwhile may be counted or not.
    pub fn count_on(&self, totals: &mut Totals, limit: usize) -> bool {
        let from = totals.last.take();
        let behind = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let sets = std::iter::once(self.own.devices()).chain(self.others.devices());
        let (mut counted, mut last) = (0, from.as_ref());
        for device in merged(sets.map(|set| set.range((behind, Bound::<&UserDevice>::Unbounded)))).take(limit) {
            counted += 1;
            if last != Some(device) {
                totals.devices += 1;
                totals.users += usize::from(last.is_none_or(|last| last.user_id != device.user_id));
                last = Some(device);
            }
        }
        totals.last = last.cloned();
        counted == limit
    }

    /// How often a limit was crossed since the last time it was asked.
    pub fn crossed(&mut self) -> Crossed {
        self.others.crossed()
    }
}

/// All of several sets in one order.
fn merged<'a>(sets: impl Iterator<Item = Range<'a, UserDevice>>) -> impl Iterator<Item = &'a UserDevice> {
    let mut iterators = sets.map(Iterator::peekable).collect::<Vec<_>>();
    std::iter::from_fn(move || {
        let first = iterators.iter_mut().filter_map(std::iter::Peekable::peek).min().copied()?;
        iterators.iter_mut().find_map(|iterator| iterator.next_if_eq(&first))
    })
}
