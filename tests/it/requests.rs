//! What is asked for directly, on the topic `requests`: who is told, who is left out, and what is no request.

use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Start;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::world::{Running, World, booking, unix_now};

async fn gateway(world: &World) -> Running {
    world.start_roles(&[Role::Pipeline, Role::Gateway]).await
}

/// A connection of a driver.
async fn driver(running: &Running, user: &str) -> Client {
    let token = World::token_of(&json!({"sub": user, "roles": ["driver"], "exp": unix_now() + 3600}));
    Client::greeted(running.address, &format!("token={token}&deviceId=d1&ack=client")).await.0
}

/// The message of the next notification, and its channel.
async fn told(client: &mut Client) -> (String, String) {
    let frame = client.frame("notification:new").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&frame["channel"]), text(&frame["notification"]["message"]))
}

fn heard(channel: &str, message: &str) -> (String, String) {
    (channel.to_owned(), message.to_owned())
}

#[tokio::test]
async fn each_audience_is_told_and_nobody_else() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let (mut alice, mut bob) = (driver(&running, "alice").await, running.connect("bob").await);
    bob.subscribe("booking-updates").await;
    for (to, message) in [
        (json!({"user": "alice"}), "to alice"),
        (json!({"users": ["alice", "bob"]}), "to both"),
        (json!({"role": "driver"}), "to drivers"),
        (json!({"channel": "booking-updates"}), "to who listens"),
        (json!({"everyone": true}), "to everyone"),
    ] {
        world.ask(&json!({"to": to, "message": message})).await;
        // One after the other: channels have no order among each other.
        match message {
            "to alice" => assert_eq!(told(&mut alice).await, heard("user-alice", message)),
            "to both" => {
                assert_eq!(told(&mut alice).await, heard("user-alice", message));
                assert_eq!(told(&mut bob).await, heard("user-bob", message));
            }
            "to drivers" => assert_eq!(told(&mut alice).await, heard("role-driver", message)),
            "to who listens" => assert_eq!(told(&mut bob).await, heard("booking-updates", message)),
            _ => {
                assert_eq!(told(&mut alice).await, heard("system-announcements", message));
                assert_eq!(told(&mut bob).await, heard("system-announcements", message));
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn who_is_excluded_is_not_shown_it_by_mailbox_role_or_announcement() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let (mut alice, mut bob) = (driver(&running, "alice").await, driver(&running, "bob").await);
    for to in [json!({"users": ["alice", "bob"]}), json!({"role": "driver"}), json!({"everyone": true})] {
        world.ask(&json!({"to": to, "exclude": ["alice"], "message": "not for alice"})).await;
        assert_eq!(told(&mut bob).await.1, "not for alice");
        // The next of the same channel: what was before it is not only late.
        world.ask(&json!({"to": to, "message": "for both"})).await;
        assert_eq!(told(&mut alice).await.1, "for both");
        assert_eq!(told(&mut bob).await.1, "for both");
    }
    running.stop().await;
}

#[tokio::test]
async fn who_was_left_out_acknowledges_what_came_behind_it() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = driver(&running, "alice").await;
    world.ask(&json!({"to": {"role": "driver"}, "exclude": ["alice"], "message": "not for alice"})).await;
    world.ask(&json!({"to": {"role": "driver"}, "message": "for all"})).await;
    let frame = alice.frame("notification:new").await;
    assert_eq!(frame["notification"]["message"], "for all");
    alice.ack(&frame).await;
    let offset = frame["position"].as_str().unwrap().split_once(':').unwrap().1.parse::<i64>().unwrap() - 1;
    eventually("the cursor holds the one she was shown", async || {
        let cursors = world.log.records(&world.own("cursors")).await;
        let acknowledged = cursors.iter().map(Seen::json).filter(|cursor| cursor["channel"] == "role-driver");
        let mut stretches = acknowledged.flat_map(|cursor| cursor["acknowledged"].as_array().cloned().unwrap_or_default());
        stretches.any(|stretch| stretch["from"].as_i64() <= Some(offset) && Some(offset) < stretch["to"].as_i64()).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_was_asked_for_before_the_first_start_is_not_skipped() {
    let world = World::with(|config| config.pipeline.start = Start::End).await;
    world.ask(&json!({"to": {"user": "alice"}, "message": "early"})).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let [record] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(record.json()["notification"]["message"], "early");
    running.stop().await;
}

#[tokio::test]
async fn the_same_request_twice_is_shown_once() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    for message in ["first", "second"] {
        for (id, message) in [("r-1", message), (message, "next")] {
            let request = json!({"id": id, "to": {"user": "alice"}, "message": message}).to_string();
            // One key, so one order.
            world.log.produce(&world.own("requests"), Some("k"), request.as_bytes()).await;
        }
    }
    let seen = [told(&mut alice).await.1, told(&mut alice).await.1, told(&mut alice).await.1];
    assert_eq!(seen, ["first", "next", "next"]);
    let records = world.own_records("notifications", 4).await;
    let ids = records.iter().map(|record| record.json()["notification"]["id"].to_string());
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn an_event_in_a_request_is_told_by_the_rules() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    let event = booking("e-1", "alice");
    world.ask(&json!({"event": {"type": event["type"], "data": event["data"], "id": "e-1"}})).await;
    let frame = alice.frame("notification:new").await;
    assert_eq!(
        (&frame["notification"]["type"], &frame["notification"]["eventId"]),
        (&json!("booking_confirmation"), &json!("e-1"))
    );
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_buried_with_every_fault_and_the_next_gets_through() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    let hostile = json!({"to": {"user": "alice", "role": "x"}, "title": 7, "expiresAt": "soon"});
    let behind = json!({"to": {"user": "alice"}, "message": "behind it"});
    // One key, so that it does lie behind.
    let (partition, offset) = world.log.produce(&world.own("requests"), Some("k"), hostile.to_string().as_bytes()).await;
    world.log.produce(&world.own("requests"), Some("k"), behind.to_string().as_bytes()).await;
    assert_eq!(told(&mut alice).await.1, "behind it");
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("tidings-original-topic"), world.own("requests"));
    assert_eq!(
        (dead.header("tidings-original-partition"), dead.header("tidings-original-offset")),
        (&*partition.to_string(), &*offset.to_string())
    );
    assert_eq!(dead.header("tidings-error-class"), "request_invalid");
    for place in ["/to", "/title", "/expiresAt"] {
        assert!(dead.header("tidings-error-message").contains(place), "{}", dead.header("tidings-error-message"));
    }
    assert_eq!(dead.json(), hostile);
    running.stop().await;
}
