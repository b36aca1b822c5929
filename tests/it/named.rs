//! What users name, notifications by their ids and all before a position: found and judged alike over a socket and over HTTP.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{MAILBOX, returned as device};
use crate::harness::reading::{asked, id};
use crate::harness::rest::{answered, request};
use crate::harness::world::{Running, World, ms, payment};

const LIST: &str = "/v1/me/notifications";

/// Lets a payment of Alice's come to a device. Gives its frame.
async fn pay(world: &World, device: &mut Client, name: &str) -> Value {
    world.emit(&payment(name, "alice")).await;
    device.frame("notification:new").await
}

/// Asks over HTTP, as Alice.
async fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let request = request(address, Method::POST, path).bearer_auth(World::token("alice"));
    answered(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn list(address: SocketAddr) -> Vec<Value> {
    let (status, page) = answered(request(address, Method::GET, LIST).bearer_auth(World::token("alice"))).await;
    assert_eq!(status, 200, "{page}");
    page["notifications"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_position_of_an_epoch_before_marks_what_that_epoch_held_and_one_of_a_later_epoch_nothing() {
    let world = World::new().await;
    let running = world.start().await;
    let mut phone = running.connect("alice").await;
    world.live(&mut phone, &["1"]).await;
    world.until_folded(1).await;
    let position = list(running.address).await[0]["position"].clone();
    phone.close().await;
    running.stop().await;

    world.grow(8).await.unwrap();
    let running = world.start().await;
    let mut phone = device(running.address, "phone").await;
    let read = asked(&mut phone, json!({"type": "mark_read", "upTo": position})).await;
    assert_eq!((&read["type"], &read["upTo"]), (&json!("notification:read"), &position), "{read}");
    eventually("it is read", async || (list(running.address).await[0]["read"] == true).then_some(())).await;
    let later = asked(&mut phone, json!({"type": "mark_read", "upTo": "3:0"})).await;
    assert_eq!(later["code"], "forbidden", "{later}");

    let (status, body) = post(running.address, &format!("{LIST}/read-all"), &json!({"upTo": {MAILBOX: position}})).await;
    assert_eq!(status, 202, "{body}");
    let (status, body) = post(running.address, &format!("{LIST}/read-all"), &json!({"upTo": {MAILBOX: "3:0"}})).await;
    assert_eq!(status, 422, "{body}");
    running.stop().await;
}

#[tokio::test]
async fn what_a_node_has_shown_is_found_over_http_too_before_anybody_has_folded_it() {
    let world = World::new().await;
    // Nobody folds, and there is no store.
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut phone = device(running.address, "phone").await;
    let shown = pay(&world, &mut phone, "1").await;
    let id = &id(&shown);
    let path = format!("{LIST}/{}/unread", id.as_str().unwrap());
    let (status, body) = post(running.address, &path, &json!({})).await;
    assert_eq!((status, &body["notificationIds"]), (202, &json!([id])), "{body}");
    let [receipt] = world.own_records("receipts", 1).await.try_into().unwrap();
    let item = json!({"id": id, "channel": MAILBOX, "position": shown["position"]});
    assert_eq!(receipt.json()["items"], json!([item]), "as if it had come over the socket");
    running.stop().await;
}

/// A process that folds, and one that does not but reads what the other folded.
async fn folded_up_to(world: &World, events: &[&str]) -> Running {
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    for event in events {
        world.emit(&payment(event, "alice")).await;
    }
    world.until_inbox(events.len()).await;
    running.stop().await;
    world.start_roles(&[Role::Pipeline, Role::Gateway]).await
}

#[tokio::test]
async fn what_is_not_folded_yet_is_neither_acknowledged_nor_said_to_be_nowhere() {
    let world = World::new().await;
    let running = folded_up_to(&world, &["1"]).await;
    let [known] = list(running.address).await.try_into().unwrap();
    let mut phone = device(running.address, "phone").await;
    phone.frame("notification:new").await;
    let unfolded = pay(&world, &mut phone, "2").await;
    let ack = |position: &Value, except: &Value| json!({"deviceId": "watch", "channel": MAILBOX, "position": position, "except": except});
    let unknown = json!([id(&unfolded)]);
    for body in [
        ack(&unfolded["position"], &json!([])),
        ack(&known["position"], &unknown),
        json!({"deviceId": "watch", "notificationIds": unknown}),
    ] {
        let (status, problem) = post(running.address, "/v1/me/acks", &body).await;
        assert_eq!((status, &problem["type"]), (503, &json!("urn:tidings:problem:not-yet")), "{body}: {problem}");
    }
    let (status, body) = post(running.address, "/v1/me/acks", &ack(&known["position"], &json!([]))).await;
    assert_eq!(status, 202, "{body}");
    let written = world.own_records("cursors", 1).await.iter().filter(|record| record.json()["deviceId"] == "watch").count();
    assert_eq!(written, 1, "only what is known");
    running.stop().await;

    let running = world.start().await;
    world.until_inbox(2).await;
    let (status, body) = post(running.address, "/v1/me/acks", &ack(&unfolded["position"], &unknown)).await;
    assert_eq!(status, 202, "{body}");
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_has_only_acknowledged_over_http_misses_nothing_when_it_comes() {
    let world = World::with(|config| config.courier.ack_timeout = ms(3_600_000)).await;
    let running = world.start().await;
    let mut seen = device(running.address, "seen").await;
    let first = pay(&world, &mut seen, "1").await;
    let second = pay(&world, &mut seen, "2").await;
    world.until_inbox(2).await;
    let id = &id(&second);
    let (status, body) = post(running.address, "/v1/me/acks", &json!({"deviceId": "watch", "notificationIds": [id]})).await;
    assert_eq!(status, 202, "{body}");
    world.until_acknowledged(id.as_str().unwrap()).await;
    let mut watch = device(running.address, "watch").await;
    assert_eq!(watch.frame("notification:new").await["notification"], first["notification"]);
    running.stop().await;
}

#[tokio::test]
async fn of_more_than_is_remembered_of_a_user_what_was_said_of_unknown_ones_goes_and_is_counted() {
    let world = World::with(|config| config.inbox.states_per_user = NonZeroUsize::new(2).unwrap()).await;
    // It has no store yet, so it must believe her.
    let gateway = world.start_roles(&[Role::Gateway]).await;
    let mut phone = device(gateway.address, "phone").await;
    for _ in 0..5 {
        let read = asked(&mut phone, json!({"type": "mark_read", "notificationId": uuid::Uuid::new_v4()})).await;
        assert_eq!(read["type"], "notification:read", "{read}");
    }
    let inbox = world.start_roles(&[Role::Inbox]).await;
    eventually("three have gone", async || (inbox.metric("tidings_inbox_crowded_out_states_total").await == 3.0).then_some(()))
        .await;
    let states = world.tables().await.into_iter().filter(|row| row.starts_with("state alice ")).count();
    assert_eq!(states, 2);
    inbox.stop().await;
    gateway.stop().await;
}

#[tokio::test]
async fn who_names_what_is_not_there_again_and_again_is_closed_when_the_budget_is_spent() {
    let world = World::with(|config| config.gateway.bad_frames = 3.try_into().unwrap()).await;
    let running = world.start().await;
    let mut phone = device(running.address, "phone").await;
    for number in 0..4 {
        let id = uuid::Uuid::from_u128(number);
        let answer = asked(&mut phone, json!({"type": "mark_read", "notificationIds": [id, uuid::Uuid::nil()]})).await;
        assert_eq!(answer["code"], "not_found", "{answer}");
    }
    assert_eq!(phone.close_code().await, 1008);
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", "limit=\"bad_frames\"").await, 1);
    assert_eq!(running.labelled("tidings_gateway_looked_up_notifications_total", "place=\"nowhere\"").await, 7);
    running.stop().await;
}

#[tokio::test]
async fn a_receipt_of_many_is_the_same_bytes_for_each_of_the_users_connections_in_the_order_of_the_log() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let (mut phone, mut watch) = (device(running.address, "phone").await, device(running.address, "watch").await);
    let ids = (0..100).map(uuid::Uuid::from_u128).collect::<Vec<_>>();
    for state in ["seen", "dismiss"] {
        let (status, body) = post(running.address, &format!("{LIST}/{state}"), &json!({"notificationIds": ids})).await;
        assert_eq!(status, 202, "{body}");
    }
    for number in 0..200 {
        let (told, too) = (phone.frame("notification:sync").await, watch.frame("notification:sync").await);
        assert_eq!(told, too, "also its `messageId`");
        assert_eq!(told["notificationId"], json!(ids[number % 100]));
        assert_eq!(told.get("isDismissed").is_some(), number >= 100, "{told}");
    }
    running.stop().await;
}

#[tokio::test]
async fn who_writes_too_much_over_http_is_told_to_come_back_and_nobody_else_is() {
    let world = World::with(|config| {
        config.http.writes_burst = 2.try_into().unwrap();
        config.http.writes_per_second = 1.try_into().unwrap();
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let path = format!("{LIST}/read");
    let body = json!({"notificationIds": [uuid::Uuid::nil()]}).to_string();
    let write = |token: String| {
        let request = request(running.address, Method::POST, &path).bearer_auth(token);
        request.header("content-type", "application/json").body(body.clone())
    };
    let all = (0..20).map(|_| answered(write(World::token("alice"))));
    let all = futures_util::future::join_all(all).await;
    let refused = all.iter().filter(|(status, _)| *status == 429).collect::<Vec<_>>();
    assert!(!refused.is_empty(), "{all:?}");
    assert!(all.iter().filter(|(status, _)| *status == 202).count() >= 2, "{all:?}");
    assert!(refused.iter().all(|(_, problem)| problem["type"] == "urn:tidings:problem:rate-limited"), "{all:?}");
    assert_eq!(running.metric("tidings_http_rate_limited_requests_total").await, refused.len() as f64);
    assert_eq!(answered(write(World::token("bob"))).await.0, 202, "bob has not written");
    let (status, _) =
        answered(request(running.address, Method::GET, "/v1/me/connections").bearer_auth(World::token("alice"))).await;
    assert_eq!(status, 200, "to ask is not to write");
    running.stop().await;
}
