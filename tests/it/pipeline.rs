//! Reading domain topics: what is committed when, and from where.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::json;
use tidings::cli::Role;
use tidings::config::{Scalar, Start};

use crate::harness::world::{PARTITIONS, World, payment};
use crate::harness::{HANG, eventually};

/// Waits until the whole domain topic is committed, and gives the next offsets.
async fn committed_to(world: &World, expected: &BTreeMap<i32, i64>) {
    eventually(&format!("{} is committed up to {expected:?}", world.topic), async || {
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        expected.iter().all(|(partition, offset)| committed.get(partition) == Some(offset)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_record_of_every_partition_is_committed_once_it_is_decided() {
    let world = World::with(|config| config.pipeline.workers = std::num::NonZeroUsize::new(4).unwrap()).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut ends = BTreeMap::new();
    for number in 0..300 {
        let key = format!("key-{}", number % 17);
        let value = payment(&number.to_string(), "alice").to_string();
        let (partition, offset) = world.log.produce(&world.topic, Some(&key), value.as_bytes()).await;
        ends.insert(partition, offset + 1);
    }
    committed_to(&world, &ends).await;
    assert_eq!(world.own_records("notifications", 300).await.len(), 300);
    running.stop().await;
}

#[tokio::test]
async fn a_transactional_topic_is_read_over_its_markers_and_what_was_aborted_is_never_shown() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let (brokers, topic) = (world.log.brokers.clone(), world.topic.clone());
    tokio::task::spawn_blocking(move || {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).set("transactional.id", &topic).create().unwrap();
        producer.init_transactions(HANG).unwrap();
        for transaction in 0..6 {
            producer.begin_transaction().unwrap();
            for number in 0..3 {
                let value = payment(&format!("{transaction}-{number}"), "alice").to_string();
                producer.send(BaseRecord::to(&topic).key("k").payload(&value)).map_err(|(error, _)| error).unwrap();
            }
            if transaction % 2 == 0 {
                producer.commit_transaction(HANG).unwrap()
            } else {
                producer.abort_transaction(HANG).unwrap()
            }
        }
    })
    .await
    .unwrap();
    let last = payment("last", "alice").to_string();
    let (partition, offset) = world.log.produce(&world.topic, Some("k"), last.as_bytes()).await;
    committed_to(&world, &BTreeMap::from([(partition, offset + 1)])).await;
    let records = world.own_records("notifications", 10).await;
    let aborted = |event: &str| ["1", "3", "5"].iter().any(|number| event.starts_with(&format!("{number}-")));
    let events = records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
    let events = events.collect::<Vec<_>>();
    assert_eq!(events.len(), 10);
    assert!(!events.iter().any(|event| aborted(event)), "{events:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_compacted_topic_is_read_over_its_holes() {
    let world = World::new().await;
    let topic = format!("{}-compacted", world.topic);
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    world.log.create(&topic, 1, &settings).await;
    let mut world = world;
    world.config.pipeline.topics.push(topic.parse().unwrap());
    for round in 0..4 {
        for key in 0..5 {
            let value = payment(&format!("{round}-{key}"), "alice").to_string();
            world.log.produce(&topic, Some(&format!("key-{key}")), value.as_bytes()).await;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let left = eventually("the broker has compacted the topic", async || {
        world.log.produce(&topic, Some("tick"), payment("tick", "alice").to_string().as_bytes()).await;
        let records = world.log.records(&topic).await;
        let holes = records.windows(2).any(|pair| pair[1].offset > pair[0].offset + 1);
        holes.then_some(records)
    })
    .await;
    let end = left.last().unwrap().offset + 1;
    let running = world.start_roles(&[Role::Pipeline]).await;
    eventually("the compacted topic is committed to its end", async || {
        let committed = world.log.committed(&world.group("pipeline"), &topic, 1).await;
        committed.get(&0).is_some_and(|offset| *offset >= end).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_topic_seen_for_the_first_time_starts_at_its_end_and_stays_there_over_restarts() {
    let world = World::with(|config| config.pipeline.start = Start::End).await;
    world.emit(&payment("old", "alice")).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.len(), usize::try_from(PARTITIONS).unwrap(), "the end is committed at once, for every partition");
    running.stop().await;
    // Said while nothing runs: the end that counts is the first one.
    world.emit(&payment("between", "alice")).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let records = world.own_records("notifications", 1).await;
    let events = records.iter().map(|record| record.json()["notification"]["eventId"].clone()).collect::<Vec<_>>();
    assert_eq!(events, ["between"]);
    running.stop().await;
}

#[tokio::test]
async fn two_pipelines_share_the_partitions_and_one_that_leaves_hands_over_what_it_has_done() {
    let world = World::new().await;
    let first = world.start_roles(&[Role::Pipeline]).await;
    let second = world.start_roles(&[Role::Pipeline]).await;
    for number in 0..100 {
        let value = payment(&number.to_string(), "alice").to_string();
        world.log.produce(&world.topic, Some(&number.to_string()), value.as_bytes()).await;
    }
    world.own_records("notifications", 100).await;
    first.stop().await;
    for number in 100..200 {
        let value = payment(&number.to_string(), "alice").to_string();
        world.log.produce(&world.topic, Some(&number.to_string()), value.as_bytes()).await;
    }
    let records = world.own_records("notifications", 200).await;
    assert_eq!(records.len(), 200, "what the first had done was not done again");
    second.stop().await;
}

#[tokio::test]
async fn a_topic_that_appears_after_the_start_is_read_from_its_first_record() {
    let world = World::with(|config| {
        config.pipeline.start = Start::End;
        let late = format!("{}-late", config.pipeline.topics[0]);
        config.pipeline.topics.push(late.parse().unwrap());
        config.kafka.properties.insert("topic.metadata.refresh.interval.ms".into(), Scalar::Number(500));
    })
    .await;
    let topic = world.config.pipeline.topics[1].to_string();
    let running = world.start_unready(&[Role::Pipeline]).await;
    eventually("the topic that is there is taken up", async || {
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        (committed.len() == usize::try_from(PARTITIONS).unwrap()).then_some(())
    })
    .await;
    world.log.create(&topic, 1, &[]).await;
    // Before the pipeline has seen the topic: its end is not where it begins.
    world.log.produce(&topic, None, payment("first", "alice").to_string().as_bytes()).await;
    let records = world.own_records("notifications", 1).await;
    assert_eq!(records[0].json()["notification"]["eventId"], "first");
    running.stop().await;
}

#[tokio::test]
async fn an_event_whose_notification_the_broker_refuses_for_its_size_is_buried_and_the_next_goes_on() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.take_less(&world.own("notifications"), 4000).await;
    // Drawn, so that compression does not make it fit.
    let name = (0..4000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect::<String>();
    let large =
        json!({"type": "booking:confirmed", "id": "large", "data": {"userId": "alice", "bookingId": "b", "vehicleName": name}});
    let (partition, offset) = world.log.produce(&world.topic, Some("k"), large.to_string().as_bytes()).await;
    // Brokers judge whole batches; with the limit that `topics create` sets, only a record alone in its batch is too large.
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    let small = payment("small", "alice").to_string();
    let (_, last) = world.log.produce(&world.topic, Some("k"), small.as_bytes()).await;
    committed_to(&world, &BTreeMap::from([(partition, last + 1)])).await;
    assert_eq!(dead.header("tidings-error-class"), "notification_too_large");
    assert_eq!(dead.header("tidings-original-offset"), offset.to_string());
    assert_eq!(dead.value, Some(large.to_string().into_bytes()));
    let records = world.own_records("notifications", 1).await;
    assert!(records.iter().any(|record| record.json()["notification"]["eventId"] == "small"));
    running.stop().await;
}
