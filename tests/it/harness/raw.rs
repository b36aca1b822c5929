//! A client that speaks in bytes: what no WebSocket library would send, and what it would not show.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::bare::upgrade;
use super::world::World;
use super::{HANG, frames};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client must send it: masked.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first bytes of a frame, up to where its mask would stand.
pub(crate) fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => header.push(mask | short),
        (_, Ok(long)) => {
            header.push(mask | 126);
            header.extend(long.to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// A text frame of a client.
pub(crate) fn text(frame: &Value) -> Vec<u8> {
    masked(TEXT, frame.to_string().as_bytes())
}

/// A frame of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.first, TEXT, "{self:?}");
        frames::of_server(&self.payload)
    }

    /// The code of a close frame; 1005 if it has none.
    pub(crate) fn code(&self) -> u16 {
        assert_eq!(self.first, CLOSE, "{self:?}");
        self.payload.get(..2).map_or(1005, |code| u16::from_be_bytes(code.try_into().unwrap()))
    }
}

/// An upgraded connection. It reads only when it is asked to, and answers nothing by itself.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    /// The answer to the upgrade.
    pub(crate) head: String,
}

impl Raw {
    /// Upgrades with any query and further header lines; `first` goes out with the request.
    pub(crate) async fn open(address: SocketAddr, query: &str, (headers, first): (&str, &[u8])) -> Self {
        let mut raw = Self::ask(address, query, (headers, first)).await;
        raw.answered().await;
        assert!(raw.head.starts_with("HTTP/1.1 101 "), "{}", raw.head);
        raw
    }

    /// Asks for an upgrade, and reads the answer's head whatever it is.
    pub(crate) async fn asked(address: SocketAddr, query: &str) -> Self {
        let mut raw = Self::ask(address, query, ("", &[])).await;
        raw.answered().await;
        raw
    }

    /// Asks for an upgrade, and reads nothing at all.
    pub(crate) async fn ask(address: SocketAddr, query: &str, (headers, first): (&str, &[u8])) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request = upgrade(&format!("/ws?{query}"), headers);
        stream.write_all(&[request.as_bytes(), first].concat()).await.unwrap();
        Self { stream, head: String::new() }
    }

    /// A connection of `user` that has been greeted.
    pub(crate) async fn greeted(address: SocketAddr, user: &str) -> Self {
        let mut raw = Self::open(address, &format!("token={}&deviceId=raw", World::token(user)), ("", &[])).await;
        raw.json("connected").await;
        raw
    }

    async fn answered(&mut self) {
        while !self.head.ends_with("\r\n\r\n") {
            let byte = self.byte().await.expect("the answer ends with an empty line");
            self.head.push(char::from(byte));
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.exactly(&mut byte).await.then_some(byte[0])
    }

    async fn exactly(&mut self, bytes: &mut [u8]) -> bool {
        tokio::time::timeout(HANG, self.stream.read_exact(bytes)).await.expect("nothing was heard").is_ok()
    }

    /// The next frame; none when the server has left.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        if !self.exactly(&mut head).await {
            return None;
        }
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let mut length = [0; 8];
        let length = match head[1] {
            126 => self.exactly(&mut length[6..]).await.then(|| u64::from_be_bytes(length)),
            127 => self.exactly(&mut length).await.then(|| u64::from_be_bytes(length)),
            short => Some(short.into()),
        };
        let mut payload = vec![0; usize::try_from(length?).unwrap()];
        self.exactly(&mut payload).await.then_some(Frame { first: head[0], payload })
    }

    /// The next frame that is no ping of the server.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.first != PING {
                return Some(frame);
            }
        }
    }

    /// The next text frame of a type; others are passed over.
    pub(crate) async fn json(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await.expect("the server has left");
            if frame.first == TEXT && frame.json()["type"] == kind {
                return frame.json();
            }
            assert_ne!(frame.first, CLOSE, "closed with {} instead of {kind}", frame.code());
        }
    }

    /// The code that the server closes with, behind whatever it says before.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("the server left without a close frame");
            if frame.first == CLOSE {
                return frame.code();
            }
        }
    }
}
