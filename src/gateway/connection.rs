//! One connection: what a known client says on its line, until the line ends.
//!
//! Owns: the answers that need no shard, the budget of bad frames, and another proof of the same user. Everything that concerns
//! subscriptions and acknowledgements is passed on to the user's shard. Neighbours: `line` reads and ends it. Long because what is said while
//! an answer is waited for takes every way that words of a client take.

mod receipts;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidings_core::channel::{Channel, Verdict};
use tidings_core::ids::{ConnectionId, DeviceId, UserId};
use tidings_core::presence::Audience;
use tidings_core::protocol::client::{self, ClientFrame, Said, Token};
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::{ErrorCode, Problem, ServerFrame};
use tidings_core::protocol::since::Since;
use tidings_core::recovery::Start;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::Shared;
use super::desk::Desk;
use super::ending::NO_CLOSE;
use super::frames;
use super::inlet::{Ack, Control, Inlet, Join, NamedBy};
use super::line::{Admitted, Codec, Event, Line, Wish};
use super::metrics::Limit;
use super::moment::{Moment, millis};
use super::reads::Owner;
use crate::auth::Identity;
use crate::clock::rate::{Allowance, Rate};

/// How long the upgrade's answer waits to leave with `connected`, in one write.
const TOGETHER: Duration = Duration::from_millis(250);

/// A connection whose client is known.
pub(super) struct Connection<'a> {
    line: &'a Line,
    identity: Identity,
    device: DeviceId,
    named_by: NamedBy,
    id: ConnectionId,
    seat: Seat,
    bad_frames: Rate,
    /// What happened on the line while something else was waited for.
    kept: Option<Box<Event>>,
}

/// The connection's place in its shard, given back with the last word, whatever ends the connection.
struct Seat {
    inlet: Arc<Inlet>,
    /// Its number within the shard.
    member: u32,
    left: bool,
}

impl Seat {
    async fn leave(&mut self) {
        self.left = self.inlet.say(Control::Leave(self.member)).await.is_ok();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Only a panic comes here with the seat taken.
        if !self.left && self.inlet.try_say(Control::Leave(self.member)).is_err() {
            tracing::error!("a connection could not leave its shard");
        }
    }
}

/// What every connection is subscribed to from the start.
fn own_channels(identity: &Identity) -> Vec<Channel> {
    let roles = identity.roles.iter().filter_map(|role| Channel::role(role).ok());
    let mut channels = vec![Channel::mailbox(&identity.user), Channel::everyone()];
    for role in roles {
        if !channels.contains(&role) {
            channels.push(role);
        }
    }
    channels
}

/// Where subscriptions begin. What `since` says of other channels is counted, and of no use.
async fn starts(shared: &Shared, owner: Owner<'_>, channels: Vec<Channel>, since: &Since) -> Vec<(Channel, Start)> {
    shared.metrics.ignored_positions.inc_by(since.beside(&channels) as u64);
    shared.reads.starts(shared, owner, channels, since).await
}

