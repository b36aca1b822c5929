//! One connection: the task that reads what its client says, writes what waits in its outbox, and ends it.
//!
//! Owns: the codec and the answers that need no shard. Everything that concerns subscriptions and acknowledgements is passed on
//! to the user's shard. Neighbours: `ending` beside says how it ends.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::{FutureExt, Stream};
use tidings_core::channel::{Channel, Verdict};
use tidings_core::ids::{ConnectionId, DeviceId};
use tidings_core::protocol::client::{self, ClientFrame, Said};
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::{ErrorCode, Problem, ServerFrame};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use super::Shared;
use super::ending::{self, NO_CLOSE, NO_CODE, Open, Who, finish};
use super::frames;
use super::inlet::{Ack, AckMode, Control, Inlet, Join};
use super::moment::{Moment, millis};
use super::outbox::{Outbox, Phase, Wire};
use super::socket::Socket;
use super::upgrade::Caller;
use crate::auth::Identity;

/// The codec's read buffer; small, as idle connections are many.
const READ_BYTES: usize = 256;

/// A client whose token was verified.
pub(super) struct Admitted {
    pub(super) identity: Identity,
    pub(super) device: DeviceId,
    pub(super) mode: AckMode,
}

/// A WebSocket that was just made.
pub(super) struct Line {
    shared: Arc<Shared>,
    caller: Caller,
    outbox: Arc<Outbox>,
}

/// A connection whose client is known.
struct Connection {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    identity: Identity,
    seat: Seat,
}

/// What happened on the connection.
enum Event {
    Said(Message),
    /// The client's close frame, which the codec answers.
    Goodbye(u16),
    /// The gateway is ending it.
    Closing,
    Failed(CloseCode),
    Gone,
}

impl Line {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, wire: Wire) -> Self {
        let outbox = Arc::new(Outbox::new(wire, shared.config.outbox_bytes.get(), millis(shared.clock)));
        Self { shared, caller, outbox }
    }

    /// Serves the connection to its end, including its log lines. What happens once is boxed, so that an idle connection's task
    /// holds only what it needs while idle.
    pub(super) async fn run(self, admitted: Result<Box<Admitted>, CloseCode>, early: Box<[u8]>) {
        match admitted {
            Err(code) => Box::pin(self.refuse(code)).await,
            Ok(admitted) => {
                let who =
                    Who { user: admitted.identity.user.clone(), device: admitted.device.clone(), address: self.caller.address };
                let _open = Open::count(&self.shared.metrics, &who);
                let since_ms = millis(self.shared.clock);
                let served = AssertUnwindSafe(self.serve(admitted, early)).catch_unwind().await;
                let code = served.unwrap_or_else(|_| {
                    self.outbox.close(CloseCode::Internal, millis(self.shared.clock));
                    CloseCode::Internal.code()
                });
                let code = Box::pin(finish(&self.shared, &self.outbox, code)).await;
                ending::closed(&self.shared, &who, code, since_ms);
            }
        }
    }

    async fn refuse(&self, code: CloseCode) {
        self.outbox.close(code, millis(self.shared.clock));
        let code = finish(&self.shared, &self.outbox, code.code()).await;
        ending::refused(&self.shared, self.caller.address, code);
    }

    /// Joins the shard, reads until the connection ends, and leaves. Gives the code it ended with.
    async fn serve(&self, admitted: Box<Admitted>, early: Box<[u8]>) -> u16 {
        let Some(connection) = Box::pin(self.join(admitted)).await else {
            self.outbox.close(CloseCode::Internal, millis(self.shared.clock));
            return CloseCode::Internal.code();
        };
        let code = connection.read(early).await;
        connection.seat.leave().await;
        code
    }

    async fn join(&self, admitted: Box<Admitted>) -> Option<Connection> {
        let Admitted { identity, device, mode } = *admitted;
        let inlet = self.shared.inlets[self.shared.shard(&identity.user)].clone();
        let (joined, answer) = oneshot::channel();
        let join = Join {
            outbox: self.outbox.clone(),
            connection: ConnectionId(Uuid::new_v4()),
            user: identity.user.clone(),
            device,
            mode,
            channels: own_channels(&identity),
            ends_at: identity.expiry.map(|expiry| expiry.ends_at),
            address: self.caller.address,
            since: self.shared.clock.now(),
            joined,
        };
        inlet.say(Control::Join(Box::new(join))).await.ok()?;
        let member = answer.await.ok()?;
        let seat = Seat { inlet, member, left: false };
        Some(Connection { shared: self.shared.clone(), outbox: self.outbox.clone(), identity, seat })
    }
}

/// The connection's place in its shard, given back with the last word, whatever ends the connection.
struct Seat {
    inlet: Arc<Inlet>,
    /// Its number within the shard.
    member: u32,
    left: bool,
}

