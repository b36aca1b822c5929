//! A device that was away is sent what it missed, in order and once, or is told that it is not. Long because every honest
//! answer is asked for over a socket.

use rand::RngExt as _;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Heard;
use crate::harness::missed::{MAILBOX, back, forgetful, offset, pay, position, returned, some, told, witness};
use crate::harness::seed;
use crate::harness::world::{World, booking, ms, payment};

#[tokio::test]
async fn what_was_missed_comes_once_and_in_order_before_what_is_live() {
    let world = World::new().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..6).await;

    let mut alice = back(running.address, &json!({MAILBOX: sent[1]})).await;
    let begun = alice.frame("subscribed").await;
    assert_eq!((&begun["channel"], &begun["recovering"]), (&json!(MAILBOX), &json!(true)));
    assert_eq!(begun["position"], json!(sent[1]));
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!(told.sent, sent[2..]);
    assert_eq!(told.recovered["recovered"], true);
    assert!(told.recovered.get("truncated").is_none());

    let live = pay(&world, &mut witness, 6..7).await;
    let frame = alice.frame("notification:new").await;
    assert_eq!(position(&frame), live[0]);
    // The position that a recovery ends with can be acknowledged like any other.
    alice.send(json!({"type": "ack", "channel": MAILBOX, "position": told.recovered["position"]})).await;
    alice.ack(&frame).await;
    world.until_acknowledged(frame["notification"]["id"].as_str().unwrap()).await;
    let outcome = "outcome=\"complete\"";
    assert_eq!(running.labelled("tidings_gateway_ended_recoveries_total", outcome).await, 1);
    assert!(running.metric("tidings_gateway_ring_recovered_frames_total").await >= 4.0);
    running.stop().await;
}

#[tokio::test]
async fn who_missed_nothing_is_told_so_and_who_asks_twice_is_sent_the_same_twice() {
    let world = World::new().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let before = back(running.address, &json!({MAILBOX: "1:0"})).await;
    before.close().await;
    let sent = pay(&world, &mut witness, 0..3).await;
    for _ in 0..2 {
        let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
        assert_eq!(told(&mut alice, MAILBOX).await.sent, sent[1..]);
        // The connection breaks without a goodbye.
        drop(alice);
    }
    let mut alice = back(running.address, &json!({MAILBOX: sent[2]})).await;
    let nothing = told(&mut alice, MAILBOX).await;
    assert_eq!((nothing.sent.len(), &nothing.recovered["recovered"]), (0, &json!(true)));
    running.stop().await;
}

#[tokio::test]
async fn what_the_ring_no_longer_has_comes_from_the_store_page_by_page() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..12).await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!((told.sent, &told.recovered["recovered"]), (sent[1..].to_vec(), &json!(true)));
    assert!(running.metric("tidings_gateway_store_recovered_frames_total").await >= 9.0);
    assert!(running.metric("tidings_gateway_ring_evicted_records_total").await >= 10.0);
    assert!(running.metric("tidings_gateway_ring_records").await <= 2.0);
    running.stop().await;
}

#[tokio::test]
async fn the_ring_holds_no_more_bytes_than_it_may_and_the_rest_comes_from_the_store() {
    const BYTES: usize = 4_000;
    let world = World::with(|config| config.gateway.recovery.ring_bytes = some(BYTES)).await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..12).await;
    let held = running.metric("tidings_gateway_ring_bytes").await;
    assert!(held > 0.0 && held <= BYTES as f64, "{held}");
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!((told.sent, &told.recovered["recovered"]), (sent[1..].to_vec(), &json!(true)));
    assert!(running.metric("tidings_gateway_store_recovered_frames_total").await >= 1.0);
    assert!(running.metric("tidings_gateway_ring_evicted_records_total").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn on_another_node_a_device_goes_on_where_it_stopped() {
    let world = World::new().await;
    let first = world.start().await;
    let mut witness = witness(&first).await;
    let sent = pay(&world, &mut witness, 0..4).await;
    // It has seen nothing of what came before it.
    let second = world.start_roles(&[Role::Gateway]).await;
    let mut alice = back(second.address, &json!({MAILBOX: sent[0]})).await;
    assert_eq!(told(&mut alice, MAILBOX).await.sent, sent[1..]);
    let live = pay(&world, &mut witness, 4..5).await;
    assert_eq!(position(&alice.frame("notification:new").await), live[0]);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_position_of_another_epoch_or_in_the_future_is_told_and_the_newest_of_the_mailbox_follow() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..5).await;
    world.own_records("notifications", 5).await;
    let epoch = sent[0].split_once(':').unwrap().0.to_owned();
    let cases = [("999:3".to_owned(), "epoch"), (format!("{epoch}:9223372036854775807"), "beyond")];
    for (since, outcome) in cases {
        let mut alice = back(running.address, &json!({MAILBOX: since})).await;
        let lost = told(&mut alice, MAILBOX).await;
        assert_eq!((lost.sent.len(), &lost.recovered["recovered"]), (0, &json!(false)), "{since}");
        let at = lost.recovered["position"].as_str().unwrap();
        assert!(offset(at) <= offset(&sent[3]), "{at} lies behind the newest two");
        for newest in &sent[3..] {
            assert_eq!(position(&alice.frame("notification:new").await), *newest);
        }
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(running.labelled("tidings_gateway_ended_recoveries_total", &label).await, 1);
    }
    running.stop().await;
}

