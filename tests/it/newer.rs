//! A record that a later release wrote stops its partition, visibly, and nothing else: releases run side by side for a while.

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::Value;
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::world::{Running, World, payment};

/// What reads `notifications`.
const READERS: [&str; 3] = ["gateway", "inbox", "courier"];

async fn until_every_reader_names(running: &Running, place: &str) {
    eventually(&format!("every reader of notifications names {place}"), async || {
        let (status, body) = running.get("/ready").await;
        let body: Value = serde_json::from_str(&body).ok()?;
        let why = |reader: &str| body["roles"][reader]["why"].as_str().unwrap_or_default().to_owned();
        let named = READERS.iter().all(|reader| why(reader).contains(place) && why(reader).contains("version 99"));
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
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("99") });
    let offset = world.log.produce_to((&topic, number), "user-alice", b"{\"later\": true}", headers).await;
    let place = format!("{topic}[{number}] at offset {offset}");
    until_every_reader_names(&running, &place).await;
    for reader in READERS {
        assert_eq!(running.metric(&format!("tidings_{reader}_held_partitions")).await, 1.0, "{reader}");
    }

    world.emit(&payment("behind", "alice")).await;
    world.emit(&payment("elsewhere", &bob)).await;
    assert_eq!(on_line.frame("notification:new").await["notification"]["eventId"], "elsewhere");
    eventually("the other partition is folded", async || (world.inbox(&bob).await.len() == 1).then_some(())).await;
    assert!(world.inbox("alice").await.is_empty(), "nothing behind the record is folded");
    running.stop().await;

    // A restart of the same release stands where it stood; one that gets past the record goes on.
    let running = world.start_unready(&[tidings::cli::Role::Inbox, tidings::cli::Role::Courier]).await;
    eventually("the inbox stands where it stood", async || running.get("/ready").await.1.contains(&place).then_some(())).await;
    running.stop().await;
    world.log.remove_below(&topic, number, offset + 1).await;
    let running = world.start().await;
    eventually("what lay behind is folded", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    running.stop().await;
}
