//! Handing notifications to the members of a channel.
//!
//! Owns: fan-out, the dropping of repeated notifications, and redelivery. A repeated record still moves positions: to a
//! member that was sent the first it counts as sent, to one that joined later it is sent.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tidings_core::channel::Channel;
use tidings_core::delivery::stretch::Stretch;
use tidings_core::record::retry::Delivery;

use super::{Shard, TURN};
use crate::gateway::fed::{self, Encoded, Fed};
use crate::gateway::inlet::{AckMode, Broadcast, Mail};
use crate::gateway::metrics::Limit;
use crate::gateway::outbox::Pushed;
use crate::gateway::tally::Reach;
use crate::gateway::wording::Again;
use crate::telemetry::Doing;

/// A record on its way to members.
pub(super) struct Item<'a> {
    pub(super) encoded: &'a Encoded,
    pub(super) offset: i64,
    /// Where its notification was first seen, if this record repeats it.
    pub(super) first: Option<i64>,
}

/// What became of a record on its way to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    /// So many bytes of it were written or wait.
    Sent(usize),
    /// It is not for this member, or was sent to it before.
    Passed,
    /// The connection takes nothing any more.
    Refused,
}

/// How many frames were handed to sockets.
const FRAMES: &str = "tidings.frames";

fn doing(name: &'static str, topic: &str) -> Doing {
    let attributes =
        vec![KeyValue::new("messaging.system", "kafka"), KeyValue::new("messaging.destination.name", topic.to_owned())];
    Doing { name, kind: SpanKind::Consumer, attributes }
}

