//! Every type of frame and every error code that `/asyncapi.json` has is said by a server and a client on sockets, and is what it describes.
//! Other tests ask what follows from each; here none may be missing.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::AuthMode;

use crate::asyncapi::document;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{MAILBOX, back, forget, paid, pay, some};
use crate::harness::raw::{Raw, text};
use crate::harness::reading::{device, id};
use crate::harness::rest::{NOTIFICATIONS, accepted, answered, ask, request, to_alice, token};
use crate::harness::world::{Running, World};

/// What has been said, each held against the document.
struct Said {
    document: Value,
    by_server: BTreeSet<String>,
    by_client: BTreeSet<String>,
    codes: BTreeSet<String>,
}

impl Said {
    async fn new(running: &Running) -> Self {
        Self { document: document(running).await, by_server: BTreeSet::new(), by_client: BTreeSet::new(), codes: BTreeSet::new() }
    }

    /// The types that one side has in the document.
    fn types(&self, side: &str) -> BTreeSet<String> {
        let messages = self.document["components"]["messages"].as_object().unwrap().iter();
        let names = messages.filter(|(key, _)| key.starts_with(side)).map(|(_, message)| message["name"].as_str().unwrap());
        names.flat_map(|name| name.split(", ")).map(str::to_owned).collect()
    }

    fn check(&self, side: &str, frame: &Value) {
        let kind = frame["type"].as_str().unwrap();
        let of_kind = |message: &&Value| message["name"].as_str().unwrap().split(", ").any(|name| name == kind);
        let messages = self.document["components"]["messages"].as_object().unwrap();
        let mut messages = messages.iter().filter(|(key, _)| key.starts_with(side)).map(|(_, message)| message).filter(of_kind);
        let is_described = messages.any(|message| {
            let mut schema = message["payload"].clone();
            schema["components"] = self.document["components"].clone();
            jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema).unwrap().is_valid(frame)
        });
        assert!(is_described, "{side} {frame}");
    }

    fn server(&mut self, frame: &Value) {
        self.check("server.", frame);
        self.by_server.insert(frame["type"].as_str().unwrap().to_owned());
        self.codes.extend(frame["code"].as_str().filter(|_| frame["type"] == "error").map(str::to_owned));
    }

    fn client(&mut self, frame: &Value) {
        self.check("client.", frame);
        self.by_client.insert(frame["type"].as_str().unwrap().to_owned());
    }

    /// The next frame of a type that a client hears.
    async fn hears(&mut self, client: &mut Client, kind: &str) -> Value {
        let frame = client.frame(kind).await;
        self.server(&frame);
        frame
    }

    /// Sends what the document has, and hears the answer.
    async fn asks(&mut self, client: &mut Client, frame: Value, answer: &str) -> Value {
        self.client(&frame);
        client.send(frame).await;
        self.hears(client, answer).await
    }

    /// Sends anything, and hears that it is not obeyed.
    async fn is_refused(&mut self, client: &mut Client, frame: &str, code: &str) {
        client.send_text(frame).await;
        assert_eq!(self.hears(client, "error").await["code"], code, "{frame}");
    }
}

/// What a device is told that comes back, and what it says of what it reads.
async fn of_a_device(said: &mut Said, (world, running): (&World, &Running)) {
    let mut phone = Client::open(running.address, "deviceId=phone&ack=client").await;
    said.asks(&mut phone, json!({"type": "auth", "token": World::token("alice"), "messageId": 1}), "connected").await;
    let sent = pay(world, &mut phone, 0..9).await;
    eventually("the last one is folded, and what she missed first is gone", async || {
        let inbox = world.inbox("alice").await;
        let kept = inbox.iter().map(|one| one["eventId"].as_str().unwrap()).collect::<Vec<_>>();
        (kept.last() == Some(&"8") && !kept.contains(&"1")).then_some(())
    })
    .await;
    let mut laptop = back(running.address, &json!({MAILBOX: sent[0]})).await;
    for kind in ["subscribed", "truncated", "notification:new", "recovered"] {
        said.hears(&mut laptop, kind).await;
    }
    said.hears(&mut phone, "device:status").await;
    let frames = paid(world, &mut phone, 9..11).await;
    said.asks(&mut phone, json!({"type": "mark_read", "notificationId": id(&frames[0])}), "notification:read").await;
    for kind in ["notification:sync", "counts"] {
        said.hears(&mut laptop, kind).await;
    }
    let dismiss = json!({"type": "notification_action", "notificationId": id(&frames[1]), "action": "dismiss", "messageId": "d"});
    said.asks(&mut phone, dismiss, "notification:sync").await;
    for ack in [
        json!({"type": "ack", "channel": MAILBOX, "position": frames[0]["position"]}),
        json!({"type": "ack", "notificationIds": [id(&frames[1])]}),
    ] {
        said.client(&ack);
        phone.send(ack).await;
    }
    let fresh = json!({"type": "refresh", "token": World::token("alice")});
    said.asks(&mut phone, fresh, "refreshed").await;
    of_a_request(said, running, &mut phone).await;
}

