//! Envelopes on a real topic: what headers and values become.

use std::collections::BTreeSet;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use tidings::cli::Role;
use tidings_core::time::{Delay, Timestamp};

use crate::harness::world::{World, payment};

type Headers<'a> = &'a [(&'a str, &'a [u8])];

fn headers(all: Headers<'_>) -> OwnedHeaders {
    all.iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
}

#[tokio::test]
async fn the_same_event_in_any_envelope_becomes_the_same_words() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let event = payment("1", "alice");
    let data = event["data"].to_string();
    let structured =
        json!({"specversion": "1.0", "id": "1", "source": "/payments", "type": "payment:due", "data": event["data"]});
    let binary: Headers<'_> =
        &[("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/payments"), ("ce_type", b"payment:due")];
    let records: [(Headers<'_>, String); 6] = [
        (&[], event.to_string()),
        (&[], json!({"schema": {"type": "string"}, "payload": event.to_string()}).to_string()),
        (binary, data.clone()),
        (&[("Content-Type", b"application/cloudevents+json; charset=utf-8")], structured.to_string()),
        (&[("id", b"outbox-1"), ("eventType", b"payment:due")], json!(data).to_string()),
        (&[("event-type", b"payment:due"), ("trace", b"\xff\xfe")], data),
    ];
    for (all, value) in &records {
        world.log.produce_with(&world.topic, Some("k"), value.as_bytes(), headers(all)).await;
    }
    let notified = world.own_records("notifications", records.len()).await;
    let words = |record: &crate::harness::log::Seen| record.json()["notification"]["message"].clone();
    assert!(notified.iter().all(|record| words(record) == "You have a payment of $120.50 due on 2026-02-01."), "{notified:?}");
    let ids = |field: &'static str| notified.iter().map(move |record| record.json()["notification"][field].to_string());
    assert_eq!(ids("eventId").filter(|id| id == "\"1\"").count(), 4);
    let distinct = ids("id").collect::<std::collections::BTreeSet<_>>();
    // The wrapped one is the plain one again, and the two modes of CloudEvents say the same source and id.
    assert_eq!(distinct.len(), 4);
    running.stop().await;
}

#[tokio::test]
async fn a_topics_section_says_how_it_is_read() {
    let mut world = World::new().await;
    let section = "max_age = \"0s\"\ntype_header = \"kind\"\nid = \"field:payment.ref\"\nenvelope = \"flat\"";
    let pattern = format!("^{}.*", world.topic).parse().unwrap();
    world.config.pipeline.max_age = Delay(std::time::Duration::from_secs(3600));
    world.config.pipeline.per_topic.insert(pattern, toml::from_str(section).unwrap());
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut value = payment("1", "alice")["data"].clone();
    value["payment"] = json!({"ref": "p-7"});
    value["data"] = "of the service".into();
    let all = headers(&[("kind", b"payment:due")]);
    world.log.produce_with(&world.topic, Some("k"), value.to_string().as_bytes(), all).await;
    let [record] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(record.json()["notification"]["eventId"], "p-7");
    running.stop().await;
}

#[tokio::test]
async fn an_event_said_too_long_ago_is_counted_and_tells_nobody() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut old = payment("1", "alice");
    old["time"] = "2020-01-01T00:00:00Z".into();
    world.log.produce(&world.topic, Some("k"), old.to_string().as_bytes()).await;
    world.log.produce(&world.topic, Some("k"), payment("2", "alice").to_string().as_bytes()).await;
    let [record] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(record.json()["notification"]["eventId"], "2");
    let (_, metrics) = running.get("/metrics").await;
    let counted = metrics
        .lines()
        .any(|line| line.starts_with("tidings_pipeline_ignored_records_total") && line.ends_with("{reason=\"too_old\"} 1"));
    assert!(counted, "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_topic_may_count_events_as_too_old_sooner_than_the_others_do() {
    let mut world = World::with(|config| {
        let strict = format!("{}-strict", config.pipeline.topics[0]);
        config.pipeline.topics.push(strict.parse().unwrap());
    })
    .await;
    let strict = world.config.pipeline.topics[1].clone();
    world.log.create(&strict.to_string(), 1, &[]).await;
    world.config.pipeline.per_topic.insert(strict.clone(), toml::from_str("max_age = \"1h\"").unwrap());
    let running = world.start_roles(&[Role::Pipeline]).await;
    let now = tidings::clock::Clock::start().now().as_millis();
    for (topic, name, age_ms) in [
        (strict.to_string(), "old there", 2 * 3_600_000),
        (strict.to_string(), "young there", 60_000),
        (world.topic.clone(), "old elsewhere", 2 * 3_600_000),
    ] {
        let mut event = payment(name, "alice");
        event["time"] = Timestamp::from_millis(now - age_ms).to_string().into();
        world.log.produce(&topic, Some("k"), event.to_string().as_bytes()).await;
    }
    let told = world.own_records("notifications", 2).await;
    let told = told.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), BTreeSet::from(["young there", "old elsewhere"].map(str::to_owned)));
    assert_eq!(running.labelled("tidings_pipeline_ignored_records_total", "reason=\"too_old\"").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn an_event_whose_condition_is_false_tells_nobody_and_one_whose_condition_is_true_is_told() {
    let mut world = World::new().await;
    let rules = "rule = [{ name = 'r', event = 'paid', user = '{{ userId }}', when = 'amount > 100', type = 't' }]";
    std::fs::write(world.dir.path().join("rules.toml"), rules).unwrap();
    world.config.pipeline.rules = world.dir.path().display().to_string();
    let running = world.start_roles(&[Role::Pipeline]).await;
    for amount in [100, 101] {
        let event = json!({"type": "paid", "id": amount.to_string(), "data": {"userId": "alice", "amount": amount}});
        world.emit(&event).await;
    }
    let [told] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(told.json()["notification"]["eventId"], "101");
    assert_eq!(running.labelled("tidings_pipeline_ignored_records_total", "reason=\"condition_false\"").await, 1);
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn an_event_for_more_receivers_than_allowed_is_buried_and_one_for_as_many_is_told() {
    let mut world = World::new().await;
    let rules = "rule = [{ name = 'r', event = 'a', users = 'team', role = 'admin', everyone = true, when = 'team is defined', type = 't' }]";
    std::fs::write(world.dir.path().join("rules.toml"), rules).unwrap();
    world.config.pipeline.rules = world.dir.path().display().to_string();
    world.config.pipeline.receivers_per_event = std::num::NonZeroUsize::new(4).unwrap();
    let running = world.start_roles(&[Role::Pipeline]).await;
    for team in [json!(["x", "y", "z"]), json!(["x", "y", "x"])] {
        let value = json!({"type": "a", "data": {"team": team}}).to_string();
        world.log.produce(&world.topic, Some("k"), value.as_bytes()).await;
    }
    let told = world.own_records("notifications", 4).await;
    let channels = told.iter().map(|record| String::from_utf8(record.key.clone().unwrap()).unwrap());
    let channels = channels.collect::<std::collections::BTreeSet<_>>();
    let expected = ["role-admin", "system-announcements", "user-x", "user-y"];
    assert_eq!(channels.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("tidings-error-class"), "audience_too_large");
    running.stop().await;
}
