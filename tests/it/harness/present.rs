//! Who is told to be online: what devices hear of each other, and what nodes know.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::eventually;
use super::rest::{answered, request, token};

/// The next word about another device of the same user.
pub(crate) async fn status(client: &mut Client) -> (String, String) {
    let frame = client.frame("device:status").await;
    (frame["deviceId"].as_str().unwrap().to_owned(), frame["status"].as_str().unwrap().to_owned())
}

pub(crate) fn is(device: &str, status: &str) -> (String, String) {
    (device.to_owned(), status.to_owned())
}

/// The answer that an operator gets.
pub(crate) async fn operate(address: SocketAddr, path: &str) -> (u16, Value) {
    answered(request(address, Method::GET, path).bearer_auth(token("ops", "admin"))).await
}

/// Waits until a node knows all others and all their devices.
pub(crate) async fn until_cluster(address: SocketAddr, nodes: usize, devices: usize) {
    eventually(&format!("{address} knows {nodes} nodes with {devices} devices"), async || {
        let (_, stats) = operate(address, "/v1/stats").await;
        let cluster = &stats["cluster"];
        let known = cluster["nodes"].as_array()?.len() == nodes && cluster["devices"] == devices;
        (known && cluster.get("partial").is_none()).then_some(())
    })
    .await;
}
