//! The other nodes, as their records say.
//!
//! Owns: the fold. Each node's words are numbered, so what was missed is noticed, and made good by the next snapshot, page by page: a page
//! replaces what is known between its ends. Refuses more nodes and devices than it may keep, and counts them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{BEATS, Change, LONGEST_LEASE_MS, Settings, Status};
use crate::ids::{DeviceId, Incarnation, NodeId, UserId};
use crate::record::signal::nodes::{Lease, UserDevice};

/// When something was heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) at_ms: u64,
    /// How often this node had heard itself by then.
    pub(super) beats: u64,
}

/// How much of a node's devices is known.
#[derive(Debug)]
enum Extent {
    /// All.
    Whole,
    /// Something was missed; a snapshot may have come so far.
    Lacking { up_to: Option<UserDevice> },
}

#[derive(Debug)]
struct Node {
    name: NodeId,
    number: u64,
    lasts_ms: u64,
    heard: Heard,
    extent: Extent,
    /// It has said its last word.
    ends: bool,
    asked_ms: Option<u64>,
    devices: BTreeSet<UserDevice>,
}

/// What is known of another node.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Its run.
    pub incarnation: Incarnation,
    /// Its name.
    pub node: &'a NodeId,
    /// How many of its devices are known.
    pub devices: usize,
    /// Whether these are all.
    pub is_whole: bool,
    /// Whether it has said its last word.
    pub ends: bool,
    /// Whether it has a device of the user who was asked for.
    pub(super) has: bool,
}

/// How often a limit was crossed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Words of nodes that there is no room for.
    pub nodes: u64,
    /// Devices that there is no room for.
    pub devices: u64,
}

/// All other nodes.
#[derive(Debug, Default)]
pub(super) struct Others {
    nodes: BTreeMap<Incarnation, Node>,
    /// Devices of all of them.
    devices: usize,
    limit: usize,
    /// Devices that one node came to have or has no more, before anybody looked whether another one has them.
    touched: Vec<(UserDevice, Status)>,
    crossed: Crossed,
}

impl Others {
    /// Notes a word of a node. Says whether it is news.
    pub(super) fn hear(&mut self, lease: &Lease, heard: Heard, settings: &Settings) -> bool {
        self.limit = settings.devices;
        if !self.nodes.contains_key(&lease.incarnation) {
            if self.nodes.len() >= settings.nodes {
                self.crossed.nodes += 1;
                return false;
            }
            self.succeed(lease, heard, settings.grace_ms);
        }
        let lasts_ms = lease.lasts_ms.min(LONGEST_LEASE_MS);
        let node = self.nodes.entry(lease.incarnation).or_insert_with(|| Node {
            name: lease.node.clone(),
            number: lease.number.saturating_sub(1),
            lasts_ms,
            heard,
            // Who is heard from the first word on has nothing else.
            extent: if lease.number <= 1 { Extent::Whole } else { Extent::Lacking { up_to: None } },
            ends: false,
            asked_ms: None,
            devices: BTreeSet::new(),
        });
        if node.ends || lease.number <= node.number && node.number > 0 {
            return false;
        }
        if lease.number > node.number.saturating_add(1) {
            node.extent = Extent::Lacking { up_to: None };
        }
        (node.number, node.heard, node.lasts_ms) = (lease.number, heard, lasts_ms);
        true
    }

    /// A node that starts again has ended before. Its devices have the grace period to come back.
    fn succeed(&mut self, lease: &Lease, heard: Heard, grace_ms: u64) {
        for node in self.nodes.values_mut().filter(|node| node.name == lease.node && !node.ends) {
            (node.ends, node.heard, node.lasts_ms) = (true, heard, grace_ms);
        }
    }

    pub(super) fn change(&mut self, incarnation: Incarnation, came: Vec<UserDevice>, left: Vec<UserDevice>) {
        for device in left {
            self.remove(incarnation, device);
        }
        for device in came {
            if self.insert(incarnation, device.clone()) {
                self.touched.push((device, Status::Online));
            }
        }
    }

    pub(super) fn end(&mut self, incarnation: Incarnation) {
        if let Some(node) = self.nodes.get_mut(&incarnation) {
            node.ends = true;
        }
    }

