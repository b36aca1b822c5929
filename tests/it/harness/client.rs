//! A device, by a WebSocket library that is not the server's.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

use super::{HANG, frames};

/// What a device sees next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Frame(Value),
    Closed(u16),
    /// The line broke without a close frame.
    Gone,
}

/// What a WebSocket is spoken on.
trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Line for S {}

/// An open connection.
pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn Line>>,
    /// Frames that were passed over while waiting for another one.
    waiting: VecDeque<Value>,
}

impl Client {
    /// Opens a connection with any query.
    pub(crate) async fn open(address: SocketAddr, query: &str) -> Self {
        Self::try_open(address, query).await.expect("the connection was refused")
    }

    /// Opens a connection, if the server is there.
    pub(crate) async fn try_open(address: SocketAddr, query: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).unwrap();
        Self::try_over(stream, &address.to_string(), query).await
    }

    /// Opens a connection on a stream that is already there.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, query: &str) -> Self {
        Self::try_over(stream, "localhost", query).await.expect("the connection was refused")
    }

    async fn try_over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, host: &str, query: &str) -> Option<Self> {
        let uri = format!("ws://{host}/ws?{query}").parse().unwrap();
        let line: Box<dyn Line> = Box::new(stream);
        let builder = ClientBuilder::from_uri(uri);
        let (socket, _) = tokio::time::timeout(HANG, builder.connect_on(line)).await.unwrap().ok()?;
        Some(Self { socket, waiting: VecDeque::new() })
    }

    /// Opens a connection and reads its greeting.
    pub(crate) async fn greeted(address: SocketAddr, query: &str) -> (Self, Value) {
        let mut client = Self::open(address, query).await;
        let greeting = client.frame("connected").await;
        (client, greeting)
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// Sends, and says whether the line still took it.
    pub(crate) async fn try_send(&mut self, frame: &Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).await.is_ok()
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Subscribes and waits for the answer.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> Value {
        self.send(json!({"type": "subscribe", "channel": channel})).await;
        self.frame("subscribed").await
    }

    /// Acknowledges everything up to a notification's frame.
    pub(crate) async fn ack(&mut self, frame: &Value) {
        self.send(json!({"type": "ack", "channel": frame["channel"], "position": frame["position"]})).await;
    }

    /// The next frame of a type; others wait.
    pub(crate) async fn frame(&mut self, kind: &str) -> Value {
        if let Some(at) = self.waiting.iter().position(|frame| frame["type"] == kind) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            match self.hear().await {
                Heard::Frame(frame) if frame["type"] == kind => return frame,
                Heard::Frame(frame) => self.waiting.push_back(frame),
                other => panic!("{other:?} instead of a frame of type {kind}; before it {:?}", self.waiting),
            }
        }
    }

    /// A frame of a type that was passed over so far.
    pub(crate) fn passed_over(&self, kind: &str) -> Option<&Value> {
        self.waiting.iter().find(|frame| frame["type"] == kind)
    }

    /// The code that the server closes with; frames before it are passed over.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.hear().await {
                Heard::Frame(frame) => self.waiting.push_back(frame),
                Heard::Closed(code) => return code,
                Heard::Gone => panic!("the line broke without a close frame"),
            }
        }
    }

    /// Reads, and so answers pings, until something is so. Meanwhile nothing may be said but of other devices, and how much is unread.
    pub(crate) async fn reads_until(&mut self, something: impl Future<Output = ()>) {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                heard = self.hear() => match heard {
                    Heard::Frame(frame) if frame["type"] == "device:status" || frame["type"] == "counts" => {}
                    heard => panic!("nothing more was to be said, but {heard:?} was heard"),
                },
                () = &mut something => return,
            }
        }
    }

    /// Whatever comes next, text frames as JSON.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let next = tokio::time::timeout(HANG, self.socket.next()).await.expect("nothing was heard");
            match next {
                Some(Ok(message)) if message.is_text() => {
                    return Heard::Frame(frames::of_server(message.as_text().unwrap().as_bytes()));
                }
                Some(Ok(message)) if message.is_close() => {
                    return message.as_close().map_or(Heard::Closed(1005), |(code, _)| Heard::Closed(code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Gone,
            }
        }
    }

    /// Says goodbye properly.
    pub(crate) async fn close(mut self) {
        self.socket.close().await.unwrap();
    }
}
