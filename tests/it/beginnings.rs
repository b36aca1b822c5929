//! Partitions of which the brokers do not say where they begin hold nobody else up, and end nothing.

use rdkafka::message::OwnedHeaders;
use tidings::cli::Role;
use tidings::config::Scalar;

use crate::harness::broker::OwnBroker;
use crate::harness::eventually;
use crate::harness::world::{Running, World, payment};

/// The broker that is killed.
const AWAY: u8 = 3;

async fn emit_to(world: &World, (topic, number): (&str, i32), event: &str) {
    world.log.produce_to((topic, number), "alice", payment(event, "alice").to_string().as_bytes(), OwnedHeaders::new()).await;
}

/// Waits until these events became notifications, and asserts that no others did.
async fn until_notified_of_just(world: &World, events: &[&str]) {
    let mut notified = Vec::new();
    eventually(&format!("{events:?} became notifications"), async || {
        let records = world.log.records(&world.own("notifications")).await;
        notified = records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned()).collect();
        notified.sort();
        events.iter().all(|event| notified.iter().any(|known| known == event)).then_some(())
    })
    .await;
    assert_eq!(notified, events);
}

/// How many partitions are held because the brokers do not say where they begin.
async fn until_held(running: &Running, count: u64) {
    eventually(&format!("{count} partitions are held"), async || {
        let (_, text) = running.get("/metrics").await;
        text.contains(&format!("tidings_pipeline_held_partitions{{reason=\"unknown\"}} {count}\n")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_partition_whose_leader_is_away_is_held_visibly_until_it_is_back_while_the_others_are_read() {
    let brokers = OwnBroker::three();
    let world = World::on(&brokers.brokers, |config| {
        let single = format!("{}-single", config.pipeline.topics[0]);
        config.pipeline.topics.push(single.parse().unwrap());
    })
    .await;
    let single = world.config.pipeline.topics[1].to_string();
    world.log.create_on(&single, &[1, 2, AWAY.into()]).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    for number in 0..3 {
        emit_to(&world, (&single, number), &format!("a-{number}")).await;
    }
    until_notified_of_just(&world, &["a-0", "a-1", "a-2"]).await;
    running.stop().await;
    for number in 0..3 {
        emit_to(&world, (&single, number), &format!("b-{number}")).await;
    }
    brokers.kill(AWAY);

    let running = world.start_unready(&[Role::Pipeline]).await;
    emit_to(&world, (&world.topic, 0), "c").await;
    until_notified_of_just(&world, &["a-0", "a-1", "a-2", "b-0", "b-1", "c"]).await;
    until_held(&running, 1).await;
    let (status, body) = running.get("/ready").await;
    let why = format!("{single}[2] is not read: the brokers do not say where it begins");
    assert!(status == 503 && body.contains(&why), "{body}");

    brokers.start_again();
    until_notified_of_just(&world, &["a-0", "a-1", "a-2", "b-0", "b-1", "b-2", "c"]).await;
    running.await_ready().await;
    until_held(&running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_before_it_was_begun_with_is_waited_for_by_nobody() {
    let brokers = OwnBroker::three();
    let world = World::on(&brokers.brokers, |config| {
        let topic = config.pipeline.topics[0].to_string();
        config.pipeline.topics.push(format!("^{topic}-(stays|goes)").parse().unwrap());
        config.kafka.properties.insert("topic.metadata.refresh.interval.ms".into(), Scalar::Number(300));
    })
    .await;
    let (stays, goes) = (format!("{}-stays", world.topic), format!("{}-goes", world.topic));
    world.log.create(&stays, 1, &[]).await;
    world.log.create_on(&goes, &[AWAY.into()]).await;
    brokers.kill(AWAY);
    // They begin together, so neither has a beginning as long as one of them cannot be asked about. Other entries do.
    let running = world.start_unready(&[Role::Pipeline]).await;
    emit_to(&world, (&stays, 0), "a").await;
    emit_to(&world, (&world.topic, 0), "b").await;
    until_notified_of_just(&world, &["b"]).await;
    until_held(&running, 2).await;

    world.log.delete(&goes).await;
    until_notified_of_just(&world, &["a", "b"]).await;
    running.await_ready().await;
    until_held(&running, 0).await;
    running.stop().await;
}