impl Shard {
    pub(super) fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::New(fed) => {
                if self.fan_out(&fed, None) > 0
                    && let Some(user) = fed.channel.mailbox_user()
                {
                    let reach = Reach { notifications: fed.offset.saturating_add(1), receipts: 0 };
                    self.shared.tally.want(&user, reach, self.now.ms);
                }
            }
            Mail::Receipt(receipt, offset) => self.receipt(&receipt, offset),
            Mail::Again { delivery, again, trace } => {
                let mut span = self.shared.traces.follow(trace.as_ref(), || doing("write frames", &self.shared.notifications));
                let written = self.deliver_again(&delivery, again);
                span.note(FRAMES, written);
            }
        }
    }

    /// Writes something to everyone who listens. Gives how many those were.
    pub(super) fn broadcast(&mut self, broadcast: &Broadcast) -> usize {
        match broadcast {
            Broadcast::New(fed) => self.fan_out(fed, Some(TURN)),
            Broadcast::Withdrawn(withdrawn) => self.withdraw(withdrawn),
        }
    }

    /// With `turn`, mailboxes get their turn after that many writes.
    fn fan_out(&mut self, fed: &Fed, turn: Option<usize>) -> usize {
        if let Some(next) = self.next.of(&fed.channel, fed.partition) {
            *next = fed.offset.saturating_add(1);
        }
        let Some(slot) = self.members.slot(&fed.channel) else { return 0 };
        let shared = self.shared.clone();
        let failed = |fed: &Fed, error: &fed::FedError| shared.without_frame(fed.partition, fed.offset, error);
        let Some(encoded) = fed.encoded(shared.epoch, self.now.wall, failed) else { return 0 };
        let first = self.recent.note(encoded.id, fed.offset);
        let item = Item { encoded, offset: fed.offset, first };
        let fanning = shared.traces.follow(fed.trace.as_ref(), || doing("fan out", &shared.notifications));
        let within = fanning.context(fed.trace.clone());
        let mut writing = shared.traces.follow(within.as_ref(), || doing("write frames", &shared.notifications));
        let listeners = self.members.listeners(slot);
        let (mut written, mut bytes) = (0, 0);
        for index in 0..listeners {
            if let Some(member) = self.members.at(slot, index)
                && let Handed::Sent(handed) = self.hand_live(slot, member, &item)
            {
                written += 1;
                bytes += handed as u64;
            }
            if turn.is_some_and(|turn| (index + 1) % turn == 0) {
                self.take_mails();
            }
        }
        writing.note(FRAMES, written);
        if let Some(event_at) = encoded.event_at.filter(|_| written > 0) {
            self.shared.metrics.event_to_socket.observe(self.shared.clock.now().since(event_at));
        }
        self.shared.metrics.frames_sent.inc_by(written);
        self.shared.metrics.bytes_sent.inc_by(bytes);
        listeners
    }

    fn hand_live(&mut self, slot: u32, member: u32, item: &Item<'_>) -> Handed {
        let recovers = self.members.listener(slot, member).is_none_or(|(_, _, subscription)| subscription.recovery.is_some());
        // Who recovers finds it in the ring.
        if recovers { Handed::Passed } else { self.hand(slot, member, item) }
    }

    pub(super) fn hand(&mut self, slot: u32, number: u32, item: &Item<'_>) -> Handed {
        let Self { members, devices, once, withdrawn, shared, now, .. } = self;
        let Some((channel, member, subscription)) = members.listener(slot, number) else { return Handed::Refused };
        if item.offset < subscription.ledger.next() {
            return Handed::Passed;
        }
        // To who is left out it is as if the record were another channel's; to all if it is withdrawn.
        let user = devices.user(member.device);
        if item.encoded.is_exclusive() && user.is_some_and(|user| item.encoded.excludes(user))
            || withdrawn.contains(item.encoded.id)
        {
            return Handed::Passed;
        }
        let names = match member.mode {
            AckMode::Client => shared.config.unacknowledged_per_connection.get(),
            AckMode::Written => 0,
        };
        let is_full = names > 0 && subscription.ledger.named() >= names;
        let frame = item.encoded.wording.frame(member.locale);
        let repeated = item.first.is_some_and(|first| first >= subscription.ledger.from());
        if repeated {
            shared.metrics.duplicates.inc();
            subscription.ledger.repeated(item.encoded.id, item.offset, names);
        } else {
            match member.outbox.push(frame, now.ms) {
                Pushed::Taken => member.shown(now.ms),
                Pushed::Overflowed => {
                    shared.metrics.crossed(Limit::OutboxBytes);
                    return Handed::Refused;
                }
                Pushed::Ended => return Handed::Refused,
            }
            subscription.ledger.sent(item.encoded.id, item.offset, names);
            if item.encoded.once {
                user.into_iter().for_each(|user| once.note(user, item.encoded.id, item.offset));
            }
        }
        if !subscription.due {
            subscription.due = true;
            devices.touch(member.device, channel, now.ms);
        }
        if is_full || names > 0 && members.bound_names(number, names) {
            shared.metrics.crossed(Limit::UnacknowledgedPerConnection);
        }
        if repeated { Handed::Passed } else { Handed::Sent(frame.len()) }
    }

    fn deliver_again(&mut self, delivery: &Delivery, again: Again) -> u64 {
        if self.withdrawn.contains(delivery.notification.id) {
            return 0;
        }
        let Some(slot) = self.members.slot(&delivery.channel) else { return 0 };
        let wording = match fed::again(delivery, again, self.now.wall) {
            Ok(wording) => wording,
            Err(error) => {
                tracing::error!(%error, "a redelivery could not be written as JSON; this is a bug");
                return 0;
            }
        };
        let Self { members, devices, once, shared, now, .. } = self;
        if delivery.notification.once
            && let Some(user) = delivery.channel.mailbox_user()
        {
            once.note(&user, delivery.notification.id, delivery.offset);
        }
        let mut written = 0;
        for index in 0..members.listeners(slot) {
            let Some(number) = members.at(slot, index) else { continue };
            let Some((channel, member, subscription)) = members.listener(slot, number) else { continue };
            // Who has not come so far is sent it in its turn.
            if subscription.recovery.as_ref().is_some_and(|recovery| recovery.next() <= delivery.offset) {
                continue;
            }
            let frame = wording.frame(member.locale);
            if member.outbox.push(frame, now.ms) != Pushed::Taken {
                continue;
            }
            member.shown(now.ms);
            written += 1;
            shared.metrics.redeliveries.inc();
            shared.metrics.frames_sent.inc();
            shared.metrics.bytes_sent.inc_by(frame.len() as u64);
            subscription.ledger.sent_again(delivery.notification.id, delivery.offset);
            let again = Stretch { from: delivery.offset, to: delivery.offset.saturating_add(1) };
            devices.offer(member.device, channel, again);
            devices.touch(member.device, channel, now.ms);
        }
        written
    }

    /// Writes a cursor to the log, with what its connections were sent by now, and asks those that acknowledge by answering.
    pub(super) fn write_cursor(&mut self, device: u32, channel: Channel) {
        let seated = self.devices.members(device).to_vec();
        for member in seated {
            if let Some(subscription) = self.members.subscription(member, &channel)
                && std::mem::take(&mut subscription.due)
            {
                self.devices.offer(device, &channel, subscription.ledger.offered());
            }
            if let Some(member) = self.members.get_mut(member) {
                member.probe(self.now.ms);
            }
        }
        let Some(record) = self.devices.record(device, &channel, self.shared.epoch) else { return };
        match self.cursors.write(record) {
            Ok(()) => self.devices.taken(device, &channel, self.now.ms),
            Err(error) => {
                tracing::debug!(%error, "a cursor waits");
                self.devices.refused(device, channel, self.now.ms);
            }
        }
    }
}
