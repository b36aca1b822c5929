//! The window of recent notification ids, by which a record that repeats a notification is known.
//!
//! Owns: the ids of the records written last and the offset each was first seen at. Bounded: the oldest are forgotten, and a
//! repetition of those is left to the client, which drops known ids. What devices missed is noted in a window beside that of
//! live delivery: however many come back, they push nothing out of it.

use std::collections::{HashMap, VecDeque};

use tidings_core::ids::NotificationId;

const IDS: usize = 16_384;
/// Those that are repeated lie near each other on the log, and a device's pages follow each other.
const MISSED_IDS: usize = 2_048;

/// The windows of one shard.
#[derive(Debug, Default)]
pub(super) struct Recent {
    live: Window<IDS>,
    missed: Window<MISSED_IDS>,
}

#[derive(Debug, Default)]
struct Window<const IDS: usize> {
    first: HashMap<NotificationId, i64>,
    order: VecDeque<NotificationId>,
}

impl Recent {
    /// Notes the id of a record that live delivery has come to. Gives the offset it was seen at before, if it was.
    pub(super) fn note(&mut self, id: NotificationId, offset: i64) -> Option<i64> {
        let missed = self.missed.first.get(&id).copied();
        before(offset, [self.live.note(id, offset), missed])
    }

    /// The same of a record that a device missed.
    pub(super) fn note_missed(&mut self, id: NotificationId, offset: i64) -> Option<i64> {
        let live = self.live.first.get(&id).copied();
        before(offset, [self.missed.note(id, offset), live])
    }

    /// Gives back what nobody needs who does not recover.
    pub(super) fn forget_missed(&mut self) {
        self.missed = Window::default();
    }
}

/// The earliest of the offsets that lies before `offset`.
fn before(offset: i64, seen: [Option<i64>; 2]) -> Option<i64> {
    seen.into_iter().flatten().min().filter(|first| *first < offset)
}

impl<const IDS: usize> Window<IDS> {
    /// Notes an id, and gives the first offset it was seen at, this one included.
    fn note(&mut self, id: NotificationId, offset: i64) -> Option<i64> {
        if let Some(first) = self.first.get_mut(&id) {
            // Who recovers goes back to records before those that others were sent.
            *first = offset.min(*first);
            return Some(*first);
        }
        if self.order.len() >= IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
        self.first.insert(id, offset);
        self.order.push_back(id);
        None
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_repeated_id_is_known_until_the_window_has_passed() {
        let id = |number: usize| NotificationId(Uuid::from_u128(number as u128));
        let mut recent = Recent::default();
        assert_eq!(recent.note(id(0), 5), None);
        assert_eq!(recent.note(id(0), 9), Some(5));
        assert_eq!(recent.note(id(0), 5), None);
        assert_eq!(recent.note(id(0), 3), None);
        assert_eq!(recent.note(id(0), 5), Some(3));
        for number in 1..=IDS {
            recent.note(id(number), 10);
        }
        assert_eq!(recent.note(id(0), 11), None);
        assert_eq!(recent.live.first.len(), IDS);
    }

    #[test]
    fn what_devices_missed_pushes_nothing_out_that_live_delivery_has_seen_and_is_known_by_it() {
        let id = |number: usize| NotificationId(Uuid::from_u128(number as u128));
        let mut recent = Recent::default();
        recent.note(id(0), 7);
        for number in 1..=2 * IDS {
            assert_eq!(recent.note_missed(id(number), 3), None);
        }
        assert_eq!(recent.note_missed(id(0), 9), Some(7));
        assert_eq!(recent.note_missed(id(0), 5), None, "the place before");
        assert_eq!(recent.note_missed(id(2 * IDS), 4), Some(3));
        assert_eq!(recent.note(id(2 * IDS), 8), Some(3));
        assert_eq!((recent.note(id(0), 9), recent.missed.first.len()), (Some(5), MISSED_IDS));
        recent.forget_missed();
        assert_eq!(recent.note(id(2 * IDS - 1), 8), None);
    }
}
