//! Topics that take nothing: an authorizer's denial, or a topic that was deleted. What would go there waits and says so, the rest goes on, and no
//! process ends for it. Long because each topic may refuse in its own way, and all are judged by the same measures.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};
use tidings::clock::Clock;
use tidings::config::Scalar;
use tidings_core::channel::Channel;

use crate::harness::broker::OwnBroker;
use crate::harness::certificates::Authority;
use crate::harness::denial::{deny_writes, take_denial_back};
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, World, get, ms, payment, sum};

const RULES: &str = r#"
[[rule]]
name = "ends"
event = "ends"
user = "{{ userId }}"
type = "t"
ladder = ["700ms"]

[[rule]]
name = "climbs"
event = "climbs"
user = "{{ userId }}"
type = "t"

[[rule]]
name = "fleeting"
event = "fleeting"
user = "{{ userId }}"
type = "t"
max_age = "8s"
"#;

fn event(kind: &str, id: &str, user: &str) -> Value {
    json!({"type": kind, "id": id, "data": {"userId": user}})
}

/// Two users whose mailboxes lie in different partitions.
fn apart(world: &World) -> [String; 2] {
    let partition =
        |user: &str| format!("user-{user}").parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    let first = "absent-0".to_owned();
    let other = (1..).map(|number| format!("absent-{number}")).find(|user| partition(user) != partition(&first)).unwrap();
    [first, other]
}

async fn until_ready_says(process: &Process, topic: &str) -> String {
    eventually(&format!("/ready names {topic}"), async || {
        let (status, body) = get(process.address, "/ready").await;
        (status == 503 && body.contains(topic)).then_some(body)
    })
    .await
}

/// The partitions that the inbox does not read on, once there are any.
async fn held_by_inbox(process: &Process) -> Vec<String> {
    eventually("/ready says what the inbox does not read on", async || {
        let (_, said) = get(process.address, "/ready").await;
        let said = serde_json::from_str::<Value>(&said).unwrap();
        let held = said["roles"]["inbox"]["held"].as_array()?.iter();
        Some(held.map(|held| held["partition"].as_str().unwrap().to_owned()).collect())
    })
    .await
}

async fn refusing(process: &Process, role: &str, topic: &str) -> f64 {
    let (_, text) = get(process.address, "/metrics").await;
    let line = format!("tidings_{role}_refusing_topics{{topic=\"{topic}\"}} ");
    text.lines().find_map(|sample| sample.strip_prefix(&line)?.parse().ok()).unwrap_or(0.0)
}

fn events(records: &[Seen], pointer: &str) -> BTreeSet<String> {
    records.iter().map(|record| record.json().pointer(pointer).unwrap().as_str().unwrap().to_owned()).collect()
}

