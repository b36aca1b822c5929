//! What lies on `dlq`, whoever buried it: all of the record, or what the broker takes of it.

use rdkafka::message::{Header, OwnedHeaders};
use sha2::{Digest as _, Sha256};
use tidings::cli::Role;

use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::world::World;

/// Where records of an absent user's lie, on each of our own topics.
const KEY: &str = "user-absent";
const STUB_BYTES: usize = 64 * 1024;

/// Has pipeline, inbox and courier each bury a record of `bytes` drawn bytes on a `dlq` that takes `limit`; gives the records with what
/// is left of them.
async fn buried(bytes: usize, limit: u32) -> Vec<(Vec<u8>, Seen)> {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Inbox, Role::Courier]).await;
    world.log.take_less(&world.own("dlq"), limit).await;
    let mut poison = Vec::new();
    for topic in
        [world.topic.clone(), world.own("notifications"), world.own(&format!("retry.{}", world.config.courier.ladder[0]))]
    {
        // Drawn, so that compression does not make it fit.
        let value = (0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<_>>();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "x-stranger", value: Some("kept with the whole record only") })
            .insert(Header { key: "traceparent", value: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") });
        let (_, offset) = world.log.produce_with(&topic, Some(KEY), &value, headers).await;
        poison.push((topic, offset, value));
    }
    let mut dead = world.own_records("dlq", poison.len()).await;
    running.stop().await;
    let of = |(topic, offset, value): (String, i64, Vec<u8>)| {
        let found = dead.iter().position(|dead| dead.header("tidings-original-topic") == topic).unwrap();
        let dead = dead.swap_remove(found);
        assert_eq!(dead.header("tidings-original-offset"), offset.to_string());
        (value, dead)
    };
    poison.into_iter().map(of).collect()
}

#[tokio::test]
async fn what_dlq_takes_lies_there_with_bytes_key_and_headers_as_they_came() {
    for (value, dead) in buried(1000, 1_000_000).await {
        assert_eq!((dead.value, dead.key.as_deref()), (Some(value), Some(KEY.as_bytes())));
        assert!(dead.headers.contains_key("x-stranger"));
        assert!(!dead.headers.contains_key("tidings-truncated"));
    }
}

#[tokio::test]
async fn what_dlq_does_not_take_whole_leaves_a_stub_alike_whoever_buries_it() {
    for (value, dead) in buried(150_000, 100_000).await {
        assert_eq!((dead.value.as_deref(), dead.key.as_deref()), (Some(&value[..STUB_BYTES]), Some(KEY.as_bytes())));
        told_of(&value, &dead);
    }
}

#[tokio::test]
async fn a_record_of_which_dlq_takes_not_even_the_beginning_leaves_its_context_there() {
    for (value, dead) in buried(100_000, 8000).await {
        assert_eq!((dead.value.as_deref(), dead.key.as_deref()), (None, None));
        assert_eq!(dead.header("tidings-original-key"), KEY);
        told_of(&value, &dead);
    }
}

/// What is said of a record that is not there whole.
fn told_of(value: &[u8], dead: &Seen) {
    let sha256 = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(dead.header("tidings-truncated"), "true");
    assert_eq!(dead.header("tidings-original-bytes"), value.len().to_string());
    assert_eq!(dead.header("tidings-original-sha256"), sha256);
    assert!(!dead.headers.contains_key("x-stranger"));
    assert_eq!(dead.header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
}

#[tokio::test]
async fn an_inbox_that_cannot_bury_waits_and_folds_nothing_over_the_record() {
    let world = World::new().await;
    let dlq = world.own("dlq");
    let running = world.start_roles(&[Role::Inbox]).await;
    // Its producer knows the topic.
    world.log.produce(&world.own("notifications"), Some("user-alice"), b"poison").await;
    world.own_records("dlq", 1).await;
    world.log.delete(&dlq).await;
    let (partition, offset) = world.log.produce(&world.own("notifications"), Some("user-alice"), b"poison again").await;
    eventually("/ready names the topic that is gone", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains(&dlq)).then_some(())
    })
    .await;

    world.create_topics().await;
    let dead = world.own_records("dlq", 1).await.remove(0);
    assert_eq!(dead.header("tidings-original-offset"), offset.to_string());
    assert_eq!(dead.header("tidings-original-partition"), partition.to_string());
    running.await_ready().await;
    running.stop().await;
}
