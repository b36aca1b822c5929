//! Every limit of a connection, crossed on a socket: the code it is closed with, and the metric that names the limit.
//!
//! Those of size and form alone are in `conformance`, those before a client is known in `admission`.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::json;
use tidings::cli::Role;
use tidings::config::GatewayConfig;

use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::raw::{Raw, TEXT, masked, text};
use crate::harness::world::{Running, World, ms, payment};

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

async fn gateway(change: impl FnOnce(&mut GatewayConfig)) -> (World, Running) {
    let world = World::with(|config| change(&mut config.gateway)).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    (world, running)
}

async fn crossed(running: &Running, limit: &str) -> u64 {
    running.labelled("tidings_gateway_crossed_limits_total", &format!("limit=\"{limit}\"")).await
}

fn query(user: &str, device: &str) -> String {
    format!("token={}&deviceId={device}", World::token(user))
}

/// Sends fifty pings whose answers are as large as themselves, and reads none of those.
async fn flood(raw: &mut Raw) {
    let large = masked(TEXT, json!({"type": "ping", "data": "x".repeat(60_000)}).to_string().as_bytes());
    for _ in 0..50 {
        // The server stops reading once it has closed.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &large).await;
    }
}

#[tokio::test]
async fn a_connection_beyond_those_of_its_user_is_refused_with_4010_and_the_others_stay() {
    let (_world, running) = gateway(|config| config.connections_per_user = count(2)).await;
    let mut first = Client::greeted(running.address, &query("alice", "a")).await.0;
    let second = Client::greeted(running.address, &query("alice", "b")).await.0;
    assert_eq!(Client::open(running.address, &query("alice", "c")).await.close_code().await, 4010);
    assert_eq!(crossed(&running, "connections_per_user").await, 1);
    Client::greeted(running.address, &query("bob", "a")).await;
    first.send(json!({"type": "ping"})).await;
    first.frame("pong").await;
    second.close().await;
    eventually("the place is free again", async || {
        let mut third = Client::open(running.address, &query("alice", "c")).await;
        matches!(third.hear().await, Heard::Frame(_)).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn each_notification_may_be_acknowledged_by_a_frame_of_its_own() {
    let (world, running) = gateway(|config| {
        config.frames_burst = count(20);
        config.frames_per_second = count(1);
    })
    .await;
    let mut alice = Client::greeted(running.address, &format!("{}&ack=client", query("alice", "phone"))).await.0;
    for number in 0..60 {
        world.emit(&payment(&number.to_string(), "alice")).await;
    }
    for _ in 0..60 {
        let frame = alice.frame("notification:new").await;
        alice.ack(&frame).await;
    }
    alice.send(json!({"type": "ping"})).await;
    alice.frame("pong").await;
    for _ in 0..30 {
        alice.send(json!({"type": "ping"})).await;
    }
    assert_eq!(alice.close_code().await, 4029, "what nothing was the reason for is limited as before");
    running.stop().await;
}

#[tokio::test]
async fn beyond_a_users_devices_the_one_that_connected_least_recently_goes() {
    let (_world, running) = gateway(|config| config.devices_per_user = count(2)).await;
    let mut phone = Client::greeted(running.address, &query("alice", "phone")).await.0;
    let mut watch = Client::greeted(running.address, &query("alice", "watch")).await.0;
    let mut second_tab = Client::greeted(running.address, &query("alice", "phone")).await.0;
    let mut tablet = Client::greeted(running.address, &query("alice", "tablet")).await.0;
    assert_eq!(watch.close_code().await, 4010);
    for client in [&mut phone, &mut second_tab, &mut tablet] {
        client.send(json!({"type": "ping"})).await;
        client.frame("pong").await;
    }
    assert_eq!(crossed(&running, "devices_per_user").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn frames_that_make_no_sense_close_with_1008_once_their_budget_is_spent() {
    let (_world, running) = gateway(|config| config.bad_frames = count(3)).await;
    let mut alice = running.connect("alice").await;
    for _ in 0..3 {
        alice.send_text("{").await;
        alice.frame("error").await;
    }
    // What is merely forbidden is no nonsense.
    alice.send(json!({"type": "subscribe", "channel": "user-bob"})).await;
    assert_eq!(alice.frame("error").await["code"], "forbidden");
    alice.send(json!({"type": "teleport"})).await;
    assert_eq!(alice.close_code().await, 1008);
    assert_eq!(crossed(&running, "bad_frames").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_frame_that_makes_no_sense_is_forgiven_after_its_interval() {
    const INTERVAL_MS: u64 = 20;
    let (_world, running) = gateway(|config| {
        config.bad_frames = count(1);
        config.bad_frame_interval = ms(INTERVAL_MS);
    })
    .await;
    let mut alice = running.connect("alice").await;
    for _ in 0..10 {
        alice.send_text("{").await;
        alice.frame("error").await;
        tokio::time::sleep(Duration::from_millis(2 * INTERVAL_MS)).await;
    }
    alice.send(json!({"type": "ping"})).await;
    alice.frame("pong").await;
    assert_eq!(crossed(&running, "bad_frames").await, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_frame_that_names_too_many_channels_gets_one_answer_and_none_of_them() {
    let (_world, running) = gateway(|config| config.channels_per_connection = count(3)).await;
    let mut alice = running.connect("alice").await;
    let names = (0..5_000).map(|number| number.to_string()).collect::<Vec<_>>();
    for kind in ["subscribe", "unsubscribe"] {
        alice.send(json!({"type": kind, "messageId": kind, "channels": names})).await;
        alice.send(json!({"type": "ping"})).await;
        let Heard::Frame(refused) = alice.hear().await else { panic!("closed") };
        assert_eq!((&refused["code"], &refused["replyTo"]), (&json!("limit"), &json!(kind)));
        assert!(matches!(alice.hear().await, Heard::Frame(pong) if pong["type"] == "pong"), "one answer only");
    }
    assert_eq!(crossed(&running, "frame_names").await, 2);
    running.stop().await;
}

#[tokio::test]
async fn names_that_are_no_channels_are_charged_once_a_frame() {
    let (_world, running) = gateway(|config| config.bad_frames = count(2)).await;
    let mut alice = running.connect("alice").await;
    for kind in ["subscribe", "unsubscribe"] {
        alice.send(json!({"type": kind, "channels": ["user-", "role-", ""]})).await;
        for _ in 0..3 {
            assert_eq!(alice.frame("error").await["code"], "bad_frame");
        }
    }
    alice.send(json!({"type": "subscribe", "channels": ["user-"]})).await;
    assert_eq!(alice.close_code().await, 1008);
    assert_eq!(crossed(&running, "bad_frames").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn more_frames_than_allowed_close_with_4029_whatever_frames_they_are() {
    let (_world, running) = gateway(|config| {
        config.frames_burst = count(20);
        config.frames_per_second = count(1);
    })
    .await;
    let fragment = masked(0x01, b"x");
    for frame in [text(&json!({"type": "ping"})), masked(0x89, b""), masked(0x8a, b"")] {
        let mut raw = Raw::greeted(running.address, "alice").await;
        raw.send(&frame.repeat(15)).await;
        raw.send(&frame.repeat(15)).await;
        assert_eq!(raw.close_code().await, 4029, "{:#x}", frame[0]);
    }
    let mut raw = Raw::greeted(running.address, "alice").await;
    raw.send(&[fragment, masked(0x00, b"x").repeat(30)].concat()).await;
    assert_eq!(raw.close_code().await, 4029, "fragments");
    assert_eq!(crossed(&running, "frames_per_second").await, 4);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_closed_with_4008() {
    let (_world, running) = gateway(|config| {
        config.write_timeout = ms(1_500);
        config.send_buffer_bytes = count(4096);
        config.outbox_bytes = count(64 << 20);
    })
    .await;
    let mut raw = Raw::greeted(running.address, "alice").await;
    flood(&mut raw).await;
    eventually("the write has stalled", async || (crossed(&running, "write_timeout").await == 1).then_some(())).await;
    assert_eq!(raw.close_code().await, 4008);
    assert_eq!(crossed(&running, "outbox_bytes").await, 0);
    running.stop().await;
}

#[tokio::test]
async fn an_outbox_that_is_full_closes_with_4008() {
    let (_world, running) = gateway(|config| {
        config.send_buffer_bytes = count(4096);
        config.outbox_bytes = count(65_536);
    })
    .await;
    let mut raw = Raw::greeted(running.address, "alice").await;
    flood(&mut raw).await;
    eventually("the outbox is full", async || (crossed(&running, "outbox_bytes").await == 1).then_some(())).await;
    assert_eq!(raw.close_code().await, 4008);
    running.stop().await;
}

#[tokio::test]
async fn a_message_whose_last_fragment_never_comes_closes_with_4009_whatever_comes_between() {
    let (_world, running) = gateway(|config| config.frame_timeout = ms(400)).await;
    let mut raw = Raw::greeted(running.address, "alice").await;
    raw.send(&masked(0x01, b"{")).await;
    let (mut reading, mut writing) = raw.stream.split();
    let trickle = async {
        loop {
            let between = [masked(0x00, b" "), masked(0x89, b""), masked(0x8a, b"")].concat();
            if tokio::io::AsyncWriteExt::write_all(&mut writing, &between).await.is_err() {
                return std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut bytes = Vec::new();
    tokio::select! {
        () = trickle => {}
        read = tokio::time::timeout(crate::harness::HANG, tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut bytes)) => {
            // Whether it ends with a reset depends on what was on its way.
            let _ = read.expect("the server ends it");
        }
    }
    assert!(bytes.windows(4).any(|frame| frame[0] == 0x88 && frame[2..] == [0x0f, 0xa9]), "4009 was sent");
    assert_eq!(crossed(&running, "frame_timeout").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn half_a_frame_behind_the_end_of_another_is_held_to_its_time() {
    let (_world, running) = gateway(|config| config.frame_timeout = ms(2_000)).await;
    let mut raw = Raw::greeted(running.address, "alice").await;
    let whole = text(&json!({"type": "ping"}));
    let (head, tail) = whole.split_at(10);
    raw.send(head).await;
    raw.send(&[tail, head].concat()).await;
    raw.json("pong").await;
    assert_eq!(raw.close_code().await, 4009);
    assert_eq!(crossed(&running, "frame_timeout").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn beyond_the_notifications_that_can_be_named_the_oldest_are_forgotten() {
    let (world, running) = gateway(|config| config.unacknowledged_per_connection = count(2)).await;
    let mut alice = running.connect("alice").await;
    let mut ids = Vec::new();
    for number in 0..3 {
        world.emit(&payment(&number.to_string(), "alice")).await;
        ids.push(alice.frame("notification:new").await["notification"]["id"].clone());
    }
    alice.send(json!({"type": "ack", "notificationIds": [ids[0]]})).await;
    assert_eq!(alice.frame("error").await["code"], "not_found");
    alice.send(json!({"type": "ack", "notificationIds": [ids[1], ids[2]], "messageId": "a"})).await;
    alice.send(json!({"type": "ping", "messageId": "p"})).await;
    assert_eq!(alice.frame("pong").await["replyTo"], "p");
    assert_eq!(crossed(&running, "unacknowledged_per_connection").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn limits_told_by_silence_are_counted_by_their_names() {
    let (_world, running) = gateway(|config| {
        config.heartbeat_interval = ms(1_000);
        config.idle_timeout = ms(5_000);
    })
    .await;
    let mut silent = Raw::greeted(running.address, "bob").await;
    // Reading answers pings; that alone does not keep a connection.
    assert_eq!(running.connect("alice").await.close_code().await, 4009);
    assert_eq!(silent.close_code().await, 4009);
    assert_eq!((crossed(&running, "heartbeat_interval").await, crossed(&running, "idle_timeout").await), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn clients_are_told_to_come_back_at_different_times_within_the_spread() {
    let world = World::with(|config| config.shutdown.reconnect_spread = ms(60_000)).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(running.connect(&format!("user-{number}")).await);
    }
    running.begin_stop();
    let mut delays = Vec::new();
    for client in &mut clients {
        delays.push(client.frame("reconnect").await["retryAfter"].as_u64().unwrap());
        assert_eq!(client.close_code().await, 1012);
    }
    assert!(delays.iter().all(|delay| *delay <= 60_000), "{delays:?}");
    delays.sort_unstable();
    delays.dedup();
    // Ten of sixty thousand: two equal ones are rare, and more than one pair is not to be expected in a lifetime.
    assert!(delays.len() >= 8, "{delays:?}");
    running.ended().await.unwrap();
}
