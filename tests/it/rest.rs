//! REST under `/v1`: asking for notifications, and what operators see and close.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::broker::OwnBroker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::world::{Running, World, ms, unix_now};

const NOTIFICATIONS: &str = "/v1/notifications";

/// A token of a caller with a role.
fn token(user: &str, role: &str) -> String {
    World::token_of(&json!({"sub": user, "roles": [role], "exp": unix_now() + 3600}))
}

fn request(address: SocketAddr, method: Method, path: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new().request(method, format!("http://{address}{path}"))
}

/// Asks for a notification, as the service `billing` unless another one is named.
fn ask(address: SocketAddr, key: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    ask_as("billing", address, key, body)
}

fn ask_as(caller: &str, address: SocketAddr, key: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    let request = request(address, Method::POST, NOTIFICATIONS).bearer_auth(token(caller, "service"));
    let request = request.header("content-type", "application/json").body(body.to_string());
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

/// Status and body.
async fn answered(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// The id of what was accepted.
async fn accepted(request: reqwest::RequestBuilder) -> String {
    let (status, body) = answered(request).await;
    assert_eq!(status, 202, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

async fn operate(running: &Running, method: Method, path: &str) -> (u16, Value) {
    answered(request(running.address, method, path).bearer_auth(token("ops", "admin"))).await
}

async fn gateway(world: &World) -> Running {
    world.start_roles(&[Role::Pipeline, Role::Gateway]).await
}

fn to_alice(message: &str) -> Value {
    json!({"to": {"user": "alice"}, "message": message})
}

#[tokio::test]
async fn what_a_service_asks_for_is_accepted_with_its_id_and_shown() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    let body = json!({"to": {"users": ["alice", "bob"]}, "exclude": ["bob"], "title": "T", "message": "M", "priority": "high"});
    let id = accepted(ask(running.address, None, &body)).await;
    let shown = alice.frame("notification:new").await["notification"].clone();
    assert_eq!((&shown["eventId"], &shown["title"], &shown["priority"]), (&json!(id), &json!("T"), &json!("high")));
    assert_eq!(world.own_records("notifications", 1).await.len(), 1, "nothing for bob");
    running.stop().await;
}

#[tokio::test]
async fn a_key_gives_one_id_however_often_and_at_whichever_node_it_is_used() {
    let world = World::new().await;
    let (first, second) = (gateway(&world).await, world.start_roles(&[Role::Gateway]).await);
    let mut alice = first.connect("alice").await;
    let both = [first.address, second.address];
    let asking = (0..10).map(|number| accepted(ask(both[number % 2], Some("\"order-7\""), &to_alice("once"))));
    let ids = futures_util::future::join_all(asking).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // Bare and in quotes it is the same key; another caller's is another.
    assert_eq!(accepted(ask(second.address, Some("order-7"), &to_alice("once"))).await, ids[0]);
    assert_ne!(accepted(ask_as("shipping", first.address, Some("order-7"), &to_alice("other"))).await, ids[0]);
    let mut seen = [alice.frame("notification:new").await, alice.frame("notification:new").await]
        .map(|frame| frame["notification"]["message"].as_str().unwrap().to_owned());
    seen.sort();
    assert_eq!(seen, ["once", "other"]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_key_that_is_used_again_after_a_restart_makes_no_second_notification() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let running = world.start().await;
        ids.push(accepted(ask(running.address, Some("order-7"), &to_alice("once"))).await);
        world.own_records("notifications", ids.len()).await;
        accepted(ask(running.address, None, &to_alice("later"))).await;
        eventually("all is in the inbox", async || (world.inbox("alice").await.len() > ids.len()).then_some(())).await;
        running.stop().await;
    }
    assert_eq!(ids[0], ids[1]);
    let messages = world.inbox("alice").await.into_iter().map(|notification| notification["message"].clone());
    assert_eq!(messages.filter(|message| message == "once").count(), 1);
}

#[tokio::test]
async fn with_the_brokers_away_a_caller_is_told_in_time_and_nothing_is_written_later() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| config.http.broker_timeout = ms(1_000)).await;
    let running = gateway(&world).await;
    accepted(ask(running.address, None, &to_alice("before"))).await;
    broker.stop();
    let answer = ask(running.address, Some("k"), &to_alice("meanwhile")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    let problem = serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:tidings:problem:brokers-away", "{problem}");
    broker.start_again();
    running.await_ready().await;
    eventually("what is sent again is taken", async || {
        let answer = ask(running.address, Some("k2"), &to_alice("after")).send().await.unwrap();
        (answer.status() == 202).then_some(())
    })
    .await;
    let records = world.own_records("requests", 2).await;
    let mut messages = records.iter().map(|record| record.json()["message"].to_string()).collect::<Vec<_>>();
    messages.sort();
    assert_eq!(messages, ["\"after\"", "\"before\""]);
    running.stop().await;
}

/// Requests that are refused, each for one reason. The key `taken` has come with another request.
fn refused(at: SocketAddr) -> Vec<(&'static str, reqwest::RequestBuilder)> {
    let post = |body: &str| {
        let request = request(at, Method::POST, NOTIFICATIONS).bearer_auth(token("billing", "service"));
        request.header("content-type", "application/json").body(body.to_owned())
    };
    let operator = |method: Method, path: &str| request(at, method, path).bearer_auth(token("ops", "admin"));
    let fine = to_alice("m");
    vec![
        ("no credentials", request(at, Method::POST, NOTIFICATIONS)),
        ("a forged token", request(at, Method::POST, NOTIFICATIONS).bearer_auth("forged")),
        ("a user asks for a notification", request(at, Method::POST, NOTIFICATIONS).bearer_auth(World::token("alice"))),
        ("a service asks for stats", request(at, Method::GET, "/v1/stats").bearer_auth(token("billing", "service"))),
        ("a page of another site", ask(at, None, &fine).header("origin", "https://evil.example")),
        ("another method", request(at, Method::GET, NOTIFICATIONS)),
        ("another method of stats", operator(Method::POST, "/v1/stats")),
        ("another method of a user's connections", operator(Method::PUT, "/v1/users/alice/connections")),
        ("another method of health", operator(Method::POST, "/health")),
        ("nothing there", operator(Method::GET, "/v1/nothing")),
        ("no type", request(at, Method::POST, NOTIFICATIONS).bearer_auth(token("billing", "service")).body("{}")),
        (
            "another type",
            request(at, Method::POST, NOTIFICATIONS)
                .bearer_auth(token("billing", "service"))
                .header("content-type", "text/plain"),
        ),
        ("no JSON", post("{\"to\":")),
        ("no request", post("{\"to\":{\"user\":\"\"},\"title\":7}")),
        ("an id of its own", post("{\"id\":\"mine\",\"to\":{\"user\":\"a\"},\"message\":\"m\"}")),
        ("an event's own id", post("{\"event\":{\"type\":\"a\",\"data\":{},\"id\":\"taken\"}}")),
        ("too large", post(&to_alice(&"x".repeat(2_000)).to_string())),
        ("an empty key", ask(at, Some("\"\""), &fine)),
        ("a key with another request", ask(at, Some("taken"), &fine)),
        ("a user that is none", operator(Method::GET, "/v1/users/%00/connections")),
        ("a parameter that does not read", operator(Method::GET, "/v1/stats?channels=many")),
    ]
}

#[tokio::test]
async fn every_refusal_is_a_problem_that_says_what_and_where() {
    let world = World::with(|config| config.http.body_bytes = std::num::NonZeroUsize::new(2_000).unwrap()).await;
    let running = gateway(&world).await;
    let at = running.address;
    accepted(ask(at, Some("taken"), &to_alice("first"))).await;
    let mut lines = Vec::new();
    for (name, request) in refused(at) {
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| format!(" {name}: {}", value.to_str().unwrap()));
        assert_eq!(header("content-type").unwrap(), " content-type: application/problem+json", "{name}");
        let headers = ["allow", "www-authenticate"].iter().filter_map(|name| header(name)).collect::<String>();
        let status = answer.status().as_u16();
        let body = serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["status"], status, "{name}");
        lines.push(format!("{name}: {status}{headers}\n  {body}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(world.own_records("requests", 1).await.len(), 1, "only the first was accepted");
    assert!(running.metric("tidings_http_conflicting_requests_total").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn stats_count_connections_devices_users_and_subscriptions() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let open = async |user: &str, device: &str| {
        Client::greeted(running.address, &format!("token={}&deviceId={device}&ack=client", World::token(user))).await.0
    };
    let mut lines = [open("alice", "phone").await, open("alice", "phone").await, open("bob", "laptop").await];
    lines[0].subscribe("booking-updates").await;
    let (status, stats) = operate(&running, Method::GET, "/v1/stats").await;
    assert_eq!(status, 200, "{stats}");
    assert!(stats["timestamp"].is_string());
    let node = &stats["node"];
    assert_eq!((&node["connections"], &node["devices"], &node["users"]), (&json!(3), &json!(2), &json!(2)));
    // Each hears its mailbox and the announcements.
    assert_eq!(node["subscriptions"], 7);
    let expected =
        json!([{"channel": "system-announcements", "subscriptions": 3}, {"channel": "booking-updates", "subscriptions": 1}]);
    assert_eq!(node["channels"], expected);
    let (_, stats) = operate(&running, Method::GET, "/v1/stats?channels=1").await;
    assert_eq!((&stats["node"]["channels"].as_array().unwrap().len(), &stats["node"]["channelsLeftOut"]), (&1, &json!(1)));
    running.stop().await;
}

#[tokio::test]
async fn an_operator_lists_a_users_connections_and_closes_them_on_every_node() {
    let world = World::new().await;
    let (first, second) = (gateway(&world).await, world.start_roles(&[Role::Gateway]).await);
    let french = format!("token={}&deviceId=d1&locale=fr-ca", World::token("alice"));
    let mut here = [Client::greeted(first.address, &french).await.0, first.connect("alice").await];
    let (mut there, mut bob) = (second.connect("alice").await, first.connect("bob").await);
    here[0].subscribe("booking-updates").await;
    let path = "/v1/users/alice/connections";
    let (status, listed) = operate(&first, Method::GET, path).await;
    assert_eq!(status, 200, "{listed}");
    let connections = listed["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2, "{listed}");
    let channels = json!(["user-alice", "system-announcements", "booking-updates"]);
    let (subscribed, plain) = (&connections[0], &connections[1]);
    assert_eq!((&subscribed["channels"], &subscribed["locale"]), (&channels, &json!("fr-CA")), "{listed}");
    assert_eq!(plain.get("locale"), None, "it named none");
    for line in connections {
        assert_eq!((&line["deviceId"], &line["address"]), (&json!("d1"), &json!("127.0.0.1")));
        assert!(line["connectionId"].is_string() && line["since"].is_string());
    }
    let (status, closed) = operate(&first, Method::DELETE, path).await;
    assert_eq!((status, &closed["closed"]), (200, &json!(2)));
    for line in &mut here {
        assert_eq!(line.close_code().await, 4500);
    }
    assert_eq!(there.close_code().await, 4500);
    bob.send(json!({"type": "ping"})).await;
    bob.frame("pong").await;
    let (_, listed) = operate(&second, Method::GET, path).await;
    assert_eq!(listed["connections"], json!([]));
    first.stop().await;
    second.stop().await;
}
