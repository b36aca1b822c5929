//! HTTP by hand: what is sent and answered byte by byte, for whatever no client library would do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::HANG;
use super::world::Running;

pub(crate) const REFUSED_CONNECTIONS: &str = "tidings_http_refused_connections_total";
pub(crate) const REFUSED_REQUESTS: &str = "tidings_http_refused_requests_total";

pub(crate) async fn open(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// A connection of another client.
pub(crate) async fn elsewhere(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

/// Sends, and reads until the server has nothing more to say.
pub(crate) async fn said(mut stream: TcpStream, bytes: &[u8]) -> String {
    // A server that has refused already may not take all of it.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(HANG, stream.read_to_end(&mut answer)).await.expect("the server ends it");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends, and reads one answer's header.
pub(crate) async fn asked(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(HANG, stream.read_u8()).await.expect("an answer comes").unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// A request for an upgrade.
pub(crate) fn upgrade(target: &str, headers: &str) -> String {
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    get(target, &format!("{handshake}{headers}"))
}

/// The samples of a metric for one reason.
pub(crate) async fn count(running: &Running, name: &str, reason: &str) -> f64 {
    let (_, text) = running.get("/metrics").await;
    let sample = format!("{name}{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0.0)
}
