//! Presence: which devices and users are online, whichever node they are on, and how nodes learn of each other. Long because each way
//! in which a node comes or goes is a test of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use futures_util::future::join_all;
use rdkafka::message::{Header, OwnedHeaders};
use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Config;

use crate::harness::client::Client;
use crate::harness::present::{is, operate, status, until_cluster};
use crate::harness::process::Process;
use crate::harness::rest::{answered, request};
use crate::harness::world::{Running, World, metric, ms};
use crate::harness::{HANG, eventually};

pub(crate) const CHANNEL: &str = "booking-updates";

/// Leases and grace periods that a test can wait for.
pub(crate) fn short(config: &mut Config) {
    let presence = &mut config.gateway.presence;
    (presence.lease, presence.grace, presence.pause) = (ms(6_000), ms(300), ms(50));
    (presence.wait, presence.keep) = (ms(5_000), ms(1));
}

async fn world() -> World {
    World::with(short).await
}

pub(crate) async fn node(world: &World) -> Running {
    world.start_roles(&[Role::Gateway]).await
}

pub(crate) async fn process(world: &World) -> Process {
    let process = Process::spawn_roles(world, &["gateway"]);
    process.await_ready().await;
    process
}

pub(crate) async fn open(address: SocketAddr, user: &str, device: &str) -> Client {
    Client::greeted(address, &format!("token={}&deviceId={device}&ack=client", World::token(user))).await.0
}

/// The answer to a question for presence, once it is of all nodes: one that is slow is left out.
pub(crate) async fn ask_all(client: &mut Client, question: &Value) -> Value {
    eventually("every node has answered", async || {
        let answer = ask(client, question).await;
        answer.get("partial").is_none().then_some(answer)
    })
    .await
}

/// The answer to one question for presence.
async fn ask(client: &mut Client, question: &Value) -> Value {
    let mut frame = json!({"type": "presence", "channel": CHANNEL, "messageId": "p"});
    frame.as_object_mut().unwrap().extend(question.as_object().unwrap().clone());
    client.send(frame).await;
    let answer = client.frame("presence").await;
    assert_eq!(answer["replyTo"], "p");
    answer
}

/// Asks until the answer is of all nodes and names these users.
async fn until_present(client: &mut Client, users: &[&str]) {
    eventually(&format!("{users:?} are present"), async || {
        let answer = ask_all(client, &json!({})).await;
        (answer["count"] == users.len() && answer["users"] == json!(users)).then_some(())
    })
    .await;
}

/// What was written to `signals` under a word.
pub(crate) async fn signals(world: &World, kind: &str) -> Vec<Value> {
    let records = world.log.records(&world.own("signals")).await;
    records.iter().map(|record| record.json()).filter(|signal| signal["signal"] == kind).collect()
}

#[tokio::test]
async fn a_channels_users_are_counted_once_and_named_in_pages_over_all_nodes() {
    let world = world().await;
    let (first, second) = (node(&world).await, process(&world).await);
    let mut lines = Vec::new();
    for (address, user, device) in [
        (first.address, "alice", "phone"),
        (first.address, "alice", "laptop"),
        (second.address, "alice", "tablet"),
        (second.address, "carol", "phone"),
        (first.address, "bob", "phone"),
    ] {
        let mut line = open(address, user, device).await;
        line.subscribe(CHANNEL).await;
        lines.push(line);
    }
    // Who does not listen to the channel is not in it.
    let mut outsider = open(second.address, "dave", "phone").await;
    for asker in [&mut lines[0], &mut outsider] {
        until_present(asker, &["alice", "bob", "carol"]).await;
    }
    let page = ask_all(&mut outsider, &json!({"limit": 2})).await;
    assert_eq!((&page["users"], &page["next"], &page["count"]), (&json!(["alice", "bob"]), &json!("bob"), &json!(3)));
    let page = ask_all(&mut outsider, &json!({"limit": 2, "after": page["next"]})).await;
    assert_eq!((&page["users"], page.get("next"), &page["count"]), (&json!(["carol"]), None, &json!(3)));
    let none = ask_all(&mut outsider, &json!({"limit": 0})).await;
    assert_eq!((&none["users"], &none["count"]), (&json!([]), &json!(3)));

    let (status, told) = operate(second.address, &format!("/v1/channels/{CHANNEL}/presence?limit=1&after=alice")).await;
    let expected = json!({"channel": CHANNEL, "count": 3, "users": ["bob"], "next": "bob"});
    assert_eq!((status, &told["channel"], &told["count"]), (200, &expected["channel"], &expected["count"]), "{told}");
    assert_eq!((&told["users"], &told["next"]), (&expected["users"], &expected["next"]), "{told}");
    first.stop().await;
}

