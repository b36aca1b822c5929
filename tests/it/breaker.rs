//! A bad deploy does not empty a topic into `dlq`: the breaker.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};

use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::{Config, Scalar};
use tidings_core::time::Timestamp;

use crate::harness::command::{printed, run};
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::world::{PARTITIONS, Running, World, ms, payment, sum};

const POISON: usize = 20;
const GOOD: usize = 20;

fn limits(config: &mut Config, pause_ms: u64) {
    let number = |number| NonZeroU32::new(number).unwrap();
    config.pipeline.breaker.buried_in_a_row = number(5);
    config.pipeline.breaker.trial_records = number(3);
    config.pipeline.breaker.pause = ms(pause_ms);
}

/// Poison and then good events, all in one partition. Gives the partition and the offset of the first.
async fn emit(world: &World) -> (i32, i64) {
    let mut first = None;
    for number in 0..POISON + GOOD {
        let value = if number < POISON { "poison".to_owned() } else { payment(&format!("good-{number}"), "alice").to_string() };
        first.get_or_insert(world.log.produce(&world.topic, Some("one-partition"), value.as_bytes()).await);
    }
    first.unwrap()
}

/// The offsets of the domain topic that were buried.
async fn buried(world: &World) -> Vec<i64> {
    let records = world.log.records(&world.own("dlq")).await;
    records.iter().map(|record| record.header("tidings-original-offset").parse().unwrap()).collect()
}

async fn until_all_good_are_notified(world: &World) {
    eventually("every good event became a notification", async || {
        let records = world.log.records(&world.own("notifications")).await;
        let events = records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
        let good = events.filter(|event| event.starts_with("good-")).collect::<BTreeSet<_>>();
        (good.len() == GOOD).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_topic_of_which_too_much_is_buried_is_not_read_on_and_says_so_while_others_go_on() {
    let mut world = World::with(|config| {
        limits(config, 3_600_000);
        let other = format!("{}-other", config.pipeline.topics[0]);
        config.pipeline.topics.push(other.parse().unwrap());
    })
    .await;
    let other = world.config.pipeline.topics[1].to_string();
    world.log.create(&other, 1, &[]).await;
    let (partition, first) = emit(&world).await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    let body = eventually("/ready names the topic and the reason", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("breaker")).then_some(body)
    })
    .await;
    assert!(body.contains(&world.topic) && body.contains("5 records in a row were buried"), "{body}");
    assert_eq!(running.metric("tidings_pipeline_halted_topics").await, 1.0);
    assert_eq!(running.metric("tidings_pipeline_breaker_trips_total").await, 1.0);

    let (_, offset) = world.log.produce(&other, None, payment("other", "alice").to_string().as_bytes()).await;
    world.own_records("notifications", 1).await;
    eventually("the other topic is committed, and this one behind what was buried", async || {
        let others = world.log.committed(&world.group("pipeline"), &other, 1).await;
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        (others.get(&0) == Some(&(offset + 1)) && committed.get(&partition) == Some(&(first + 5))).then_some(())
    })
    .await;
    assert_eq!(buried(&world).await, (first..first + 5).collect::<Vec<_>>(), "the record that opens it is the last");
    running.stop().await;

    world.config.pipeline.breaker.enabled = false;
    let running = world.start_roles(&[Role::Pipeline]).await;
    until_all_good_are_notified(&world).await;
    assert_eq!(buried(&world).await.len(), POISON);
    running.stop().await;
}

#[tokio::test]
async fn trials_read_on_behind_what_was_buried_and_nothing_is_lost_or_buried_twice() {
    let world = World::with(|config| limits(config, 300)).await;
    let (partition, first) = emit(&world).await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    until_all_good_are_notified(&world).await;
    assert!(running.metric("tidings_pipeline_breaker_trips_total").await >= 2.0, "the first trials were bad");
    assert_eq!(buried(&world).await, (first..first + i64::try_from(POISON).unwrap()).collect::<Vec<_>>());
    running.await_ready().await;
    assert_eq!(running.metric("tidings_pipeline_halted_topics").await, 0.0);
    assert_eq!(world.log.records(&world.own("notifications")).await.len(), GOOD, "nothing was decided twice");
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.get(&partition), Some(&(first + i64::try_from(POISON + GOOD).unwrap())));
}

