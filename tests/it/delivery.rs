//! The main job from end to end.

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::raw::{PONG, Raw, masked};
use crate::harness::world::{World, booking, ms, payment};

#[tokio::test]
async fn an_event_reaches_its_user_and_the_acknowledgement_ends_up_in_sql() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let (partition, offset) = world.emit(&payment("1", "alice")).await;

    let frame = alice.frame("notification:new").await;
    assert_eq!(frame["channel"], "user-alice");
    let notification = &frame["notification"];
    assert_eq!(notification["type"], "payment_due");
    assert_eq!(notification["title"], "Payment Due");
    assert_eq!(notification["message"], "You have a payment of $120.50 due on 2026-02-01.");
    assert_eq!(notification["data"], json!({"payment_id": "p-1"}));
    assert_eq!(notification["eventId"], "1");
    assert_eq!(notification["source"], world.topic.as_str());

    alice.ack(&frame).await;
    let id = notification["id"].as_str().unwrap().to_owned();
    world.until_acknowledged(&id).await;
    let [record] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"user-alice"[..]));
    let mut origin = record.json()["origin"].clone();
    let said = origin["timestamp"].take();
    assert!(said.is_string(), "when the event was written: {said}");
    assert_eq!(origin, json!({"topic": world.topic, "partition": partition, "offset": offset, "timestamp": null}));
    running.stop().await;
}

#[tokio::test]
async fn one_event_reaches_its_user_and_everyone_who_subscribed_to_its_channel() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let (mut bob, mut carol) = (running.connect("bob").await, running.connect("carol").await);
    bob.subscribe("booking-updates").await;
    carol.subscribe("booking-updates").await;
    world.emit(&booking("1", "alice")).await;

    let personal = alice.frame("notification:new").await;
    assert_eq!(personal["notification"]["message"], "Your booking for Tesla Model 3 has been confirmed.");
    for listener in [&mut bob, &mut carol] {
        let public = listener.frame("notification:new").await;
        assert_eq!(public["channel"], "booking-updates");
        assert_eq!(public["notification"]["message"], "A booking has been confirmed.");
    }
    // Nobody but Alice is sent what is hers: the next thing the others hear is what comes next on their channel.
    world.emit(&booking("2", "alice")).await;
    assert_eq!(bob.frame("notification:new").await["notification"]["data"], json!({"booking_id": "b-2"}));
    running.stop().await;
}

#[tokio::test]
async fn the_same_event_produced_twice_is_shown_once_and_is_in_the_inbox_once() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("twice", "alice")).await;
    world.emit(&payment("twice", "alice")).await;
    world.emit(&payment("last", "alice")).await;

    let first = alice.frame("notification:new").await;
    let second = alice.frame("notification:new").await;
    assert_eq!((&first["notification"]["eventId"], &second["notification"]["eventId"]), (&json!("twice"), &json!("last")));
    alice.ack(&second).await;
    world.until_acknowledged(second["notification"]["id"].as_str().unwrap()).await;
    assert_eq!(world.inbox("alice").await.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn except_leaves_single_notifications_unacknowledged_until_they_are_named() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    for number in 0..3 {
        world.emit(&payment(&format!("e{number}"), "alice")).await;
        alice.frame("notification:new").await;
    }
    // The order on the log is the broker's; the frames tell it.
    world.emit(&payment("middle", "alice")).await;
    let middle = alice.frame("notification:new").await;
    world.emit(&payment("end", "alice")).await;
    let end = alice.frame("notification:new").await;
    let middle_id = middle["notification"]["id"].as_str().unwrap();
    let end_id = end["notification"]["id"].as_str().unwrap();

    alice.send(json!({"type": "ack", "channel": "user-alice", "position": end["position"], "except": [middle_id]})).await;
    world.until_acknowledged(end_id).await;
    assert_eq!(world.acknowledged("alice").await.len(), 4);
    alice.send(json!({"type": "ack", "notificationIds": [middle_id]})).await;
    world.until_acknowledged(middle_id).await;
    running.stop().await;
}

#[tokio::test]
async fn with_ack_written_a_notification_counts_once_the_device_answered_a_later_ping() {
    let world = World::with(|config| config.gateway.heartbeat_interval = ms(300)).await;
    let running = world.start().await;
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let (mut alice, _) = crate::harness::client::Client::greeted(running.address, &query).await;
    world.emit(&payment("1", "alice")).await;
    let frame = alice.frame("notification:new").await;
    let id = frame["notification"]["id"].as_str().unwrap().to_owned();
    alice.reads_until(world.until_acknowledged(&id)).await;
    running.stop().await;
}

#[tokio::test]
async fn each_connection_is_sent_the_texts_of_its_locale_also_when_they_are_sent_again() {
    let mut world = World::with(|config| config.courier.ack_timeout = ms(500)).await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    let rule = "[[rule]]\nname = \"r\"\nevent = \"a\"\nuser = \"alice\"\ntype = \"t\"\ntitle = \"Booked\"\n[rule.locales.fr]\ntitle = \"Réservé\"\n";
    std::fs::write(folder.join("a.toml"), rule).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    let running = world.start().await;
    let mut clients = Vec::new();
    for (locale, title) in [("fr-CA", "Réservé"), ("fr", "Réservé"), ("de", "Booked"), ("", "Booked")] {
        let query = format!("token={}&deviceId=d{locale}&ack=client&locale={locale}", World::token("alice"));
        clients.push((Client::greeted(running.address, &query).await.0, title));
    }
    world.emit(&json!({"type": "a", "data": {}})).await;
    for (client, title) in &mut clients {
        let first = client.frame("notification:new").await;
        assert_eq!(first["notification"]["title"], *title);
        assert!(first["position"].is_string() && first["notification"].get("locales").is_none(), "{first}");
    }
    for (client, title) in &mut clients {
        let again = client.frame("notification:new").await;
        assert_eq!((&again["notification"]["title"], &again["redelivery"]), (&json!(title), &json!(1)));
        assert!(again["notification"].get("locales").is_none(), "{again}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_pong_that_nobody_asked_for_acknowledges_nothing() {
    // Long before the courier tries again.
    let world = World::with(|config| config.gateway.heartbeat_interval = ms(3_000)).await;
    let running = world.start().await;
    let mut silent = Raw::greeted(running.address, "alice").await;
    silent.send(&masked(PONG, &u32::MAX.to_be_bytes())).await;
    // A ping that was answered shows that the pong before it was read.
    silent.send(&crate::harness::raw::text(&json!({"type": "ping"}))).await;
    silent.json("pong").await;
    let (mut answering, _) = Client::greeted(running.address, &format!("token={}&deviceId=d1", World::token("alice"))).await;
    world.emit(&payment("1", "alice")).await;
    silent.json("notification:new").await;
    let id = answering.frame("notification:new").await["notification"]["id"].as_str().unwrap().to_owned();
    answering.reads_until(world.until_acknowledged(&id)).await;
    let cursors = world.own_records("cursors", 1).await.into_iter().map(|record| record.json());
    let acknowledging = cursors.filter(|cursor| !cursor["acknowledged"].as_array().unwrap().is_empty());
    let devices = acknowledging.map(|cursor| cursor["deviceId"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(!devices.is_empty() && devices.iter().all(|device| device == "d1"), "{devices:?}");
    running.stop().await;
}