#[tokio::test]
async fn a_node_that_is_killed_loses_its_devices_when_its_lease_ends_and_one_that_drains_at_once() {
    let world = world().await;
    let (stays, killed, mut drained) = (node(&world).await, process(&world).await, process(&world).await);
    let mut alice = open(stays.address, "alice", "laptop").await;
    let mut others = [
        open(killed.address, "alice", "phone").await,
        open(killed.address, "bob", "phone").await,
        open(drained.address, "alice", "tablet").await,
        open(drained.address, "carol", "phone").await,
    ];
    for other in &mut others {
        other.subscribe(CHANNEL).await;
    }
    assert_eq!(
        BTreeSet::from([status(&mut alice).await, status(&mut alice).await]),
        BTreeSet::from([is("phone", "online"), is("tablet", "online")])
    );
    until_cluster(stays.address, 3, 5).await;
    until_present(&mut alice, &["alice", "bob", "carol"]).await;

    drained.terminate();
    assert_eq!(status(&mut alice).await, is("tablet", "offline"));
    assert!(drained.ended().await.success());
    until_cluster(stays.address, 2, 3).await;
    let last = signals(&world, "announcement").await.into_iter().filter(|said| said["ends"] == true).count();
    assert_eq!(last, 1, "it said so itself");
    until_present(&mut alice, &["alice", "bob"]).await;

    killed.kill();
    assert_eq!(status(&mut alice).await, is("phone", "offline"));
    until_cluster(stays.address, 1, 1).await;
    until_present(&mut alice, &[]).await;
    stays.stop().await;
}

#[tokio::test]
async fn while_a_node_that_was_killed_holds_its_lease_answers_say_that_they_are_partial() {
    let world = World::with(|config| {
        short(config);
        (config.gateway.presence.lease, config.gateway.presence.wait) = (ms(600_000), ms(200));
    })
    .await;
    let (stays, killed) = (node(&world).await, process(&world).await);
    let mut alice = open(stays.address, "alice", "laptop").await;
    let mut bob = open(killed.address, "bob", "phone").await;
    bob.subscribe(CHANNEL).await;
    alice.subscribe(CHANNEL).await;
    eventually("both are counted", async || (ask(&mut alice, &json!({})).await["count"] == 2).then_some(())).await;
    killed.kill();
    let answer = ask(&mut alice, &json!({})).await;
    assert_eq!((&answer["users"], &answer["partial"]), (&json!(["alice"]), &json!(true)), "{answer}");
    stays.stop().await;
}

#[tokio::test]
async fn a_node_that_joins_late_learns_who_is_there_by_snapshots_in_parts() {
    let world = World::with(|config| {
        short(config);
        config.gateway.presence.record_devices = NonZeroUsize::new(2).unwrap();
    })
    .await;
    let first = node(&world).await;
    let mut lines = join_all((0..7).map(|number| {
        let (address, user) = (first.address, format!("u{number}"));
        async move { open(address, &user, "phone").await }
    }))
    .await;
    until_cluster(first.address, 1, 7).await;
    let late = process(&world).await;
    until_cluster(late.address, 2, 7).await;
    let pages = signals(&world, "snapshot").await;
    assert!(pages.iter().all(|page| page["present"].as_array().unwrap().len() <= 2), "{pages:?}");
    let ends = pages.iter().filter(|page| page.get("to").is_none()).count();
    assert!(ends >= 1 && pages.len() >= 4, "{pages:?}");
    // What it learned so is told on like anything else.
    let mut u0 = open(late.address, "u0", "laptop").await;
    drop(lines.remove(0));
    assert_eq!(status(&mut u0).await, is("phone", "offline"));
    until_cluster(late.address, 2, 7).await;
    first.stop().await;
}

#[tokio::test]
async fn a_users_other_connections_are_told_once_of_a_device_that_comes_and_goes_and_not_of_a_page_that_is_loaded_again() {
    let world = World::with(|config| {
        short(config);
        // A node that has no time to speak is not gone.
        (config.gateway.presence.grace, config.gateway.presence.lease) = (ms(5_000), ms(60_000));
    })
    .await;
    let (first, second) = (node(&world).await, process(&world).await);
    until_cluster(first.address, 2, 0).await;
    let (mut here, mut there) = (open(first.address, "alice", "laptop").await, open(second.address, "alice", "tablet").await);
    assert_eq!(status(&mut here).await, is("tablet", "online"));
    assert_eq!(status(&mut there).await, is("laptop", "online"));
    let mut bob = open(first.address, "bob", "laptop").await;
    let phone = open(first.address, "alice", "phone").await;
    for line in [&mut here, &mut there] {
        assert_eq!(status(line).await, is("phone", "online"));
    }
    // Loaded again, and again on the other node; a second tab of it is no change either.
    phone.close().await;
    let phone = open(first.address, "alice", "phone").await;
    let tab = open(second.address, "alice", "phone").await;
    until_cluster(second.address, 2, 4).await;
    phone.close().await;
    tab.close().await;
    for line in [&mut here, &mut there] {
        assert_eq!(status(line).await, is("phone", "offline"));
    }
    until_cluster(first.address, 2, 3).await;
    // Bob hears of his own devices only.
    let _watch = open(second.address, "bob", "watch").await;
    assert_eq!(status(&mut bob).await, is("watch", "online"));
    first.stop().await;
}

