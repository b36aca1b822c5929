//! Alice's devices that were away: what they bring, and what they are told.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use tidings::config::Config;

use super::client::{Client, Heard};
use super::world::{Running, World, payment};

pub(crate) const MAILBOX: &str = "user-alice";

pub(crate) fn some(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Positions as they stand in an address.
pub(crate) fn positions(since: &Value) -> String {
    let text = since.to_string();
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The query of a device that acknowledges by itself.
pub(crate) fn query(device: &str) -> String {
    format!("token={}&deviceId={device}&ack=client", World::token("alice"))
}

/// Her device `d1` comes back with what it remembers.
pub(crate) async fn back(address: SocketAddr, since: &Value) -> Client {
    back_as("d1", address, since).await
}

/// One of her devices comes back with what it remembers.
pub(crate) async fn back_as(device: &str, address: SocketAddr, since: &Value) -> Client {
    Client::greeted(address, &format!("{}&since={}", query(device), positions(since))).await.0
}

/// One of her devices comes back and remembers nothing.
pub(crate) async fn returned(address: SocketAddr, device: &str) -> Client {
    Client::greeted(address, &query(device)).await.0
}

/// Another device of hers, which sees everything as it comes.
pub(crate) async fn witness(running: &Running) -> Client {
    returned(running.address, "witness").await
}

/// What a connection was told of a channel until its recovery ended.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The notifications it was sent, as frames.
    pub(crate) frames: Vec<Value>,
    /// Their positions.
    pub(crate) sent: Vec<String>,
    pub(crate) truncated: Vec<Value>,
    pub(crate) recovered: Value,
}

pub(crate) async fn told(client: &mut Client, channel: &str) -> Told {
    let mut told = Told::default();
    loop {
        let Heard::Frame(frame) = client.hear().await else { panic!("ended while it recovered: {told:?}") };
        if frame["channel"] != channel {
            continue;
        }
        match frame["type"].as_str().unwrap() {
            "notification:new" => {
                told.sent.push(position(&frame));
                told.frames.push(frame);
            }
            "truncated" => {
                assert!(told.sent.is_empty(), "a hole is told before what lies behind it");
                told.truncated.push(frame);
            }
            "recovered" => return Told { recovered: frame, ..told },
            _ => {}
        }
    }
}

pub(crate) fn position(frame: &Value) -> String {
    frame["position"].as_str().unwrap().to_owned()
}

pub(crate) fn id(frame: &Value) -> String {
    frame["notification"]["id"].as_str().unwrap().to_owned()
}

pub(crate) fn offset(position: &str) -> i64 {
    position.split_once(':').unwrap().1.parse().unwrap()
}

/// She is sent payments, and a witness gives their frames.
pub(crate) async fn paid(world: &World, witness: &mut Client, numbers: std::ops::Range<usize>) -> Vec<Value> {
    let mut frames = Vec::new();
    for number in numbers {
        world.emit(&payment(&number.to_string(), "alice")).await;
        frames.push(witness.frame("notification:new").await);
    }
    frames
}

/// The same, with their positions.
pub(crate) async fn pay(world: &World, witness: &mut Client, numbers: std::ops::Range<usize>) -> Vec<String> {
    paid(world, witness, numbers).await.iter().map(position).collect()
}

/// A ring of two records, and pages of three.
pub(crate) fn forget(config: &mut Config) {
    config.gateway.recovery.ring_records = some(2);
    config.gateway.recovery.page_records = some(3);
    config.gateway.recovery.newest = some(2);
}

/// A world that forgets.
pub(crate) async fn forgetful() -> World {
    World::with(forget).await
}

/// Where a node finds what a device missed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    InRing,
    InStore,
}

impl Found {
    pub(crate) const EITHER: [Self; 2] = [Self::InRing, Self::InStore];

    pub(crate) async fn world(self) -> World {
        match self {
            Self::InRing => World::new().await,
            Self::InStore => forgetful().await,
        }
    }
}

/// How many recoveries ended so.
pub(crate) async fn outcomes(running: &Running, outcome: &str) -> u64 {
    running.labelled("tidings_gateway_ended_recoveries_total", &format!("outcome=\"{outcome}\"")).await
}

/// A position in each of some channels, the same in all.
pub(crate) fn everywhere(channels: &[String], position: &str) -> Value {
    channels.iter().map(|channel| (channel.clone(), json!(position))).collect::<serde_json::Map<_, _>>().into()
}
