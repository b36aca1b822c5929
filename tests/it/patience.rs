//! Devices that come back while the store does not answer, while they do not read, or to a process that drains: nobody waits longer
//! than they must, and nobody is told what is not so.

use futures_util::future::join_all;
use serde_json::json;
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings_core::channel::Channel;
use tidings_core::time::Timestamp;
use tokio_websockets::Message;

use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::gate::Gate;
use crate::harness::missed::{
    MAILBOX, back, everywhere, forget, offset, outcomes, pay, position, positions, query, returned, some, told, witness,
};
use crate::harness::postgres::Server;
use crate::harness::world::{Running, World, ms, payment};

/// Alice's mailbox with six payments, of which the ring holds two; the rest lie in a database behind a gate.
async fn gated(server: &Server, wait_ms: u64) -> (World, Running, Gate, Vec<String>) {
    let (gate, through) = Gate::before(&server.database()).await;
    let world = World::with(|config| {
        forget(config);
        config.gateway.recovery.page_reads = some(1);
        config.gateway.recovery.start_reads = some(1);
        config.gateway.recovery.wait = ms(wait_ms);
        config.gateway.open_channels = channels();
        config.store.url = through;
    })
    .await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..6).await;
    eventually("the store has them", async || {
        let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
        let told = told(&mut alice, MAILBOX).await;
        (told.sent.len() == 5).then_some(())
    })
    .await;
    (world, running, gate, sent)
}

fn channels() -> Vec<Channel> {
    names().iter().map(|name| name.parse().unwrap()).collect()
}

/// Names of open channels.
fn names() -> Vec<String> {
    (0..60).map(|number| format!("topic-{number}")).collect()
}

#[tokio::test]
async fn a_store_that_hangs_keeps_none_of_many_longer_than_it_may_and_they_are_told_what_is_so() {
    let server = Server::start();
    let (world, running, gate, sent) = gated(&server, 3_000).await;
    let before = outcomes(&running, "unanswered").await;
    gate.close();
    // With one read at a time they would wait for minutes, one behind the other. Each is a user's connection with a device of its own.
    let devices = join_all((0..19).map(async |number| {
        let query = format!("{}&since={}", query(&format!("d{number}")), positions(&everything(&sent[0])));
        let mut alice = Client::greeted(running.address, &query).await.0;
        let lost = told(&mut alice, MAILBOX).await;
        assert_eq!((lost.sent.len(), &lost.recovered["recovered"]), (0, &json!(false)));
        for newest in &sent[4..] {
            assert_eq!(position(&alice.frame("notification:new").await), *newest);
        }
        alice
    }));
    let mut devices = devices.await;
    assert!(outcomes(&running, "unanswered").await >= before + 19);
    world.emit(&payment("live", "alice")).await;
    for alice in &mut devices {
        assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "live");
    }
    gate.open();
    drop(devices);
    running.stop().await;
}

/// A position in each of Alice's own channels, so that nothing is asked of the store before she joins.
fn everything(mailbox: &str) -> serde_json::Value {
    json!({MAILBOX: mailbox, "system-announcements": "1:0"})
}

#[tokio::test]
async fn while_the_store_keeps_a_subscription_waiting_its_client_is_heard_and_a_drain_ends_it() {
    let server = Server::start();
    let (_world, running, gate, _) = gated(&server, 3_600_000).await;
    let mut alice = Client::greeted(running.address, &format!("{}&since={}", query("d1"), positions(&everything("1:0")))).await.0;
    told(&mut alice, MAILBOX).await;
    let mut leaves =
        Client::greeted(running.address, &format!("{}&since={}", query("d2"), positions(&everything("1:0")))).await.0;
    told(&mut leaves, MAILBOX).await;
    gate.close();
    for client in [&mut alice, &mut leaves] {
        client.send(json!({"type": "subscribe", "channels": names()})).await;
    }
    // Her goodbye is heard.
    leaves.close().await;
    eventually("it has left", async || (running.metric("tidings_gateway_open_connections").await < 2.0).then_some(())).await;
    alice.send_raw(Message::ping("still there?")).await;
    // What she says meanwhile has its turn later.
    alice.send(json!({"type": "ping", "messageId": "later"})).await;
    running.begin_stop();
    assert_eq!(alice.close_code().await, 1012);
    gate.open();
    running.ended().await.unwrap();
}

#[tokio::test]
async fn what_a_client_acknowledged_behind_a_word_that_waits_counts_although_it_leaves() {
    let server = Server::start();
    let (world, running, gate, sent) = gated(&server, 3_600_000).await;
    let mut alice =
        Client::greeted(running.address, &format!("{}&since={}", query("d1"), positions(&everything(&sent[0])))).await.0;
    told(&mut alice, MAILBOX).await;
    gate.close();
    alice.send(json!({"type": "subscribe", "channels": names()})).await;
    alice.send(json!({"type": "ack", "channel": MAILBOX, "position": sent[5]})).await;
    drop(alice);
    // The node learns that she is gone when it writes to her.
    eventually("she has left", async || {
        world.emit(&payment("later", "alice")).await;
        (running.metric("tidings_gateway_open_connections").await < 1.0).then_some(())
    })
    .await;
    eventually("what she acknowledged is on the log", async || {
        let cursors = world.own_records("cursors", 1).await.into_iter().map(|record| record.json());
        let last = offset(&sent[5]) - 1;
        let covers = |said: &serde_json::Value| said["from"].as_i64() <= Some(last) && said["to"].as_i64() > Some(last);
        let mut hers = cursors.filter(|cursor| cursor["deviceId"] == "d1");
        hers.any(|cursor| cursor["acknowledged"].as_array().unwrap().iter().any(covers)).then_some(())
    })
    .await;
    gate.open();
    running.stop().await;
}

