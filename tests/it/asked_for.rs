//! What becomes of what a service asked for: waiting for it, asking about it, and taking it back.

use std::num::NonZeroUsize;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use uuid::Uuid;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::rest::{NOTIFICATIONS, accepted, answered, ask, request, to_alice, token};
use crate::harness::world::{Running, World, ms};

/// Asks for a notification and waits for what becomes of it.
async fn waited(running: &Running, wait: &str, body: &Value) -> (u16, Value) {
    let path = format!("{NOTIFICATIONS}?wait={wait}");
    let request = request(running.address, Method::POST, &path).bearer_auth(token("billing", "service"));
    answered(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn about(running: &Running, method: Method, id: &str) -> (u16, Value) {
    let request = request(running.address, method, &format!("{NOTIFICATIONS}/{id}"));
    answered(request.bearer_auth(token("billing", "service"))).await
}

/// Waits until so many notifications are known of a request, and gives what is said of it.
async fn known(running: &Running, id: &str, count: usize) -> Value {
    eventually(&format!("{count} notifications are known of {id}"), async || {
        let (status, body) = about(running, Method::GET, id).await;
        (status == 200 && body["notifications"].as_array().unwrap().len() == count).then_some(body)
    })
    .await
}

#[tokio::test]
async fn who_waits_is_answered_once_a_device_has_acknowledged() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let acknowledging = async {
        let frame = alice.frame("notification:new").await;
        alice.ack(&frame).await;
        frame["notification"]["id"].clone()
    };
    let body = to_alice("m");
    let ((status, told), id) = tokio::join!(waited(&running, "20s", &body), acknowledging);
    assert_eq!((status, &told["state"]), (200, &json!("delivered")), "{told}");
    let [one] = told["notifications"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&one["id"], &one["channel"], &one["acknowledgedBy"]), (&id, &json!("user-alice"), &json!(["d1"])));
    running.stop().await;
}

#[tokio::test]
async fn who_waits_for_somebody_who_is_not_there_is_told_that_it_is_pending() {
    let world = World::new().await;
    let running = world.start().await;
    let (status, told) = waited(&running, "20s", &json!({"to": {"users": ["alice", "bob"]}, "message": "m"})).await;
    assert_eq!((status, &told["state"], told["notifications"].as_array().unwrap().len()), (200, &json!("pending"), 2), "{told}");
    let (status, told) = waited(&running, "20s", &json!({"to": {"everyone": true}, "message": "m"})).await;
    assert_eq!((status, &told["state"]), (200, &json!("published")), "{told}");
    running.stop().await;
}

#[tokio::test]
async fn who_waits_in_vain_is_told_what_is_known_and_nobody_waits_too_long_or_with_too_many() {
    let world = World::with(|config| {
        config.http.wait_limit = ms(20_000);
        config.http.waiting_requests = NonZeroUsize::new(1).unwrap();
    })
    .await;
    let running = world.start().await;
    let mut silent = running.connect("alice").await;
    let (status, told) = waited(&running, "6s", &to_alice("m")).await;
    assert_eq!((status, &told["state"]), (202, &json!("pending")), "she is there and says nothing: {told}");
    silent.frame("notification:new").await;
    let (status, problem) = waited(&running, "21s", &to_alice("m")).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("20s (`http.wait_limit`)"), "{problem}");
    let (one, other) = (to_alice("one"), to_alice("other"));
    let both = [waited(&running, "6s", &one), waited(&running, "6s", &other)];
    let mut told =
        futures_util::future::join_all(both).await.into_iter().map(|(_, told)| told["state"].clone()).collect::<Vec<_>>();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["accepted", "pending"], "only one was waited for");
    assert_eq!(running.metric("tidings_http_unwaited_requests_total").await, 1.0);
    running.stop().await;
}