#[tokio::test]
async fn a_share_that_is_too_large_opens_it_although_good_ones_come_between_and_a_smaller_one_does_not() {
    let world = World::with(|config| {
        limits(config, 3_600_000);
        config.pipeline.breaker.buried_in_a_row = NonZeroU32::new(1000).unwrap();
        config.pipeline.breaker.window_records = NonZeroU32::new(20).unwrap();
        config.pipeline.breaker.buried_percent = 50;
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let emit = async |value: &str| world.log.produce(&world.topic, Some("one-partition"), value.as_bytes()).await;
    for number in 0..GOOD {
        emit(&payment(&format!("good-{number}"), "alice").to_string()).await;
        emit("poison").await;
    }
    until_all_good_are_notified(&world).await;
    eventually("half of them are buried", async || (buried(&world).await.len() == GOOD).then_some(())).await;
    assert_eq!(running.get("/ready").await.0, 200);

    let (_, last) = emit("poison").await;
    eventually("one more is too much", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("11 of the last 20 records were buried")).then_some(())
    })
    .await;
    emit(&payment("good-behind", "alice").to_string()).await;
    assert_eq!(running.metric("tidings_pipeline_breaker_trips_total").await, 1.0);
    running.stop().await;
    assert_eq!(buried(&world).await.last(), Some(&last));
    assert_eq!(world.log.records(&world.own("notifications")).await.len(), GOOD, "what lies behind is left");
}

