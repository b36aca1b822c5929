//! A record that a later release wrote stops its partition, visibly, and nothing else: releases run side by side for a while.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Scalar;
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::world::{Running, World, payment};

/// What reads `notifications`.
const READERS: [&str; 3] = ["gateway", "inbox", "courier"];

async fn until_every_reader_names(running: &Running, place: &str) {
    eventually(&format!("every reader of notifications names {place}"), async || {
        let (status, body) = running.get("/ready").await;
        let body: Value = serde_json::from_str(&body).ok()?;
        let named = READERS.iter().all(|reader| {
            let role = &body["roles"][reader];
            let held = role["held"].as_array().filter(|held| held.len() == 1).map(|held| &held[0]);
            let Some(held) = held else { return false };
            let says = |reason: &Value| reason.as_str().is_some_and(|why| why.contains(place) && why.contains("version 99"));
            says(&role["reason"]) && says(&held["reason"]) && place.starts_with(held["partition"].as_str().unwrap())
        });
        (status == 503 && named).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_record_of_a_later_release_stops_its_partition_for_every_reader_and_the_others_go_on() {
    let world = World::new().await;
    let partition =
        |user: &str| format!("user-{user}").parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    let bob = (0..).map(|number| format!("bob{number}")).find(|user| partition(user) != partition("alice")).unwrap();
    let running = world.start().await;
    let mut on_line = running.connect(&bob).await;
    let (topic, number) = (world.own("notifications"), partition("alice"));
    let (offset, place) = write_newer(&world, (&topic, number)).await;
    until_every_reader_names(&running, &place).await;
    for reader in READERS {
        until_held(&running, reader, 1).await;
    }

    world.emit(&payment("behind", "alice")).await;
    world.emit(&payment("elsewhere", &bob)).await;
    assert_eq!(on_line.frame("notification:new").await["notification"]["eventId"], "elsewhere");
    eventually("the other partition is folded", async || (world.inbox(&bob).await.len() == 1).then_some(())).await;
    assert!(world.inbox("alice").await.is_empty(), "nothing behind the record is folded");
    running.stop().await;

    // A restart of the same release stands where it stood; one that gets past the record goes on.
    let running = world.start_unready(&[Role::Inbox, Role::Courier]).await;
    eventually("the inbox stands where it stood", async || running.get("/ready").await.1.contains(&place).then_some(())).await;
    running.stop().await;
    world.log.remove_below(&topic, number, offset + 1).await;
    let running = world.start().await;
    eventually("what lay behind is folded", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    running.stop().await;
}

/// Waits until so many partitions are counted as held.
async fn until_held(running: &Running, reader: &str, partitions: u32) {
    let metric = format!("tidings_{reader}_held_partitions");
    eventually(&metric, async || (running.metric(&metric).await == f64::from(partitions)).then_some(())).await;
}

/// A record of a later release at the end of a partition, and how `/ready` names it.
async fn write_newer(world: &World, (topic, number): (&str, i32)) -> (i64, String) {
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("99") });
    let offset = world.log.produce_to((topic, number), "user-alice", b"{\"later\": true}", headers).await;
    (offset, format!("{topic}[{number}] at offset {offset}"))
}

#[tokio::test]
async fn on_every_topic_with_records_of_ours_one_of_a_later_release_stops_its_reader_there_and_only_there() {
    let world = World::new().await;
    let rung = format!("retry.{}", world.config.courier.ladder[0]);
    let topics: [(&str, &[&str]); 4] =
        [("cursors", &["inbox"]), (&rung, &["courier", "inbox"]), ("signals", &["gateway"]), ("receipts", &["inbox", "gateway"])];
    let running = world.start().await;
    let mut held = BTreeMap::<&str, u32>::new();
    for (topic, readers) in topics {
        let (_, place) = write_newer(&world, (&world.own(topic), 1)).await;
        for reader in readers {
            until_named(&running, reader, &place).await;
            let held = held.entry(reader).or_default();
            *held += 1;
            until_held(&running, reader, *held).await;
        }
    }
    let mut alice = running.connect("alice").await;
    world.emit(&payment("live", "alice")).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "live");
    assert!(world.log.records(&world.own("dlq")).await.is_empty(), "what a later release wrote is no dead letter");
    running.stop().await;
}

/// Waits until a role is not ready because of a record of a later release at this place.
async fn until_named(running: &Running, role: &str, place: &str) {
    eventually(&format!("the role {role} names {place}"), async || {
        let (status, body) = running.get("/ready").await;
        let body: Value = serde_json::from_str(&body).ok()?;
        let why = body["roles"][role]["reason"].as_str()?;
        (status == 503 && why.contains(place) && why.contains("version 99")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_epoch_of_a_later_release_is_named_by_who_goes_on_with_what_it_knows_and_by_who_waits_to_start() {
    let world = World::new().await;
    let meta = world.own("meta");
    let [known] = world.log.records(&meta).await.try_into().unwrap();
    let key = std::str::from_utf8(known.key.as_deref().unwrap()).unwrap();
    let version = |version| OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some(version) });
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let offset = world.log.produce_to((&meta, 0), key, b"{\"later\": true}", version("99")).await;
    let place = format!("{meta}[0] at offset {offset}");
    until_named(&running, "topics", &place).await;
    // What it has begun with is still so, as far as it knows.
    world.live(&mut alice, &["live"]).await;

    let starting = world.start_unready(&[Role::Pipeline]).await;
    until_named(&starting, "topics", &place).await;

    // Somebody has taken it back.
    world.log.produce_to((&meta, 0), key, known.value.as_deref().unwrap(), version("1")).await;
    for node in [starting, running] {
        node.await_ready().await;
        node.stop().await;
    }
}

async fn ask(world: &World, partition: i32, id: &str, headers: OwnedHeaders) -> i64 {
    let value = json!({"id": id, "to": {"user": "alice"}, "message": "m"}).to_string();
    world.log.produce_to((&world.own("requests"), partition), id, value.as_bytes(), headers).await
}

async fn until_told(world: &World, requests: &[&str]) {
    eventually(&format!("{requests:?} became notifications"), async || {
        let records = world.log.records(&world.own("notifications")).await;
        let mut told = records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
        let told = told.by_ref().collect::<std::collections::BTreeSet<_>>();
        assert!(!told.contains("behind"), "what lies behind a request of a later release waits for it");
        requests.iter().all(|request| told.contains(*request)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_of_a_later_release_waits_unread_for_that_release_and_those_without_a_version_are_of_the_first() {
    let world = World::with(|config| {
        config.kafka.properties.insert("statistics.interval.ms".into(), Scalar::Number(200));
    })
    .await;
    let ours = || OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    ask(&world, 1, "plain", OwnedHeaders::new()).await;
    ask(&world, 1, "ours", ours()).await;
    let (offset, place) = write_newer(&world, (&world.own("requests"), 1)).await;
    ask(&world, 1, "behind", ours()).await;
    for start in ["first", "again"] {
        let running = world.start_unready(&[Role::Pipeline]).await;
        eventually(&format!("the pipeline names {place}"), async || {
            let (status, body) = running.get("/ready").await;
            (status == 503 && body.contains(&place) && body.contains("version 99")).then_some(())
        })
        .await;
        assert_eq!(running.labelled("tidings_pipeline_held_partitions", "reason=\"newer\"").await, 1, "{start}");
        let failure = ("dependency", "retry_in_place", "newer_version");
        assert_eq!(running.failed("pipeline", failure).await, 1, "{start}");
        // What comes behind it still shows as lag.
        for _ in 0..3 {
            ask(&world, 1, "behind", ours()).await;
        }
        let lag =
            format!("tidings_kafka_lag_records{{client=\"pipeline\",topic=\"{}\",partition=\"1\"}} ", world.own("requests"));
        eventually("lag tells what waits", async || {
            let (_, text) = running.get("/metrics").await;
            let lag = text.lines().find_map(|line| line.strip_prefix(&lag)?.parse::<u64>().ok());
            lag.filter(|lag| *lag >= 3).map(drop)
        })
        .await;
        ask(&world, 2, start, ours()).await;
        until_told(&world, &["plain", "ours", start]).await;
        running.stop().await;
        let committed = world.log.committed(&world.group("pipeline"), &world.own("requests"), 4).await;
        assert_eq!(committed.get(&1), Some(&offset), "it is read again at the next start");
    }
    assert!(world.log.records(&world.own("dlq")).await.is_empty(), "it is no dead letter");
}

#[tokio::test]
async fn a_partition_that_was_held_back_and_went_elsewhere_is_read_when_it_comes_back() {
    let world = World::new().await;
    let stays = world.start().await;
    let rungs = world.config.courier.ladder.iter().map(|rung| world.own(&format!("retry.{rung}")));
    let topics = [world.own("notifications"), world.own("cursors")].into_iter().chain(rungs).collect::<Vec<_>>();
    let partitions = world.config.kafka.topics.partitions;
    for topic in &topics {
        for number in 0..partitions {
            write_newer(&world, (topic, number)).await;
        }
    }
    let held = async |reader: &str| stays.metric(&format!("tidings_{reader}_held_partitions")).await;
    // The inbox reads all of them, the courier all but cursors.
    let all =
        [("inbox", f64::from(partitions) * topics.len() as f64), ("courier", f64::from(partitions) * (topics.len() - 1) as f64)];
    for (reader, all) in all {
        eventually(&format!("the {reader} holds all back"), async || (held(reader).await == all).then_some(())).await;
    }
    let leaves = world.start_unready(&[Role::Inbox, Role::Courier]).await;
    for (reader, all) in all {
        let what = format!("some partitions of the {reader} went elsewhere");
        eventually(&what, async || (held(reader).await < all).then_some(())).await;
    }
    leaves.stop().await;
    for (reader, all) in all {
        let what = format!("the {reader} has met the record in every partition again");
        eventually(&what, async || (held(reader).await == all).then_some(())).await;
    }
    stays.stop().await;
}
