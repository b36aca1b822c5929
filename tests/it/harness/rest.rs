//! Asking over REST, as services and operators do.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use super::world::{Running, World, http, unix_now};

pub(crate) const NOTIFICATIONS: &str = "/v1/notifications";

/// A token of a caller with a role.
pub(crate) fn token(user: &str, role: &str) -> String {
    World::token_of(&json!({"sub": user, "roles": [role], "exp": unix_now() + 3600}))
}

pub(crate) fn request(address: SocketAddr, method: Method, path: &str) -> reqwest::RequestBuilder {
    http().request(method, format!("http://{address}{path}"))
}

/// Asks for a notification, as the service `billing` unless another one is named.
pub(crate) fn ask(address: SocketAddr, key: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    ask_as("billing", address, key, body)
}

pub(crate) fn ask_as(caller: &str, address: SocketAddr, key: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    let request = request(address, Method::POST, NOTIFICATIONS).bearer_auth(token(caller, "service"));
    let request = request.header("content-type", "application/json").body(body.to_string());
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

/// Status and body.
pub(crate) async fn answered(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// The id of what was accepted.
pub(crate) async fn accepted(request: reqwest::RequestBuilder) -> String {
    let (status, body) = answered(request).await;
    assert_eq!(status, 202, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

/// What decides on requests, shows what becomes of them, and answers.
pub(crate) async fn gateway(world: &World) -> Running {
    world.start_roles(&[Role::Pipeline, Role::Gateway]).await
}

/// A request for Alice.
pub(crate) fn to_alice(message: &str) -> Value {
    json!({"to": {"user": "alice"}, "message": message})
}