#[tokio::test]
async fn a_service_sees_what_became_of_each_notification() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let id = accepted(ask(running.address, None, &json!({"to": {"users": ["alice", "bob"]}, "message": "m"}))).await;
    let frame = alice.frame("notification:new").await;
    alice.ack(&frame).await;
    let own = frame["notification"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/me/notifications/{own}/read");
    answered(request(running.address, Method::POST, &path).bearer_auth(World::token("alice"))).await;
    eventually("hers is delivered and read", async || {
        let told = known(&running, &id, 2).await;
        let hers = told["notifications"].as_array().unwrap().iter().find(|one| one["channel"] == "user-alice").unwrap().clone();
        assert_eq!(told["state"], "pending", "bob has not seen his: {told}");
        let reader = hers["users"].get(0)?;
        (hers["state"] == "delivered" && reader["userId"] == "alice" && reader["read"] == true).then_some(())
    })
    .await;
    let (status, single) = about(&running, Method::GET, &own).await;
    assert_eq!((status, &single["state"], &single["notifications"][0]["id"]), (200, &json!("delivered"), &json!(own)));
    for nothing in [Uuid::new_v4().to_string(), "no-id".to_owned()] {
        assert_eq!(about(&running, Method::GET, &nothing).await.0, 404, "{nothing}");
        eventually("nothing may follow from it any more", async || {
            let (status, _) = about(&running, Method::DELETE, &nothing).await;
            (status != 503).then(|| assert_eq!(status, 404, "{nothing}"))
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_is_not_decided_or_folded_is_withdrawn_later_and_then_whole() {
    let world = World::with(|config| config.http.broker_timeout = ms(3_000)).await;
    // Nobody decides.
    let running = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
    let id = accepted(ask(running.address, None, &json!({"to": {"users": ["alice", "bob"]}, "message": "wrong"}))).await;
    let not_yet = (503, json!("urn:tidings:problem:not-yet"));
    let (status, problem) = about(&running, Method::DELETE, &id).await;
    assert_eq!((status, problem["type"].clone()), not_yet, "{problem}");
    running.stop().await;
    // Nobody folds.
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    world.own_records("notifications", 2).await;
    let (status, problem) = about(&running, Method::DELETE, &id).await;
    assert_eq!((status, problem["type"].clone()), not_yet, "{problem}");
    assert!(world.log.records(&world.own("receipts")).await.is_empty(), "nothing of it is withdrawn");
    running.stop().await;
    let running = world.start().await;
    eventually("all of it is withdrawn", async || {
        let (status, body) = about(&running, Method::DELETE, &id).await;
        (status == 202).then(|| assert_eq!(body["withdrawn"], 2, "{body}"))
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_was_withdrawn_before_a_node_began_and_is_not_folded_is_not_sent_by_it() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    for message in ["wrong", "right"] {
        accepted(ask(running.address, None, &to_alice(message))).await;
    }
    world.until_inbox(2).await;
    let inbox = world.inbox("alice").await;
    let wrong = inbox.iter().find(|one| one["message"] == "wrong").unwrap()["id"].as_str().unwrap().to_owned();
    running.stop().await;
    // Another node, which is gone by now, wrote this; nobody has folded it.
    let running = world.start_roles(&[Role::Gateway]).await;
    assert_eq!(about(&running, Method::DELETE, &wrong).await.0, 202);
    running.stop().await;
    let running = world.start_roles(&[Role::Gateway]).await;
    let (mut alice, _) = Client::greeted(running.address, &format!("token={}&deviceId=new", World::token("alice"))).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["message"], "right");
    running.stop().await;
}

#[tokio::test]
async fn what_is_withdrawn_is_in_no_list_and_not_sent_to_who_comes_later() {
    let world = World::new().await;
    let running = world.start().await;
    let id = accepted(ask(running.address, None, &json!({"to": {"users": ["alice", "bob"]}, "message": "wrong"}))).await;
    known(&running, &id, 2).await;
    accepted(ask(running.address, None, &to_alice("right"))).await;
    eventually("all is known that follows from it", async || {
        let (status, body) = about(&running, Method::DELETE, &id).await;
        (status != 503).then(|| assert_eq!((status, &body["withdrawn"]), (202, &json!(2)), "{body}"))
    })
    .await;
    eventually("it is withdrawn", async || (known(&running, &id, 2).await["state"] == "withdrawn").then_some(())).await;
    eventually("the other one is listed, alone", async || {
        let list = request(running.address, Method::GET, "/v1/me/notifications").bearer_auth(World::token("alice"));
        let (_, list) = answered(list).await;
        let messages = list["notifications"].as_array().unwrap().iter().map(|one| one["message"].clone()).collect::<Vec<_>>();
        assert!(!messages.contains(&json!("wrong")), "{list}");
        (messages == ["right"]).then_some(())
    })
    .await;
    let receipts = world.own_records("receipts", 2).await;
    for receipt in &receipts {
        let (receipt, key) = (receipt.json(), receipt.key.clone().unwrap());
        assert_eq!((&receipt["receipt"], &receipt["cause"]), (&json!("withdrawn"), &json!("service")));
        assert_eq!(receipt["channel"].as_str().unwrap().as_bytes(), key, "it lies with its channel");
    }
    running.stop().await;
    // From the store, for the ring has nothing of before.
    let running = world.start().await;
    let (mut alice, _) = Client::greeted(running.address, &format!("token={}&deviceId=new", World::token("alice"))).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["message"], "right");
    running.stop().await;
}
