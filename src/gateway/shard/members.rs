//! The members of a shard: its connections, and who listens to which channel.
//!
//! Owns: both sides of every subscription, by small numbers instead of names. Refuses to judge who may subscribe.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;
use tidings_core::channel::Channel;
use tidings_core::delivery::ledger::Ledger;
use tidings_core::ids::ConnectionId;
use tidings_core::locale::Locale;
use tidings_core::time::Timestamp;

use super::recover::Recovery;
use crate::gateway::frames;
use crate::gateway::inlet::AckMode;
use crate::gateway::outbox::{Outbox, Phase, Pushed};

/// One connection.
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    /// Its device's number.
    pub(super) device: u32,
    pub(super) mode: AckMode,
    /// What its client reads, if it says so.
    pub(super) locale: Option<Locale>,
    /// When the client's proof ends, if it does.
    pub(super) ends_at: Option<Timestamp>,
    pub(super) connection: ConnectionId,
    pub(super) address: IpAddr,
    pub(super) since: Timestamp,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) heartbeat: Heartbeat,
}

/// What was asked of a client, and whether it answered.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// When the last ping was written for a sign of life.
    pub(super) asked_ms: u64,
    /// Pings in a row with no byte in return.
    pub(super) missed: u8,
    /// The number of the last ping.
    pub(super) pings: u32,
    /// The ping whose answer acknowledges what was written before it.
    pub(super) probe: Option<u32>,
}

/// A member's place in a channel.
pub(super) struct Subscription {
    slot: u32,
    pub(super) ledger: Ledger,
    /// Whether something was sent that the device's cursor does not say yet.
    pub(super) due: bool,
    /// Set while it is sent what its device missed; what is live is passed over, and found in the ring later.
    pub(super) recovery: Option<Box<Recovery>>,
}

/// What a fan-out needs of a member beside its subscription.
pub(super) struct Listener<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) device: u32,
    pub(super) mode: AckMode,
    pub(super) locale: Option<&'a Locale>,
}

struct Slot {
    channel: Channel,
    members: Vec<u32>,
}

/// All connections of a shard.
#[derive(Default)]
pub(super) struct Members {
    members: Slab<Member>,
    slots: Slab<Slot>,
    names: HashMap<Channel, u32>,
}

impl Listener<'_> {
    /// Notes that a notification was written or waits.
    pub(super) fn shown(&self, now_ms: u64) {
        self.outbox.used(now_ms);
        self.outbox.pulse().show();
    }
}

impl Member {
    /// Whether nobody has begun to end it.
    pub(super) fn is_open(&self) -> bool {
        self.outbox.phase() == Phase::Open
    }

    /// Writes a ping and gives its number.
    pub(super) fn ping(&mut self, now_ms: u64) -> u32 {
        self.heartbeat.pings = self.heartbeat.pings.wrapping_add(1).max(1);
        self.outbox.pulse().ask(self.heartbeat.pings);
        let _: Pushed = self.outbox.push(&frames::ping(self.heartbeat.pings), now_ms);
        self.heartbeat.pings
    }

    /// Asks for an answer that acknowledges what was written, unless one is awaited or nothing waits for it.
    pub(super) fn probe(&mut self, now_ms: u64) {
        if self.mode != AckMode::Written || self.heartbeat.probe.is_some() {
            return;
        }
        let mut waits = false;
        for subscription in &mut self.subscriptions {
            waits |= subscription.ledger.probe();
        }
        if waits {
            self.heartbeat.probe = Some(self.ping(now_ms));
        }
    }
}

impl Members {
    pub(super) fn add(&mut self, member: Member) -> u32 {
        number(self.members.insert(member))
    }

    pub(super) fn get(&self, member: u32) -> Option<&Member> {
        self.members.get(member as usize)
    }

    pub(super) fn get_mut(&mut self, member: u32) -> Option<&mut Member> {
        self.members.get_mut(member as usize)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Member)> {
        self.members.iter_mut().map(|(index, member)| (number(index), member))
    }

    /// Takes a member out of all its channels.
    pub(super) fn remove(&mut self, member: u32) -> Option<(Member, Vec<(Channel, Subscription)>)> {
        let mut gone = self.members.try_remove(member as usize)?;
        let subscriptions = std::mem::take(&mut gone.subscriptions);
        let named = subscriptions.into_iter().filter_map(|subscription| {
            let channel = self.vacate(subscription.slot, member)?;
            Some((channel, subscription))
        });
        let named = named.collect();
        Some((gone, named))
    }

    /// The channel's number, if anybody listens.
    pub(super) fn slot(&self, channel: &Channel) -> Option<u32> {
        self.names.get(channel).copied()
    }

    pub(super) fn channel(&self, slot: u32) -> Option<&Channel> {
        self.slots.get(slot as usize).map(|slot| &slot.channel)
    }