#[tokio::test]
async fn a_thousand_devices_that_come_and_go_make_few_records() {
    let world = World::with(|config| {
        short(config);
        (config.gateway.presence.pause, config.gateway.presence.grace) = (ms(250), ms(200));
    })
    .await;
    let running = node(&world).await;
    let before = signals(&world, "announcement").await.len();
    for batch in 0..4 {
        let lines = join_all((0..250).map(|number| {
            let (address, user) = (running.address, format!("u{batch}-{number}"));
            async move { open(address, &user, "phone").await }
        }))
        .await;
        until_cluster(running.address, 1, 250).await;
        drop(lines);
        until_cluster(running.address, 1, 0).await;
    }
    let said = eventually("all of it is announced, each once", async || {
        let said = signals(&world, "announcement").await.split_off(before);
        let told = |what: &str| said.iter().filter_map(|record| record[what].as_array()).map(Vec::len).sum::<usize>();
        let told = (told("came"), told("left"));
        assert!(told.0 <= 1_000 && told.1 <= 1_000, "{told:?}");
        (told == (1_000, 1_000)).then_some(said)
    })
    .await;
    let with_devices = said.iter().filter(|record| record.get("came").is_some() || record.get("left").is_some()).count();
    assert!(with_devices <= 200, "{with_devices} records");
    running.stop().await;
}

#[tokio::test]
async fn a_channel_with_hundreds_of_users_answers_with_a_count_and_a_page() {
    let world = world().await;
    let (first, second) = (node(&world).await, process(&world).await);
    let lines = join_all((0..300).map(|number| {
        let address = if number % 2 == 0 { first.address } else { second.address };
        async move {
            let mut line = open(address, &format!("u{number:03}"), "phone").await;
            line.subscribe(CHANNEL).await;
            line
        }
    }))
    .await;
    until_cluster(first.address, 2, 300).await;
    until_cluster(second.address, 2, 300).await;
    let mut asker = open(second.address, "zoe", "phone").await;
    let answer = ask_all(&mut asker, &json!({})).await;
    assert_eq!((&answer["count"], answer["users"].as_array().unwrap().len()), (&json!(300), 100), "{answer}");
    let (mut named, mut after) = (BTreeSet::new(), Value::Null);
    loop {
        let page = ask_all(&mut asker, &json!({"limit": 70, "after": after})).await;
        for user in page["users"].as_array().unwrap() {
            assert!(named.insert(user.as_str().unwrap().to_owned()), "{user} is named twice");
        }
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => break,
        }
    }
    assert_eq!(named, (0..300).map(|number| format!("u{number:03}")).collect());
    drop(lines);
    first.stop().await;
}

#[tokio::test]
async fn channels_that_are_not_open_and_limits_that_are_none_are_refused() {
    let world = World::with(|config| {
        short(config);
        config.gateway.presence.page_users = NonZeroUsize::new(2).unwrap();
    })
    .await;
    let running = node(&world).await;
    let mut lines = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let mut line = open(running.address, user, "phone").await;
        line.subscribe(CHANNEL).await;
        lines.push(line);
    }
    let alice = &mut lines[0];
    for channel in ["user-bob", "role-admin", "secret-plans"] {
        alice.send(json!({"type": "presence", "channel": channel, "messageId": "m"})).await;
        let refused = alice.frame("error").await;
        assert_eq!((&refused["code"], &refused["replyTo"]), (&json!("forbidden"), &json!("m")), "{channel}");
    }
    for hostile in
        [json!({"limit": -1}), json!({"limit": "many"}), json!({"limit": 0.5}), json!({"after": ""}), json!({"channel": 7})]
    {
        let mut frame = json!({"type": "presence", "channel": CHANNEL});
        frame.as_object_mut().unwrap().extend(hostile.as_object().unwrap().clone());
        alice.send(frame).await;
        assert_eq!(alice.frame("error").await["code"], "bad_frame", "{hostile}");
    }
    let answer = ask(alice, &json!({"limit": u64::MAX})).await;
    assert_eq!((&answer["users"], &answer["next"], &answer["count"]), (&json!(["alice", "bob"]), &json!("bob"), &json!(3)));
    let own = ask(alice, &json!({"channel": "user-alice"})).await;
    assert_eq!((&own["users"], &own["count"]), (&json!(["alice"]), &json!(1)));
    let (status, problem) = operate(running.address, "/v1/channels/%00/presence").await;
    assert_eq!(status, 400, "{problem}");
    let alone =
        request(running.address, Method::GET, &format!("/v1/channels/{CHANNEL}/presence")).bearer_auth(World::token("alice"));
    assert_eq!(answered(alone).await.0, 403);
    running.stop().await;
}

