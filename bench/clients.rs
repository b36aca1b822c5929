//! The load: sockets that open a connection, subscribe, read frames, time them and acknowledge, as cheaply as they can.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use memchr::memmem;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_openssl::SslStream;

use crate::machine::now_us;
use crate::server::{CHANNEL, Server};

/// Where a notification of this load says when it was produced.
pub(crate) const SENT: &str = "sentUs";
/// How often a client acknowledges at most, in microseconds: as one that gathers acknowledgements would.
const ACK_EVERY_US: u64 = 1_000_000;
/// Connections that are being opened at the same time, as when many come back.
const AT_ONCE: usize = 64;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Longer than any frame of this load.
const BUFFER_BYTES: usize = 4096;

/// Open connections. Closed when dropped.
pub(crate) struct Clients {
    seen: Arc<Seen>,
    _readers: JoinSet<()>,
}

/// What all clients saw.
#[derive(Default)]
struct Seen {
    frames: AtomicU64,
    /// Recoveries that ended, and those of them that missed something.
    recovered: AtomicU64,
    lost: AtomicU64,
    latencies_us: Mutex<Vec<u32>>,
}

impl Clients {
    /// Opens `count` connections of `user-0`, `user-1`, …, each subscribed to the channel.
    pub(crate) async fn connect(server: &Server, count: usize) -> anyhow::Result<Self> {
        Self::open(server, (0..count).map(|number| (format!("user-{number}"), String::new()))).await
    }

    /// Opens a connection of each user, with more parameters of its request, and subscribed to the channel.
    pub(crate) async fn open(server: &Server, users: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let mut readers = JoinSet::new();
        let opening = users.map(|(user, query)| Line::open(server, (user, query), seen.clone()));
        let mut opening = futures_util::stream::iter(opening).buffer_unordered(AT_ONCE);
        while let Some(line) = opening.next().await {
            readers.spawn(line?.read());
        }
        drop(opening);
        Ok(Self { seen, _readers: readers })
    }

    /// The same for users who all come within so much time, however long each takes.
    pub(crate) async fn arrive(
        server: &Server,
        users: impl ExactSizeIterator<Item = (String, String)>,
        within: Duration,
    ) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let (each, start) = (within / u32::try_from(users.len().max(1))?, tokio::time::Instant::now());
        let opening = (0..).zip(users).map(|(number, user)| {
            let seen = seen.clone();
            async move {
                tokio::time::sleep_until(start + each * number).await;
                Line::open(server, user, seen).await
            }
        });
        let mut opening = opening.collect::<FuturesUnordered<_>>();
        let mut readers = JoinSet::new();
        while let Some(line) = opening.next().await {
            readers.spawn(line?.read());
        }
        drop(opening);
        Ok(Self { seen, _readers: readers })
    }

    /// Waits until `expected` notifications have arrived in all.
    pub(crate) async fn await_frames(&self, expected: u64) -> anyhow::Result<()> {
        let all = async {
            while self.seen.frames.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let arrived = tokio::time::timeout(LIMIT, all).await;
        arrived.with_context(|| format!("only {} of {expected} frames arrived", self.seen.frames.load(Ordering::Relaxed)))
    }

    /// Waits until `expected` recoveries have ended, all of them complete.
    pub(crate) async fn await_recovered(&self, expected: u64) -> anyhow::Result<()> {
        let all = async {
            while self.seen.recovered.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, all).await.context("recoveries do not end")?;
        let lost = self.seen.lost.load(Ordering::Relaxed);
        anyhow::ensure!(lost == 0, "{lost} devices were not recovered");
        Ok(())
    }

    /// The latencies up to now, which are then forgotten.
    pub(crate) fn take_latencies_ms(&self) -> Vec<f64> {
        let taken = std::mem::take(&mut *self.seen.latencies_us.lock().unwrap_or_else(PoisonError::into_inner));
        taken.into_iter().map(|us| f64::from(us) / 1000.0).collect()
    }

    /// How long each notification took, in milliseconds, in no order.
    pub(crate) fn latencies_ms(&self) -> Vec<f64> {
        let latencies = self.seen.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.iter().map(|us| f64::from(*us) / 1000.0).collect()
    }
}