#[tokio::test]
async fn a_projection_that_lags_is_waited_for_and_nothing_is_missing_then() {
    let mut world = World::with(forget).await;
    world.config.gateway.recovery.wait = ms(60_000);
    // Makes the store, and leaves it.
    world.start().await.stop().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut witness = returned(running.address, "witness").await;
    let sent = pay(&world, &mut witness, 0..7).await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
    alice.frame("subscribed").await;
    // What comes meanwhile is not sent before what was missed.
    let live = pay(&world, &mut witness, 7..8).await;
    let inbox = world.start_roles(&[Role::Inbox]).await;
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!((told.sent, &told.recovered["recovered"]), ([&sent[1..], &live[..]].concat(), &json!(true)));
    inbox.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn a_frame_with_many_positions_ahead_asks_the_brokers_once() {
    let world = World::with(|config| config.gateway.open_channels = channels()).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let since = everywhere(&names(), "1:1000000");
    // For a new device they were asked once already.
    let before = running.metric("tidings_gateway_end_reads_total").await;
    alice.send(json!({"type": "subscribe", "channels": names(), "since": since})).await;
    for _ in names() {
        assert_eq!(alice.frame("recovered").await["recovered"], false);
    }
    assert_eq!(running.metric("tidings_gateway_end_reads_total").await, before + 1.0);
    assert_eq!(outcomes(&running, "beyond").await, 60);
    running.stop().await;
}

#[tokio::test]
async fn a_slow_reader_of_many_channels_is_sent_all_it_missed_and_stays() {
    const CHANNELS: usize = 12;
    const EACH: usize = 12;
    let world = World::with(|config| {
        config.gateway.open_channels = channels();
        config.gateway.outbox_bytes = some(128 << 10);
        config.gateway.recovery.ring_records = some(1);
    })
    .await;
    let running = world.start().await;
    let names = names()[..CHANNELS].to_vec();
    for number in 0..EACH {
        for channel in &names {
            let message = "x".repeat(16_000);
            world.ask(&json!({"to": {"channel": channel}, "type": number.to_string(), "message": message})).await;
        }
    }
    world.own_records("notifications", CHANNELS * EACH).await;
    let mut alice = running.connect("alice").await;
    alice.send(json!({"type": "subscribe", "channels": names, "since": everywhere(&names, "1:0")})).await;
    let mut before = 0.0;
    eventually("the sockets are full, and the rest of her pages wait for her to read", async || {
        let now = running.metric("tidings_gateway_store_recovered_frames_total").await;
        let stands_still = now > 0.0 && now == before;
        before = now;
        stands_still.then_some(())
    })
    .await;
    assert!(before < (CHANNELS * EACH) as f64, "all of it fits in between");
    let mut sent = std::collections::BTreeMap::<String, Vec<usize>>::new();
    let mut level = 0;
    while level < CHANNELS {
        let Heard::Frame(frame) = alice.hear().await else { panic!("ended, with {sent:?}") };
        match frame["type"].as_str().unwrap() {
            "notification:new" => {
                let number = frame["notification"]["type"].as_str().unwrap().parse().unwrap();
                sent.entry(frame["channel"].as_str().unwrap().to_owned()).or_default().push(number);
            }
            "recovered" => {
                assert_eq!(frame["recovered"], true, "{frame}");
                level += 1;
            }
            _ => {}
        }
    }
    for channel in &names {
        assert_eq!(sent[channel], (0..EACH).collect::<Vec<_>>(), "{channel}");
    }
    running.stop().await;
}

#[tokio::test]
async fn missed_notifications_leave_no_faster_than_configured_and_what_is_live_passes_them() {
    const MISSED: usize = 600;
    let world = World::with(|config| {
        config.gateway.shards = 1;
        config.gateway.recovery.frames_per_second = some(100);
    })
    .await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let first = pay(&world, &mut witness, 0..1).await.remove(0);
    witness.close().await;
    let events = (1..=MISSED).map(|number| payment(&number.to_string(), "alice"));
    for event in events {
        world.emit(&event).await;
    }
    world.own_records("notifications", MISSED + 1).await;
    let mut bob = running.connect("bob").await;
    let mut alice = back(running.address, &json!({MAILBOX: first})).await;
    let begun = Clock::start().now();
    let catching_up = tokio::spawn(async move { told(&mut alice, MAILBOX).await });
    for number in 0..4 {
        world.emit(&payment(&format!("live-{number}"), "bob")).await;
        bob.frame("notification:new").await;
    }
    assert!(!catching_up.is_finished());
    let told = catching_up.await.unwrap();
    assert_eq!(told.sent.len(), MISSED);
    // All but a turn that may be written at once and the last page, at a hundred a second; never earlier.
    let level: Timestamp = serde_json::from_value(told.recovered["timestamp"].clone()).unwrap();
    let least_ms = i64::try_from(1_000 * (MISSED - 256) / 100).unwrap();
    assert!(level.as_millis() - begun.as_millis() >= least_ms, "level at {level}, begun at {begun}");
    assert!(running.metric("tidings_gateway_paced_recoveries_total").await >= 1.0);
    running.stop().await;
}
