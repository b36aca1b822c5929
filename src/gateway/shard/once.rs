//! What is for one device of each person: withdrawn from the others as soon as one has acknowledged it.
//!
//! Owns: the few notifications of that kind that members were sent and nobody has acknowledged, and writing that one is withdrawn. The
//! device's cursor says that it has it only when that is on the log: killed in between, it is acknowledged again, not seen twice.

use std::collections::{HashMap, VecDeque};

use tidings_core::channel::Channel;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::record::signal::nodes::UserDevice;

use super::Shard;
use crate::gateway::metrics::{GatewayMetrics, Limit};
use crate::gateway::receipts::Withdrawal;

/// The outstanding ones of a shard's mailboxes.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// The most of a mailbox that are remembered; of more, the oldest are acknowledged by each device for itself.
    limit: usize,
    metrics: GatewayMetrics,
    mailboxes: HashMap<UserId, VecDeque<One>>,
    /// Withdrawals that the brokers did not take, to be written again.
    again: Vec<Withdrawal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct One {
    id: NotificationId,
    offset: i64,
}

impl Outstanding {
    pub(super) fn new(limit: usize, metrics: GatewayMetrics) -> Self {
        Self { limit, metrics, mailboxes: HashMap::new(), again: Vec::new() }
    }

    /// Notes that a device of the user was sent such a notification.
    pub(super) fn note(&mut self, user: &UserId, id: NotificationId, offset: i64) {
        let ones = match self.mailboxes.get_mut(user) {
            Some(ones) => ones,
            None => self.mailboxes.entry(user.clone()).or_default(),
        };
        let one = One { id, offset };
        if ones.contains(&one) {
            return;
        }
        if ones.len() >= self.limit {
            ones.pop_front();
            self.metrics.crossed(Limit::OncePerUser);
        }
        ones.push_back(one);
    }

    /// Takes those that lie inside what was acknowledged.
    fn take(&mut self, user: &UserId, acknowledged: &Stretches) -> Vec<One> {
        let Some(ones) = self.mailboxes.get_mut(user) else { return Vec::new() };
        let (taken, left): (VecDeque<_>, _) = ones.iter().partition(|one| acknowledged.contains(one.offset));
        self.keep(user, left);
        taken.into()
    }

    /// One is withdrawn, wherever that came from.
    pub(super) fn forget(&mut self, user: &UserId, id: NotificationId) {
        if let Some(ones) = self.mailboxes.get(user) {
            let left = ones.iter().copied().filter(|one| one.id != id).collect();
            self.keep(user, left);
        }
    }

    /// The user has no connection here any more.
    pub(super) fn leave(&mut self, user: &UserId) {
        self.mailboxes.remove(user);
    }

    fn keep(&mut self, user: &UserId, left: VecDeque<One>) {
        if left.is_empty() {
            self.mailboxes.remove(user);
        } else {
            self.mailboxes.insert(user.clone(), left);
        }
    }
}

impl Shard {
    /// Notes what a member has acknowledged, to be written with its device's cursor.
    pub(super) fn acknowledged(&mut self, number: u32, channel: &Channel, mut delivered: Stretches) {
        let Self { members, devices, once, shared, now, .. } = self;
        let Some(member) = members.get(number) else { return };
        if channel.is_mailbox()
            && let Some(user) = devices.user(member.device)
        {
            for One { id, offset } in once.take(user, &delivered) {
                let Some((by, named_by)) = devices.name(member.device).zip(devices.named_by(member.device)) else { continue };
                delivered.remove(offset);
                shared.receipts.withdraw(shared, Withdrawal { by, named_by, connection: member.connection, id, offset });
            }
        }
        devices.acknowledge(member.device, channel, &delivered, now.ms);
    }

    /// The log has it: the cursor may say so too.
    pub(super) fn withdrawn(&mut self, withdrawal: &Withdrawal) {
        let Withdrawal { by: UserDevice { user_id, device_id }, named_by, offset, .. } = withdrawal;
        let delivered = [Stretch { from: *offset, to: offset.saturating_add(1) }].into_iter().collect();
        let device = self.devices.of(user_id, device_id, *named_by);
        self.devices.acknowledge(device, &Channel::mailbox(user_id), &delivered, self.now.ms);
    }

    /// The brokers did not take it.
    pub(super) fn unwithdrawn(&mut self, withdrawal: Withdrawal) {
        self.once.again.push(withdrawal);
    }

    /// Writes again what the brokers did not take.
    pub(super) fn withdraw_again(&mut self) {
        for withdrawal in std::mem::take(&mut self.once.again) {
            self.shared.receipts.withdraw(&self.shared, withdrawal);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: i64) -> NotificationId {
        NotificationId(Uuid::from_u128(number.unsigned_abs().into()))
    }

    fn acknowledged(from: i64, to: i64) -> Stretches {
        [Stretch { from, to }].into_iter().collect()
    }

    #[test]
    fn what_is_acknowledged_is_withdrawn_once_and_of_its_user_only() {
        let [alice, bob] = ["alice", "bob"].map(|user| user.parse::<UserId>().unwrap());
        let mut once = Outstanding::new(128, GatewayMetrics::default());
        for device in 0..2 {
            once.note(&alice, id(3), 3);
            once.note(&alice, id(5 + device), 5 + device);
        }
        assert!(once.take(&bob, &acknowledged(0, 9)).is_empty());
        assert_eq!(once.take(&alice, &acknowledged(0, 5)), [One { id: id(3), offset: 3 }]);
        assert!(once.take(&alice, &acknowledged(0, 5)).is_empty());
        once.forget(&alice, id(5));
        assert_eq!(once.take(&alice, &acknowledged(0, 9)), [One { id: id(6), offset: 6 }]);
        assert!(once.mailboxes.is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let alice: UserId = "alice".parse().unwrap();
        let mut once = Outstanding::new(2, GatewayMetrics::default());
        (0..=2).for_each(|offset| once.note(&alice, id(offset), offset));
        assert_eq!(once.take(&alice, &acknowledged(0, 2)), [One { id: id(1), offset: 1 }]);
        once.leave(&alice);
        assert!(once.mailboxes.is_empty());
    }
}
