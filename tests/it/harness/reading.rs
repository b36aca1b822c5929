//! A user's devices that read, see and acknowledge, and what they hear of each other.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::{Client, Heard};
use super::world::World;

/// One of a user's devices, and its connection's id.
pub(crate) async fn device(address: SocketAddr, user: &str, name: &str) -> (Client, Value) {
    let query = format!("token={}&deviceId={name}&ack=client", World::token(user));
    let (client, greeting) = Client::greeted(address, &query).await;
    (client, greeting["connectionId"].clone())
}

/// The id of the notification in a frame.
pub(crate) fn id(frame: &Value) -> Value {
    frame["notification"]["id"].clone()
}

/// Sends a frame, and gives what answers it.
pub(crate) async fn asked(client: &mut Client, mut frame: Value) -> Value {
    frame["messageId"] = json!("asked");
    client.send(frame).await;
    loop {
        let Heard::Frame(frame) = client.hear().await else { panic!("the connection ended") };
        if frame["replyTo"] == "asked" {
            return frame;
        }
    }
}

/// The frames about read state that have come by now.
pub(crate) async fn heard(client: &mut Client) -> Vec<Value> {
    client.send(json!({"type": "ping"})).await;
    let mut about = Vec::new();
    loop {
        let Heard::Frame(frame) = client.hear().await else { panic!("the connection ended") };
        match frame["type"].as_str().unwrap() {
            "pong" => return about,
            "notification:read" | "notification:sync" | "notification:withdrawn" => about.push(frame),
            _ => {}
        }
    }
}

/// The next counts that say this.
pub(crate) async fn counts(client: &mut Client, unread: u64, unseen: u64) -> Value {
    loop {
        let counts = client.frame("counts").await;
        if (&counts["unread"], &counts["unseen"]) == (&json!(unread), &json!(unseen)) {
            return counts;
        }
    }
}