/// A plain or a TLS connection.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One connection of the load.
struct Line {
    socket: Box<dyn Wire>,
    seen: Arc<Seen>,
    buffer: Vec<u8>,
    mailbox: String,
    acked_us: u64,
}

impl Line {
    async fn open(server: &Server, (user, query): (String, String), seen: Arc<Seen>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server.address()).await?;
        socket.set_nodelay(true)?;
        let mut socket: Box<dyn Wire> = if server.is_tls() { Box::new(encrypted(socket).await?) } else { Box::new(socket) };
        socket.write_all(server.request(&user, &query)?.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let end = loop {
            anyhow::ensure!(socket.read_buf(&mut buffer).await? > 0, "the server hung up");
            if let Some(end) = memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        anyhow::ensure!(buffer.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(&buffer));
        buffer.drain(..end);
        socket.write_all(&text(&format!(r#"{{"type":"subscribe","channel":"{CHANNEL}"}}"#))).await?;
        Ok(Self { socket, seen, buffer, mailbox: format!("user-{user}"), acked_us: 0 })
    }

    /// Reads until the connection ends.
    async fn read(mut self) {
        loop {
            if let Some(ack) = self.take_frames()
                && self.socket.write_all(&ack).await.is_err()
            {
                return;
            }
            if !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Counts and times the whole frames of the buffer. Gives an acknowledgement of the last one, if it is time.
    fn take_frames(&mut self) -> Option<Vec<u8>> {
        let (mut from, mut last, now) = (0, None, now_us());
        let mut latencies = Vec::new();
        while let Some((payload, end)) = frame(&self.buffer[from..]) {
            if let Some(sent) = field(payload, SENT) {
                latencies.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
                last = Some(from..from + end);
            } else if memmem::find(payload, br#""type":"recovered""#).is_some() {
                let lost = memmem::find(payload, br#""recovered":true"#).is_none();
                self.seen.recovered.fetch_add(1, Ordering::Relaxed);
                self.seen.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
            }
            from += end;
        }
        if !latencies.is_empty() {
            self.seen.frames.fetch_add(latencies.len() as u64, Ordering::Relaxed);
            self.seen.latencies_us.lock().unwrap_or_else(PoisonError::into_inner).append(&mut latencies);
        }
        let ack = last.filter(|_| now.saturating_sub(self.acked_us) >= ACK_EVERY_US).and_then(|range| {
            self.acked_us = now;
            acknowledgement(&self.buffer[range], &self.mailbox)
        });
        self.buffer.drain(..from);
        ack
    }
}

/// TLS with whoever answers: what is measured is the server.
async fn encrypted(socket: TcpStream) -> anyhow::Result<SslStream<TcpStream>> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_verify(SslVerifyMode::NONE);
    let session = connector.build().configure()?.into_ssl("localhost")?;
    let mut stream = SslStream::new(session, socket)?;
    Pin::new(&mut stream).connect().await?;
    Ok(stream)
}

/// The payload of the first whole frame, and where the frame ends ([RFC 6455, section
/// 5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    Some((bytes.get(start..start + length)?, start + length))
}

fn field(payload: &[u8], name: &str) -> Option<u64> {
    let at = memmem::find(payload, name.as_bytes())? + name.len() + 2;
    let digits = payload.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn acknowledgement(frame: &[u8], mailbox: &str) -> Option<Vec<u8>> {
    let at = memmem::find(frame, br#""position":""#)? + 12;
    let end = at + frame.get(at..)?.iter().position(|byte| *byte == b'"')?;
    let position = std::str::from_utf8(frame.get(at..end)?).ok()?;
    let channel = if memmem::find(frame, mailbox.as_bytes()).is_some() { mailbox } else { CHANNEL };
    Some(text(&format!(r#"{{"type":"ack","channel":"{channel}","position":"{position}"}}"#)))
}

/// A masked text frame whose mask is zero, so that the payload stands in it as it is.
fn text(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload.as_bytes());
    frame
}
