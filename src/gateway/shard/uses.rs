//! Uses: of which devices the log is to hear that somebody uses them, although they are sent nothing and say nothing.
//!
//! Owns: how often a device is told to be in use, whose turn it is to be looked at, and which devices that have left were told of lately. A
//! device that comes and goes all day is told of once. What is remembered of those that left is bounded; beyond it they are told of more
//! often than needed, never more seldom. Neighbour: `devices` has those that are connected.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use tidings_core::ids::{DeviceId, UserId};

/// The most devices that are looked at in one sweep.
const LOOKED_AT: usize = 256;
/// The most devices that have left and are remembered, at 16 bytes or some more.
const REMEMBERED: usize = 100_000;

/// When devices are to be told of.
pub(super) struct Uses {
    interval_ms: u64,
    /// The device that is looked at next.
    next: usize,
    /// Devices that have left, and when the log is to hear of them again; by their hash, for what two of them share is harmless.
    left: HashMap<u64, u64>,
    hashes: RandomState,
}

impl Uses {
    pub(super) fn new(interval_ms: u64) -> Self {
        Self { interval_ms, next: 0, left: HashMap::new(), hashes: RandomState::new() }
    }

    /// When the log is to hear of a device again that it hears of now.
    pub(super) fn next_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.interval_ms)
    }

    /// Whose turn it is to be looked at, of so many numbers.
    pub(super) fn round(&mut self, numbers: usize) -> Range<usize> {
        let from = if self.next < numbers { self.next } else { 0 };
        self.next = from.saturating_add(LOOKED_AT).min(numbers);
        from..self.next
    }

    /// A device has left of which the log is to hear again at a time.
    pub(super) fn left(&mut self, device: (&UserId, &DeviceId), due_ms: u64, now_ms: u64) {
        if due_ms <= now_ms {
            return;
        }
        if self.left.len() >= REMEMBERED {
            self.left.retain(|_, due_ms| *due_ms > now_ms);
        }
        if self.left.len() < REMEMBERED {
            self.left.insert(self.hashes.hash_one(device), due_ms);
        }
    }

    /// A device is back: when the log is to hear of it again; at once, if nothing is known of it.
    pub(super) fn back(&mut self, user: &UserId, device: &DeviceId) -> u64 {
        self.left.remove(&self.hashes.hash_one((user, device))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_devices_have_their_turn_and_never_more_than_some_of_them_at_once() {
        let mut uses = Uses::new(1_000);
        let rounds = (0..4).map(|_| uses.round(2 * LOOKED_AT + 1)).collect::<Vec<_>>();
        assert_eq!(rounds, [0..LOOKED_AT, LOOKED_AT..2 * LOOKED_AT, 2 * LOOKED_AT..2 * LOOKED_AT + 1, 0..LOOKED_AT]);
        assert_eq!(uses.round(0), 0..0);
    }

    #[test]
    fn of_those_that_left_so_many_are_remembered_as_can_be_and_for_as_long_as_it_matters() {
        let mut uses = Uses::new(1_000);
        let user: UserId = "42".parse().unwrap();
        let device = |number: usize| format!("d{number}").parse::<DeviceId>().unwrap();
        for number in 0..=REMEMBERED {
            uses.left((&user, &device(number)), 1_000, 5);
        }
        assert_eq!((uses.left.len(), uses.back(&user, &device(REMEMBERED))), (REMEMBERED, 0));
        assert_eq!([uses.back(&user, &device(7)), uses.back(&user, &device(7))], [1_000, 0]);
        uses.left((&user, &device(7)), 3_000, 1_000);
        uses.left((&user, &device(8)), 3_000, 2_000);
        assert_eq!(uses.left.len(), 2, "what is over makes room");
        uses.left((&user, &device(9)), 2_000, 2_000);
        assert_eq!(uses.left.len(), 2, "it is due whenever it comes");
    }
}
