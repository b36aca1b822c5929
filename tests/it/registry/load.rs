//! Under load: thousands of records in all three formats while the registry goes and comes back, and trying again what has schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};
use tidings::cli::Role;

use super::{WORDS, due, message, prefixed, said, schema, unknown, with_registry, with_topics};
use crate::harness::command::{command, json as told, printed};
use crate::harness::eventually;
use crate::harness::front::Front;
use crate::harness::log::Seen;
use crate::harness::registry::{Chosen, Producer, Registry, shared};
use crate::harness::world::{World, ms, payment};

const FORMATS: [&str; 3] = ["avro", "protobuf", "json"];
/// Records of each format, each time.
const RECORDS: usize = 1_000;

/// So many payments of a format, whose ids begin with the format's name and `part`.
fn many(format: &str, topic: &str, part: &str) -> Value {
    let mut many = said(format, topic, &format!("{format}-{part}-"));
    many["times"] = RECORDS.into();
    many
}

fn payments(notified: &[Seen]) -> BTreeSet<String> {
    let ids = notified.iter().map(|record| record.json()["notification"]["data"]["payment_id"].as_str().unwrap().to_owned());
    ids.collect()
}

fn all(parts: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for format in FORMATS {
        for part in parts {
            all.extend((0..RECORDS).map(|number| format!("{format}-{part}-{number}")));
        }
    }
    all
}

/// How many schemas were given out, each once.
fn schemas(answered: BTreeMap<String, usize>) -> usize {
    let schemas = answered.into_iter().filter(|(path, _)| path.starts_with("/schemas/")).collect::<Vec<_>>();
    assert!(schemas.iter().all(|(_, times)| *times == 1), "{schemas:?}");
    schemas.len()
}

#[tokio::test]
async fn a_registry_that_goes_and_comes_back_under_load_loses_nothing_and_is_asked_once_for_each_schema() {
    let registry = Registry::start();
    let front = Front::before(&registry.url).await;
    let mut topics = Vec::new();
    let world = World::with(|config| {
        topics = with_topics(config, &front.url);
        // Who is given up on may answer nevertheless, and would be seen to answer twice.
        config.registry.request_timeout = ms(60_000);
    })
    .await;
    for topic in &topics {
        world.log.create(topic, 3, &[]).await;
    }
    let mut service = Producer::start(&world.config.kafka.brokers, &registry.url);
    let mut produce = |part: &str| {
        for (format, topic) in FORMATS.into_iter().zip(&topics) {
            service.produce(&many(format, topic, part));
        }
    };
    produce("before");
    let running = world.start_roles(&[Role::Pipeline]).await;
    eventually("the load is being worked through", async || {
        let records = world.log.records(&world.own("notifications")).await.len();
        (records > 0).then_some(())
    })
    .await;
    registry.stop();
    running.stop().await;
    let before = world.log.records(&world.own("notifications")).await.len();
    assert!((1..=3).contains(&schemas(front.answered(200))));
    front.forget();

    // Who starts now knows no schema, and its topics grow meanwhile.
    let running = world.start_unready(&[Role::Pipeline]).await;
    produce("during");
    eventually("partitions wait for the registry", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("the schema registry does not answer")).then_some(())
    })
    .await;
    assert_eq!(world.log.records(&world.own("notifications")).await.len(), before, "nothing is read without its schema");
    registry.start_again();
    produce("after");
    let expected = all(&["before", "during", "after"]);
    eventually("every payment is told", async || {
        let notified = world.log.records(&world.own("notifications")).await;
        (payments(&notified) == expected).then_some(())
    })
    .await;
    assert_eq!(schemas(front.answered(200)), 3);
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.await_ready().await;
    running.stop().await;
    are_told_once(&world, expected.len()).await;
}

/// Nothing was killed: who stops has written down all that it decided on, so that nothing is decided on twice.
async fn are_told_once(world: &World, events: usize) {
    let told = world.log.records(&world.own("notifications")).await;
    assert!(told.iter().all(|record| message(record) == WORDS));
    assert_eq!(twice(&told), Vec::<String>::new());
    assert_eq!(told.len(), events);
}

/// The payments of which more than one record tells, or one by more than one id.
fn twice(notified: &[Seen]) -> Vec<String> {
    let mut ids = BTreeMap::<String, Vec<String>>::new();
    for record in notified {
        let notification = &record.json()["notification"];
        let [payment, id] =
            [&notification["data"]["payment_id"], &notification["id"]].map(|text| text.as_str().unwrap().to_owned());
        ids.entry(payment).or_default().push(id);
    }
    ids.into_iter().filter(|(_, ids)| ids.len() > 1).map(|(payment, ids)| format!("{payment}: {ids:?}")).collect()
}

#[tokio::test]
async fn who_stops_a_redrive_or_a_replay_that_waits_for_the_registry_is_not_kept_waiting() {
    let chosen = Chosen::answering(|_| unknown()).await;
    let mut world = World::with(|config| with_registry(config, &chosen.url)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("1"))).await;
    world.own_records("dlq", 1).await;
    running.stop().await;
    // Whoever asks for it from now on waits for longer than any test.
    world.config.registry.unknown_wait = ms(24 * 3_600_000);
    let topic = world.topic.clone();
    let waiting: [&[&str]; 4] = [
        &["dlq", "redrive", "--all", "--execute", "--as", "ops"],
        &["dlq", "redrive", "--all"],
        &["replay", "--topic", &topic, "--all", "--execute", "--as", "ops"],
        &["replay", "--topic", &topic, "--all"],
    ];
    for args in waiting {
        let before = chosen.asked("/schemas/ids/7");
        let mut child = command(&world, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("it waits", async || (chosen.asked("/schemas/ids/7") > before + 1).then_some(())).await;
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = eventually("it ends", async || child.try_wait().unwrap()).await;
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!(status.code(), Some(1), "{args:?}: {said}");
    }
    assert!(world.log.records(&world.own("notifications")).await.is_empty());
}

