//! The window of withdrawn ids: what nobody is to see any more, although a record of it may still come.
//!
//! Owns: the ids that were withdrawn last. `receipts` may be ahead of `notifications`, and the store behind both, so a shard remembers
//! what it must not hand out. Bounded: by the time the oldest are forgotten, the store leaves them out.

use std::collections::{HashSet, VecDeque};

use tidings_core::ids::NotificationId;

/// So many are remembered.
pub(in crate::gateway) const IDS: usize = 16_384;

/// The window of one shard. Empty where nothing is withdrawn.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    ids: HashSet<NotificationId>,
    order: VecDeque<NotificationId>,
}

impl Withdrawn {
    pub(super) fn note(&mut self, id: NotificationId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: NotificationId) -> bool {
        !self.ids.is_empty() && self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_withdrawn_id_is_known_until_the_window_has_passed() {
        let id = |number: usize| NotificationId(Uuid::from_u128(number as u128));
        let mut withdrawn = Withdrawn::default();
        (0..IDS).for_each(|number| withdrawn.note(id(number)));
        withdrawn.note(id(1));
        assert!(withdrawn.contains(id(0)) && !withdrawn.contains(id(IDS)));
        withdrawn.note(id(IDS));
        assert_eq!([0, 1, IDS].map(|number| withdrawn.contains(id(number))), [false, true, true]);
        assert_eq!((withdrawn.ids.len(), withdrawn.order.len()), (IDS, IDS));
    }
}
