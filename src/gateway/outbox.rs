//! The outbox of one connection: everything that is written to it goes through here.
//!
//! Owns: the socket's writing half, plain or TLS, what waits for it, its bound, and the close frame. A frame goes to the socket at once if
//! nothing waits; else it waits, and the connection's task writes all that waits in one call. Full: the unsent whole frames
//! are dropped and the connection is closed with 4008, so its device resumes elsewhere from its position. Long because everything
//! that touches a socket's state stands under one lock.

mod pulse;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::{Sent, ServerFrame};
use tokio::net::TcpStream;

pub(super) use self::pulse::Pulse;
use super::frames::{self, Kind};
use super::moment::Moment;
use super::session::Session;

/// Frames handed to the kernel in one call.
const SLICES: usize = 32;
/// A queue that has grown beyond this is given back once it is empty.
const KEPT_FRAMES: usize = 8;

/// The outbox of one connection.
pub(super) struct Outbox {
    stream: TcpStream,
    layer: Layer,
    limit_bytes: usize,
    /// Shared: the shard writes through, the connection's task writes what waits. Never held across a wait. With TLS it also
    /// guards the session, which both encrypt with and the task decrypts with.
    state: Mutex<State>,
    wake: AtomicWaker,
    said: AtomicU32,
    pulse: Pulse,
}

/// A socket that was taken over from HTTP.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(TcpStream, Box<Session>),
}

/// What lies between the outbox and its socket. Known without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Plain,
    Tls,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// How much of the first waiting frame has left.
    head_sent: usize,
    waiting_bytes: usize,
    pong: Option<Bytes>,
    phase: Phase,
    /// Whether frames wait for the rest of their page.
    corked: bool,
    /// What encrypts, if the layer is TLS.
    session: Option<Box<Session>>,
}

/// How far the connection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Frames are taken.
    #[default]
    Open,
    /// The close frame is on its way; nothing follows it.
    Closing(CloseCode),
    /// The client said goodbye and is answered; nothing follows.
    Answering,
    /// The socket is broken.
    Broken,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It was written or waits.
    Taken,
    /// There was no room; the connection is being closed.
    Overflowed,
    /// The connection is ending.
    Ended,
}

impl Outbox {
    /// The outbox of a connection, holding at most `limit_bytes`.
    pub(super) fn new(wire: Wire, limit_bytes: usize, now_ms: u64) -> Self {
        let (stream, layer, session) = match wire {
            Wire::Plain(stream) => (stream, Layer::Plain, None),
            Wire::Tls(stream, session) => (stream, Layer::Tls, Some(session)),
        };
        let pulse = Pulse::default();
        pulse.heard_ms.store(now_ms, Ordering::Relaxed);
        pulse.used_ms.store(now_ms, Ordering::Relaxed);
        let state = Mutex::new(State { session, ..State::default() });
        Self { stream, layer, limit_bytes, state, wake: AtomicWaker::new(), said: AtomicU32::new(0), pulse }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what the client sent, as plaintext; 0 at its end. `WouldBlock` if nothing has come.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.layer == Layer::Plain {
            return self.stream.try_read(buf);
        }
        let mut state = self.state.lock();
        let Some(session) = &mut state.session else { return Ok(0) };
        let read = session.read(&self.stream, buf);
        if session.left_bytes() > 0 {
            self.wake.wake();
        }
        read
    }