    /// Every channel that somebody listens to, and how many do.
    pub(super) fn audiences(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.slots.iter().map(|(_, slot)| (&slot.channel, slot.members.len()))
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many listen to a channel.
    pub(super) fn listeners(&self, slot: u32) -> usize {
        self.slots.get(slot as usize).map_or(0, |slot| slot.members.len())
    }

    /// Who listens at `index` of a channel.
    pub(super) fn at(&self, slot: u32, index: usize) -> Option<u32> {
        self.slots.get(slot as usize)?.members.get(index).copied()
    }

    /// A listener of a channel: the channel, what is written to, and the subscription.
    pub(super) fn listener(&mut self, slot: u32, member: u32) -> Option<(&Channel, Listener<'_>, &mut Subscription)> {
        let seats = self.slots.get(slot as usize)?;
        let member = self.members.get_mut(member as usize)?;
        let Member { outbox, device, mode, locale, subscriptions, .. } = member;
        let listener = Listener { outbox, device: *device, mode: *mode, locale: locale.as_ref() };
        let subscription = subscriptions.iter_mut().find(|subscription| subscription.slot == slot)?;
        Some((&seats.channel, listener, subscription))
    }

    /// Keeps what a member can name within `limit` over all its channels. Says whether anything was forgotten.
    pub(super) fn bound_names(&mut self, member: u32, limit: usize) -> bool {
        self.members.get_mut(member as usize).is_some_and(|member| bound(&mut member.subscriptions, limit))
    }

    /// The subscription of a member, if it has it.
    pub(super) fn subscription(&mut self, member: u32, channel: &Channel) -> Option<&mut Subscription> {
        let slot = self.slot(channel)?;
        let member = self.members.get_mut(member as usize)?;
        member.subscriptions.iter_mut().find(|subscription| subscription.slot == slot)
    }

    /// The channels of a member, in the order they were joined.
    pub(super) fn channels(&self, member: u32) -> Vec<Channel> {
        let subscriptions = self.members.get(member as usize).map(|member| member.subscriptions.as_slice()).unwrap_or_default();
        subscriptions.iter().filter_map(|subscription| self.channel(subscription.slot).cloned()).collect()
    }

    /// The channels in which a member is sent what it missed.
    pub(super) fn recovering(&self, member: u32) -> Vec<Channel> {
        let subscriptions = self.members.get(member as usize).map(|member| member.subscriptions.as_slice()).unwrap_or_default();
        let recovering = subscriptions.iter().filter(|subscription| subscription.recovery.is_some());
        recovering.filter_map(|subscription| self.channel(subscription.slot).cloned()).collect()
    }

    /// Lets a member listen to a channel from `from` on, first to what it missed if it recovers.
    pub(super) fn subscribe(&mut self, member: u32, channel: &Channel, from: i64, recovery: Option<Box<Recovery>>) {
        let slot = self.slot(channel).unwrap_or_else(|| {
            let slot = number(self.slots.insert(Slot { channel: channel.clone(), members: Vec::new() }));
            self.names.insert(channel.clone(), slot);
            slot
        });
        if let (Some(seats), Some(joining)) = (self.slots.get_mut(slot as usize), self.members.get_mut(member as usize)) {
            seats.members.push(member);
            joining.subscriptions.push(Subscription { slot, ledger: Ledger::new(from), due: false, recovery });
        }
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&mut self, member: u32, channel: &Channel) -> Option<Subscription> {
        let slot = self.slot(channel)?;
        let leaving = self.members.get_mut(member as usize)?;
        let index = leaving.subscriptions.iter().position(|subscription| subscription.slot == slot)?;
        let subscription = leaving.subscriptions.swap_remove(index);
        self.vacate(slot, member);
        Some(subscription)
    }

    fn vacate(&mut self, slot: u32, member: u32) -> Option<Channel> {
        let seats = self.slots.get_mut(slot as usize)?;
        let index = seats.members.iter().position(|seated| *seated == member)?;
        seats.members.swap_remove(index);
        let channel = seats.channel.clone();
        if seats.members.is_empty() {
            self.slots.remove(slot as usize);
            self.names.remove(&channel);
        }
        Some(channel)
    }
}

/// The oldest of the channel with the most is forgotten first, so that a busy channel takes no mailbox's room.
fn bound(subscriptions: &mut [Subscription], limit: usize) -> bool {
    let named = subscriptions.iter().map(|subscription| subscription.ledger.named()).sum::<usize>();
    for _ in limit..named {
        if let Some(most) = subscriptions.iter_mut().max_by_key(|subscription| subscription.ledger.named()) {
            most.ledger.forget_oldest();
        }
    }
    named > limit
}

/// Slab indexes stay far below four thousand million: each stands for an open file.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tidings_core::ids::NotificationId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_connections_names_are_bounded_over_all_its_channels() {
        let subscription = |slot: u32, sent: i64| {
            let mut ledger = Ledger::new(0);
            for offset in 0..sent {
                ledger.sent(NotificationId(Uuid::from_u128(offset.unsigned_abs().into())), offset, 100);
            }
            Subscription { slot, ledger, due: false, recovery: None }
        };
        let mut subscriptions = [subscription(0, 2), subscription(1, 20), subscription(2, 0)];
        assert!(bound(&mut subscriptions, 10));
        assert!(!bound(&mut subscriptions, 10));
        assert_eq!(subscriptions.map(|subscription| subscription.ledger.named()), [2, 8, 0]);
    }
}