#[tokio::test]
async fn what_was_trimmed_is_told_before_what_is_left_of_it() {
    let world = World::with(|config| {
        config.inbox.mailbox_rows = some(3);
        config.gateway.recovery.ring_records = some(1);
    })
    .await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..9).await;
    crate::harness::eventually("the last one is folded, and what she missed first is gone", async || {
        let inbox = world.inbox("alice").await;
        let kept = inbox.iter().map(|one| one["eventId"].as_str().unwrap()).collect::<Vec<_>>();
        (kept.last() == Some(&"8") && !kept.contains(&"1")).then_some(())
    })
    .await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    let told = told(&mut alice, MAILBOX).await;
    assert!((1..8).contains(&told.sent.len()), "{told:?}");
    assert_eq!(told.sent, sent[sent.len() - told.sent.len()..], "everything behind the hole");
    let [hole] = &told.truncated[..] else { panic!("{told:?}") };
    assert_eq!((&hole["from"], &hole["reason"]), (&json!(sent[0]), &json!("retention")));
    assert!(offset(hole["to"].as_str().unwrap()) < offset(&told.sent[0]));
    assert_eq!(told.recovered["recovered"], true);
    assert_eq!((&told.recovered["truncated"]["from"], &told.recovered["truncated"]["to"]), (&hole["from"], &hole["to"]));
    assert_eq!(running.labelled("tidings_gateway_ended_recoveries_total", "outcome=\"truncated\"").await, 1);
    // Who stands at the hole's end misses nothing.
    let mut bob = back(running.address, &json!({MAILBOX: hole["to"]})).await;
    assert!(self::told(&mut bob, MAILBOX).await.recovered.get("truncated").is_none());
    running.stop().await;
}

