//! Records that are written with a schema registry: understood, waited for, or buried with the reason. The service that writes them in
//! Python knows nothing of tidings; where a test needs answers that no sound registry gives, it chooses them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Config;

use crate::harness::eventually;
use crate::harness::registry::{Answer, Chosen, Producer, Registry, shared};
use crate::harness::world::{World, ms, payment};

mod access;
mod load;
mod meanings;
mod sites;

/// A due payment in Avro.
const DUE: &str = r#"{"type":"record","name":"Due","namespace":"acme","fields":[
    {"name":"type","type":"string"},{"name":"userId","type":"string"},{"name":"paymentId","type":"string"},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"dueDate","type":{"type":"int","logicalType":"date"}}]}"#;
pub(crate) const WORDS: &str = "You have a payment of $120.50 due on 2026-02-01.";

pub(crate) fn with_registry(config: &mut Config, url: &str) {
    config.registry.urls = vec![url.to_owned()];
    config.registry.unknown_wait = ms(500);
}

/// The same with one topic more for each format: a subject has schemas of one.
fn with_topics(config: &mut Config, url: &str) -> Vec<String> {
    with_registry(config, url);
    let topic = config.pipeline.topics[0].to_string();
    let more = ["avro", "protobuf", "json"].map(|format| format!("{topic}.{format}"));
    config.pipeline.topics.extend(more.iter().map(|topic| topic.parse().unwrap()));
    more.to_vec()
}

/// A payment as the service says it in each format.
pub(crate) fn said(format: &str, topic: &str, id: &str) -> Value {
    let common = json!({"type": "payment:due", "userId": "alice", "paymentId": id, "amount": "120.50", "dueDate": "2026-02-01"});
    let with = |amount: Value, date: Value| {
        let mut value = common.clone();
        (value["amount"], value["dueDate"]) = (amount, date);
        value
    };
    match format {
        "avro" => {
            let value = with(json!({"$decimal": "120.50"}), json!({"$date": "2026-02-01"}));
            json!({"topic": topic, "format": format, "schema": DUE, "value": value, "key": "k"})
        }
        "protobuf" => {
            let mut value = common;
            (value["person"], value["at"]) = (json!({"name": "Alice"}), json!("2026-02-01T08:00:00Z"));
            json!({"topic": topic, "format": format, "schema": "acme.Due.Paid", "value": value, "key": "k"})
        }
        _ => {
            let user =
                json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "User", "type": "string"}).to_string();
            let name = format!("{topic}-user.json");
            let schema = json!({
                "$schema": "http://json-schema.org/draft-07/schema#", "title": "Due", "type": "object", "required": ["userId", "amount"],
                "properties": {"userId": {"$ref": name}, "amount": {"type": "string"}},
            });
            json!({"topic": topic, "format": "json-schema", "schema": schema.to_string(), "references": [[name, user]], "value": common, "key": "k"})
        }
    }
}

fn message(record: &crate::harness::log::Seen) -> String {
    record.json()["notification"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_service_says_in_any_format_becomes_the_same_words() {
    let url = shared();
    let mut topics = Vec::new();
    let world = World::with(|config| topics = with_topics(config, &url)).await;
    for topic in &topics {
        world.log.create(topic, 1, &[]).await;
    }
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &url);
    for (format, topic) in ["avro", "protobuf", "json"].into_iter().zip(&topics) {
        service.produce(&said(format, topic, format));
    }
    world.emit(&payment("plain", "alice")).await;
    let notified = world.own_records("notifications", 4).await;
    assert!(notified.iter().all(|record| message(record) == WORDS), "{:?}", notified.iter().map(message).collect::<Vec<_>>());
    let mut payments =
        notified.iter().map(|record| record.json()["notification"]["data"]["payment_id"].to_string()).collect::<Vec<_>>();
    payments.sort();
    assert_eq!(payments, ["\"avro\"", "\"json\"", "\"p-plain\"", "\"protobuf\""]);
    running.stop().await;
}

#[tokio::test]
async fn a_schema_may_change_while_records_of_the_one_before_are_read() {
    let url = shared();
    let world = World::with(|config| with_registry(config, &url)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &url);
    let newer = DUE.replace(
        r#"{"name":"userId","type":"string"},"#,
        r#"{"name":"note","type":["null","string"],"default":null},{"name":"userId","type":"string"},"#,
    );
    for (number, schema) in [DUE, &newer, DUE].into_iter().enumerate() {
        let mut record = said("avro", &world.topic, &number.to_string());
        record["schema"] = schema.into();
        if schema != DUE {
            record["value"]["note"] = "new".into();
        }
        service.produce(&record);
    }
    let notified = world.own_records("notifications", 3).await;
    assert!(notified.iter().all(|record| message(record) == WORDS));
    assert!((running.metric("tidings_registry_kept_schemas").await - 2.0).abs() < f64::EPSILON);
    running.stop().await;
}

#[tokio::test]
async fn records_wait_for_a_registry_that_is_away_while_others_go_on_and_none_is_lost() {
    const RECORDS: usize = 30;
    let registry = Registry::start();
    let world = World::with(|config| with_registry(config, &registry.url)).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &registry.url);
    for number in 0..RECORDS {
        service.produce(&said("avro", &world.topic, &number.to_string()));
    }
    registry.stop();
    let running = world.start_unready(&[Role::Pipeline]).await;
    let (waiting, _) = service.produce(&said("avro", &world.topic, "last"));
    let other = (0..3).find(|partition| *partition != waiting).unwrap();
    let plain = payment("plain", "bob").to_string();
    world.log.produce_to((&world.topic, other), "b", plain.as_bytes(), OwnedHeaders::new()).await;
    let [first] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(first.json()["channel"], "user-bob", "the partition of plain records goes on");
    eventually("the process says that it is not ready, and why", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("the schema registry does not answer")).then_some(())
    })
    .await;
    assert!((running.metric("tidings_pipeline_held_partitions").await - 1.0).abs() < f64::EPSILON);
    registry.start_again();
    let notified = world.own_records("notifications", RECORDS + 2).await;
    assert_eq!(notified.len(), RECORDS + 2);
    running.await_ready().await;
    assert_eq!(world.log.records(&world.own("dlq")).await.len(), 0);
    running.stop().await;
}

