//! A line: a WebSocket from its upgrade to its end, whoever is at the other end of it.
//!
//! Owns: the codec, the wait for a client that proves later who it is, and the log lines of a connection. Refuses to read what a
//! known client says: that is `connection`'s. Neighbours: `upgrade` makes it, `ending` says how it ends.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{FutureExt, Stream};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::locale::Locale;
use tidings_core::protocol::client::{self, ClientFrame, Said};
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::since::Since;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Shared;
use super::connection::Connection;
use super::ending::{self, NO_CLOSE, NO_CODE, Open, Who, finish};
use super::inlet::{AckMode, NamedBy};
use super::metrics::Limit;
use super::moment::millis;
use super::outbox::{Outbox, Phase, Wire};
use super::socket::Socket;
use super::unproven::Place;
use super::upgrade::Caller;
use crate::auth::Identity;

/// The codec's read buffer; small, as idle connections are many. An acknowledgement fits.
const READ_BYTES: usize = 128;

/// What a client asks for with its request.
pub(super) struct Wish {
    /// Whom it says it is; must be whom it proves to be.
    pub(super) user: Option<String>,
    pub(super) device: DeviceId,
    pub(super) named_by: NamedBy,
    pub(super) mode: AckMode,
    /// What it reads, if it says so.
    pub(super) locale: Option<Locale>,
    /// Where it stopped.
    pub(super) since: Since,
}

/// A client that is known.
pub(super) struct Admitted {
    pub(super) identity: Identity,
    pub(super) wish: Wish,
    /// The `messageId` of its `auth`, if it came in by one.
    pub(super) reply_to: Option<String>,
}

/// What a request's credentials are worth.
pub(super) enum Arrival {
    Known(Box<Admitted>),
    /// It has none; its first frame must.
    Unknown(Box<Wish>, Place),
    Refused(CloseCode, Place),
}

/// A WebSocket that was just made.
pub(super) struct Line {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Caller,
    pub(super) outbox: Arc<Outbox>,
}

/// The codec over the socket.
pub(super) type Codec = WebSocketStream<Socket>;

/// What happened on the line.
pub(super) enum Event {
    Said(Message),
    /// The client's close frame, which the codec answers.
    Goodbye(u16),
    /// The gateway is ending it.
    Closing,
    Failed(CloseCode),
    Gone,
}

impl Admitted {
    /// Admits a client that is known, if it is who it says it is.
    pub(super) fn new(identity: Identity, wish: Wish, reply_to: Option<String>) -> Result<Box<Self>, CloseCode> {
        let is_same = |said: &String| said.parse::<UserId>().is_ok_and(|said| said == identity.user);
        if wish.user.as_ref().is_some_and(|said| !is_same(said)) {
            return Err(CloseCode::UserMismatch);
        }
        Ok(Box::new(Self { identity, wish, reply_to }))
    }
}

