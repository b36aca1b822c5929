//! The socket as the codec sees it: reads come from the connection, writes go to its outbox.
//!
//! Owns: noting when bytes arrive, and the limits that are told by the bytes alone: unfinished frames, their rate and, before the
//! client is known, their size. Refuses to write: the outbox is the only writer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use tidings_core::protocol::close::CloseCode;

use super::Shared;
use super::intake::{Intake, Unfinished};
use super::metrics::Limit;
use super::moment::millis;
use super::outbox::{Outbox, Phase};
use crate::clock::rate::{Allowance, Rate};

/// One connection's socket.
pub(super) struct Socket {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    intake: Intake,
    frames: Rate,
    /// How many of the notifications shown have been taken as the reason for a frame.
    credited: u32,
}

/// The most frames that a client may owe to notifications it has been shown.
const CREDIT: u32 = 10_000;

impl Socket {
    /// A socket whose first message has at most `first_bytes`; the codec bounds all.
    pub(super) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, first_bytes: usize) -> Self {
        Self { shared, outbox, intake: Intake::new(first_bytes), frames: Rate::default(), credited: 0 }
    }

    /// Notes what the client has sent, whoever has read it.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let brought = self.intake.take(bytes);
        let unprovoked = self.unprovoked(brought.frames);
        let (pulse, now_ms) = (self.outbox.pulse(), millis(self.shared.clock));
        pulse.heard_ms.store(now_ms, Ordering::Relaxed);
        match brought.unfinished {
            Unfinished::Nothing => pulse.unfinished_ms.store(0, Ordering::Relaxed),
            Unfinished::Anew => pulse.unfinished_ms.store(now_ms.max(1), Ordering::Relaxed),
            Unfinished::Still => {}
        }
        let allowance = Allowance::new(
            std::time::Duration::from_secs(1) / u32::try_from(self.shared.config.frames_per_second.get()).unwrap_or(u32::MAX),
            self.shared.config.frames_burst.get(),
        );
        if brought.is_too_large {
            self.cross(Limit::AuthFrameBytes, CloseCode::TooLarge, now_ms);
        } else if !self.frames.take(unprovoked, allowance, self.shared.clock.elapsed()) {
            self.cross(Limit::FramesPerSecond, CloseCode::RateLimited, now_ms);
        }
    }

    /// How many of some frames no notification is the reason for. A client that is sent what it missed may acknowledge each.
    fn unprovoked(&mut self, frames: u64) -> u64 {
        let shown = self.outbox.pulse().shown();
        let credit = shown.wrapping_sub(self.credited).min(CREDIT);
        let used = u32::try_from(frames).unwrap_or(u32::MAX).min(credit);
        self.credited = shown.wrapping_sub(credit - used);
        frames - u64::from(used)
    }

    fn cross(&self, limit: Limit, code: CloseCode, now_ms: u64) {
        if self.outbox.phase() == Phase::Open {
            self.shared.metrics.crossed(limit);
            self.outbox.close(code, now_ms);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        loop {
            // Before waiting: TLS may hold what came with bytes that were read before.
            match socket.outbox.try_read(buf.initialize_unfilled()) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    if bytes > 0 {
                        let filled = buf.filled();
                        socket.heard(filled.get(filled.len() - bytes..).unwrap_or_default());
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.outbox.stream().poll_read_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.push_of_codec(frame, millis(self.shared.clock));
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