#[tokio::test]
async fn schemas_that_take_more_memory_than_they_may_make_room_for_each_other_and_all_records_are_read() {
    let chosen = Chosen::answering(|path| {
        let text = format!(r#"{{"title":"{}{}"}}"#, path.trim_start_matches("/schemas/ids/"), "x".repeat(400_000));
        schema("JSON", &text)
    })
    .await;
    let world = World::with(|config| {
        with_registry(config, &chosen.url);
        config.registry.kept_bytes = NonZeroUsize::new(1 << 20).unwrap();
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    for round in 0..3 {
        for id in 1..=4 {
            let told = due(&format!("{round}-{id}"));
            world.log.produce_to((&world.topic, 0), "k", &prefixed(id, &told), OwnedHeaders::new()).await;
        }
    }
    let notified = world.own_records("notifications", 12).await;
    assert_eq!(payments(&notified).len(), 12);
    assert!(running.metric("tidings_registry_dropped_schemas_total").await >= 2.0);
    assert!(running.metric("tidings_registry_kept_schemas").await < 4.0);
    assert!((1.0..1_048_577.0).contains(&running.metric("tidings_registry_kept_bytes").await));
    assert!((1..=4).any(|id| chosen.asked(&format!("/schemas/ids/{id}")) > 1), "what had gone was fetched again");
    running.stop().await;
}

#[tokio::test]
async fn a_busy_registry_is_left_alone_for_as_long_as_it_asks_and_nothing_is_burnt() {
    let registry = shared();
    let front = Front::before(&registry).await;
    front.says(429, "Retry-After: 60\r\n");
    let world = World::with(|config| {
        with_registry(config, &front.url);
        config.registry.unknown_wait = ms(1);
    })
    .await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &registry);
    let (waiting, _) = service.produce(&said("avro", &world.topic, "1"));
    eventually("the process says that the registry is busy", async || {
        let (_, body) = running.get("/ready").await;
        body.contains("429").then_some(())
    })
    .await;
    // What needs no schema goes on, and the time that it takes is time in which the registry is not asked again.
    let other = (waiting + 1) % 3;
    for number in 0..50 {
        let plain = payment(&number.to_string(), "bob").to_string();
        world.log.produce_to((&world.topic, other), "b", plain.as_bytes(), OwnedHeaders::new()).await;
    }
    world.own_records("notifications", 50).await;
    assert_eq!(front.answered(429).values().sum::<usize>(), 1);
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
    // The next one finds it at its ease.
    front.passes_on();
    let running = world.start_roles(&[Role::Pipeline]).await;
    let notified = world.own_records("notifications", 51).await;
    assert!(notified.iter().any(|record| message(record) == WORDS && record.json()["channel"] == "user-alice"));
    running.stop().await;
}

#[tokio::test]
async fn letters_with_a_schema_are_redriven_once_the_registry_knows_it() {
    let is_registered = Arc::new(AtomicBool::new(false));
    let registered = Arc::clone(&is_registered);
    let chosen = Chosen::answering(move |path| match path {
        "/schemas/ids/7" if registered.load(Ordering::SeqCst) => schema("JSON", r#"{"type":"object"}"#),
        _ => unknown(),
    })
    .await;
    let world = World::with(|config| with_registry(config, &chosen.url)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("late"))).await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("tidings-error-class"), "schema_unknown");
    running.stop().await;
    // It is tried with the schema as it is now, and buried again as long as there is none.
    let report = told(&world, 3, &["dlq", "redrive"]).await;
    assert_eq!(report["buried"]["schema_unknown"]["count"], 1, "{report}");
    is_registered.store(true, Ordering::SeqCst);
    let report = told(&world, 0, &["dlq", "redrive", "--all", "--execute", "--as", "ops"]).await;
    assert_eq!((&report["executed"], &report["byRule"]["payment-due"]), (&json!(true), &json!(1)), "{report}");
    let notified = world.own_records("notifications", 1).await;
    assert_eq!(message(&notified[0]), WORDS);
}

#[tokio::test]
async fn records_with_schemas_are_replayed_in_all_formats() {
    let url = shared();
    let mut topics = Vec::new();
    let world = World::with(|config| topics = with_topics(config, &url)).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &url);
    for (format, topic) in FORMATS.into_iter().zip(&topics) {
        world.log.create(topic, 1, &[]).await;
        service.produce(&said(format, topic, format));
        let lines = printed(&world, 0, &["replay", "--topic", topic, "--all", "--execute", "--json"]).await;
        let ended: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(ended["report"]["byRule"], json!({"payment-due": 1}), "{format}: {ended}");
    }
    let notified = world.own_records("notifications", 3).await;
    assert_eq!(payments(&notified), FORMATS.map(str::to_owned).into());
    assert!(notified.iter().all(|record| message(record) == WORDS));
}
