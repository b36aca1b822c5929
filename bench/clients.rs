//! The load: sockets that open a connection, subscribe, and count frames, as cheaply as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::server::{CHANNEL, Server};

/// Frames at least this long are notifications; the gateway's greetings and answers are told apart by their text.
const MARK: &[u8] = b"\"eventId\"";

/// Open connections. Closed when dropped.
pub(crate) struct Clients {
    /// Shared with the tasks that read.
    frames: Arc<AtomicU64>,
    _readers: JoinSet<()>,
}

impl Clients {
    /// Opens `count` connections, one user each, subscribed to the channel.
    pub(crate) async fn connect(server: &Server, count: usize) -> anyhow::Result<Self> {
        let frames = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for number in 0..count {
            let mut socket = TcpStream::connect(server.address()).await?;
            socket.write_all(server.request(&format!("user-{number}"))?.as_bytes()).await?;
            let mut answer = [0; 512];
            let read = socket.read(&mut answer).await?;
            anyhow::ensure!(answer.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(&answer[..read]));
            socket.write_all(&subscribe()).await?;
            readers.spawn(read_frames(socket, frames.clone()));
        }
        Ok(Self { frames, _readers: readers })
    }

    /// Waits until `expected` notifications have arrived in all.
    pub(crate) async fn await_frames(&self, expected: u64) -> anyhow::Result<()> {
        let all = async {
            while self.frames.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let arrived = tokio::time::timeout(Duration::from_secs(60), all).await;
        arrived.with_context(|| format!("only {} of {expected} frames arrived", self.frames.load(Ordering::Relaxed)))
    }
}

async fn read_frames(mut socket: TcpStream, frames: Arc<AtomicU64>) {
    let mut buffer = vec![0; 2048];
    let mut kept = 0;
    while let Ok(read) = socket.read(&mut buffer[kept..]).await {
        if read == 0 {
            return;
        }
        let (end, mut from) = (kept + read, 0);
        while let Some(at) = find(&buffer[from..end]) {
            frames.fetch_add(1, Ordering::Relaxed);
            from += at + MARK.len();
        }
        // A mark may be cut between two reads.
        kept = (end - from).min(MARK.len() - 1);
        buffer.copy_within(end - kept..end, 0);
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARK.len()).position(|window| window == MARK)
}

/// A masked text frame whose mask is zero, so that the payload stands in it as it is.
fn subscribe() -> Vec<u8> {
    let text = format!("{{\"type\":\"subscribe\",\"channel\":\"{CHANNEL}\"}}");
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap_or(0), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}
