//! The handshake of TLS, within its time, and a word to those who speak plain HTTP to a TLS port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::Meters;

/// The first byte of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// Enough of a stranger's request to let it read the answer.
const DISCARDED_BYTES: u64 = 8192;
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\
Content-Length: 121\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"this port speaks TLS: use https:// or wss:// instead\"}";

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("plain HTTP was spoken to a port that speaks TLS")]
    Plain,
    /// As probes of ports do.
    #[error("the client left before it said anything")]
    Silent,
    #[error("the handshake did not end within `gateway.tls.handshake_timeout`")]
    Late,
    #[error("the handshake failed: {0}")]
    Broken(io::Error),
}

/// Shakes hands, and counts how it went.
pub(super) async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    limit: Duration,
    meters: &Meters,
) -> Result<TlsStream<TcpStream>, Failure> {
    let outcome = timeout(limit, attempt(stream, config)).await.unwrap_or(Err(Failure::Late));
    meters.handshake(match &outcome {
        Ok(_) => "done",
        Err(Failure::Plain) => "plain_http",
        Err(Failure::Silent) => "silent",
        Err(Failure::Late) => "timeout",
        Err(Failure::Broken(_)) => "failed",
    });
    outcome
}

async fn attempt(mut stream: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, Failure> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => Err(Failure::Silent),
        Ok(_) if first[0] == HANDSHAKE => TlsAcceptor::from(config).accept(stream).await.map_err(Failure::Broken),
        Ok(_) if first[0].is_ascii_uppercase() => {
            answer_plainly(&mut stream).await.map_err(Failure::Broken)?;
            Err(Failure::Plain)
        }
        Ok(_) => Err(Failure::Broken(io::ErrorKind::InvalidData.into())),
        Err(error) => Err(Failure::Broken(error)),
    }
}

async fn answer_plainly(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN).await?;
    stream.shutdown().await?;
    // To leave with bytes unread would reset the connection, and with it the answer.
    tokio::io::copy(&mut stream.take(DISCARDED_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_announces_its_own_length() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{} bytes", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
