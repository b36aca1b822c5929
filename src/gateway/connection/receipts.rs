//! The frames `mark_read` and `notification_action`: who asks, and the answer once the brokers have it.
//!
//! Other connections are told by their shards, from what the feed reads.

use tidings_core::ids::NotificationId;
use tidings_core::protocol::client::Marked;
use tidings_core::protocol::server::ServerFrame;
use tidings_core::record::receipt::{ReadState, Source};

use super::{Connection, own_channels};
use crate::gateway::line::Codec;
use crate::gateway::receipts::{self, Asker, Outcome};

impl Connection<'_> {
    pub(super) async fn mark_read(&mut self, marked: Marked, reply_to: Option<&str>, codec: &mut Codec) {
        let (shared, asker) = (&self.line.shared, self.asker());
        match marked {
            Marked::Ids(ids) => {
                let marking = receipts::mark(shared, asker, &ids, ReadState::Read);
                let Some(Outcome { written, refused }) = self.meanwhile(marking, codec).await else { return };
                if !written.is_empty() {
                    self.say(ServerFrame::read(&written), reply_to);
                }
                refused.iter().for_each(|problem| self.say(problem.frame(), reply_to));
            }
            Marked::UpTo { channel, position } => {
                let marking = receipts::mark_before(shared, asker, channel, position);
                match self.meanwhile(marking, codec).await {
                    Some(Ok(channel)) => self.say(ServerFrame::read_before(&channel, position), reply_to),
                    Some(Err(problem)) => self.say(problem.frame(), reply_to),
                    None => {}
                }
            }
        }
    }

    /// Answers a frame that carries a `messageId`; who gives none does not wait for an answer.
    pub(super) async fn act(&mut self, (id, state): (NotificationId, ReadState), reply_to: Option<&str>, codec: &mut Codec) {
        let (shared, asker, ids) = (&self.line.shared, self.asker(), [id]);
        let source = asker.source.clone();
        let marking = receipts::mark(shared, asker, &ids, state);
        let Some(Outcome { written, refused }) = self.meanwhile(marking, codec).await else { return };
        refused.iter().for_each(|problem| self.say(problem.frame(), reply_to));
        if let (Some(item), Some(_)) = (written.first(), reply_to) {
            self.say(ServerFrame::sync(item, state, Some(&source)), reply_to);
        }
    }

    fn asker(&self) -> Asker {
        let source = Source { device_id: self.device.clone(), connection_id: self.id };
        Asker { user: self.identity.user.clone(), channels: own_channels(&self.identity), source }
    }
}
