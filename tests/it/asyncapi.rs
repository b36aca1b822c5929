//! `/asyncapi.json`: a validator accepts it, and what a real server says and writes is what it describes.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::command::missing;
use crate::harness::eventually;
use crate::harness::rest::{accepted, ask, request, token};
use crate::harness::world::{Running, World, ms, payment};

/// The exit code of `dev/asyncapi` where there is no validator.
const UNAVAILABLE: i32 = 3;

pub(crate) async fn document(running: &Running) -> Value {
    let (status, text) = running.get("/asyncapi.json").await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Whether a message that the document has in a channel takes the value.
fn is_described(document: &Value, channel: &str, value: &Value) -> bool {
    let messages = document["channels"][channel]["messages"].as_object().unwrap().keys();
    let mut payloads = messages.map(|name| document["components"]["messages"][name]["payload"].clone());
    payloads.any(|mut schema| {
        schema["components"] = document["components"].clone();
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
        options.build(&schema).unwrap().is_valid(value)
    })
}

#[tokio::test]
async fn a_validator_accepts_the_document() {
    let world = World::new().await;
    let running = world.start_unready(&[tidings::cli::Role::Gateway]).await;
    let document = document(&running).await;
    running.stop().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/asyncapi");
    let judged = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let judged = judged.await.unwrap();
    if judged.status.code() == Some(UNAVAILABLE) {
        missing(&String::from_utf8_lossy(&judged.stderr));
        return;
    }
    assert!(judged.status.success(), "{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
}

#[tokio::test]
async fn what_a_server_says_and_writes_is_described() {
    let world = World::new().await;
    let running = world.start().await;
    let document = document(&running).await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let new = alice.frame("notification:new").await;
    let id = new["notification"]["id"].clone();
    let mut said = vec![new.clone()];
    let mut asks = vec![
        (json!({"type": "ping", "data": 1}), "pong"),
        (json!({"type": "subscribe", "channel": "booking-updates", "since": "1:0"}), "subscribed"),
        (json!({"type": "presence", "channel": "booking-updates"}), "presence"),
        (json!({"type": "unsubscribe", "channel": "booking-updates"}), "unsubscribed"),
        (json!({"type": "mark_read", "notificationId": id}), "notification:read"),
        (json!({"type": "nonsense"}), "error"),
    ];
    for (ask, answer) in &asks {
        alice.send(ask.clone()).await;
        said.push(alice.frame(answer).await);
    }
    alice.ack(&new).await;
    asks.pop();
    asks.push((json!({"type": "ack", "channel": new["channel"], "position": new["position"]}), ""));
    for frame in said.iter().chain(asks.iter().map(|(ask, _)| ask)) {
        assert!(is_described(&document, "connection", frame), "{frame}");
    }
    assert!(!is_described(&document, "connection", &json!({"type": "pong"})), "it has neither an id nor a time");
    for topic in ["notifications", "receipts", "cursors", "meta"] {
        let record =
            eventually("something lies there", async || world.log.records(&world.own(topic)).await.into_iter().next()).await;
        assert!(is_described(&document, topic, &record.json()), "{topic}: {}", record.json());
    }
    assert!(is_described(&document, "events", &payment("1", "alice")));
    running.stop().await;
}

#[tokio::test]
async fn what_a_server_writes_to_topics_of_failures_and_operators_is_described() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(400)];
    })
    .await;
    let running = world.start().await;
    let document = document(&running).await;
    let phone = running.connect("alice").await;
    accepted(ask(running.address, None, &json!({"to": {"user": "absent"}, "message": "m"}))).await;
    world.log.produce(&world.topic, None, b"no event").await;
    let retried = request(running.address, Method::POST, "/v1/retry/absent").bearer_auth(token("ops", "admin"));
    assert!(retried.send().await.unwrap().status().is_success());
    for (channel, topic) in [
        ("requests", "requests"),
        ("retry", "retry.400ms"),
        ("undelivered", "undelivered"),
        ("signals", "signals"),
        ("audit", "audit"),
    ] {
        for record in world.own_records(topic, 1).await {
            assert!(is_described(&document, channel, &record.json()), "{topic}: {}", record.json());
        }
    }
    let [letter] = world.own_records("dlq", 1).await.try_into().unwrap();
    let mut schema = document["components"]["messages"]["record.deadLetter"]["headers"].clone();
    schema["components"] = document["components"].clone();
    let headers = letter.headers.keys().map(|name| (name.clone(), letter.header(name).into())).collect::<serde_json::Map<_, _>>();
    let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema).unwrap();
    assert!(validator.is_valid(&Value::Object(headers.clone())), "{headers:?}");
    assert!(!validator.is_valid(&json!({})), "some are always there");
    phone.close().await;
    running.stop().await;
}

#[tokio::test]
async fn every_topic_and_close_code_is_named() {
    let world = World::new().await;
    let running = world.start_unready(&[tidings::cli::Role::Gateway]).await;
    let document = document(&running).await;
    let filled = |address: &str| address.replace("{prefix}", "").replace("{epoch}", "").replace("{rung}", "30s");
    let channels = document["channels"].as_object().unwrap().values();
    let told = channels.map(|channel| filled(channel["address"].as_str().unwrap())).collect::<BTreeSet<_>>();
    for name in
        ["requests", "notifications", "cursors", "receipts", "retry.30s", "undelivered", "dlq", "audit", "signals", "meta"]
    {
        assert!(told.contains(name), "{name}: {told:?}");
    }
    let closes = document["channels"]["connection"]["x-close-codes"].as_array().unwrap();
    assert!(closes.iter().any(|close| close["code"] == 4002 && close["comeBack"] == "withFreshToken"), "{closes:?}");
    running.stop().await;
}