/// Waits until the breaker has opened and nothing is on its way any more.
async fn until_halted(running: &Running) {
    eventually("the breaker is open and all that was decided is written", async || {
        let (status, body) = running.get("/ready").await;
        let halted = status == 503 && body.contains("5 records in a row were buried");
        (halted && running.metric("tidings_pipeline_in_flight_records").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_limit_is_one_of_the_topic_however_many_workers_have_its_records() {
    let world = World::with(|config| {
        limits(config, 3_600_000);
        config.pipeline.workers = NonZeroUsize::new(4).unwrap();
        let wide = format!("{}-wide", config.pipeline.topics[0]);
        config.pipeline.topics.push(wide.parse().unwrap());
    })
    .await;
    let wide = world.config.pipeline.topics[1].to_string();
    world.log.create(&wide, 12, &[]).await;
    for number in 0..12 {
        for _ in 0..10 {
            world.log.produce_to((&wide, number), "k", b"poison", OwnedHeaders::new()).await;
        }
    }
    let running = world.start_unready(&[Role::Pipeline]).await;
    until_halted(&running).await;
    assert_eq!(buried(&world).await.len(), 5);
    assert_eq!(running.metric("tidings_pipeline_breaker_trips_total").await, 1.0);
    running.stop().await;
}

#[tokio::test]
async fn events_whose_notifications_brokers_refuse_open_it_too_and_those_on_their_way_are_left_not_buried() {
    let world = World::with(|config| limits(config, 3_600_000)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.take_less(&world.own("notifications"), 4000).await;
    let mut first = None;
    for number in 0..POISON {
        // Drawn, so that compression does not make it fit.
        let amount = (0..6000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect::<String>();
        let data = json!({"userId": "alice", "paymentId": number, "amount": amount, "dueDate": "d"});
        let large = json!({"type": "payment:due", "id": format!("large-{number}"), "data": data}).to_string();
        first.get_or_insert(world.log.produce(&world.topic, Some("k"), large.as_bytes()).await);
    }
    let (partition, first) = first.unwrap();
    until_halted(&running).await;
    assert_eq!(buried(&world).await, (first..first + 5).collect::<Vec<_>>());
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.get(&partition), Some(&(first + 5)), "those that were left are read again");
}

/// Waits until a process has halted this topic, and gives what `/ready` says of it.
async fn halted(running: &Running, topic: &str) -> Value {
    eventually("the topic is halted", async || {
        let (_, body) = running.get("/ready").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        body["roles"]["pipeline"]["halted"].as_array()?.iter().find(|halted| halted["topic"] == topic).cloned()
    })
    .await
}

/// So much poison in each partition that its process halts the topic, and good events behind it.
async fn emit_in_both(world: &World, topic: &str) {
    for partition in 0..2 {
        for _ in 0..5 {
            world.log.produce_to((topic, partition), "k", b"poison", OwnedHeaders::new()).await;
        }
        for number in 0..GOOD / 2 {
            let event = payment(&format!("good-{partition}-{number}"), "alice").to_string();
            world.log.produce_to((topic, partition), "k", event.as_bytes(), OwnedHeaders::new()).await;
        }
    }
}

#[tokio::test]
async fn an_operator_has_every_node_read_a_topic_again_at_once_and_audit_says_who() {
    let mut world = World::with(|config| {
        limits(config, 3_600_000);
        config.pipeline.topics = vec![format!("{}-two", config.pipeline.topics[0]).parse().unwrap()];
        // So that each node has one of the topic's two.
        let strategy = ("partition.assignment.strategy".to_owned(), Scalar::Text("range".to_owned()));
        config.kafka.properties.extend([strategy]);
    })
    .await;
    let topic = world.config.pipeline.topics[0].to_string();
    world.log.create(&topic, 2, &[]).await;
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        world.config.node.id = name.into();
        nodes.push(world.start_roles(&[Role::Pipeline]).await);
    }
    eventually("each has a partition", async || {
        let taken = futures_util::future::join_all(nodes.iter().map(async |node| {
            let (_, text) = node.get("/metrics").await;
            let count = |name: &str| sum(&text, name).unwrap_or(0.0);
            count("tidings_pipeline_taken_up_partitions_total") - count("tidings_pipeline_given_back_partitions_total")
        }));
        // One of the topic and two of `requests`.
        taken.await.iter().all(|taken| *taken == 3.0).then_some(())
    })
    .await;
    emit_in_both(&world, &topic).await;
    for node in &nodes {
        let halted = halted(node, &topic).await;
        let reason = halted["reason"].as_str().unwrap();
        assert!(reason.contains("5 records in a row") && reason.contains("tidings breaker reset"), "{halted}");
        let since: Timestamp = halted["since"].as_str().unwrap().parse().unwrap();
        let told = node.metric("tidings_pipeline_halted_since_timestamp_seconds").await;
        assert_eq!(told, since.as_millis() as f64 / 1000.0);
        let labels = format!(r#"topic="{topic}",why="in_a_row""#);
        assert_eq!(node.labelled("tidings_pipeline_breaker_trips_total", &labels).await, 1);
    }

    let other = run(&world, &["breaker", "reset", "typo"]).await;
    assert!(String::from_utf8(other.stderr).unwrap().contains("none of `pipeline.topics`"));
    printed(&world, 0, &["breaker", "reset", &topic, "--as", "ops"]).await;
    until_all_good_are_notified(&world).await;
    for node in nodes {
        node.await_ready().await;
        assert_eq!(node.metric("tidings_pipeline_halted_topics").await, 0.0);
        assert_eq!(node.metric("tidings_pipeline_breaker_trips_total").await, 1.0);
        node.stop().await;
    }
    let acts = world.log.records(&world.own("audit")).await.iter().map(Seen::json).collect::<Vec<_>>();
    assert_eq!(acts.len(), 1, "of the one that was refused nothing is said");
    assert_eq!((&acts[0]["act"], &acts[0]["who"], &acts[0]["topic"]), (&json!("breakerReset"), &json!("ops"), &json!(topic)));
}

#[tokio::test]
async fn a_reset_of_all_topics_does_not_make_good_what_is_not_mended() {
    let world = World::with(|config| limits(config, 3_600_000)).await;
    let (_, first) = emit(&world).await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    until_halted(&running).await;
    printed(&world, 0, &["breaker", "reset"]).await;
    eventually("it has opened once more", async || {
        (running.metric("tidings_pipeline_breaker_trips_total").await == 2.0).then_some(())
    })
    .await;
    until_halted(&running).await;
    assert_eq!(
        buried(&world).await,
        (first..first + 10).collect::<Vec<_>>(),
        "the whole limit once more, and not a record of a trial"
    );
    running.stop().await;
}
