//! What is said over REST and heard on sockets: marks of a user, and what a service takes back. `read_state` has what is said on sockets.

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{MAILBOX, id, position, told};
use crate::harness::reading::{counts, heard};
use crate::harness::rest::{NOTIFICATIONS, accepted, answered, ask, request, token};
use crate::harness::world::{Running, World};

const LIST: &str = "/v1/me/notifications";

/// A device of a driver's.
async fn driver(running: &Running, user: &str, device: &str) -> Client {
    let query = format!("token={}&deviceId={device}&ack=client", token(user, "driver"));
    Client::greeted(running.address, &query).await.0
}

async fn post(running: &Running, path: &str, body: &Value) {
    let request = request(running.address, Method::POST, &format!("{LIST}{path}")).bearer_auth(token("alice", "driver"));
    let (status, told) = answered(request.header("content-type", "application/json").body(body.to_string())).await;
    assert_eq!(status, 202, "{path}: {told}");
}

/// Has something told, and gives its frame once each of `devices` has it.
async fn announced(running: &Running, to: Value, devices: &mut [&mut Client]) -> Value {
    accepted(ask(running.address, None, &json!({"to": to, "message": "m"}))).await;
    let mut frame = Value::Null;
    for device in devices {
        frame = device.frame("notification:new").await;
    }
    frame
}

/// What a device hears of read state, without what is drawn anew for each frame and what nobody asked from.
fn said(frames: &[Value]) -> Vec<Value> {
    let bare = |frame: &Value| {
        assert!(frame.get("sourceDevice").is_none() && frame.get("sourceConnection").is_none(), "{frame}");
        let mut frame = frame.as_object().unwrap().clone();
        frame.retain(|name, _| !["messageId", "timestamp"].contains(&name.as_str()));
        frame.into()
    };
    frames.iter().map(bare).collect()
}

/// What she may say of `one`, and of all up to the other two, with what her devices are told of it.
fn marks(one: &Value, last: &Value, of_role: &Value) -> Vec<(String, Value, Vec<Value>)> {
    let sync = |change: Value| {
        let mut frame = json!({"type": "notification:sync", "channel": MAILBOX, "notificationId": id(one)});
        frame.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        vec![frame]
    };
    let read = json!({"type": "notification:read", "channel": MAILBOX, "notificationIds": [id(one)]});
    let up_to = json!({MAILBOX: position(last), "role-driver": position(of_role)});
    let mut read_one = vec![read];
    read_one.extend(sync(json!({"isSeen": true, "isRead": true})));
    let of_all = |kind: &str, more: Value| {
        let frame = |(channel, position): (&String, &Value)| {
            let mut frame = json!({"type": kind, "channel": channel, "upTo": position});
            frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            frame
        };
        up_to.as_object().unwrap().iter().map(frame).collect::<Vec<_>>()
    };
    vec![
        (format!("/{}/read", id(one)), json!({}), read_one),
        (format!("/{}/unread", id(one)), json!({}), sync(json!({"isRead": false}))),
        (format!("/{}/dismiss", id(one)), json!({}), sync(json!({"isSeen": true, "isDismissed": true}))),
        ("/seen-all".to_owned(), json!({"upTo": up_to}), of_all("notification:sync", json!({"isSeen": true}))),
        ("/read-all".to_owned(), json!({"upTo": up_to}), of_all("notification:read", json!({}))),
    ]
}

