//! Telling connections what the log says of read state, whichever node wrote it.
//!
//! Owns: who is told what of a receipt, in the order of the log. Its frames are encoded once, whoever they are for, and leave about a turn
//! of them at a time, so that a receipt of many notifications holds nobody up. The connection that asked is answered by its own task, as
//! soon as the brokers have the receipt, and is passed over here. Neighbours: the feed reads receipts, the tally counts.

use std::collections::VecDeque;

use bytes::Bytes;
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, NotificationId, UserId};
use tidings_core::protocol::server::{Counts, Sent, ServerFrame};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptRecord, Source};

use super::{Shard, TURN};
use crate::gateway::frames;
use crate::gateway::inlet::Withdrawn;
use crate::gateway::tally::Reach;

/// Receipts that wait to be told. With as many, mailboxes wait for their turn.
const TELLINGS: usize = 64;

/// What is still to be told of receipts, in their order.
#[derive(Debug, Default)]
pub(super) struct Tellings(VecDeque<Telling>);

/// The frames of a receipt.
#[derive(Debug)]
struct Telling {
    frames: Vec<Bytes>,
    /// The connections that were there when it came, and have not been told.
    to: Vec<(u32, ConnectionId)>,
}

impl Tellings {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= TELLINGS
    }

    /// The frames that are next, and one connection to write them to.
    fn next(&mut self) -> Option<(&[Bytes], (u32, ConnectionId))> {
        while self.0.front().is_some_and(|telling| telling.to.is_empty()) {
            self.0.pop_front();
        }
        let Telling { frames, to } = self.0.front_mut()?;
        to.pop().map(|to| (&frames[..], to))
    }
}

impl Shard {
    /// A receipt of a user, and its offset.
    pub(super) fn receipt(&mut self, receipt: &ReceiptRecord, offset: i64) {
        match receipt {
            ReceiptRecord::State { user_id, state, items, source } => {
                let mut frames = Vec::new();
                if *state == ReadState::Read {
                    frames.push(ServerFrame::read(items));
                }
                // Many at once are read by `mark_read`, which is told in one frame.
                if *state != ReadState::Read || items.len() == 1 {
                    frames.extend(items.iter().map(|item| ServerFrame::sync(item, *state, source.as_ref())));
                }
                self.tell_others((user_id, source.as_ref()), frames, offset);
                self.want_counts(user_id, offset);
            }
            ReceiptRecord::UpTo { user_id, state, channel, position, source } => {
                let frame = match state {
                    MarkState::Read => ServerFrame::read_before(channel, *position),
                    MarkState::Seen => ServerFrame::sync_before(channel, *position, *state, source.as_ref()),
                };
                self.tell_others((user_id, source.as_ref()), vec![frame], offset);
                self.want_counts(user_id, offset);
            }
            ReceiptRecord::Withdrawn { channel, id, source, .. } => {
                let by = source.as_ref().map(|source| source.connection_id);
                self.withdraw(&Withdrawn { channel: channel.clone(), id: *id, by });
                if let Some(user) = channel.mailbox_user() {
                    self.once.forget(&user, *id);
                    self.want_counts(&user, offset);
                }
            }
        }
    }

    /// Has all of a user's connections told but the one that asked.
    fn tell_others(&mut self, (user, asker): (&UserId, Option<&Source>), said: Vec<ServerFrame<'_>>, offset: i64) {
        let members = self.devices.of_user(user).flat_map(|(_, members)| members);
        let open = members.filter_map(|number| Some((*number, self.members.get(*number)?.connection)));
        let others = open.filter(|(_, connection)| asker.is_none_or(|asker| asker.connection_id != *connection));
        let to = others.collect::<Vec<_>>();
        if to.is_empty() {
            return;
        }
        let mut frames = Vec::with_capacity(said.len());
        for (index, frame) in said.into_iter().enumerate() {
            // The receipts of a user lie in one partition.
            let message_id = format!("receipt/{offset}/{index}");
            let sent = Sent { frame, message_id: &message_id, reply_to: None, timestamp: self.now.wall };
            match frames::text(&sent) {
                Ok(frame) => frames.push(frame),
                Err(error) => tracing::error!(%error, "a receipt could not be written as JSON; this is a bug"),
            }
        }
        self.tellings.0.push_back(Telling { frames, to });
    }