/// What a service takes back.
async fn of_a_request(said: &mut Said, running: &Running, phone: &mut Client) {
    accepted(ask(running.address, None, &to_alice("m"))).await;
    let path = format!("{NOTIFICATIONS}/{}", id(&phone.frame("notification:new").await).as_str().unwrap());
    eventually("it is folded, and can be taken back", async || {
        let asked = request(running.address, Method::DELETE, &path).bearer_auth(token("billing", "service"));
        (answered(asked).await.0 == 202).then_some(())
    })
    .await;
    said.hears(phone, "notification:withdrawn").await;
}

/// What any connection may say, and how it is refused.
async fn of_a_connection(said: &mut Said, running: &Running) {
    let mut bob = running.connect("bob").await;
    for (frame, answer) in [
        (json!({"type": "ping", "data": {"n": 1}}), "pong"),
        (json!({"type": "heartbeat"}), "pong"),
        (json!({"type": "subscribe", "channel": "booking-updates"}), "subscribed"),
        (json!({"type": "presence", "channel": "booking-updates", "limit": 1}), "presence"),
        (json!({"type": "unsubscribe", "channels": ["booking-updates"]}), "unsubscribed"),
    ] {
        said.asks(&mut bob, frame, answer).await;
    }
    let many = (0..200).map(|number| number.to_string()).collect::<Vec<_>>();
    for (frame, code) in [
        ("{".to_owned(), "bad_frame"),
        (json!({"type": "shout"}).to_string(), "unknown_type"),
        (json!({"type": "subscribe", "channel": "user-alice"}).to_string(), "forbidden"),
        (json!({"type": "subscribe", "channels": many}).to_string(), "limit"),
        (json!({"type": "mark_read", "notificationId": uuid::Uuid::nil()}).to_string(), "not_found"),
    ] {
        said.is_refused(&mut bob, &frame, code).await;
    }
}

/// What depends on a place that a node without a store cannot know.
async fn not_yet(said: &mut Said) {
    let world = World::new().await;
    let first = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let (mut phone, _) = device(first.address, "alice", "phone").await;
    let [frame] = paid(&world, &mut phone, 0..1).await.try_into().unwrap();
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut laptop, _) = device(second.address, "alice", "laptop").await;
    let unread = json!({"type": "notification_action", "notificationId": id(&frame), "action": "unread"});
    said.is_refused(&mut laptop, &unread.to_string(), "not_yet").await;
    second.stop().await;
    first.stop().await;
}

/// What is not offered where a proxy says who clients are.
async fn unsupported(said: &mut Said) {
    let world = World::with(|config| {
        config.auth.mode = AuthMode::Proxy;
        config.auth.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let running = world.start_roles(&[Role::Gateway]).await;
    let mut alice = Raw::open(running.address, "", ("X-User-Id: alice\r\n", &[])).await;
    alice.send(&text(&json!({"type": "refresh", "token": World::token("alice")}))).await;
    let refused = alice.json("error").await;
    assert_eq!(refused["code"], "unsupported");
    said.server(&refused);
    running.stop().await;
}

#[tokio::test]
async fn every_frame_and_error_code_of_the_document_is_said_on_a_socket_and_is_what_it_describes() {
    let world = World::with(|config| {
        forget(config);
        config.gateway.recovery.ring_records = some(1);
        config.inbox.mailbox_rows = some(3);
    })
    .await;
    let running = world.start().await;
    let mut said = Said::new(&running).await;
    of_a_device(&mut said, (&world, &running)).await;
    of_a_connection(&mut said, &running).await;
    let mut last = running.connect("carol").await;
    running.begin_stop();
    said.hears(&mut last, "reconnect").await;
    running.ended().await.unwrap();
    not_yet(&mut said).await;
    unsupported(&mut said).await;

    assert_eq!(said.by_server, said.types("server."));
    assert_eq!(said.by_client, said.types("client."));
    let codes = &said.document["components"]["schemas"]["server.error"]["properties"]["code"]["enum"];
    let codes = codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(said.codes, codes);
}