/// An announcement as a node would write it.
async fn announce(world: &World, run: u32, number: u64, came: &[String]) {
    let came = came.iter().map(|user| json!({"userId": user, "deviceId": "d"})).collect::<Vec<_>>();
    let incarnation = uuid::Uuid::from_u128(run.into());
    let lease = json!({"node": format!("n{run}"), "incarnation": incarnation, "number": number, "lastsMs": u64::MAX});
    let value = json!({"signal": "announcement", "lease": lease, "came": came}).to_string();
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    world.log.produce_with(&world.own("signals"), Some(&format!("n{run}")), value.as_bytes(), headers).await;
}

#[tokio::test]
async fn what_a_hostile_node_says_takes_no_more_room_than_is_allowed_and_a_later_releases_word_is_passed_over() {
    let world = World::with(|config| {
        short(config);
        let presence = &mut config.gateway.presence;
        (presence.nodes, presence.devices) = (NonZeroUsize::new(3).unwrap(), NonZeroUsize::new(10).unwrap());
    })
    .await;
    let running = node(&world).await;
    let users = (0..40).map(|number| format!("u{number}")).collect::<Vec<_>>();
    for run in 1..=8 {
        announce(&world, run, 1, &users[..usize::try_from(run).unwrap()]).await;
    }
    announce(&world, 1, 2, &users).await;
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    world.log.produce_with(&world.own("signals"), Some("n9"), br#"{"signal":"farewell","lease":7}"#, headers).await;
    eventually("the last of it was read", async || {
        (running.metric("tidings_gateway_unknown_signals_total").await == 1.0).then_some(())
    })
    .await;
    eventually("limits were crossed", async || {
        let crossed =
            async |limit: &str| running.labelled("tidings_gateway_crossed_limits_total", &format!("limit=\"{limit}\"")).await;
        (crossed("presence.nodes").await >= 1 && crossed("presence.devices").await >= 1).then_some(())
    })
    .await;
    assert!(running.metric("tidings_gateway_other_nodes").await <= 3.0);
    assert!(running.metric("tidings_gateway_other_devices").await <= 10.0);
    assert_eq!(running.failed("gateway", ("poison", "dead_letter", "malformed")).await, 0);
    let mut alice = open(running.address, "alice", "phone").await;
    alice.send(json!({"type": "ping"})).await;
    alice.frame("pong").await;
    running.stop().await;
}

#[tokio::test]
async fn more_questions_than_allowed_are_answered_by_this_node_alone_and_counted() {
    let world = World::with(|config| {
        short(config);
        config.gateway.presence.questions_per_second = NonZeroUsize::new(1).unwrap();
    })
    .await;
    let (first, second) = (node(&world).await, process(&world).await);
    until_cluster(first.address, 2, 0).await;
    let (mut alice, mut bob) = (open(first.address, "alice", "phone").await, open(second.address, "bob", "phone").await);
    bob.subscribe(CHANNEL).await;
    alice.subscribe(CHANNEL).await;
    let partial = eventually("a question too many", async || {
        let answer = ask(&mut alice, &json!({})).await;
        (answer.get("partial").is_some()).then_some(answer)
    })
    .await;
    assert_eq!(partial["users"], json!(["alice"]));
    let limit = "limit=\"presence.questions_per_second\"";
    assert!(first.labelled("tidings_gateway_crossed_limits_total", limit).await >= 1);
    until_present(&mut alice, &["alice", "bob"]).await;
    first.stop().await;
}

#[tokio::test]
async fn an_operator_sees_a_users_connections_on_every_node() {
    let world = world().await;
    let (first, second) = (node(&world).await, process(&world).await);
    let _lines = [open(first.address, "alice", "laptop").await, open(second.address, "alice", "phone").await];
    let listed = eventually("both nodes are asked", async || {
        let (_, listed) = operate(first.address, "/v1/users/alice/connections").await;
        (listed["connections"].as_array()?.len() == 2 && listed.get("partial").is_none()).then_some(listed)
    })
    .await;
    let lines = listed["connections"].as_array().unwrap();
    let of = |device: &str| lines.iter().find(|line| line["deviceId"] == device).unwrap();
    assert_eq!(of("laptop")["node"], listed["node"]);
    assert_ne!(of("phone")["node"], listed["node"]);
    assert_eq!(of("phone")["channels"], json!(["user-alice", "system-announcements"]));
    assert!(metric(second.address, "tidings_gateway_written_signals_total").await >= 1.0);
    tokio::time::timeout(HANG, first.stop()).await.unwrap();
}