#[tokio::test]
async fn what_is_marked_over_rest_is_told_to_the_users_sockets_on_every_node() {
    let world = World::new().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut phone, mut laptop) = (driver(&first, "alice", "phone").await, driver(&second, "alice", "laptop").await);
    let mut bob = driver(&second, "bob", "phone").await;
    let one = announced(&first, json!({"user": "alice"}), &mut [&mut phone, &mut laptop]).await;
    let of_role = announced(&first, json!({"role": "driver"}), &mut [&mut phone, &mut laptop, &mut bob]).await;
    let last = announced(&first, json!({"user": "alice"}), &mut [&mut phone, &mut laptop]).await;
    world.until_inbox(2).await;

    for (path, body, expected) in marks(&one, &last, &of_role) {
        post(&first, &path, &body).await;
        for device in [&mut phone, &mut laptop] {
            let mut heard_so_far = Vec::new();
            eventually(&format!("{path} is told"), async || {
                heard_so_far.extend(heard(device).await);
                (heard_so_far.len() >= expected.len()).then_some(())
            })
            .await;
            assert_eq!(said(&heard_so_far), expected, "{path}");
        }
    }
    for device in [&mut phone, &mut laptop] {
        counts(device, 0, 0).await;
    }
    assert!(heard(&mut bob).await.is_empty(), "what is for his role too is hers to mark");
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn seen_all_makes_nothing_read_and_means_what_the_list_showed() {
    let world = World::new().await;
    let running = world.start().await;
    let mut phone = driver(&running, "alice", "phone").await;
    announced(&running, json!({"user": "alice"}), &mut [&mut phone]).await;
    let shown = announced(&running, json!({"user": "alice"}), &mut [&mut phone]).await;
    announced(&running, json!({"user": "alice"}), &mut [&mut phone]).await;
    world.until_inbox(3).await;
    post(&running, "/seen-all", &json!({"upTo": {MAILBOX: position(&shown)}})).await;
    counts(&mut phone, 3, 1).await;
    let list = request(running.address, Method::GET, LIST).bearer_auth(World::token("alice"));
    let (_, list) = answered(list).await;
    let states = list["notifications"].as_array().unwrap().iter().map(|one| (one["seen"].clone(), one["read"].clone()));
    let [seen, not] = [true, false].map(Value::from);
    assert_eq!(states.collect::<Vec<_>>(), [(not.clone(), not.clone()), (seen.clone(), not.clone()), (seen, not)]);
    running.stop().await;
}

#[tokio::test]
async fn what_a_service_takes_back_is_told_to_all_who_listen_on_every_node_and_sent_to_nobody_who_comes_back() {
    const OPEN: &str = "booking-updates";
    let world = World::new().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut alice, mut bob) = (driver(&first, "alice", "phone").await, driver(&second, "bob", "phone").await);
    for client in [&mut alice, &mut bob] {
        client.subscribe(OPEN).await;
    }
    // She is in no role, and listens to nothing of her choice.
    let mut carol = Client::greeted(second.address, &format!("token={}&deviceId=c&ack=client", World::token("carol"))).await.0;
    for (to, channel) in [
        (json!({"role": "driver"}), "role-driver"),
        (json!({"everyone": true}), "system-announcements"),
        (json!({"channel": OPEN}), OPEN),
    ] {
        let kept = announced(&first, to.clone(), &mut [&mut alice, &mut bob]).await;
        let frame = announced(&first, to, &mut [&mut alice, &mut bob]).await;
        let path = format!("{NOTIFICATIONS}/{}", id(&frame));
        eventually("it is folded, and can be taken back", async || {
            let (status, _) =
                answered(request(second.address, Method::DELETE, &path).bearer_auth(token("billing", "service"))).await;
            (status != 503).then(|| assert_eq!(status, 202))
        })
        .await;
        for client in [&mut alice, &mut bob] {
            let withdrawn = client.frame("notification:withdrawn").await;
            assert_eq!((&withdrawn["channel"], &withdrawn["notificationId"]), (&json!(channel), &json!(id(&frame))));
        }
        // Both nodes still have its record in memory.
        for node in [&first, &second] {
            let mut late = driver(node, "alice", "late").await;
            let since = format!("1:{}", crate::harness::missed::offset(&position(&kept)) - 1);
            late.send(json!({"type": "subscribe", "channel": channel, "since": since})).await;
            let sent = told(&mut late, channel).await;
            assert_eq!(sent.frames.iter().map(id).collect::<Vec<_>>(), [id(&kept)], "{channel}");
            late.close().await;
        }
    }
    let everyones = heard(&mut carol).await;
    assert_eq!(everyones.iter().map(|frame| frame["channel"].clone()).collect::<Vec<_>>(), ["system-announcements"]);
    second.stop().await;
    first.stop().await;
}
