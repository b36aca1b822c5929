//! The socket as the codec sees it: reads come from the connection, writes go to its outbox.
//!
//! Owns: noting when bytes arrive. Refuses to write: the outbox is the only writer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::moment::millis;
use super::outbox::Outbox;
use crate::clock::Clock;

/// One connection's socket.
pub(super) struct Socket {
    outbox: Arc<Outbox>,
    clock: Clock,
}

impl Socket {
    pub(super) fn new(outbox: Arc<Outbox>, clock: Clock) -> Self {
        Self { outbox, clock }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            // Before waiting: TLS may hold what came with bytes that were read before.
            match self.outbox.try_read(buf.initialize_unfilled()) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    if bytes > 0 {
                        let (pulse, now_ms) = (self.outbox.pulse(), millis(self.clock));
                        pulse.heard_ms.store(now_ms, Ordering::Relaxed);
                        if pulse.unfinished_ms.load(Ordering::Relaxed) == 0 {
                            pulse.unfinished_ms.store(now_ms.max(1), Ordering::Relaxed);
                        }
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.outbox.stream().poll_read_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.push_of_codec(frame, millis(self.clock));
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
