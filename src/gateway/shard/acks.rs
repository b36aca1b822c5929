//! Acknowledgements: from what a client says, or from the pings it answers, to its device's cursors.
//!
//! Owns: judging each acknowledgement against what the connection was sent. The arithmetic is the ledger's, in core.

use std::collections::BTreeSet;

use tidings_core::channel::Channel;
use tidings_core::delivery::ledger::AckError;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;
use tidings_core::protocol::server::{ErrorCode, Problem};

use super::Shard;
use crate::gateway::inlet::Ack;

impl Shard {
    pub(super) fn acknowledge(&mut self, member: u32, ack: Ack, reply_to: Option<&str>) {
        let outcome = match ack {
            Ack::Below { channel, position, except } => self.acknowledge_below(member, &channel, position, &except),
            Ack::Ids { channel, ids } => self.acknowledge_ids(member, channel.as_ref(), &ids),
        };
        if let (Err(problem), Some(member)) = (outcome, self.members.get_mut(member)) {
            self.shared.say(&member.outbox, problem.frame(), reply_to, self.now);
        }
    }

    fn acknowledge_below(
        &mut self,
        member: u32,
        channel: &Channel,
        position: Position,
        except: &[NotificationId],
    ) -> Result<(), Problem> {
        let Some(subscription) = self.members.subscription(member, channel) else {
            return Err(Problem::new(ErrorCode::Forbidden, format!("not subscribed to {channel}")));
        };
        if position.epoch != self.shared.epoch {
            let message = format!("{position} is a position of another epoch than {}", self.shared.epoch);
            return Err(Problem::new(ErrorCode::Forbidden, message));
        }
        let delivered = subscription.ledger.acknowledge_below(position.offset, except).map_err(|error| match error {
            AckError::Beyond { .. } => Problem::new(ErrorCode::Forbidden, error.to_string()),
            AckError::Unknown { .. } => Problem::new(ErrorCode::NotFound, format!("Notification not found: {error}")),
        })?;
        if delivered.is_empty() {
            self.shared.metrics.ignored_positions.inc();
        }
        self.acknowledged(member, channel, delivered);
        Ok(())
    }

    /// Acknowledges all that are known, then names the first that is not.
    fn acknowledge_ids(&mut self, member: u32, channel: Option<&Channel>, ids: &[NotificationId]) -> Result<(), Problem> {
        let channels = channel.map_or_else(|| self.members.channels(member), |channel| vec![channel.clone()]);
        let wanted = ids.iter().copied().collect::<BTreeSet<_>>();
        let mut unknown = wanted.clone();
        for channel in &channels {
            let Some(subscription) = self.members.subscription(member, channel) else { continue };
            // A notification may have been sent in several channels, so every one is asked for all.
            let (known, delivered) = subscription.ledger.acknowledge(&wanted);
            unknown.retain(|id| !known.contains(id));
            self.acknowledged(member, channel, delivered);
        }
        ids.iter().find(|id| unknown.contains(id)).map_or(Ok(()), |id| {
            Err(Problem::new(ErrorCode::NotFound, format!("Notification not found: {id} is not among what is unacknowledged")))
        })
    }

    /// Acknowledges what the members whose pings were answered had been sent before.
    pub(super) fn acknowledge_answered(&mut self, answered: &[u32]) {
        for member in answered {
            let channels = self.members.channels(*member);
            for channel in channels {
                let Some(subscription) = self.members.subscription(*member, &channel) else { continue };
                let delivered = subscription.ledger.answered();
                self.acknowledged(*member, &channel, delivered);
            }
            if let Some(member) = self.members.get_mut(*member) {
                member.heartbeat.probe = None;
                member.probe(self.now.ms);
            }
        }
    }
}