impl<'a> Connection<'a> {
    /// Takes a seat in the user's shard, or gives the code that says why there is none.
    pub(super) async fn join(line: &'a Line, admitted: Box<Admitted>) -> Result<Self, CloseCode> {
        let Admitted { identity, wish: Wish { device, named_by, mode, locale, since, .. }, reply_to } = *admitted;
        let inlet = line.shared.inlets[line.shared.shard(&identity.user)].clone();
        let owner = Owner { user: &identity.user, device: &device, named_by };
        let answering = async {
            tokio::time::sleep(TOGETHER).await;
            line.outbox.uncork(millis(line.shared.clock));
            std::future::pending::<Infallible>().await
        };
        let starting = starts(&line.shared, owner, own_channels(&identity), &since);
        let (channels, counts) = tokio::select! {
            biased;
            known = async { tokio::join!(starting, line.shared.tally.greet(&identity.user)) } => known,
            () = line.shared.draining.cancelled() => return Err(CloseCode::Draining),
            never = answering => match never {},
        };
        let (joined, answer) = oneshot::channel();
        let id = ConnectionId(Uuid::new_v4());
        let join = Join {
            outbox: line.outbox.clone(),
            connection: id,
            user: identity.user.clone(),
            device: device.clone(),
            named_by,
            mode,
            locale,
            channels,
            ends_at: identity.expiry.map(|expiry| expiry.ends_at),
            address: line.caller.address,
            since: line.shared.clock.now(),
            counts,
            reply_to,
            joined,
        };
        inlet.say(Control::Join(Box::new(join))).await.map_err(|_| CloseCode::Internal)?;
        let member = answer.await.map_err(|_| CloseCode::Internal)??;
        let seat = Seat { inlet, member, left: false };
        Ok(Self { line, identity, device, named_by, id, seat, bad_frames: Rate::default(), kept: None })
    }

    /// Reads until the connection ends, and leaves. Gives the code it ended with.
    pub(super) async fn serve(&mut self, codec: &mut Codec) -> u16 {
        let code = self.read(codec).await;
        // Boxed, for an idle connection's task would hold it from the start.
        Box::pin(self.seat.leave()).await;
        code
    }

    async fn read(&mut self, codec: &mut Codec) -> u16 {
        let mut goodbye = None;
        loop {
            let event = match self.kept.take() {
                Some(event) => *event,
                None => self.line.next(codec).await,
            };
            match event {
                Event::Said(Message::Text(text)) => {
                    self.line.outbox.used(self.now_ms());
                    Box::pin(self.hear(&text, codec)).await;
                }
                Event::Said(Message::Binary(_)) => self.close(CloseCode::Binary),
                Event::Said(message) => self.control(&message),
                Event::Goodbye(code) => goodbye = Some(code),
                Event::Closing => return NO_CLOSE,
                Event::Failed(code) => {
                    if code == CloseCode::TooLarge {
                        self.line.shared.metrics.crossed(Limit::FrameBytes);
                    }
                    self.close(code);
                }
                Event::Gone => return goodbye.unwrap_or(NO_CLOSE),
            }
        }
    }

    /// The codec answers pings by itself.
    fn control(&self, message: &Message) {
        if let Message::Pong(payload) = message
            && let Some(number) = frames::answered(payload)
        {
            self.line.outbox.pulse().answer(number);
        }
    }

    async fn hear(&mut self, text: &str, codec: &mut Codec) {
        self.line.shared.metrics.frames_received.inc();
        let Said { message_id, frame } = client::read(text);
        let (member, reply_to) = (self.seat.member, message_id.as_deref());
        match frame {
            Err(problem) => {
                if problem.code == ErrorCode::Limit {
                    self.line.shared.metrics.crossed(Limit::FrameNames);
                }
                self.say(problem.frame(), reply_to);
                self.charge(problem.code);
            }
            Ok(ClientFrame::Ping { data }) => self.say(ServerFrame::Pong { data: data.as_ref() }, reply_to),
            Ok(ClientFrame::Auth(_)) => {
                let problem = Problem::new(ErrorCode::BadFrame, "already authenticated: a later token is sent by `refresh`");
                self.say(problem.frame(), reply_to);
                self.charge(problem.code);
            }
            Ok(ClientFrame::Refresh(token)) => Box::pin(self.refresh(&token, message_id, codec)).await,
            Ok(ClientFrame::Subscribe { channels, since }) => {
                let named = self.named(channels, reply_to);
                let channels = self.judged(named, reply_to);
                if let Some(channels) = self.starts(channels, &since, codec).await {
                    self.pass_on(Control::Subscribe { member, channels, reply_to: message_id }).await;
                }
            }
            Ok(ClientFrame::Unsubscribe(names)) => {
                let channels = self.named(names, reply_to);
                self.pass_on(Control::Unsubscribe { member, channels, reply_to: message_id }).await;
            }
            // Boxed, for most frames are acknowledgements and pay for the largest answer.
            Ok(ClientFrame::Presence { channel, limit, after }) => {
                Box::pin(self.presence((channel, after, limit), reply_to, codec)).await;
            }
            Ok(ClientFrame::AckBelow { channel, position, except }) => {
                let ack = Ack::Below { channel, position, except };
                self.pass_on(Control::Ack { member, ack, reply_to: message_id }).await;
            }
            Ok(ClientFrame::AckIds { channel, ids }) => {
                let ack = Ack::Ids { channel, ids };
                self.pass_on(Control::Ack { member, ack, reply_to: message_id }).await;
            }
            Ok(ClientFrame::MarkRead(marked)) => Box::pin(self.mark_read(marked, reply_to, codec)).await,
            Ok(ClientFrame::Act { id, state }) => Box::pin(self.act((id, state), reply_to, codec)).await,
        }
    }