    /// Tells what waits, about a turn of it. Gives how many frames that were.
    pub(super) fn take_tellings(&mut self) -> usize {
        let Self { tellings, members, shared, now, .. } = self;
        let mut told = 0;
        while told < TURN
            && let Some((frames, (number, connection))) = tellings.next()
        {
            told += frames.len();
            // Another one may have its number by now.
            let Some(member) = members.get(number).filter(|member| member.connection == connection) else { continue };
            member.outbox.used(now.ms);
            // All of them leave in few calls.
            member.outbox.cork();
            for frame in frames {
                shared.push(&member.outbox, frame, now.ms);
            }
            member.outbox.uncork(now.ms);
        }
        told
    }

    /// Wants a user's counts when the store has folded this receipt, if anybody is here to be told.
    fn want_counts(&self, user: &UserId, offset: i64) {
        if self.devices.of_user(user).next().is_some() {
            self.shared.tally.want(user, Reach { notifications: 0, receipts: offset.saturating_add(1) }, self.now.ms);
        }
    }

    /// Hands out a notification no more, and tells those who may have been sent it. Gives how many there are.
    pub(super) fn withdraw(&mut self, withdrawn: &Withdrawn) -> usize {
        let Withdrawn { channel, id, by } = withdrawn;
        self.withdrawn.note(*id);
        let Some(slot) = self.members.slot(channel) else { return 0 };
        let Some(frame) = self.withdrawal(channel, *id) else { return 0 };
        let listeners = self.members.listeners(slot);
        for index in 0..listeners {
            let member = self.members.at(slot, index).and_then(|number| self.members.get(number));
            if let Some(member) = member.filter(|member| Some(member.connection) != *by) {
                self.shared.push(&member.outbox, &frame, self.now.ms);
            }
            if !channel.is_mailbox() && (index + 1) % TURN == 0 {
                self.take_mails();
            }
        }
        listeners
    }

    /// One frame for all who listen, so its id is that of the notification.
    fn withdrawal(&self, channel: &Channel, id: NotificationId) -> Option<Bytes> {
        let message_id = format!("{id}/withdrawn");
        let frame = ServerFrame::NotificationWithdrawn { channel, notification_id: id };
        let sent = Sent { frame, message_id: &message_id, reply_to: None, timestamp: self.now.wall };
        let frame = frames::text(&sent);
        frame.inspect_err(|error| tracing::error!(%error, "a withdrawal could not be written as JSON; this is a bug")).ok()
    }

    /// Tells all of a user's connections what the store has counted.
    pub(super) fn counted(&self, user: &UserId, counts: Counts) {
        for number in self.devices.of_user(user).flat_map(|(_, members)| members) {
            if let Some(member) = self.members.get(*number) {
                self.shared.say(&member.outbox, ServerFrame::Counts(counts), None, self.now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn telling(frames: usize, to: u32) -> Telling {
        let connection = |number: u32| (number, ConnectionId(Uuid::from_u128(number.into())));
        Telling { frames: vec![Bytes::from_static(b"frame"); frames], to: (0..to).map(connection).collect() }
    }

    #[test]
    fn receipts_are_told_one_after_the_other_each_to_all_who_were_there() {
        let mut tellings = Tellings::default();
        tellings.0.extend([telling(100, 2), telling(1, 0), telling(3, 1)]);
        let told = std::iter::from_fn(|| tellings.next().map(|(frames, (number, _))| (frames.len(), number)));
        assert_eq!(told.collect::<Vec<_>>(), [(100, 1), (100, 0), (3, 0)]);
        assert!(tellings.0.is_empty() && !tellings.is_full());
        tellings.0.extend((0..TELLINGS).map(|_| telling(1, 1)));
        assert!(tellings.is_full());
    }
}