#[tokio::test]
async fn without_a_store_the_ring_is_all_there_is() {
    let world = forgetful().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..5).await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[2]})).await;
    let near = told(&mut alice, MAILBOX).await;
    assert_eq!((near.sent, &near.recovered["recovered"]), (sent[3..].to_vec(), &json!(true)));
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    assert_eq!(told(&mut alice, MAILBOX).await.recovered["recovered"], false);
    for newest in &sent[3..] {
        assert_eq!(position(&alice.frame("notification:new").await), *newest);
    }
    assert_eq!(running.labelled("tidings_gateway_ended_recoveries_total", "outcome=\"forgotten\"").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_projection_that_stays_behind_is_waited_for_and_then_told() {
    let mut world = forgetful().await;
    world.config.gateway.recovery.wait = ms(500);
    // Makes the store, and leaves it.
    world.start().await.stop().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut alice = witness(&running).await;
    let sent = pay(&world, &mut alice, 0..6).await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    assert_eq!(told(&mut alice, MAILBOX).await.recovered["recovered"], false);
    for newest in &sent[4..] {
        assert_eq!(position(&alice.frame("notification:new").await), *newest);
    }
    assert!(running.labelled("tidings_gateway_ended_recoveries_total", "outcome=\"behind\"").await >= 1);
    running.stop().await;
}

#[tokio::test]
async fn a_new_device_begins_at_the_oldest_pending_notification_and_a_known_one_where_it_stopped() {
    let world = World::new().await;
    let running = world.start().await;
    let mut first = running.connect("alice").await;
    let sent = pay(&world, &mut first, 0..4).await;
    first.send(json!({"type": "ack", "channel": MAILBOX, "position": sent[1]})).await;
    let id = |frame: &Value| frame["notification"]["id"].as_str().unwrap().to_owned();
    crate::harness::eventually("two are acknowledged in SQL", async || {
        (world.acknowledged("alice").await.len() == 2).then_some(())
    })
    .await;
    first.close().await;
    for device in ["d1", "new"] {
        let mut alice = returned(running.address, device).await;
        let told = told(&mut alice, MAILBOX).await;
        assert_eq!((told.sent, &told.recovered["recovered"]), (sent[2..].to_vec(), &json!(true)), "{device}");
    }
    // When nothing is pending, a new device begins at the live end.
    let mut last = running.connect("alice").await;
    last.send(json!({"type": "ack", "channel": MAILBOX, "position": sent[3]})).await;
    crate::harness::eventually("all are acknowledged in SQL", async || {
        (world.acknowledged("alice").await.len() == 4).then_some(())
    })
    .await;
    let mut newer = returned(running.address, "newer").await;
    world.emit(&payment("live", "alice")).await;
    let frame = newer.frame("notification:new").await;
    assert_eq!((&frame["notification"]["eventId"], id(&frame).is_empty()), (&json!("live"), false));
    running.stop().await;
}

#[tokio::test]
async fn any_channel_is_recovered_when_it_is_subscribed_with_a_position() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = running.connect("bob").await;
    witness.subscribe("booking-updates").await;
    let mut sent = Vec::new();
    for number in 0..6 {
        world.emit(&booking(&number.to_string(), "carol")).await;
        sent.push(position(&witness.frame("notification:new").await));
    }
    let mut alice = running.connect("alice").await;
    for since in [json!(sent[0]), json!({"booking-updates": sent[0]}), json!(json!({"booking-updates": sent[0]}).to_string())] {
        alice.send(json!({"type": "subscribe", "channel": "booking-updates", "since": since, "messageId": "s"})).await;
        let begun = alice.frame("subscribed").await;
        assert_eq!((&begun["replyTo"], &begun["recovering"]), (&json!("s"), &json!(true)));
        assert_eq!(told(&mut alice, "booking-updates").await.sent, sent[1..], "again from {since}");
    }
    alice.send(json!({"type": "subscribe", "channel": "booking-updates", "since": "1:-7"})).await;
    assert_eq!(alice.frame("error").await["code"], "bad_frame");
    alice.send(json!({"type": "subscribe", "channel": "user-bob", "since": "1:0"})).await;
    assert_eq!(alice.frame("error").await["code"], "forbidden");
    running.stop().await;
}

#[tokio::test]
async fn positions_in_channels_of_others_bring_nothing_of_theirs() {
    let world = World::new().await;
    let running = world.start().await;
    let mut bob = running.connect("bob").await;
    world.emit(&payment("1", "bob")).await;
    bob.frame("notification:new").await;
    let mut alice = back(running.address, &json!({"user-bob": "1:0", MAILBOX: "1:0"})).await;
    let told = told(&mut alice, MAILBOX).await;
    assert!(told.sent.is_empty(), "{told:?}");
    alice.send(json!({"type": "ping"})).await;
    loop {
        let Heard::Frame(frame) = alice.hear().await else { panic!("the connection ended") };
        assert_ne!(frame["channel"], "user-bob");
        if frame["type"] == "pong" {
            break;
        }
    }
    assert!(running.metric("tidings_gateway_ignored_positions_total").await >= 1.0);
    running.stop().await;
}

/// Whenever a device comes back, on whichever node, with whatever earlier position, while more is on its way: it is sent
/// exactly what came behind its position.
#[tokio::test]
async fn whatever_the_moment_and_the_node_nothing_is_missed_and_nothing_comes_twice() {
    let mut random = seed::random("recovery");
    let world = forgetful().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let mut witness = witness(&first).await;
    let mut sent = pay(&world, &mut witness, 0..3).await;
    for round in 0..25 {
        let on_their_way = random.random_range(0..6);
        let now = sent.len();
        for number in 0..on_their_way {
            world.emit(&payment(&format!("{round}-{number}"), "alice")).await;
        }
        let stopped = random.random_range(0..now);
        let node = if random.random_bool(0.5) { &first } else { &second };
        let mut alice = back(node.address, &json!({MAILBOX: sent[stopped]})).await;
        for _ in 0..on_their_way {
            sent.push(position(&witness.frame("notification:new").await));
        }
        let mut seen = Vec::new();
        while seen.len() < sent.len() - stopped - 1 {
            seen.push(position(&alice.frame("notification:new").await));
        }
        assert_eq!(seen, sent[stopped + 1..], "round {round}, back from {stopped}");
        let recovered = alice.frame("recovered").await;
        assert_eq!((&recovered["recovered"], recovered.get("truncated")), (&json!(true), None), "{recovered}");
    }
    second.stop().await;
    first.stop().await;
}
