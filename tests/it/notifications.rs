//! `POST /v1/notifications`: whoever is told and left out, by words or by rules, and what an `Idempotency-Key` guarantees.

use std::num::NonZeroUsize;

use futures_util::future::select_all;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::broker::OwnBroker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::rest::{accepted, answered, ask, ask_as, gateway, to_alice, token};
use crate::harness::world::{Running, World, booking, ms};

/// A connection of a driver.
async fn driver(running: &Running, user: &str) -> Client {
    Client::greeted(running.address, &format!("token={}&deviceId=d1&ack=client", token(user, "driver"))).await.0
}

/// The next notification: its channel, what it says, and the request that it follows from.
async fn told(client: &mut Client) -> (String, String, String) {
    let frame = client.frame("notification:new").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let notification = &frame["notification"];
    (text(&frame["channel"]), text(&notification["message"]), text(&notification["eventId"]))
}

#[tokio::test]
async fn each_audience_that_is_asked_for_over_http_is_told_and_nobody_else() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let (mut alice, mut bob) = (driver(&running, "alice").await, running.connect("bob").await);
    bob.subscribe("booking-updates").await;
    for (to, channels) in [
        (json!({"user": "alice"}), [Some("user-alice"), None]),
        (json!({"users": ["bob"]}), [None, Some("user-bob")]),
        (json!({"users": ["alice", "bob", "alice"]}), [Some("user-alice"), Some("user-bob")]),
        (json!({"role": "driver"}), [Some("role-driver"), None]),
        (json!({"channel": "booking-updates"}), [None, Some("booking-updates")]),
        (json!({"everyone": true}), [Some("system-announcements"), Some("system-announcements")]),
    ] {
        let id = accepted(ask(running.address, None, &json!({"to": to, "message": to.to_string()}))).await;
        // What somebody else was told would be the next thing that they hear.
        for (client, channel) in [&mut alice, &mut bob].into_iter().zip(channels) {
            if let Some(channel) = channel {
                assert_eq!(told(client).await, (channel.to_owned(), to.to_string(), id.clone()));
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn who_is_excluded_over_http_is_told_by_no_way_there_is() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let (mut alice, mut bob) = (driver(&running, "alice").await, driver(&running, "bob").await);
    for client in [&mut alice, &mut bob] {
        client.subscribe("booking-updates").await;
    }
    let audiences = [
        json!({"users": ["alice", "bob"]}),
        json!({"role": "driver"}),
        json!({"channel": "booking-updates"}),
        json!({"everyone": true}),
    ];
    for to in audiences {
        accepted(ask(running.address, None, &json!({"to": to, "exclude": ["alice"], "message": "not for alice"}))).await;
        assert_eq!(told(&mut bob).await.1, "not for alice", "{to}");
        // The next in the same channel: what was before it is not only late.
        accepted(ask(running.address, None, &json!({"to": to, "message": "for both"}))).await;
        assert_eq!((told(&mut alice).await.1, told(&mut bob).await.1), ("for both".to_owned(), "for both".to_owned()), "{to}");
    }
    running.stop().await;
}

#[tokio::test]
async fn an_event_over_http_is_told_in_the_words_of_its_rules() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    alice.subscribe("booking-updates").await;
    let event = booking("7", "alice");
    let body = json!({"event": {"type": event["type"], "data": event["data"]}});
    let id = accepted(ask(running.address, Some("booking-7"), &body)).await;
    let mut heard = [told(&mut alice).await, told(&mut alice).await];
    heard.sort();
    let expected = [
        ("booking-updates", "A booking has been confirmed."),
        ("user-alice", "Your booking for Tesla Model 3 has been confirmed."),
    ];
    assert_eq!(heard, expected.map(|(channel, message)| (channel.to_owned(), message.to_owned(), id.clone())));
    // The key makes it the same event, and leaving users out goes for rules as well.
    assert_eq!(accepted(ask(running.address, Some("booking-7"), &body)).await, id);
    let mut for_others = body.clone();
    for_others["exclude"] = json!(["alice"]);
    accepted(ask(running.address, None, &for_others)).await;
    accepted(ask(running.address, None, &to_alice("next"))).await;
    assert_eq!(told(&mut alice).await.1, "next");
    running.stop().await;
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
        // Each round leaves two; what comes "later" lies behind this one, in its partition.
        world.own_records("notifications", 2 * ids.len() - 1).await;
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

#[tokio::test]
async fn a_key_that_comes_with_another_request_is_refused_for_as_long_as_it_is_remembered() {
    let world = World::with(|config| config.http.idempotency_keys = NonZeroUsize::new(1).unwrap()).await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    let id = accepted(ask(running.address, Some("k"), &to_alice("first"))).await;
    let (status, problem) = answered(ask(running.address, Some("k"), &to_alice("another"))).await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:tidings:problem:idempotency-key-reused")), "{problem}");
    // Written in another way it is still the same request.
    let spaced = ask(running.address, Some("k"), &json!({})).body("{ \"message\": \"first\", \"to\": {\"users\": [\"alice\"]} }");
    assert_eq!(accepted(spaced).await, id);
    accepted(ask(running.address, Some("a key that takes its place"), &to_alice("second"))).await;
    assert_eq!(accepted(ask(running.address, Some("k"), &to_alice("another"))).await, id);
    accepted(ask(running.address, None, &to_alice("last"))).await;
    // What a forgotten key let through is the same notification, so nobody who has been shown it is shown it again.
    for message in ["first", "second", "last"] {
        assert_eq!(told(&mut alice).await.1, message);
    }
    running.stop().await;
}

#[tokio::test]
async fn after_a_restart_a_key_still_means_what_was_written_first() {
    let world = World::new().await;
    let first = world.start().await;
    let id = accepted(ask(first.address, Some("k"), &to_alice("first"))).await;
    world.own_records("notifications", 1).await;
    eventually("it is in the inbox", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    first.stop().await;
    let second = world.start().await;
    let to_both = json!({"to": {"users": ["alice", "bob"]}, "message": "another"});
    assert_eq!(accepted(ask(second.address, Some("k"), &to_both)).await, id, "the node has no memory of it");
    eventually("bob is told", async || (world.inbox("bob").await.len() == 1).then_some(())).await;
    accepted(ask(second.address, None, &to_alice("later"))).await;
    eventually("all is in the inbox", async || (world.inbox("alice").await.len() == 2).then_some(())).await;
    let messages = world.inbox("alice").await.iter().map(|notification| notification["message"].clone()).collect::<Vec<_>>();
    assert_eq!(messages, ["first", "later"]);
    assert_eq!(world.inbox("bob").await[0]["message"], "another");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_request_is_on_its_way_its_key_takes_no_other_and_the_same_is_answered_like_it() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| {
        config.http.request_timeout = ms(120_000);
        config.http.broker_timeout = ms(110_000);
    })
    .await;
    let running = gateway(&world).await;
    accepted(ask(running.address, None, &to_alice("before"))).await;
    broker.stop();
    let messages = ["one", "other"];
    let mut both = messages.map(|message| Box::pin(answered(ask(running.address, Some("k"), &to_alice(message)))));
    let ((status, problem), lost, _) = select_all(both.iter_mut()).await;
    assert_eq!(status, 422, "whichever came first waits for the brokers: {problem}");
    let same = ask(running.address, Some("k"), &to_alice(messages[1 - lost]));
    let same = tokio::spawn(accepted(same));
    broker.start_again();
    let (status, kept) = (&mut both[1 - lost]).await;
    assert_eq!((status, kept["id"].as_str()), (202, Some(&*same.await.unwrap())), "{kept}");
    running.await_ready().await;
    running.stop().await;
}