    /// Takes another token of the same user, or ends the connection as it would have been refused.
    async fn refresh(&mut self, token: &Token, message_id: Option<String>, codec: &mut Codec) {
        if !self.line.shared.auth.takes_tokens() {
            let problem =
                Problem::new(ErrorCode::Unsupported, "clients are not known by tokens here: there is nothing to refresh");
            return self.say(problem.frame(), message_id.as_deref());
        }
        match self.line.shared.auth.verify(token.reveal(), self.line.shared.clock.now()) {
            Ok(identity) if identity.user == self.identity.user => {
                let had = own_channels(&self.identity);
                let gained = own_channels(&identity).into_iter().filter(|channel| !had.contains(channel)).collect();
                let Some(gained) = self.starts(gained, &Since::default(), codec).await else { return };
                self.identity = identity.clone();
                let (member, identity) = (self.seat.member, Box::new(identity));
                self.pass_on(Control::Refresh { member, identity, gained, reply_to: message_id }).await;
            }
            Ok(_) => self.close(CloseCode::UserMismatch),
            Err(_) => self.close(CloseCode::InvalidToken),
        }
    }

    /// Where subscriptions to these channels begin; nothing, if the line ends before that is known.
    async fn starts(&mut self, channels: Vec<Channel>, since: &Since, codec: &mut Codec) -> Option<Vec<(Channel, Start)>> {
        let (line, user, device, named_by) = (self.line, self.identity.user.clone(), self.device.clone(), self.named_by);
        let owner = Owner { user: &user, device: &device, named_by };
        let starting = Box::pin(starts(&line.shared, owner, channels, since));
        self.meanwhile(starting, codec).await
    }

