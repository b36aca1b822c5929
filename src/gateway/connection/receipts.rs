//! The frames `mark_read` and `notification_action`: who asks, and the answer once the brokers have it.
//!
//! Other connections are told by their shards, from what the feed reads.

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;
use tidings_core::protocol::client::Marked;
use tidings_core::protocol::server::{ErrorCode, Problem, ServerFrame};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, ReceiptRecord, Source};

use super::{Connection, own_channels};
use crate::gateway::Shared;
use crate::gateway::line::Codec;
use crate::gateway::receipts::{self, Scope};

/// What has become of notifications that a client named.
struct Outcome {
    /// Those whose receipt the brokers have.
    written: Vec<ReceiptItem>,
    /// What is wrong with the first of the others.
    refused: Option<Problem>,
}

impl Connection<'_> {
    pub(super) async fn mark_read(&mut self, marked: Marked, reply_to: Option<&str>, codec: &mut Codec) {
        match marked {
            Marked::Ids(ids) => {
                let Some(Outcome { written, refused }) = self.mark(&ids, ReadState::Read, codec).await else { return };
                if !written.is_empty() {
                    self.say(ServerFrame::read(&written), reply_to);
                }
                self.refuse(refused, reply_to);
            }
            Marked::UpTo { channel, position } => {
                let (line, source, own) = (self.line, self.source(), own_channels(&self.identity));
                let channel = channel.unwrap_or_else(|| Channel::mailbox(&self.identity.user));
                let user_id = self.identity.user.clone();
                let marking = async {
                    let state = MarkState::Read;
                    let record = ReceiptRecord::UpTo { user_id, state, channel: channel.clone(), position, source: Some(source) };
                    mark_before(&line.shared, &own, (&channel, position), &record).await
                };
                match self.meanwhile(Box::pin(marking), codec).await {
                    Some(Ok(())) => self.say(ServerFrame::read_before(&channel, position), reply_to),
                    Some(Err(problem)) => self.say(problem.frame(), reply_to),
                    None => {}
                }
            }
        }
    }

    /// Answers a frame that carries a `messageId`; who gives none does not wait for an answer.
    pub(super) async fn act(&mut self, (id, state): (NotificationId, ReadState), reply_to: Option<&str>, codec: &mut Codec) {
        let source = self.source();
        let Some(Outcome { written, refused }) = self.mark(&[id], state, codec).await else { return };
        self.refuse(refused, reply_to);
        if let (Some(item), Some(_)) = (written.first(), reply_to) {
            self.say(ServerFrame::sync(item, state, Some(&source)), reply_to);
        }
    }

    /// Gives nothing, if the line ends before.
    async fn mark(&mut self, ids: &[NotificationId], state: ReadState, codec: &mut Codec) -> Option<Outcome> {
        let (line, user, channels) = (self.line, self.identity.user.clone(), own_channels(&self.identity));
        let scope = Scope { user: &user, channels: &channels };
        let marking = receipts::mark(&line.shared, scope, ids, (state, Some(self.source())));
        Some(match self.meanwhile(Box::pin(marking), codec).await? {
            Ok(receipts::Marked { written, awaited, absent }) => Outcome { written, refused: unmarked(ids, &awaited, &absent) },
            Err(unwritten) => {
                Outcome { written: Vec::new(), refused: Some(Problem::new(ErrorCode::NotYet, unwritten.to_string())) }
            }
        })
    }

    fn refuse(&mut self, refused: Option<Problem>, reply_to: Option<&str>) {
        if let Some(problem) = refused {
            self.say(problem.frame(), reply_to);
            self.charge(problem.code);
        }
    }

    fn source(&self) -> Source {
        Source { device_id: self.device.clone(), connection_id: self.id }
    }
}

/// What is wrong with the first that was not marked.
fn unmarked(ids: &[NotificationId], awaited: &[NotificationId], absent: &[NotificationId]) -> Option<Problem> {
    let id = ids.iter().find(|id| awaited.contains(id) || absent.contains(id))?;
    Some(if absent.contains(id) {
        Problem::new(ErrorCode::NotFound, format!("Notification not found: {id} is not in this user's inbox"))
    } else {
        Problem::new(ErrorCode::NotYet, format!("{id} is not known here yet: ask again"))
    })
}

/// Writes that a user has read everything of a channel before a position.
async fn mark_before(
    shared: &Shared,
    own: &[Channel],
    (channel, position): (&Channel, Position),
    record: &ReceiptRecord,
) -> Result<(), Problem> {
    if !own.contains(channel) {
        return Err(Problem::new(ErrorCode::Forbidden, format!("{channel} is not in this user's inbox")));
    }
    receipts::judge(shared, channel, position).await?;
    let written = shared.receipts.write(shared, record).await;
    written.map_err(|unwritten| Problem::new(ErrorCode::NotYet, unwritten.to_string()))
}
