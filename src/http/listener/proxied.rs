//! The PROXY protocol: a header before the first byte of a connection, in which a proxy names the client (versions 1 and 2).
//!
//! Owns: reading exactly the header and no byte behind it. Refuses a connection without one, and headers that are longer than
//! what proxies send. Who may send one is the listener's business.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What both versions are told apart by.
const PREFIX_BYTES: usize = 12;
const SIGNATURE: &[u8; PREFIX_BYTES] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2.
const FIXED_BYTES: usize = 16;
/// Addresses and a few hundred bytes of what proxies add.
const REST_BYTES: usize = 4096;
/// The longest line of version 1.
const LINE_BYTES: usize = 107;

/// Why a connection's header is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the connection ended within its PROXY header")]
    Broken(#[from] io::Error),
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is longer than {REST_BYTES} bytes")]
    Long,
    #[error("the PROXY header does not read: {0}")]
    Malformed(String),
}

/// The client that the header names; none if the proxy speaks for itself, as its health checks do.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, HeaderError> {
    let mut header = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(FIXED_BYTES, 0);
        stream.read_exact(&mut header[PREFIX_BYTES..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > REST_BYTES {
            return Err(HeaderError::Long);
        }
        header.resize(FIXED_BYTES + rest, 0);
        stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    } else if header.starts_with(b"PROXY ") {
        // Byte by byte, because what follows the line is not ours.
        while !header.ends_with(b"\r\n") {
            if header.len() >= LINE_BYTES {
                return Err(HeaderError::Long);
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(HeaderError::Missing);
    }
    named(&header)
}

fn named(header: &[u8]) -> Result<Option<IpAddr>, HeaderError> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(error)) => Err(HeaderError::Malformed(error.to_string())),
        HeaderResult::V2(Err(error)) => Err(HeaderError::Malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Builder, Command, Protocol, Version};

    use super::*;

    /// What is named, and what is left behind the header.
    async fn outcome(bytes: &[u8]) -> (Result<Option<IpAddr>, HeaderError>, Vec<u8>) {
        let mut stream = bytes;
        (read(&mut stream).await, stream.to_vec())
    }

    fn version_2(command: Command) -> Vec<u8> {
        let addresses = ("203.0.113.7:4711".parse::<std::net::SocketAddr>().unwrap(), "10.0.0.1:443".parse().unwrap());
        Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses).build().unwrap()
    }

    #[tokio::test]
    async fn the_client_is_named_and_nothing_behind_the_header_is_read() {
        let header = [&version_2(Command::Proxy)[..], b"GET /"].concat();
        let (named, left) = outcome(&header).await;
        assert_eq!(named.unwrap(), Some("203.0.113.7".parse().unwrap()));
        assert_eq!(left, b"GET /");
        let (named, left) = outcome(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\nGET /").await;
        assert_eq!(named.unwrap(), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(left, b"GET /");
    }

    #[tokio::test]
    async fn a_proxy_that_speaks_for_itself_names_nobody() {
        assert_eq!(outcome(&version_2(Command::Local)).await.0.unwrap(), None);
        assert_eq!(outcome(b"PROXY UNKNOWN\r\n").await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        assert!(matches!(outcome(b"GET / HTTP/1.1\r\n\r\n").await.0, Err(HeaderError::Missing)));
        assert!(matches!(outcome(b"PROXY").await.0, Err(HeaderError::Broken(_))));
        assert!(matches!(outcome(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()).await.0, Err(HeaderError::Long)));
        assert!(matches!(outcome(b"PROXY TCP4 one two 3 4\r\n").await.0, Err(HeaderError::Malformed(_))));
        let mut long = version_2(Command::Proxy);
        long[14] = 0xff;
        assert!(matches!(outcome(&long).await.0, Err(HeaderError::Long)));
        let mut half = version_2(Command::Proxy);
        half.pop();
        assert!(matches!(outcome(&half).await.0, Err(HeaderError::Broken(_))));
    }
}