    /// Waits for something; gives nothing, if the line ends before. Meanwhile the client is listened to until it says its next word,
    /// which is then kept for its turn.
    async fn meanwhile<T>(&mut self, mut waited_for: Pin<Box<impl Future<Output = T>>>, codec: &mut Codec) -> Option<T> {
        let line = self.line;
        loop {
            let has_kept = self.kept.is_some();
            let happened = std::future::poll_fn(|cx| {
                if let Poll::Ready(outcome) = waited_for.as_mut().poll(cx) {
                    return Poll::Ready(Ok(outcome));
                }
                if has_kept { line.poll_end(cx) } else { line.poll_next(codec, cx) }.map(Err)
            });
            match happened.await {
                Ok(outcome) => return Some(outcome),
                Err(Event::Said(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    self.kept = Some(Box::new(Event::Said(message)));
                }
                Err(Event::Said(message)) => self.control(&message),
                Err(end) => {
                    // What its client has acknowledged is so, whatever else it waited for.
                    if let Some(Event::Said(Message::Text(last))) = self.kept.replace(Box::new(end)).map(|kept| *kept) {
                        Box::pin(self.acknowledge_last(&last)).await;
                    }
                    return None;
                }
            }
        }
    }

    /// Passes on the last word of a client, if it acknowledges something.
    async fn acknowledge_last(&self, text: &str) {
        let Said { message_id, frame } = client::read(text);
        let ack = match frame {
            Ok(ClientFrame::AckBelow { channel, position, except }) => Ack::Below { channel, position, except },
            Ok(ClientFrame::AckIds { channel, ids }) => Ack::Ids { channel, ids },
            _ => return,
        };
        self.pass_on(Control::Ack { member: self.seat.member, ack, reply_to: message_id }).await;
    }

    /// Tells who listens to a channel, if the user might too.
    async fn presence(&mut self, wanted: (Channel, Option<UserId>, Option<u64>), reply_to: Option<&str>, codec: &mut Codec) {
        let (channel, after, limit) = wanted;
        let Some(channel) = self.judged(vec![channel], reply_to).pop() else { return };
        let desk = Desk::new(self.line.shared.clone());
        // Nobody is told on a line that has ended.
        let Some(found) = self.meanwhile(Box::pin(desk.audience(channel.clone(), after, limit)), codec).await else { return };
        match found {
            Ok(audience) => {
                let Audience { count, users, more, extent } = &*audience;
                let next = users.last().filter(|_| *more);
                let frame = ServerFrame::Presence { channel: &channel, count: *count, users, next, partial: extent.is_partial() };
                self.say(frame, reply_to);
            }
            Err(absent) => self.say(Problem::new(ErrorCode::NotYet, absent.to_string()).frame(), reply_to),
        }
    }

    /// Charges a frame that made no sense, or named what is not there and took the store's time for it, to the budget of those.
    fn charge(&mut self, code: ErrorCode) {
        let config = &self.line.shared.config;
        let allowance = Allowance::new(config.bad_frame_interval.0, config.bad_frames.get());
        let makes_no_sense = matches!(code, ErrorCode::BadFrame | ErrorCode::UnknownType | ErrorCode::NotFound);
        if makes_no_sense && !self.bad_frames.take(1, allowance, self.line.shared.clock.elapsed()) {
            self.line.shared.metrics.crossed(Limit::BadFrames);
            self.close(CloseCode::BadFrames);
        }
    }

    /// The names that are channels; for each other the client is told so, and the frame is charged once.
    fn named(&mut self, names: Vec<Result<Channel, Problem>>, reply_to: Option<&str>) -> Vec<Channel> {
        let (channels, problems): (Vec<_>, Vec<_>) = names.into_iter().partition(Result::is_ok);
        for problem in problems.iter().flat_map(|problem| problem.as_ref().err()) {
            self.say(problem.frame(), reply_to);
        }
        if !problems.is_empty() {
            self.charge(ErrorCode::BadFrame);
        }
        channels.into_iter().flatten().collect()
    }

    /// The channels that the user may subscribe to; for each other the client is told that it is not open.
    fn judged(&self, mut channels: Vec<Channel>, reply_to: Option<&str>) -> Vec<Channel> {
        channels.retain(|channel| {
            let verdict = self.line.shared.access.judge(&self.identity.user, &self.identity.roles, channel);
            if verdict == Verdict::Forbidden {
                let problem = Problem::new(ErrorCode::Forbidden, format!("{channel} is not open to this user"));
                self.say(problem.frame(), reply_to);
            }
            verdict == Verdict::Allowed
        });
        channels
    }

    fn say(&self, frame: ServerFrame<'_>, reply_to: Option<&str>) {
        self.line.shared.say(&self.line.outbox, frame, reply_to, Moment::of(self.line.shared.clock));
    }

    async fn pass_on(&self, control: Control) {
        if self.seat.inlet.say(control).await.is_err() {
            self.close(CloseCode::Internal);
        }
    }

    fn close(&self, code: CloseCode) {
        self.line.outbox.close(code, self.now_ms());
    }

    fn now_ms(&self) -> u64 {
        millis(self.line.shared.clock)
    }
}
