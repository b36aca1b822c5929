//! A transport: a client's socket as the listener opened it, plain or TLS, on which HTTP is spoken until it is upgraded.
//!
//! Owns: which of the two it is, and holding back the answer to an upgrade, which leaves with the line's first frames in one write.
//! Refuses to speak: that is hyper's, and then a line's. Neighbours: `http` makes it, `upgrade` takes it back from hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::outbox::Wire;
use super::session::Session;

/// A socket that HTTP is spoken on.
pub struct Transport {
    stream: Stream,
    talk: Talk,
    /// The answer to an upgrade.
    held: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How far the talk on a transport is. Shared by the transport, which writes, and the listener, which answers.
#[derive(Debug, Clone)]
pub struct Talk(Arc<AtomicU8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// No request was answered.
    Begun,
    Answered,
    /// What is written next is the last of HTTP.
    Upgraded,
}

impl Talk {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Stage::Begun as u8)))
    }

    /// A request is answered.
    pub fn answered(&self) {
        self.0.store(Stage::Answered as u8, Ordering::Relaxed);
    }

    /// A request is answered with an upgrade.
    pub fn upgraded(&self) {
        self.0.store(Stage::Upgraded as u8, Ordering::Relaxed);
    }

    /// Whether a request was answered.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        !self.is(Stage::Begun)
    }

    fn is(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Relaxed) == stage as u8
    }
}

impl Transport {
    /// Without TLS.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Self {
        Self::over(Stream::Plain(stream))
    }

    /// Behind a TLS handshake.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::over(Stream::Tls(Box::new(stream)))
    }

    fn over(stream: Stream) -> Self {
        Self { stream, talk: Talk::new(), held: Vec::new() }
    }

    /// How far the talk is.
    #[must_use]
    pub fn talk(&self) -> Talk {
        self.talk.clone()
    }

    /// The bare socket, with its TLS session if it has one, and the answer that it has not been given.
    pub(super) fn into_wire(self) -> (Wire, Vec<u8>) {
        let wire = match self.stream {
            Stream::Plain(stream) => Wire::Plain(stream),
            Stream::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                Wire::Tls(stream, Box::new(Session::new(session)))
            }
        };
        (wire, self.held)
    }

    /// Whether what is written is held back, and all behind it.
    fn holds(&self) -> bool {
        self.talk.is(Stage::Upgraded) || !self.held.is_empty()
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.holds() {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.holds() {
            slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
