//! Telling connections what the log says of read state, whichever node wrote it.
//!
//! Owns: who is told what of a receipt. The connection that asked is answered by its own task, as soon as the brokers have it, and is
//! passed over here. Neighbours: the feed reads receipts, the tally counts.

use bytes::Bytes;
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, NotificationId, UserId};
use tidings_core::protocol::server::{Counts, Sent, ServerFrame};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptRecord};

use super::{Shard, TURN};
use crate::gateway::frames;
use crate::gateway::inlet::Withdrawn;
use crate::gateway::outbox::Pushed;
use crate::gateway::tally::Reach;

impl Shard {
    /// A receipt of a user, and its offset.
    pub(super) fn receipt(&mut self, receipt: &ReceiptRecord, offset: i64) {
        match receipt {
            ReceiptRecord::State { user_id, state, items, source } => {
                let asker = source.as_ref().map(|source| source.connection_id);
                if *state == ReadState::Read {
                    self.tell_others(user_id, asker, || ServerFrame::read(items));
                }
                // Many at once are read by `mark_read`, which is told in one frame.
                if *state != ReadState::Read || items.len() == 1 {
                    for item in items {
                        self.tell_others(user_id, asker, || ServerFrame::sync(item, *state, source.as_ref()));
                    }
                }
                self.want_counts(user_id, offset);
            }
            ReceiptRecord::UpTo { user_id, state, channel, position, source } => {
                let asker = source.as_ref().map(|source| source.connection_id);
                self.tell_others(user_id, asker, || match state {
                    MarkState::Read => ServerFrame::read_before(channel, *position),
                    MarkState::Seen => ServerFrame::sync_before(channel, *position, *state, source.as_ref()),
                });
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

    /// Tells all of a user's connections but the one that asked.
    fn tell_others<'a>(&self, user: &UserId, asker: Option<ConnectionId>, frame: impl Fn() -> ServerFrame<'a>) {
        for number in self.devices.of_user(user).flat_map(|(_, members)| members) {
            if let Some(member) = self.members.get(*number).filter(|member| Some(member.connection) != asker) {
                self.shared.say(&member.outbox, frame(), None, self.now);
            }
        }
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
                match member.outbox.push(&frame, self.now.ms) {
                    Pushed::Taken => drop(self.shared.metrics.frames_sent.inc()),
                    Pushed::Overflowed => self.shared.metrics.crossed(crate::gateway::metrics::Limit::OutboxBytes),
                    Pushed::Ended => {}
                }
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
        self.tell_others(user, None, || ServerFrame::Counts(counts));
    }
}