impl Seat {
    async fn leave(mut self) {
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

impl Connection {
    async fn codec(&self, early: Box<[u8]>) -> WebSocketStream<Socket> {
        if !early.is_empty() {
            // They came with the request, so the socket does not see them, and the frame they begin may never end.
            self.outbox.pulse().unfinished_ms.store(millis(self.shared.clock).max(1), Ordering::Relaxed);
        }
        let limit = Some(self.shared.config.frame_bytes.get());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(limit)
            .max_frame_size(limit);
        let socket = Socket::new(self.outbox.clone(), self.shared.clock);
        WebSocketStream::from_partially_read(socket, early.into_vec(), Role::Server, Some(config)).await
    }

    async fn read(&self, early: Box<[u8]>) -> u16 {
        let mut codec = Box::pin(self.codec(early)).await;
        let mut goodbye = None;
        loop {
            match self.next(&mut codec).await {
                Event::Said(Message::Text(text)) => {
                    self.outbox.pulse().unfinished_ms.store(0, Ordering::Relaxed);
                    self.outbox.used(millis(self.shared.clock));
                    Box::pin(self.hear(&text)).await;
                }
                Event::Said(Message::Binary(_)) => self.outbox.close(CloseCode::Binary, millis(self.shared.clock)),
                Event::Said(message) => {
                    self.outbox.pulse().unfinished_ms.store(0, Ordering::Relaxed);
                    if let Message::Pong(payload) = &message
                        && let Some(number) = frames::answered(payload)
                    {
                        self.outbox.pulse().answered.fetch_max(number, Ordering::Relaxed);
                    }
                }
                Event::Goodbye(code) => goodbye = Some(code),
                Event::Closing => return NO_CLOSE,
                Event::Failed(code) => self.outbox.close(code, millis(self.shared.clock)),
                Event::Gone => return goodbye.unwrap_or(NO_CLOSE),
            }
        }
    }

    /// Waits for the next event, writing what waits meanwhile.
    async fn next(&self, codec: &mut WebSocketStream<Socket>) -> Event {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = self.outbox.poll_flush(cx, millis(self.shared.clock)) {
                return Poll::Ready(Event::Gone);
            }
            if matches!(self.outbox.phase(), Phase::Closing(_)) {
                return Poll::Ready(Event::Closing);
            }
            Pin::new(&mut *codec).poll_next(cx).map(|message| match message {
                Some(Ok(Message::Close(frame))) => Event::Goodbye(frame.map_or(NO_CODE, |frame| frame.code.into())),
                Some(Ok(message)) => Event::Said(message),
                Some(Err(error)) => failed(&error),
                None => Event::Gone,
            })
        })
        .await
    }

    async fn hear(&self, text: &str) {
        self.shared.metrics.frames_received.inc();
        let Said { message_id, frame } = client::read(text);
        let reply_to = message_id.as_deref();
        match frame {
            Err(problem) => self.say(problem.frame(), reply_to),
            Ok(ClientFrame::Ping { data }) => self.say(ServerFrame::Pong { data: data.as_ref() }, reply_to),
            Ok(ClientFrame::Subscribe(names)) => {
                let channels = self.judged(names, reply_to);
                self.pass_on(Control::Subscribe { member: self.seat.member, channels, reply_to: message_id }).await;
            }
            Ok(ClientFrame::Unsubscribe(names)) => {
                let (channels, problems): (Vec<_>, Vec<_>) = names.into_iter().partition(Result::is_ok);
                problems
                    .iter()
                    .flat_map(|problem| problem.as_ref().err())
                    .for_each(|problem| self.say(problem.frame(), reply_to));
                let channels = channels.into_iter().flatten().collect();
                self.pass_on(Control::Unsubscribe { member: self.seat.member, channels, reply_to: message_id }).await;
            }
            Ok(ClientFrame::AckBelow { channel, position, except }) => {
                let ack = Ack::Below { channel, position, except };
                self.pass_on(Control::Ack { member: self.seat.member, ack, reply_to: message_id }).await;
            }
            Ok(ClientFrame::AckIds { channel, ids }) => {
                let ack = Ack::Ids { channel, ids };
                self.pass_on(Control::Ack { member: self.seat.member, ack, reply_to: message_id }).await;
            }
        }
    }

    /// The channels that the user may subscribe to; for each other the client is told why not.
    fn judged(&self, names: Vec<Result<Channel, Problem>>, reply_to: Option<&str>) -> Vec<Channel> {
        let judge = |name: Result<Channel, Problem>| {
            let channel = name?;
            match self.shared.access.judge(&self.identity.user, &self.identity.roles, &channel) {
                Verdict::Allowed => Ok(channel),
                Verdict::Forbidden => Err(Problem::new(ErrorCode::Forbidden, format!("{channel} is not open to this user"))),
            }
        };
        let judged = names.into_iter().map(judge);
        judged.filter_map(|verdict| verdict.map_err(|problem| self.say(problem.frame(), reply_to)).ok()).collect()
    }

    fn say(&self, frame: ServerFrame<'_>, reply_to: Option<&str>) {
        self.shared.say(&self.outbox, frame, reply_to, Moment::of(self.shared.clock));
    }

    async fn pass_on(&self, control: Control) {
        if self.seat.inlet.say(control).await.is_err() {
            self.outbox.close(CloseCode::Internal, millis(self.shared.clock));
        }
    }
}

/// What a codec's error means for the connection.
fn failed(error: &Error) -> Event {
    match error {
        Error::Capacity(_) => Event::Failed(CloseCode::TooLarge),
        Error::Utf8(_) => Event::Failed(CloseCode::NotText),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => Event::Gone,
        Error::Protocol(_) => Event::Failed(CloseCode::Protocol),
        _ => Event::Gone,
    }
}
