//! What templates are given of each kind of value, as Confluent's serializers write it; keys; and schemas that change.

use serde_json::{Value, json};
use tidings::cli::Role;

use super::{DUE, WORDS, message, said, with_registry, with_topics};
use crate::harness::registry::{Producer, shared};
use crate::harness::world::World;

/// A world whose rules say this of each event of the type `acme.Kinds`, to Alice.
async fn saying(message: &str, url: &str) -> World {
    let mut world = World::with(|config| with_registry(config, url)).await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    let rule = format!(
        "[[rule]]\nname = \"kinds\"\nevent = \"acme.Kinds\"\nuser = \"alice\"\ntype = \"t\"\nmessage = '''{message}'''\n"
    );
    std::fs::write(folder.join("kinds.toml"), rule).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    world
}

/// What is said of some Avro values.
async fn told(message_of: &str, fields: &Value, value: &Value) -> String {
    let url = shared();
    let world = saying(message_of, &url).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let schema = json!({"type": "record", "name": "Kinds", "namespace": "acme", "fields": fields}).to_string();
    let record = json!({"topic": world.topic, "format": "avro", "schema": schema, "value": value, "key": "k"});
    Producer::start(&world.config.kafka.brokers, &url).produce(&record);
    let notified = world.own_records("notifications", 1).await;
    running.stop().await;
    message(&notified[0])
}

#[tokio::test]
async fn logical_types_of_avro_are_what_they_mean() {
    let kind = |name: &str, kind: &str, logical: &str| json!({"name": name, "type": {"type": kind, "logicalType": logical}});
    let money = json!({"name": "money", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}});
    let fields = json!([
        money,
        kind("day", "int", "date"),
        kind("at", "long", "timestamp-millis"),
        kind("exactly", "long", "timestamp-micros"),
        kind("id", "string", "uuid"),
    ]);
    let value = json!({
        "money": {"$decimal": "1234567.80"}, "day": {"$date": "2026-02-01"}, "at": {"$time": "2026-02-01T08:30:00.250+00:00"},
        "exactly": {"$time": "2026-02-01T08:30:00.000001+00:00"}, "id": {"$uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
    });
    assert_eq!(
        told("{{ money }} {{ day }} {{ at }} {{ exactly }} {{ id }}", &fields, &value).await,
        "1234567.80 2026-02-01 2026-02-01T08:30:00.250Z 2026-02-01T08:30:00.000001Z 6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    );
}

#[tokio::test]
async fn unions_enums_maps_lists_and_nested_records_of_avro_are_plain_values() {
    let fields = json!([
        {"name": "either", "type": ["null", "string", "long"]},
        {"name": "none", "type": ["null", "string"], "default": null},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["LOW", "HIGH"]}},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "places", "type": {"type": "array", "items": {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}}},
        {"name": "nested", "type": {"type": "record", "name": "Nested", "fields": [
            {"name": "place", "type": "Place"}, {"name": "tree", "type": ["null", "Nested"], "default": null}]}},
        {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 2}},
    ]);
    let value = json!({
        "either": 7, "kind": "HIGH", "labels": {"color": "red"}, "places": [{"city": "Ulm"}, {"city": "Bonn"}],
        "nested": {"place": {"city": "Jena"}, "tree": {"place": {"city": "Gera"}, "tree": null}}, "raw": {"$bytes": "ff00"},
    });
    let template = "{{ either }} {{ none is none }} {{ kind }} {{ labels.color }} {{ places[1].city }} {{ nested.place.city }} \
                    {{ nested.tree.place.city }} {{ raw }}";
    assert_eq!(told(template, &fields, &value).await, "7 true HIGH red Bonn Jena Gera /wA=");
}

#[tokio::test]
async fn a_field_that_is_not_said_has_the_default_of_its_avro_schema() {
    let fields = json!([{"name": "said", "type": "string"}, {"name": "left_out", "type": "string", "default": "as usual"}]);
    assert_eq!(told("{{ said }}, {{ left_out }}", &fields, &json!({"said": "yes"})).await, "yes, as usual");
}

#[tokio::test]
async fn a_message_behind_a_map_is_the_one_that_was_written() {
    let url = shared();
    let mut topics = Vec::new();
    let world = World::with(|config| topics = with_topics(config, &url)).await;
    let topic = &topics[1];
    world.log.create(topic, 1, &[]).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut record = said("protobuf", topic, "1");
    record["schema"] = "acme.Mapped.Paid".into();
    let mut service = Producer::start(&world.config.kafka.brokers, &url);
    service.produce(&record);
    let notified = world.own_records("notifications", 1).await;
    assert_eq!(message(&notified[0]), WORDS);
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_key_with_a_schema_is_read_as_a_value_is() {
    let url = shared();
    let mut world = saying("{{ said }} of {{ event.key.tenant }}", &url).await;
    let of_topic = toml::from_str("key_format = \"avro\"").unwrap();
    world.config.pipeline.per_topic.insert(world.topic.parse().unwrap(), of_topic);
    let running = world.start_roles(&[Role::Pipeline]).await;
    let record = |name: &str, field: &str| json!({"type": "record", "name": name, "namespace": "acme", "fields": [{"name": field, "type": "string"}]});
    let written = json!({
        "topic": world.topic, "format": "avro", "schema": record("Kinds", "said").to_string(), "value": {"said": "hello"},
        "key_schema": record("Key", "tenant").to_string(), "key": {"tenant": "acme"},
    });
    Producer::start(&world.config.kafka.brokers, &url).produce(&written);
    let notified = world.own_records("notifications", 1).await;
    assert_eq!(message(&notified[0]), "hello of acme");
    // A key that is not what is said of it.
    world.log.produce(&world.topic, Some("plain"), b"{}").await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert!(["schema_magic", "schema_truncated"].contains(&dead.header("tidings-error-class")));
    running.stop().await;
}

#[tokio::test]
async fn records_of_older_and_newer_schemas_are_read_by_one_rule_in_all_formats() {
    let url = shared();
    let mut topics = Vec::new();
    let world = World::with(|config| topics = with_topics(config, &url)).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &url);
    for (format, topic) in ["avro", "protobuf", "json"].into_iter().zip(&topics) {
        world.log.create(topic, 1, &[]).await;
        let older = said(format, topic, &format!("{format}-older"));
        let mut newer = said(format, topic, &format!("{format}-newer"));
        match format {
            // A field more, another type for one, and another order.
            "avro" => {
                newer["schema"] = DUE
                    .replace(r#"{"name":"type","type":"string"},"#, "")
                    .replace(r#"{"name":"userId""#, r#"{"name":"since","type":"long","default":0},{"name":"userId""#)
                    .replace(r#""fields":["#, r#""fields":[{"name":"type","type":["string","null"]},"#)
                    .into();
            }
            "protobuf" => {
                newer["schema"] = "newer:acme.Due.Paid".into();
                newer["value"]["note"] = "new".into();
            }
            _ => {
                let mut schema: Value = serde_json::from_str(newer["schema"].as_str().unwrap()).unwrap();
                schema["properties"]["note"] = json!({"type": "string"});
                newer["schema"] = schema.to_string().into();
                newer["value"]["note"] = "new".into();
            }
        }
        for record in [&older, &newer, &older] {
            service.produce(record);
        }
    }
    let running = world.start_roles(&[Role::Pipeline]).await;
    let notified = world.own_records("notifications", 9).await;
    assert!(notified.iter().all(|record| message(record) == WORDS));
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}
