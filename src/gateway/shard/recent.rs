//! The window of recent notification ids, by which a record that repeats a notification is known.
//!
//! Owns: the ids of the records written last and the offset each was first seen at. Bounded: the oldest are forgotten, and a
//! repetition of those is left to the client, which drops known ids.

use std::collections::{HashMap, VecDeque};

use tidings_core::ids::NotificationId;

const IDS: usize = 16_384;

/// The window of one shard.
#[derive(Debug, Default)]
pub(super) struct Recent {
    first: HashMap<NotificationId, i64>,
    order: VecDeque<NotificationId>,
}

impl Recent {
    /// Notes an id at an offset. Gives the first offset it was seen at, if that lies before.
    pub(super) fn note(&mut self, id: NotificationId, offset: i64) -> Option<i64> {
        if let Some(first) = self.first.get_mut(&id) {
            // Who recovers goes back to records before those that live delivery has seen.
            *first = offset.min(*first);
            return (*first != offset).then_some(*first);
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
        assert_eq!(recent.first.len(), IDS);
    }
}
