//! The devices of this node, and what the other nodes are told of them.
//!
//! Owns: the grace period, the size and the pace of records, and which part of a snapshot is next. A device that comes back within
//! its grace period, or leaves before anybody was told of it, makes no record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::{BEATS, Settings};
use crate::record::signal::nodes::UserDevice;

/// What is said.
#[derive(Debug)]
pub(super) enum Said {
    Changes { came: Vec<UserDevice>, left: Vec<UserDevice> },
    Page { after: Option<UserDevice>, to: Option<UserDevice>, present: Vec<UserDevice> },
}

/// What was said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Changes,
    Page,
}

/// This node's devices.
#[derive(Debug, Default)]
pub(super) struct Own {
    number: u64,
    /// What the others know, if they missed nothing.
    told: BTreeSet<UserDevice>,
    coming: BTreeSet<UserDevice>,
    /// Those in their grace period, which the others still know, and when it ends.
    leaving: BTreeMap<UserDevice, u64>,
    /// The same in the order of their ends, with some that have come back since.
    ends: VecDeque<(u64, UserDevice)>,
    last: Option<(u64, Turn)>,
    is_asked: bool,
    /// How far a snapshot has come that is not whole yet.
    page: Option<UserDevice>,
}

impl Own {
    pub(super) fn came(&mut self, device: UserDevice) {
        if self.leaving.remove(&device).is_none() && !self.told.contains(&device) {
            self.coming.insert(device);
        }
    }

    pub(super) fn left(&mut self, device: UserDevice, ends_ms: u64) {
        if !self.coming.remove(&device) && self.told.contains(&device) {
            self.leaving.insert(device.clone(), ends_ms);
            self.ends.push_back((ends_ms, device));
        }
    }

    pub(super) fn recount(&mut self) {
        self.is_asked = true;
    }

    pub(super) fn has_told(&self, device: &UserDevice) -> bool {
        self.told.contains(device)
    }

    pub(super) fn told(&self) -> usize {
        self.told.len()
    }

    pub(super) fn devices(&self) -> &BTreeSet<UserDevice> {
        &self.told
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// What is due, with its number.
    pub(super) fn say(&mut self, settings: &Settings, now_ms: u64) -> Option<(u64, Said)> {
        if self.last.is_some_and(|(at_ms, _)| now_ms < at_ms.saturating_add(settings.pause_ms)) {
            return None;
        }
        let changes = !self.coming.is_empty() || self.has_gone(settings, now_ms);
        let page = self.is_asked || self.page.is_some();
        let beat_ms = settings.lease_ms / BEATS;
        let turn = match self.last {
            // They take turns, so that neither waits for the other to end.
            Some((_, Turn::Changes)) if changes && page => Turn::Page,
            _ if changes => Turn::Changes,
            _ if page => Turn::Page,
            Some((at_ms, _)) if now_ms < at_ms.saturating_add(beat_ms) => return None,
            _ => Turn::Changes,
        };
        self.last = Some((now_ms, turn));
        let said = match turn {
            Turn::Changes => self.changes(settings, now_ms),
            Turn::Page => self.page(settings.record_devices),
        };
        Some((self.next_number(), said))
    }

    /// Whether the grace period of a device has ended. With too many in it, the first ones' ends early.
    fn has_gone(&mut self, settings: &Settings, now_ms: u64) -> bool {
        while let Some((ends_ms, device)) = self.ends.front() {
            let is_due = *ends_ms <= now_ms || self.ends.len() > settings.devices;
            if self.leaving.get(device) == Some(ends_ms) {
                return is_due;
            }
            self.ends.pop_front();
        }
        false
    }

    fn changes(&mut self, settings: &Settings, now_ms: u64) -> Said {
        let (mut came, mut left) = (Vec::new(), Vec::new());
        // Who has come waits for nobody who has left, nor the other way round.
        while came.len() < settings.record_devices.div_ceil(2)
            && let Some(device) = self.coming.pop_first()
        {
            self.told.insert(device.clone());
            came.push(device);
        }
        while came.len() + left.len() < settings.record_devices
            && self.has_gone(settings, now_ms)
            && let Some((_, device)) = self.ends.pop_front()
        {
            self.leaving.remove(&device);
            self.told.remove(&device);
            left.push(device);
        }
        while came.len() + left.len() < settings.record_devices
            && let Some(device) = self.coming.pop_first()
        {
            self.told.insert(device.clone());
            came.push(device);
        }
        Said::Changes { came, left }
    }

    fn page(&mut self, limit: usize) -> Said {
        let after = self.page.take();
        if after.is_none() {
            self.is_asked = false;
        }
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.told.range((from, Bound::Unbounded));
        let present = rest.by_ref().take(limit).cloned().collect::<Vec<_>>();
        let to = rest.next().and_then(|_| present.last().cloned());
        self.page.clone_from(&to);
        Said::Page { after, to, present }
    }
}