    /// Replaces what is known between two devices.
    pub(super) fn page(
        &mut self,
        incarnation: Incarnation,
        (after, to): (Option<UserDevice>, Option<UserDevice>),
        present: Vec<UserDevice>,
    ) {
        if let (Some(after), Some(to)) = (&after, &to)
            && after >= to
        {
            return;
        }
        let Some(node) = self.nodes.get_mut(&incarnation) else { return };
        let lies_within =
            |device: &UserDevice| after.as_ref().is_none_or(|after| device > after) && to.as_ref().is_none_or(|to| device <= to);
        let present = present.into_iter().filter(lies_within).collect::<BTreeSet<_>>();
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let until = to.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let gone = node.devices.range((from, until)).filter(|known| !present.contains(*known)).cloned().collect::<Vec<_>>();
        if let Extent::Lacking { up_to } = &node.extent
            && (after.is_none() || *up_to == after)
        {
            node.extent = to.map_or(Extent::Whole, |to| Extent::Lacking { up_to: Some(to) });
        }
        if matches!(node.extent, Extent::Whole) {
            node.asked_ms = None;
        }
        for device in gone {
            self.remove(incarnation, device);
        }
        for device in present {
            if self.insert(incarnation, device.clone()) {
                self.touched.push((device, Status::Online));
            }
        }
    }

    /// Says whether no node had it before.
    fn insert(&mut self, incarnation: Incarnation, device: UserDevice) -> bool {
        let is_new = !self.have(&device);
        let Some(node) = self.nodes.get_mut(&incarnation) else { return false };
        if node.devices.contains(&device) {
            return false;
        }
        if self.devices >= self.limit {
            self.crossed.devices += 1;
            return false;
        }
        node.devices.insert(device);
        self.devices += 1;
        is_new
    }

    fn remove(&mut self, incarnation: Incarnation, device: UserDevice) {
        if self.nodes.get_mut(&incarnation).is_some_and(|node| node.devices.remove(&device)) {
            self.devices -= 1;
            if !self.have(&device) {
                self.touched.push((device, Status::Offline));
            }
        }
    }

    /// Forgets the nodes whose lease has ended.
    pub(super) fn expire(&mut self, now_ms: u64, beats: u64) {
        let has_ended = |node: &Node| {
            now_ms >= node.heard.at_ms.saturating_add(node.lasts_ms) && (node.ends || beats >= node.heard.beats + BEATS)
        };
        let ended = self.nodes.iter().filter(|(_, node)| has_ended(node)).map(|(incarnation, _)| *incarnation);
        for incarnation in ended.collect::<Vec<_>>() {
            let Some(node) = self.nodes.remove(&incarnation) else { continue };
            self.devices -= node.devices.len();
            let gone = node.devices.into_iter().filter(|device| !self.have(device)).map(|device| (device, Status::Offline));
            let gone = gone.collect::<Vec<_>>();
            self.touched.extend(gone);
        }
    }

    /// What has changed since the last time this was asked.
    pub(super) fn news(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.touched).into_iter().map(|(device, status)| Change { device, status }).collect()
    }

    /// Whether any of them has the device.
    pub(super) fn have(&self, device: &UserDevice) -> bool {
        self.nodes.values().any(|node| node.devices.contains(device))
    }

    /// The nodes of which something was missed and that were not asked within `again_ms`.
    pub(super) fn lacking(&mut self, now_ms: u64, again_ms: u64) -> Vec<Incarnation> {
        let mut lacking = Vec::new();
        for (incarnation, node) in &mut self.nodes {
            let is_asked = node.asked_ms.is_some_and(|asked_ms| now_ms < asked_ms.saturating_add(again_ms));
            if matches!(node.extent, Extent::Lacking { .. }) && !node.ends && !is_asked {
                node.asked_ms = Some(now_ms);
                lacking.push(*incarnation);
            }
        }
        lacking
    }

    pub(super) fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        self.nodes.iter().map(|(incarnation, node)| node.standing(*incarnation, None))
    }

    pub(super) fn who_may_have<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = Standing<'a>> {
        self.nodes.iter().map(|(incarnation, node)| node.standing(*incarnation, Some(user)))
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &BTreeSet<UserDevice>> {
        self.nodes.values().map(|node| &node.devices)
    }

    pub(super) fn crossed(&mut self) -> Crossed {
        std::mem::take(&mut self.crossed)
    }
}

impl Node {
    fn standing(&self, incarnation: Incarnation, user: Option<&UserId>) -> Standing<'_> {
        Standing {
            incarnation,
            node: &self.name,
            devices: self.devices.len(),
            is_whole: matches!(self.extent, Extent::Whole),
            ends: self.ends,
            has: user.is_some_and(|user| self.has(user)),
        }
    }

    fn has(&self, user: &UserId) -> bool {
        let first = UserDevice { user_id: user.clone(), device_id: DeviceId::first() };
        self.devices.range(first..).next().is_some_and(|device| device.user_id == *user)
    }
}