impl Line {
    /// A line on which `answer`, that to the upgrade, has not been written.
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, wire: Wire, answer: Vec<u8>) -> Self {
        let outbox = Arc::new(Outbox::new(wire, shared.config.outbox_bytes.get(), millis(shared.clock)));
        outbox.hold(answer);
        Self { shared, caller, outbox }
    }

    /// Serves the line to its end, including its log lines. What happens once is boxed, so that an idle connection's task holds
    /// only what it needs while idle.
    pub(super) async fn run(self, arrival: Arrival, early: Box<[u8]>) {
        let since_ms = millis(self.shared.clock);
        let first_bytes = match arrival {
            Arrival::Known(_) => usize::MAX,
            Arrival::Unknown(..) | Arrival::Refused(..) => self.shared.config.auth_frame_bytes.get(),
        };
        let mut codec = Box::pin(self.codec(early, first_bytes)).await;
        let (admitted, place) = match arrival {
            Arrival::Known(admitted) => (Ok(admitted), None),
            Arrival::Refused(code, place) => (Err(code.code()), Some(place)),
            Arrival::Unknown(wish, place) => (Box::pin(self.prove(&mut codec, *wish)).await, Some(place)),
        };
        match admitted {
            Ok(admitted) => {
                drop(place);
                Box::pin(self.serve(admitted, codec, since_ms)).await;
            }
            Err(code) => Box::pin(self.refuse(None, code, since_ms)).await,
        }
    }

    async fn codec(&self, early: Box<[u8]>, first_bytes: usize) -> Box<Codec> {
        let limit = Some(self.shared.config.frame_bytes.get());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(limit)
            .max_frame_size(limit);
        let mut socket = Socket::new(self.shared.clone(), self.outbox.clone(), first_bytes);
        // What came with the request does not come by the socket.
        if !early.is_empty() {
            socket.heard(&early);
        }
        Box::new(WebSocketStream::from_partially_read(socket, early.into_vec(), Role::Server, Some(config)).await)
    }

    /// Waits for the first frame, which proves who the client is; else gives the code that the line ends with.
    async fn prove(&self, codec: &mut Codec, wish: Wish) -> Result<Box<Admitted>, u16> {
        self.outbox.uncork(millis(self.shared.clock));
        let first = tokio::select! {
            first = tokio::time::timeout(self.shared.config.auth_timeout.0, self.first_text(codec)) => first,
            () = self.shared.draining.cancelled() => return Err(CloseCode::Draining.code()),
        };
        let text = first.map_err(|_| {
            self.shared.metrics.crossed(Limit::AuthTimeout);
            CloseCode::MissingCredentials.code()
        })??;
        let Said { message_id, frame } = client::read(&text);
        let Ok(ClientFrame::Auth(token)) = frame else { return Err(CloseCode::MissingCredentials.code()) };
        let identity = self.shared.auth.verify(token.reveal(), self.shared.clock.now());
        let identity = identity.map_err(|_| CloseCode::InvalidToken.code())?;
        Admitted::new(identity, wish, message_id).map_err(CloseCode::code)
    }

    async fn first_text(&self, codec: &mut Codec) -> Result<String, u16> {
        let mut goodbye = None;
        loop {
            match self.next(codec).await {
                Event::Said(Message::Text(text)) => return Ok(text.as_str().to_owned()),
                Event::Said(Message::Binary(_)) => return Err(CloseCode::Binary.code()),
                Event::Said(_) => {}
                // The codec answers it before it is done.
                Event::Goodbye(code) => goodbye = Some(code),
                Event::Failed(code) => return Err(code.code()),
                Event::Closing | Event::Gone => return Err(goodbye.unwrap_or(NO_CLOSE)),
            }
        }
    }

    async fn serve(&self, admitted: Box<Admitted>, mut codec: Box<Codec>, since_ms: u64) {
        let (user, device) = (admitted.identity.user.clone(), admitted.wish.device.clone());
        let who = Who { user, device, address: self.caller.address };
        let joined = AssertUnwindSafe(Box::pin(Connection::join(self, admitted))).catch_unwind().await;
        let mut connection = match joined.unwrap_or(Err(CloseCode::Internal)) {
            Ok(connection) => connection,
            Err(code) => return Box::pin(self.refuse(Some(&who), code.code(), since_ms)).await,
        };
        let _open = Open::count(&self.shared.metrics, &who);
        // Lent, for a future that is given something keeps room for it twice.
        let served = AssertUnwindSafe(connection.serve(&mut codec)).catch_unwind().await;
        drop((connection, codec));
        let code = served.unwrap_or_else(|_| {
            self.outbox.close(CloseCode::Internal, millis(self.shared.clock));
            CloseCode::Internal.code()
        });
        let code = Box::pin(finish(&self.shared, &self.outbox, code)).await;
        ending::closed(&self.shared, &who, code, since_ms);
    }

    async fn refuse(&self, who: Option<&Who>, code: u16, since_ms: u64) {
        if let Some(code) = CloseCode::ALL.into_iter().find(|known| known.code() == code) {
            self.outbox.close(code, millis(self.shared.clock));
        }
        let code = finish(&self.shared, &self.outbox, code).await;
        ending::refused(&self.shared, (who, self.caller.address), code, since_ms);
    }

    /// Waits for the next event, writing what waits meanwhile.
    pub(super) async fn next(&self, codec: &mut Codec) -> Event {
        std::future::poll_fn(|cx| self.poll_next(codec, cx)).await
    }

    /// The same, among others that are waited for.
    pub(super) fn poll_next(&self, codec: &mut Codec, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(end);
        }
        Pin::new(codec).poll_next(cx).map(|message| match message {
            Some(Ok(Message::Close(frame))) => Event::Goodbye(frame.map_or(NO_CODE, |frame| frame.code.into())),
            Some(Ok(message)) => Event::Said(message),
            Some(Err(error)) => failed(&error),
            None => Event::Gone,
        })
    }

    /// Whether the line ends from this side, whatever its client says. Writes what waits.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(Err(_)) = self.outbox.poll_flush(cx, millis(self.shared.clock)) {
            return Poll::Ready(Event::Gone);
        }
        if matches!(self.outbox.phase(), Phase::Closing(_)) { Poll::Ready(Event::Closing) } else { Poll::Pending }
    }
}

/// What a codec's error means for the line.
fn failed(error: &Error) -> Event {
    match error {
        Error::Capacity(_) => Event::Failed(CloseCode::TooLarge),
        Error::Utf8(_) => Event::Failed(CloseCode::NotText),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Event::Gone,
        Error::Protocol(_) => Event::Failed(CloseCode::Protocol),
        _ => Event::Gone,
    }
}
