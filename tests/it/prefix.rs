//! When exactly an offset is committed: once it and everything handed out before it is written.

use rdkafka::message::OwnedHeaders;
use tidings::cli::Role;

use crate::harness::eventually;
use crate::harness::world::{PARTITIONS, World, payment};

#[tokio::test]
async fn completions_out_of_order_commit_only_the_prefix() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let (dlq, key) = (world.own("dlq"), Some("one-partition"));
    let good = |number: usize| payment(&number.to_string(), "alice").to_string();

    // A producer that has never seen `dlq` holds what it should write there until it comes back.
    world.log.delete(&dlq).await;
    let (partition, first) = world.log.produce(&world.topic, key, good(0).as_bytes()).await;
    let (_, poison) = world.log.produce(&world.topic, key, b"poison").await;
    let mut last = poison;
    for number in 1..=20 {
        last = world.log.produce(&world.topic, key, good(number).as_bytes()).await.1;
    }
    world.own_records("notifications", 21).await;
    eventually("all but one record are written", async || {
        (running.metric("tidings_pipeline_in_flight_records").await == 1.0).then_some(())
    })
    .await;
    // What is committed of another partition now was committed together with all that is done of this one.
    let elsewhere = (partition + 1) % PARTITIONS;
    let next = world.log.produce_to((&world.topic, elsewhere), "k", good(21).as_bytes(), OwnedHeaders::new()).await + 1;
    let committed = eventually("a round of commits has passed", async || {
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        (committed.get(&elsewhere) == Some(&next)).then_some(committed)
    })
    .await;
    assert_eq!(committed.get(&partition), Some(&poison), "of {first}..={last}, only what lies before {poison} is done");

    world.create_topics().await;
    world.own_records("dlq", 1).await;
    eventually("all is committed", async || {
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        (committed.get(&partition) == Some(&(last + 1))).then_some(())
    })
    .await;
    running.stop().await;
}