/// A broker that asks who comes, and what is needed to come as tidings.
fn guarded() -> (Authority, OwnBroker, tempfile::TempDir) {
    let authority = Authority::new();
    let broker = OwnBroker::start_secure(&authority.issue((0, 30)));
    (authority, broker, tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rung_that_may_only_be_read_holds_up_what_would_go_there_and_no_other_rung() {
    let ((authority, broker, files), rules) = (guarded(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("rules.toml"), RULES).unwrap();
    let world = World::on(&broker.brokers, |config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(700), ms(1_000)];
        config.pipeline.rules = rules.path().display().to_string();
        broker.secured(config, files.path(), (&authority, "password"));
    })
    .await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let (denied, [blocked, other]) = ([world.own("retry.1s")], apart(&world));
    deny_writes(&broker, &denied);
    world.emit(&event("climbs", "blocked", &blocked)).await;
    let said = until_ready_says(&process, &denied[0]).await;
    assert!(said.contains("authorization") && said.contains("access rules"), "why, and what to do: {said}");
    let held = serde_json::from_str::<Value>(&said).unwrap()["roles"]["courier"]["held"].clone();
    assert!(held.to_string().contains(&world.own("retry.700ms")), "what waits is named: {held}");
    assert_eq!(refusing(&process, "courier", &denied[0]).await, 1.0);

    // Behind it in its partition nothing of the first rung goes on; what comes to that rung does, and so does what waits beside.
    for number in 0..10 {
        world.emit(&event("climbs", &format!("behind-{number}"), &blocked)).await;
        world.emit(&event("ends", &format!("ends-{number}"), &other)).await;
    }
    let first = world.own_records("retry.700ms", 21).await;
    assert_eq!(events(&first, "/notification/eventId").len(), 21, "each once");
    let ended = world.own_records("undelivered", 10).await;
    assert!(events(&ended, "/delivery/notification/eventId").iter().all(|event| event.starts_with("ends-")), "{ended:?}");
    assert_eq!(world.log.records(&denied[0]).await.len(), 0);
    assert!(process.try_ended().is_none(), "{}", process.logged());

    take_denial_back(&broker, &denied);
    let climbed = world.own_records("retry.1s", 11).await;
    let order = climbed.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
    let expected = ["blocked".to_owned()].into_iter().chain((0..10).map(|number| format!("behind-{number}")));
    assert_eq!(order.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "in their order, each once");
    world.own_records("undelivered", 21).await;
    process.await_ready().await;
    assert_eq!(refusing(&process, "courier", &denied[0]).await, 0.0);
    let logged = process.logged();
    let told = logged.lines().filter(|line| line.contains("does not take what is written") && line.contains("ERROR"));
    assert_eq!(told.count(), 1, "said once: {logged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dlq_that_takes_nothing_ends_no_process_and_has_each_record_once_when_it_does_again() {
    let (authority, broker, files) = guarded();
    let world = World::on(&broker.brokers, |config| broker.secured(config, files.path(), (&authority, "password"))).await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let denied = [world.own("dlq")];
    deny_writes(&broker, &denied);
    let emit = async |partition: i32, value: &[u8]| {
        world.log.produce_to((&world.topic, partition), "k", value, OwnedHeaders::new()).await
    };
    for partition in [0, 0, 1] {
        emit(partition, b"not json").await;
    }
    let said = until_ready_says(&process, &denied[0]).await;
    assert!(said.contains("pipeline") && said.contains("access rules"), "{said}");
    assert_eq!(refusing(&process, "pipeline", &denied[0]).await, 1.0);
    for number in 0..20 {
        emit(number % PARTITIONS, payment(&number.to_string(), "alice").to_string().as_bytes()).await;
    }
    // A partition without anything to bury is read on.
    let free = |record: &Seen| record.json()["origin"]["partition"] == 2;
    eventually("what lies in the third partition becomes notifications", async || {
        let records = world.log.records(&world.own("notifications")).await;
        (records.iter().filter(|record| free(record)).count() == 6).then_some(())
    })
    .await;
    world.until_inbox(6).await;
    // What does not read on a topic of our own is the inbox's to bury.
    let version = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    world.log.produce_to((&world.own("receipts"), 0), "k", b"not json", version).await;
    eventually("the inbox says so too", async || (refusing(&process, "inbox", &denied[0]).await == 1.0).then_some(())).await;
    // It stands in that partition only.
    emit(2, payment("beside", "alice").to_string().as_bytes()).await;
    world.until_inbox(7).await;
    assert_eq!(held_by_inbox(&process).await, [format!("{}[0]", world.own("receipts"))]);
    assert!(process.try_ended().is_none(), "{}", process.logged());
    assert_eq!(world.log.records(&denied[0]).await.len(), 0);

    take_denial_back(&broker, &denied);
    process.await_ready().await;
    let dead = world.own_records("dlq", 4).await;
    let place = |record: &Seen| {
        ["topic", "partition", "offset"].map(|name| record.header(&format!("tidings-original-{name}")).to_owned())
    };
    assert_eq!((dead.len(), dead.iter().map(place).collect::<BTreeSet<_>>().len()), (4, 4), "each once");
    let notified = world.own_records("notifications", 21).await;
    assert_eq!(events(&notified, "/notification/eventId").len(), 21);
    world.until_inbox(21).await;
    for role in ["pipeline", "inbox"] {
        assert_eq!(refusing(&process, role, &denied[0]).await, 0.0, "{role}");
    }
    assert!(process.try_ended().is_none(), "{}", process.logged());
}

/// The partitions of `notifications` that the inbox of a process reads.
async fn folded_by(process: &Process, world: &World) -> usize {
    let (_, metrics) = get(process.address, "/metrics").await;
    let start = format!("tidings_kafka_lag_records{{client=\"inbox\",topic=\"{}\"", world.own("notifications"));
    metrics.lines().filter(|line| line.starts_with(&start)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_joins_while_burials_wait_is_given_its_share_and_each_is_buried_once() {
    let (authority, broker, files) = guarded();
    let world = World::on(&broker.brokers, |config| {
        config.kafka.properties.insert("statistics.interval.ms".into(), Scalar::Number(200));
        broker.secured(config, files.path(), (&authority, "password"));
    })
    .await;
    let partitions = world.config.kafka.topics.partitions;
    let first = Process::spawn_roles(&world, &["inbox"]);
    first.await_ready().await;
    let denied = [world.own("dlq")];
    deny_writes(&broker, &denied);
    for partition in 0..partitions {
        let version = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
        world.log.produce_to((&world.own("receipts"), partition), "k", b"not json", version).await;
    }
    eventually("all of them wait", async || {
        (held_by_inbox(&first).await.len() == usize::try_from(partitions).unwrap()).then_some(())
    })
    .await;

    let joins = Process::spawn_roles(&world, &["inbox"]);
    let half = usize::try_from(partitions / 2).unwrap();
    eventually("each folds half of the partitions", async || {
        (folded_by(&first, &world).await == half && folded_by(&joins, &world).await == half).then_some(())
    })
    .await;
    eventually("each waits with half of the burials", async || {
        (held_by_inbox(&first).await.len() == half && held_by_inbox(&joins).await.len() == half).then_some(())
    })
    .await;

    take_denial_back(&broker, &denied);
    first.await_ready().await;
    joins.await_ready().await;
    let dead = world.log.records(&denied[0]).await;
    let places = dead.iter().map(|record| record.header("tidings-original-partition").to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((dead.len(), places.len()), (2 * half, 2 * half), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_that_take_nothing_hold_the_pipeline_up_and_each_event_is_told_once_or_counted_when_they_do_again() {
    let ((authority, broker, files), rules) = (guarded(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("rules.toml"), RULES).unwrap();
    let world = World::on(&broker.brokers, |config| {
        config.courier.ladder = vec![ms(700), ms(60_000)];
        config.pipeline.rules = rules.path().display().to_string();
        broker.secured(config, files.path(), (&authority, "password"));
    })
    .await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let denied = [world.own("notifications")];
    deny_writes(&broker, &denied);
    let emit = async |partition: i32, event: Value| {
        world.log.produce_to((&world.topic, partition), "k", event.to_string().as_bytes(), OwnedHeaders::new()).await
    };
    let said_at = Instant::now();
    let mut fleeting = event("fleeting", "in hand", "alice");
    fleeting["time"] = json!(Clock::start().now().to_string());
    emit(0, fleeting.clone()).await;
    for number in 0..20 {
        emit(1, event("climbs", &number.to_string(), "alice")).await;
    }
    until_ready_says(&process, &denied[0]).await;
    assert!(process.try_ended().is_none(), "{}", process.logged());
    let left = Duration::from_secs(9).saturating_sub(said_at.elapsed());
    tokio::time::sleep(left).await;
    take_denial_back(&broker, &denied);
    process.await_ready().await;
    let notified = world.own_records("notifications", 20).await;
    let order = notified.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned());
    assert_eq!(order.collect::<Vec<_>>(), (0..20).map(|number| number.to_string()).collect::<Vec<_>>(), "each once, in order");
    // What was too old by then is told to nobody, and counted.
    let line = "tidings_pipeline_ignored_records_total{reason=\"too_old\"} 1";
    eventually("one is counted as too old", async || {
        let (_, metrics) = get(process.address, "/metrics").await;
        metrics.lines().any(|sample| sample == line).then_some(())
    })
    .await;
    assert!(process.logged().contains("an event that waited for `notifications` is ignored"), "{}", process.logged());
}

#[tokio::test]
async fn a_retry_topic_that_is_gone_holds_up_nothing_while_another_is_put_back() {
    let rules = tempfile::tempdir().unwrap();
    std::fs::write(rules.path().join("rules.toml"), RULES).unwrap();
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(700), ms(900)];
        config.courier.transaction_timeout = ms(3_000);
        config.pipeline.rules = rules.path().display().to_string();
        // Else the groups would soon notice by themselves that a topic is gone, and take its partitions away.
        for name in ["topic.metadata.refresh.interval.ms", "topic.metadata.propagation.max.ms"] {
            config.kafka.properties.insert(name.into(), Scalar::Number(600_000));
        }
    })
    .await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    // So that the offsets of the topics lie beyond the end of the next ones.
    for number in 0..40 {
        world.emit(&event("climbs", &format!("before-{number}"), &format!("absent-{number}"))).await;
    }
    world.own_records("undelivered", 40).await;
    let [anew, gone] = ["retry.700ms", "retry.900ms"].map(|rung| world.own(rung));
    world.log.delete(&gone).await;
    world.log.delete(&anew).await;
    let partitions = world.config.kafka.topics.partitions;
    world.log.create(&anew, partitions, &[("message.timestamp.type", "LogAppendTime")]).await;
    for number in 0..10 {
        world.emit(&event("ends", &format!("ends-{number}"), &format!("absent-{number}"))).await;
    }
    let ended = world.own_records("undelivered", 50).await;
    assert_eq!(events(&ended, "/delivery/notification/eventId").len(), 50, "each once");
    let said = until_ready_says(&process, &gone).await;
    assert!(said.contains("is not there: `tidings topics create`"), "{said}");
    assert!(process.try_ended().is_none(), "{}", process.logged());
}

#[tokio::test]
async fn a_retry_topic_that_is_deleted_and_made_again_is_read_from_its_beginning_by_who_ran_all_the_while() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(700), ms(900)];
        config.courier.transaction_timeout = ms(3_000);
    })
    .await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    // So that the offsets of the first topic lie beyond the end of the next one.
    for number in 0..40 {
        world.emit(&payment(&format!("before-{number}"), &format!("absent-{number}"))).await;
    }
    world.own_records("undelivered", 40).await;
    let rung = world.own("retry.900ms");
    world.log.delete(&rung).await;
    world.emit(&payment("while", "absent-0")).await;
    let said = until_ready_says(&process, &rung).await;
    assert!(said.contains("topics create"), "what to do: {said}");
    assert!(process.try_ended().is_none(), "{}", process.logged());

    world.create_topics().await;
    process.await_ready().await;
    world.emit(&payment("after", "absent-1")).await;
    let ended = world.own_records("undelivered", 42).await;
    let ended = events(&ended, "/delivery/notification/eventId");
    assert!(ended.contains("while") && ended.contains("after") && ended.len() == 42, "{ended:?}");
    let climbed = world.log.records(&rung).await;
    assert_eq!((climbed.len(), events(&climbed, "/notification/eventId").len()), (2, 2), "one ladder each");
    assert!(process.try_ended().is_none(), "{}", process.logged());
    let (_, metrics) = get(process.address, "/metrics").await;
    for held in ["tidings_courier_held_partitions", "tidings_inbox_held_partitions"] {
        assert_eq!(sum(&metrics, held), Some(0.0), "{held}");
    }
}

#[tokio::test]
async fn a_retry_topic_that_was_made_again_while_nobody_ran_is_read_from_its_beginning() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(400)];
    })
    .await;
    let running = world.start().await;
    for number in 0..40 {
        world.emit(&payment(&number.to_string(), &format!("absent-{number}"))).await;
    }
    world.own_records("undelivered", 40).await;
    running.stop().await;
    world.log.delete(&world.own("retry.400ms")).await;
    world.create_topics().await;
    let running = world.start().await;
    world.emit(&payment("after", "absent")).await;
    let ended = world.own_records("undelivered", 41).await;
    assert!(events(&ended, "/delivery/notification/eventId").contains("after"));
    running.stop().await;
}
