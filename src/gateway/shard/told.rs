//! What a client is told of a recovery: holes, losses, and that it is level with what is live.
//!
//! Owns: the frames for it, that each hole begins a new stretch of the device's cursor, and that the log says where a device begins anew. Neighbours: `recover` decides when.

use tidings_core::channel::Channel;
use tidings_core::protocol::server::{Hole, HoleReason, ServerFrame};
use tidings_core::recovery::{Archive, Loss, Truncated};

use super::Shard;
use super::turns::Turned;
use crate::gateway::metrics::Outcome;
use crate::gateway::outbox::Pushed;

impl Shard {
    /// Tells what is missing, before anything behind it is sent.
    pub(super) fn truncate(&mut self, member: u32, channel: &Channel, hole: Truncated) {
        self.renew(member, channel, hole.to);
        self.tell(member, ServerFrame::Truncated { channel, hole: self.hole(hole) });
    }

    fn hole(&self, hole: Truncated) -> Hole {
        Hole { from: self.position(hole.from), to: self.position(hole.to), reason: HoleReason::Retention }
    }

    /// Begins a new stretch: what was sent before and what is sent from here on do not touch.
    fn renew(&mut self, member: u32, channel: &Channel, at: i64) {
        let Some(device) = self.members.get(member).map(|member| member.device) else { return };
        let Some(subscription) = self.members.subscription(member, channel) else { return };
        let before = subscription.ledger.offered();
        subscription.ledger.renew(at);
        if subscription.due {
            self.devices.offer(device, channel, before);
        }
    }

    /// Tells that what was missed cannot be told, and goes on where the newest begin.
    pub(super) fn lose(&mut self, member: u32, channel: &Channel, newest: Option<i64>, loss: Loss) -> Turned {
        let reach = self.reach(channel);
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Later };
        let at = catch_up.restart(newest, reach, loss);
        self.renew(member, channel, at);
        if reach.archive == Archive::Store {
            self.note_beginning(member, channel);
        }
        let lost = ServerFrame::Recovered { channel, position: self.position(at), recovered: false, truncated: None };
        if self.tell(member, lost) == Pushed::Taken {
            self.shared.metrics.recovered(Outcome::Lost(loss));
        }
        Turned::On(1)
    }

    /// Where the newest of a mailbox begin, as far as the ring has them.
    pub(super) fn newest_in_ring(&self, channel: &Channel, live: i64) -> Option<i64> {
        let place = (channel, channel.partition(self.shared.partitions));
        let count = self.shared.config.recovery.newest.get();
        channel.is_mailbox().then(|| self.shared.ring.newest(place, live, count)).flatten()
    }

    /// Hands over to live delivery.
    pub(super) fn level(&mut self, member: u32, channel: &Channel) -> Turned {
        let Some(subscription) = self.members.subscription(member, channel) else { return Turned::Later };
        let Some(recovery) = subscription.recovery.take() else { return Turned::Later };
        subscription.ledger.reached(recovery.catch_up.next());
        let position = self.position(recovery.catch_up.next());
        // It was told already.
        if recovery.catch_up.loss().is_some() {
            return Turned::On(0);
        }
        let truncated = recovery.catch_up.truncated().map(|hole| self.hole(hole));
        let level = ServerFrame::Recovered { channel, position, recovered: true, truncated };
        if self.tell(member, level) == Pushed::Taken {
            self.shared.metrics.recovered(if truncated.is_some() { Outcome::Truncated } else { Outcome::Complete });
        }
        Turned::On(1)
    }

    fn tell(&self, member: u32, frame: ServerFrame<'_>) -> Pushed {
        let Some(member) = self.members.get(member) else { return Pushed::Ended };
        self.shared.say(&member.outbox, frame, None, self.now)
    }
}
