//! What went wrong with records is counted by every stage under the same labels: cause, fate and class of failure.

use rdkafka::message::{Header, OwnedHeaders};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tidings::cli::Role;
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::world::{Running, World, ms, payment};

async fn until_failed(running: &Running, stage: &str, labels: (&str, &str, &str), times: u64) {
    eventually(&format!("{stage} has counted {labels:?} {times} times"), async || {
        (running.failed(stage, labels).await == times).then_some(())
    })
    .await;
}

fn version(version: &str) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some(version) })
}

#[tokio::test]
async fn bytes_at_fault_are_counted_as_poison_for_dlq_by_every_stage_that_meets_them() {
    let world = World::new().await;
    let running = world.start().await;
    let _alice = running.connect("alice").await;
    let partition = "user-alice".parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    world.log.produce(&world.topic, Some("k"), b"no event").await;
    let rung = format!("retry.{}", world.config.courier.ladder[0]);
    for topic in ["notifications", "receipts", &rung] {
        world.log.produce_to((&world.own(topic), partition), "user-alice", b"{}", version("1")).await;
    }
    until_failed(&running, "pipeline", ("poison", "dead_letter", "not_json"), 1).await;
    for (stage, times) in [("gateway", 2), ("inbox", 2), ("courier", 1)] {
        until_failed(&running, stage, ("poison", "dead_letter", "malformed"), times).await;
    }
    assert_eq!(world.own_records("dlq", 4).await.len(), 4, "one of the pipeline's, two of the inbox's and one of the courier's");
    running.stop().await;
}

#[tokio::test]
async fn what_a_later_release_wrote_is_counted_as_waiting_in_place() {
    let world = World::new().await;
    let running = world.start().await;
    let partition = "user-alice".parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    world.log.produce_to((&world.own("notifications"), partition), "user-alice", b"{}", version("99")).await;
    for stage in ["gateway", "inbox", "courier"] {
        until_failed(&running, stage, ("dependency", "retry_in_place", "newer_version"), 1).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn what_nobody_acknowledges_is_counted_as_the_recipients_and_tried_later() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(100);
        config.courier.ladder = vec![ms(200)];
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline, Role::Inbox, Role::Courier]).await;
    world.emit(&payment("1", "absent")).await;
    world.own_records("undelivered", 1).await;
    until_failed(&running, "courier", ("recipient", "retry_later", "offline"), 1).await;
    running.stop().await;
}

#[tokio::test]
async fn records_that_wait_for_the_database_are_counted_as_tried_in_place() {
    let world = World::with(|config| config.store.busy_timeout = ms(50)).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Inbox]).await;
    let file = SqliteConnectOptions::new().filename(world.dir.path().join("tidings.db"));
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    world.emit(&payment("1", "alice")).await;
    let waits = ("dependency", "retry_in_place", "store_unavailable");
    eventually("the inbox has counted it", async || (running.failed("inbox", waits).await > 0).then_some(())).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("it is folded", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    running.stop().await;
}