    /// With TLS, says that nothing follows; to be called with nothing waiting.
    pub(super) fn say_goodbye(&self) -> io::Result<()> {
        self.state.lock().session.as_mut().map_or(Ok(()), |session| session.say_goodbye(&self.stream))
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Notes that the connection is in use.
    pub(super) fn used(&self, now_ms: u64) {
        self.pulse.used_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Whether nothing waits for the socket.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().is_idle()
    }

    /// Says something to this connection alone.
    pub(super) fn say(&self, frame: ServerFrame<'_>, reply_to: Option<&str>, now: Moment) -> Pushed {
        let message_id = (self.said.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        let sent = Sent { frame, message_id: &message_id, reply_to, timestamp: now.wall };
        match frames::text(&sent) {
            Ok(frame) => {
                self.used(now.ms);
                self.push(&frame, now.ms)
            }
            Err(error) => {
                tracing::error!(%error, "a frame could not be written as JSON; this is a bug");
                self.close(CloseCode::Internal, now.ms);
                Pushed::Ended
            }
        }
    }

    /// Takes a whole frame.
    pub(super) fn push(&self, frame: &Bytes, now_ms: u64) -> Pushed {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Pushed::Ended;
        }
        if !state.is_idle() && state.held_bytes() + frame.len() > self.limit_bytes {
            state.keep_started();
            self.end(&mut state, Phase::Closing(CloseCode::SlowConsumer), frames::close(CloseCode::SlowConsumer), now_ms);
            return Pushed::Overflowed;
        }
        self.write_or_wait(&mut state, frame, now_ms);
        Pushed::Taken
    }

    /// Takes what goes before every frame. It waits until [`Outbox::uncork`], to leave with the first of them.
    pub(super) fn hold(&self, answer: Vec<u8>) {
        if !answer.is_empty() {
            let mut state = self.state.lock();
            state.corked = true;
            state.waiting_bytes += answer.len();
            state.waiting.push_front(answer.into());
        }
    }

    /// Lets what is pushed from now on wait until [`Outbox::uncork`], so that a page leaves in few calls.
    pub(super) fn cork(&self) {
        self.state.lock().corked = true;
    }

    /// Writes what has waited, as far as the socket takes it.
    pub(super) fn uncork(&self, now_ms: u64) {
        let mut state = self.state.lock();
        state.corked = false;
        while !state.is_idle() {
            match self.write_waiting(&mut state) {
                Ok(()) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        state.give_up();
                    }
                    self.pulse.waiting_ms.store(now_ms.max(1), Ordering::Relaxed);
                    return self.wake.wake();
                }
            }
        }
        state.waiting = VecDeque::new();
        self.pulse.waiting_ms.store(0, Ordering::Relaxed);
    }

    /// Takes what the codec wants to write: whole frames, each a pong or an answer to a close.
    pub(super) fn push_of_codec(&self, frame: &[u8], now_ms: u64) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return;
        }
        let frame = Bytes::copy_from_slice(frame);
        match frames::kind(&frame) {
            Kind::Pong if !state.is_idle() => state.pong = Some(frame),
            Kind::Close => self.end(&mut state, Phase::Answering, frame, now_ms),
            Kind::Pong | Kind::Other => self.write_or_wait(&mut state, &frame, now_ms),
        }
    }

    /// Ends the connection behind what waits. Later ends change nothing.
    pub(super) fn close(&self, code: CloseCode, now_ms: u64) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            self.end(&mut state, Phase::Closing(code), frames::close(code), now_ms);
        }
    }

    fn end(&self, state: &mut State, phase: Phase, last: Bytes, now_ms: u64) {
        state.pong = None;
        self.write_or_wait(state, &last, now_ms);
        if state.phase == Phase::Open {
            state.phase = phase;
        }
        self.wake.wake();
    }

    fn write_or_wait(&self, state: &mut State, frame: &Bytes, now_ms: u64) {
        let mut sent = 0;
        if state.is_idle() && !state.corked {
            let written = match &mut state.session {
                None => self.stream.try_write(frame),
                Some(session) => session.write(&self.stream, frame).map(|()| frame.len()),
            };
            match written {
                Ok(bytes) if bytes == frame.len() && state.is_idle() => return,
                Ok(bytes) => sent = bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    state.give_up();
                    self.wake.wake();
                    return;
                }
            }
            self.pulse.waiting_ms.store(now_ms.max(1), Ordering::Relaxed);
            self.wake.wake();
            if sent == frame.len() {
                return;
            }
            state.head_sent = sent;
        }
        state.waiting_bytes += frame.len() - sent;
        state.waiting.push_back(frame.clone());
    }

    /// Writes what waits, as far as the socket takes it. Ready once nothing waits; the task is woken when more does.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<io::Result<()>> {
        self.wake.register(cx.waker());
        loop {
            let mut state = self.state.lock();
            if state.phase == Phase::Broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if state.is_idle() {
                return Poll::Ready(Ok(()));
            }
            match self.write_waiting(&mut state) {
                Ok(()) => {
                    let waiting_ms = if state.is_idle() { 0 } else { now_ms.max(1) };
                    self.pulse.waiting_ms.store(waiting_ms, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(state);
                    match self.stream.poll_write_ready(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    }
                }
                Err(error) => {
                    state.give_up();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn write_waiting(&self, state: &mut State) -> io::Result<()> {
        let State { waiting, session, head_sent, .. } = state;
        let written = match session {
            Some(session) if session.left_bytes() > 0 => {
                session.write_left(&self.stream)?;
                0
            }
            Some(session) => {
                let frames = session.write_some(&self.stream, waiting.iter().map(|frame| &frame[..]))?;
                waiting.iter().take(frames).map(Bytes::len).sum()
            }
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                for (slice, frame) in slices.iter_mut().zip(&*waiting) {
                    let start = if used == 0 { *head_sent } else { 0 };
                    *slice = IoSlice::new(frame.get(start..).unwrap_or_default());
                    used += 1;
                }
                self.stream.try_write_vectored(slices.get(..used).unwrap_or_default())?
            }
        };
        state.advance(written);
        Ok(())
    }
}

impl State {
    /// Whether nothing waits for the socket.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.left_bytes() == 0
    }

    /// What waits for the socket: frames as they are, and ciphertext.
    fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.left_bytes()
    }

    fn left_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.left_bytes())
    }

    fn advance(&mut self, mut written: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(written);
        while let Some(head) = self.waiting.front() {
            let left = head.len() - self.head_sent;
            if written < left {
                self.head_sent += written;
                return;
            }
            written -= left;
            self.head_sent = 0;
            self.waiting.pop_front();
        }
        if let Some(pong) = self.pong.take() {
            self.waiting_bytes = pong.len();
            self.waiting.push_back(pong);
        } else if self.waiting.capacity() > KEPT_FRAMES {
            self.waiting = VecDeque::new();
        }
    }

    /// Drops what waits, but for a frame that has begun to leave: a cut frame would make all behind it unreadable. What is
    /// encrypted stays for the same reason.
    fn keep_started(&mut self) {
        self.waiting.truncate(usize::from(self.head_sent > 0));
        self.waiting_bytes = self.waiting.front().map_or(0, |head| head.len() - self.head_sent);
    }

    fn give_up(&mut self) {
        self.phase = Phase::Broken;
        self.waiting = VecDeque::new();
        self.pong = None;
        self.waiting_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