/// What a registry says of a schema.
fn schema(kind: &str, text: &str) -> Answer {
    Answer(200, "", json!({"schema": text, "schemaType": kind}).to_string())
}

fn unknown() -> Answer {
    Answer(404, "", json!({"error_code": 40403, "message": "Schema not found"}).to_string())
}

/// A due payment in JSON with the schema `id`.
fn prefixed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

fn due(id: &str) -> Vec<u8> {
    json!({"type": "payment:due", "userId": "alice", "paymentId": id, "amount": "120.50", "dueDate": "2026-02-01"})
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_schema_is_fetched_once_however_many_records_wait_for_it() {
    let chosen = Chosen::answering(|_| schema("JSON", r#"{"type":"object"}"#)).await;
    let world = World::with(|config| with_registry(config, &chosen.url)).await;
    for number in 0..90 {
        let place = (world.topic.as_str(), number % 3);
        world.log.produce_to(place, "k", &prefixed(7, &due(&number.to_string())), OwnedHeaders::new()).await;
    }
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.own_records("notifications", 90).await;
    assert_eq!(chosen.paths(), ["/schemas/ids/7"]);
    assert_eq!(chosen.asked("/schemas/ids/7"), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_registered_in_time_is_read_and_one_that_is_not_buries_its_record() {
    let registered = Arc::new(AtomicBool::new(false));
    let is_there = Arc::clone(&registered);
    let chosen = Chosen::answering(move |path| match path {
        "/schemas/ids/7" if is_there.load(Ordering::SeqCst) => schema("JSON", r#"{"type":"object"}"#),
        _ => unknown(),
    })
    .await;
    let world = World::with(|config| {
        with_registry(config, &chosen.url);
        config.registry.unknown_wait = ms(60_000);
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("late"))).await;
    eventually("it was asked more than once", async || (chosen.asked("/schemas/ids/7") > 2).then_some(())).await;
    assert_eq!(world.log.records(&world.own("dlq")).await.len(), 0);
    registered.store(true, Ordering::SeqCst);
    world.own_records("notifications", 1).await;
    running.stop().await;

    let mut world = world;
    world.config.registry.unknown_wait = ms(300);
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(8, &due("never"))).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("behind"))).await;
    world.own_records("notifications", 2).await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!((dead.header("tidings-error-class"), dead.header("tidings-cause")), ("schema_unknown", "poison"));
    assert!(dead.header("tidings-error-message").contains("no schema 8"), "{}", dead.header("tidings-error-message"));
    assert_eq!(dead.value.as_deref(), Some(prefixed(8, &due("never")).as_slice()));
    running.stop().await;
}

#[tokio::test]
async fn a_registry_that_is_busy_or_broken_burns_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let chosen = Chosen::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer(429, "Retry-After: 1\r\n", String::new()),
        1 => Answer(500, "", json!({"error_code": 50001, "message": "Error in the backend data store"}).to_string()),
        2 => Answer(404, "", "no such page".to_owned()),
        3 => Answer(200, "", "<html>Please log in</html>".to_owned()),
        4 => Answer(302, "Location: http://127.0.0.1:1/\r\n", String::new()),
        // What Confluent's registry says of a path that it does not have.
        5 => Answer(404, "", json!({"error_code": 404, "message": "HTTP 404 Not Found"}).to_string()),
        // A page that is longer than a schema may be.
        6 => Answer(503, "", "x".repeat(1 << 20)),
        _ => schema("JSON", "{}"),
    })
    .await;
    let world = World::with(|config| {
        with_registry(config, &chosen.url);
        config.registry.schema_bytes = NonZeroUsize::new(1 << 10).unwrap();
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("1"))).await;
    world.own_records("notifications", 1).await;
    assert_eq!(chosen.asked("/schemas/ids/7"), 8);
    assert_eq!(world.log.records(&world.own("dlq")).await.len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_header_names_a_schema_by_its_guid_or_its_number() {
    let chosen = Chosen::answering(|path| match path {
        "/schemas/guids/6ba7b810-9dad-11d1-80b4-00c04fd430c8" | "/schemas/ids/9" => schema("JSON", r#"{"type":"object"}"#),
        _ => unknown(),
    })
    .await;
    let world = World::with(|config| with_registry(config, &chosen.url)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let guid = [&[1][..], uuid::Uuid::parse_str("6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap().as_bytes()].concat();
    for header in [&guid[..], &[0, 0, 0, 0, 9]] {
        let headers = OwnedHeaders::new().insert(Header { key: "__value_schema_id", value: Some(header) });
        world.log.produce_with(&world.topic, Some("k"), &due("1"), headers).await;
    }
    world.own_records("notifications", 2).await;
    assert_eq!(chosen.paths().len(), 2);
    running.stop().await;
}

/// Schemas that nothing can be read with, or not what comes.
fn wrong(path: &str, elsewhere: &str) -> Answer {
    match path {
        "/schemas/ids/1" => schema("AVRO", DUE),
        "/schemas/ids/2" => {
            schema("JSON", &json!({"properties": {"userId": {"$ref": format!("{elsewhere}/user.json")}}}).to_string())
        }
        "/schemas/ids/3" => schema("JSON", &format!("{{\"title\":\"{}\"}}", "x".repeat(5 << 20))),
        "/schemas/ids/4" => schema("JSON", r##"{"allOf":[{"$ref":"#"}]}"##),
        "/schemas/ids/5" => schema("XML", "<schema/>"),
        "/schemas/ids/6" | "/subjects/b/versions/1" => Answer(
            200,
            "",
            json!({"schema": "syntax = \"proto3\"; import \"b\"; message M {}", "schemaType": "PROTOBUF", "id": 6, "version": 1, "subject": "b",
                   "references": [{"name": "b", "subject": "b", "version": 1}]})
            .to_string(),
        ),
        "/schemas/ids/8" => schema("JSON", r#"{"properties":{"userId":{"pattern":"^(?=(a+)+$)(a+)+\\1$"}}}"#),
        "/schemas/ids/9" => schema("PROTOBUF", "syntax = \"proto3\"; message M { string type = 1; }"),
        _ => unknown(),
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_bytes_or_schemas_is_buried_and_the_partition_goes_on() {
    // Whoever asked here would be answered, and the schema would do.
    let elsewhere = Chosen::answering(|_| Answer(200, "", "{}".to_owned())).await;
    let lies_at = elsewhere.url.clone();
    let chosen = Chosen::answering(move |path| wrong(path, &lies_at)).await;
    let world = World::with(|config| {
        with_registry(config, &chosen.url);
        config.registry.schema_bytes = NonZeroUsize::new(1 << 20).unwrap();
        config.pipeline.breaker.enabled = false;
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let hostile = json!({"type": "payment:due", "userId": format!("{}!", "a".repeat(3_000))}).to_string();
    let cases: [(&str, Vec<u8>); 10] = [
        ("schema_truncated", vec![0, 0, 0, 1]),
        ("schema_misfit", prefixed(1, b"\x16payment:due\x0aal")),
        ("schema_unusable", prefixed(2, &due("2"))),
        ("schema_too_large", prefixed(3, &due("3"))),
        ("schema_unusable", prefixed(4, &due("4"))),
        ("schema_unusable", prefixed(5, &due("5"))),
        ("schema_unusable", prefixed(6, &[0])),
        ("schema_invalid_value", prefixed(8, hostile.as_bytes())),
        ("schema_misfit", prefixed(9, &[2, 2, 0x0a])),
        ("schema_unknown", prefixed(10, &due("10"))),
    ];
    for (_, value) in &cases {
        world.log.produce(&world.topic, Some("k"), value).await;
    }
    world.log.produce(&world.topic, Some("k"), payment("behind", "alice").to_string().as_bytes()).await;
    world.own_records("notifications", 1).await;
    let dead = world.own_records("dlq", cases.len()).await;
    for ((class, value), dead) in cases.iter().zip(&dead) {
        assert_eq!(dead.header("tidings-error-class"), *class, "{}", dead.header("tidings-error-message"));
        assert_eq!(dead.value.as_deref(), Some(value.as_slice()));
    }
    assert!(
        chosen.paths().iter().all(|path| path.starts_with("/schemas/ids/") || path == "/subjects/b/versions/1"),
        "{:?}",
        chosen.paths()
    );
    assert!(elsewhere.paths().is_empty(), "{:?} was asked for", elsewhere.paths());
    running.stop().await;
}
