//! Records without a value, and with an empty one: they say nothing, are counted, and hold nobody up.

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use tidings::cli::Role;
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::world::{PARTITIONS, World, ms, payment};

/// A key, so that everything lies in one partition, in order.
const KEY: &str = "one-partition";

/// Waits for it; of `cursors` there may be more, for a device's first join is written there.
async fn until_committed(world: &World, group: &str, topic: &str, (partition, next): (i32, i64)) {
    eventually(&format!("{group} has committed {topic}[{partition}] up to {next}"), async || {
        let committed = world.log.committed(&world.group(group), topic, partition + 1).await;
        committed.get(&partition).is_some_and(|committed| *committed >= next).then_some(())
    })
    .await;
}

#[tokio::test]
async fn on_a_domain_topic_they_are_counted_skipped_and_committed() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    for value in [None, Some(&b""[..]), None] {
        world.log.produce_any((&world.topic, None), KEY, value, OwnedHeaders::new()).await;
    }
    let (partition, last) = world.log.produce(&world.topic, Some(KEY), payment("behind", "alice").to_string().as_bytes()).await;
    assert!(partition < PARTITIONS);
    until_committed(&world, "pipeline", &world.topic, (partition, last + 1)).await;
    let ignored =
        async |reason: &str| running.labelled("tidings_pipeline_ignored_records_total", &format!("reason=\"{reason}\"")).await;
    assert_eq!((ignored("tombstone").await, ignored("empty_payload").await), (2, 1));
    let [told] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(told.json()["notification"]["eventId"], "behind");
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn on_requests_they_are_counted_skipped_and_committed() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let requests = world.own("requests");
    for value in [None, Some(&b""[..])] {
        world.log.produce_any((&requests, None), KEY, value, OwnedHeaders::new()).await;
    }
    let request = json!({"to": {"user": "alice"}, "message": "behind"}).to_string();
    let (partition, last) = world.log.produce(&requests, Some(KEY), request.as_bytes()).await;
    until_committed(&world, "pipeline", &requests, (partition, last + 1)).await;
    let ignored =
        async |reason: &str| running.labelled("tidings_pipeline_ignored_records_total", &format!("reason=\"{reason}\"")).await;
    assert_eq!((ignored("tombstone").await, ignored("empty_payload").await), (1, 1));
    assert_eq!(world.own_records("notifications", 1).await.len(), 1);
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn tombstones_on_topics_of_our_own_are_passed_by_every_reader() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(500)];
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let partition = "user-alice".parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    let mut ends = Vec::new();
    for name in ["notifications", "retry.500ms", "cursors", "receipts", "signals"] {
        let topic = world.own(name);
        // Also one that claims to be of a later release: it says nothing that could be misread.
        let later = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("99") });
        let place = (topic.as_str(), Some(partition));
        world.log.produce_any(place, "user-alice", None, OwnedHeaders::new()).await;
        let (_, last) = world.log.produce_any(place, "user-alice", None, later).await;
        ends.push((topic.clone(), last));
    }
    let [(notifications, notified), (retry, waiting), (cursors, acknowledged), (receipts, received), _] = ends.as_slice() else {
        panic!("{ends:?}")
    };
    for (group, topic, last) in [
        ("inbox", notifications, notified),
        ("inbox", cursors, acknowledged),
        ("inbox", receipts, received),
        ("courier", retry, waiting),
        ("courier", notifications, notified),
    ] {
        until_committed(&world, group, topic, (partition, last + 1)).await;
    }
    // What lies behind them is shown, folded and tried again.
    world.emit(&payment("behind", "alice")).await;
    let first = alice.frame("notification:new").await;
    let again = alice.frame("notification:new").await;
    assert_eq!((&again["redelivery"], &again["notification"]), (&json!(1), &first["notification"]));
    eventually("it is folded", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    let (_, counted) = running.get("/metrics").await;
    assert!(!counted.contains("cause=\"poison\""), "{counted}");
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}
