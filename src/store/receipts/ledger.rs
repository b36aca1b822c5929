//! The ledger: what receipts make of what is known, one after the other.
//!
//! Owns: the meaning of states and marks. What was said of a single notification wins over a mark, unless the mark came later and covers
//! it; marks only go forward. Refuses to know which notifications there are: of two topics either may be folded first. Pure; `receipts`
//! reads and writes it.

use std::collections::BTreeMap;

use tidings_core::channel::Channel;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, ReceiptRecord, WithdrawalCause};

use super::super::Received;
use super::super::fold::sql_epoch;

pub(super) type StateKey = (UserId, NotificationId);
pub(super) type MarkKey = (UserId, Channel);
pub(super) type WithdrawalKey = (Channel, NotificationId);
/// Epoch and offset, as SQL has them.
pub(super) type Place = (i64, i64);

/// What is known of what some receipts speak of.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) states: BTreeMap<StateKey, Entry<State>>,
    pub(super) marks: BTreeMap<MarkKey, Entry<Mark>>,
    pub(super) withdrawals: BTreeMap<WithdrawalKey, Entry<WithdrawalCause>>,
    /// States that were not there before.
    pub(super) fresh: Vec<StateKey>,
}

/// A row, and whether it is to be written.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) row: T,
    /// The partition of `receipts` whose clock it ages by.
    pub(super) partition: i32,
    /// When a receipt last spoke of it.
    pub(super) at: i64,
    pub(super) is_changed: bool,
}

/// What a user did with a single notification. Marks that came later are only noted: what they cover is judged when somebody asks, by
/// the place of the notification, which may not be folded yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Nothing, while marks decide.
    pub(super) read: Option<bool>,
    /// When it was read, or when `marked` was set.
    pub(super) read_at: Option<i64>,
    pub(super) seen: bool,
    pub(super) dismissed: bool,
    /// The notification's channel, if a receipt has said it.
    pub(super) channel: Option<Channel>,
    /// Up to where its channel was read after it was said to be unread.
    pub(super) marked: Option<Place>,
}

/// Up to where a user has read a channel, and has seen it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) read: Option<Place>,
    pub(super) read_at: Option<i64>,
    pub(super) seen: Option<Place>,
}

impl Ledger {
    /// Applies receipts in the order of their partitions.
    pub(super) fn apply(&mut self, receipts: &[Received]) {
        for one in receipts {
            let at = one.appended.as_millis();
            let moment = Moment { partition: one.partition, at };
            match &one.record {
                ReceiptRecord::State { user_id, state, items, .. } => {
                    for item in items {
                        let key = (user_id.clone(), item.id);
                        self.fresh.extend((!self.states.contains_key(&key)).then(|| key.clone()));
                        self.states.touch(key, moment).be(*state, item, at);
                    }
                }
                ReceiptRecord::UpTo { user_id, state, channel, position, .. } => {
                    self.mark((user_id, channel), *state, *position, moment);
                }
                ReceiptRecord::Withdrawn { channel, id, cause, .. } => {
                    // Said again it is no news.
                    let entry = || Entry { row: *cause, partition: one.partition, at, is_changed: true };
                    self.withdrawals.entry((channel.clone(), *id)).or_insert_with(entry);
                }
            }
        }
    }

    fn mark(&mut self, (user, channel): (&UserId, &Channel), state: MarkState, position: Position, moment: Moment) {
        let until = (sql_epoch(position.epoch), position.offset);
        let mark = self.marks.touch((user.clone(), channel.clone()), moment);
        mark.seen = mark.seen.max(Some(until));
        if state == MarkState::Seen {
            return;
        }
        if mark.read < Some(until) {
            (mark.read, mark.read_at) = (Some(until), Some(moment.at));
        }
        let first = (user.clone(), NotificationId(uuid::Uuid::nil()));
        let of_user = self.states.range_mut(first..).take_while(|((owner, _), _)| owner == user);
        for (_, entry) in of_user.filter(|(_, entry)| entry.row.may_be_read_by(channel, until)) {
            // It does not make the state younger: a receipt that speaks of the notification itself would.
            (entry.row.marked, entry.row.read_at, entry.is_changed) = (Some(until), Some(moment.at), true);
        }
    }
}

/// Where and when a receipt was appended.
#[derive(Debug, Clone, Copy)]
struct Moment {
    partition: i32,
    at: i64,
}

trait Touch<K, T> {
    /// The row that a receipt speaks of. However old it is, it goes on: only `trim` forgets, which looks whether the notification is there.
    fn touch(&mut self, key: K, moment: Moment) -> &mut T;
}

impl<K: Ord, T: Default> Touch<K, T> for BTreeMap<K, Entry<T>> {
    fn touch(&mut self, key: K, Moment { partition, at }: Moment) -> &mut T {
        let fresh = || Entry { row: T::default(), partition, at, is_changed: true };
        let entry = self.entry(key).or_insert_with(fresh);
        entry.at = entry.at.max(at);
        (entry.partition, entry.is_changed) = (partition, true);
        &mut entry.row
    }
}

impl State {
    fn be(&mut self, state: ReadState, item: &ReceiptItem, at: i64) {
        match state {
            ReadState::Read => {
                let before = self.read_at.filter(|_| self.read == Some(true));
                (self.read, self.read_at, self.seen, self.marked) = (Some(true), before.or(Some(at)), true, None);
            }
            ReadState::Unread => (self.read, self.read_at, self.marked) = (Some(false), None, None),
            ReadState::Seen => self.seen = true,
            ReadState::Dismissed => (self.dismissed, self.seen) = (true, true),
        }
        if let Some(channel) = &item.channel {
            self.channel = Some(channel.clone());
        }
    }

    fn may_be_read_by(&self, channel: &Channel, until: Place) -> bool {
        self.read == Some(false) && self.channel.as_ref() == Some(channel) && self.marked < Some(until)
    }
}
