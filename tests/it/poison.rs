//! What cannot be understood is buried with its bytes and the reason, and the partition goes on.

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use tidings::config::LogFormat;

use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, World, payment};

/// A key, so that everything lies in one partition, in order.
const KEY: &str = "one-partition";

async fn emit(world: &World, value: &[u8]) -> (i32, i64) {
    world.log.produce(&world.topic, Some(KEY), value).await
}

/// Buries `poison` between two good events, and gives its dead letter.
async fn buried_between_good_ones(world: &World, poison: &[u8]) -> Seen {
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    emit(world, payment("before", "alice").to_string().as_bytes()).await;
    let (partition, offset) = emit(world, poison).await;
    let (_, last) = emit(world, payment("after", "alice").to_string().as_bytes()).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "before");
    assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "after");
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("tidings-original-topic"), world.topic);
    assert_eq!(dead.header("tidings-original-partition"), partition.to_string());
    assert_eq!(dead.header("tidings-original-offset"), offset.to_string());
    assert_eq!(dead.header("__connect.errors.topic"), world.topic);
    assert!(!dead.header("tidings-error-message").is_empty());
    eventually("the partition is committed behind the last record", async || {
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
        (committed.get(&partition) == Some(&(last + 1))).then_some(())
    })
    .await;
    running.stop().await;
    dead
}

#[tokio::test]
async fn a_missing_field_is_buried_with_its_reason_between_good_ones() {
    let world = World::new().await;
    let poison =
        json!({"type": "payment:due", "id": "x", "data": {"userId": "alice", "paymentId": "1", "amount": 1}}).to_string();
    let dead = buried_between_good_ones(&world, poison.as_bytes()).await;
    assert_eq!(dead.value.as_deref(), Some(poison.as_bytes()));
    assert_eq!(dead.key.as_deref(), Some(KEY.as_bytes()));
    assert!(dead.header("tidings-error-message").contains("dueDate"), "{}", dead.header("tidings-error-message"));
}

#[tokio::test]
async fn a_field_of_a_wrong_type_is_buried() {
    let world = World::new().await;
    let poison =
        json!({"type": "payment:due", "id": "x", "data": {"userId": {"a": 1}, "paymentId": "1", "amount": 1, "dueDate": "d"}});
    let dead = buried_between_good_ones(&world, poison.to_string().as_bytes()).await;
    assert_eq!(dead.header("tidings-cause"), "poison");
}

#[tokio::test]
async fn invalid_utf8_is_buried_byte_for_byte() {
    let world = World::new().await;
    let dead = buried_between_good_ones(&world, b"{\"type\":\"\xff\xfe\"}").await;
    assert_eq!(dead.value.as_deref(), Some(&b"{\"type\":\"\xff\xfe\"}"[..]));
}

#[tokio::test]
async fn a_mebibyte_of_nested_brackets_is_buried() {
    let world = World::new().await;
    let poison = vec![b'['; 1024 * 1024 - 1024];
    let dead = buried_between_good_ones(&world, &poison).await;
    assert_eq!(dead.value, Some(poison));
}

#[tokio::test]
async fn the_largest_record_the_broker_takes_is_buried_whole() {
    let world = World::new().await;
    // 1,048,588 bytes is the broker's default limit for a batch, of which 70 to 90 are overhead.
    let mut poison = vec![b'x'; 1_048_588 - 120];
    poison[0] = b'"';
    let dead = buried_between_good_ones(&world, &poison).await;
    assert_eq!(dead.value, Some(poison));
}

#[tokio::test]
async fn a_field_that_makes_its_template_put_out_too_much_is_buried() {
    let world = World::new().await;
    let poison = json!({"type": "payment:due", "id": "x", "data": {"userId": "alice", "paymentId": "1", "amount": "9".repeat(100_000), "dueDate": "d"}});
    let dead = buried_between_good_ones(&world, poison.to_string().as_bytes()).await;
    assert_eq!(dead.header("tidings-stage"), "render");
}

#[tokio::test]
async fn original_headers_stay_and_forged_context_does_not_replace_ours() {
    let world = World::new().await;
    let running = world.start().await;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "traceparent", value: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") })
        .insert(Header { key: "tidings-stage", value: Some("forged") });
    world.log.produce_with(&world.topic, Some(KEY), b"not json", headers).await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    // The last header of a name counts, as Kafka's own clients have it.
    assert_eq!(dead.header("tidings-stage"), "decode");
    running.stop().await;
}

#[tokio::test]
async fn one_poison_record_gives_one_warning_with_its_topic_partition_and_offset() {
    let world = World::with(|config| config.log.format = LogFormat::Json).await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let (partition, offset) = emit(&world, b"not json").await;
    world.own_records("dlq", 1).await;
    let warnings = eventually("it is said in the log", async || {
        let logged = process.logged();
        let lines = logged.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let warnings = lines.filter(|line| line["level"] == "WARN").collect::<Vec<_>>();
        (!warnings.is_empty()).then_some(warnings)
    })
    .await;
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    let place = (warning["topic"].as_str(), warning["partition"].as_i64(), warning["offset"].as_i64());
    assert_eq!(place, (Some(world.topic.as_str()), Some(partition.into()), Some(offset)), "{warning}");
}
