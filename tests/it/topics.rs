//! Which topics are read, from where, and what happens where records are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use rdkafka::message::OwnedHeaders;
use tidings::cli::Role;
use tidings::config::{GroupProtocol, LostRecords, Scalar, Start, TopicConfig};

use crate::harness::eventually;
use crate::harness::log::Log;
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, Running, World, ms, payment};

/// The events that became notifications, in the order of the log.
async fn notified(world: &World) -> Vec<String> {
    let records = world.log.records(&world.own("notifications")).await;
    records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned()).collect()
}

async fn until_notified(world: &World, events: &[&str]) {
    eventually(&format!("{events:?} became notifications"), async || {
        let notified = notified(world).await;
        events.iter().all(|event| notified.iter().any(|known| known == event)).then_some(())
    })
    .await;
}

async fn emit_to(world: &World, topic: &str, event: &str) {
    world.log.produce(topic, None, payment(event, "alice").to_string().as_bytes()).await;
}

/// A world that reads `<topic>` and everything behind it by an expression, from its end.
async fn by_expression() -> World {
    World::with(|config| {
        let topic = config.pipeline.topics[0].to_string();
        config.pipeline.topics = vec![format!("^{topic}(-[a-z]+)?").parse().unwrap()];
        config.pipeline.start = Start::End;
        let whole = TopicConfig { start: Some(Start::Beginning), ..TopicConfig::default() };
        config.pipeline.per_topic.insert(format!("{topic}-whole").parse().unwrap(), whole);
        config.kafka.properties.insert("topic.metadata.refresh.interval.ms".into(), Scalar::Number(300));
    })
    .await
}

#[tokio::test]
async fn topics_that_match_are_read_from_their_end_and_those_that_appear_later_from_their_first_record() {
    let world = by_expression().await;
    let (there, later, other) =
        (format!("{}-there", world.topic), format!("{}-later", world.topic), format!("{}-9", world.topic));
    let whole = format!("{}-whole", world.topic);
    world.log.create(&there, 1, &[]).await;
    world.log.create(&whole, 1, &[]).await;
    emit_to(&world, &whole, "from-the-beginning").await;
    world.log.create(&other, 1, &[]).await;
    emit_to(&world, &world.topic, "old").await;
    emit_to(&world, &there, "old-too").await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    emit_to(&world, &there, "new").await;
    emit_to(&world, &other, "of-another-topic").await;
    until_notified(&world, &["new", "from-the-beginning"]).await;
    world.log.create(&later, 2, &[]).await;
    emit_to(&world, &later, "first").await;
    until_notified(&world, &["first"]).await;
    running.stop().await;
    // Appears while nobody reads: still not a topic whose beginning is to be passed over.
    let away = format!("{}-away", world.topic);
    world.log.create(&away, 1, &[]).await;
    emit_to(&world, &away, "while-away").await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    until_notified(&world, &["while-away"]).await;
    let all = notified(&world).await.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        all,
        ["first", "new", "while-away", "from-the-beginning"].map(str::to_owned).into(),
        "nothing older, nothing of another topic"
    );
    running.stop().await;
}

/// Reads everything whose name begins with `_`, and asserts that the brokers' own topics are not among it.
async fn passes_over_internal_topics(protocol: GroupProtocol) {
    let world = World::with(|config| {
        config.kafka.group_protocol = protocol;
        config.kafka.properties.remove("heartbeat.interval.ms");
        let topic = config.pipeline.topics[0].to_string();
        config.pipeline.topics = vec![format!("^_.*|{topic}").parse().unwrap()];
    })
    .await;
    let underlined = format!("_{}", world.topic);
    world.log.create(&underlined, 1, &[]).await;
    // What a group commits lies on `__consumer_offsets`, so there is something to read.
    let running = world.start_roles(&[Role::Pipeline]).await;
    emit_to(&world, &world.topic, "one").await;
    emit_to(&world, &underlined, "two").await;
    until_notified(&world, &["one", "two"]).await;
    let (_, text) = running.get("/metrics").await;
    let decided = text.lines().filter(|line| line.starts_with("tidings_pipeline_decided_records_total"));
    let internal = decided.filter(|line| line.contains("topic=\"__")).collect::<Vec<_>>();
    assert_eq!(internal, [""; 0], "with {protocol:?}");
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), "__consumer_offsets", 1).await;
    assert!(committed.is_empty(), "with {protocol:?}: {committed:?}");
    world.log.delete(&underlined).await;
}

#[tokio::test]
async fn no_expression_reads_kafkas_own_topics_whoever_judges_it() {
    passes_over_internal_topics(GroupProtocol::Classic).await;
    passes_over_internal_topics(GroupProtocol::Consumer).await;
}

#[tokio::test]
async fn of_two_members_that_meet_a_topic_together_one_says_where_it_begins_and_a_kill_loses_nothing_behind() {
    let world = World::with(|config| {
        config.pipeline.start = Start::End;
        // What is committed is where the topic begins, until a partition is handed over.
        config.pipeline.commit_interval = ms(60_000);
        config.kafka.properties.insert("session.timeout.ms".into(), Scalar::Number(6000));
    })
    .await;
    let members = [Process::spawn(&world), Process::spawn(&world)];
    let mut said = BTreeMap::new();
    let mut number = 0;
    while said.len() < usize::try_from(PARTITIONS).unwrap() {
        for _ in 0..5 {
            number += 1;
            world
                .log
                .produce(&world.topic, Some(&number.to_string()), payment(&number.to_string(), "alice").to_string().as_bytes())
                .await;
        }
        said = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    }
    for member in &members {
        member.await_ready().await;
    }
    let lines = members.iter().map(Process::logged).collect::<String>();
    let said_so = lines.lines().filter(|line| line.contains("seen for the first time") && line.contains(&world.topic));
    assert_eq!(said_so.count(), 1, "{lines}");
    members.into_iter().for_each(Process::kill);
    let ends = world.log.records(&world.topic).await;
    let expected = ends.iter().filter(|record| record.offset >= said[&record.partition]);
    let expected = expected.map(|record| record.json()["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    let process = Process::spawn(&world);
    process.await_ready().await;
    eventually("everything behind the beginning became notifications", async || {
        expected.is_subset(&notified(&world).await.into_iter().collect()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_records_are_gone_only_that_partition_stops_visibly_until_an_operator_lets_it_go_on() {
    let mut world = World::new().await;
    let emit = async |key: &str, event: &str| {
        world.log.produce(&world.topic, Some(key), payment(event, "alice").to_string().as_bytes()).await
    };
    let (partition, first) = emit("a", "before").await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    until_notified(&world, &["before"]).await;
    running.stop().await;
    for event in ["lost-1", "lost-2", "kept"] {
        assert_eq!(emit("a", event).await.0, partition);
    }
    let mut elsewhere = "b".to_owned();
    while emit(&elsewhere, "elsewhere").await.0 == partition {
        elsewhere.push('b');
    }
    world.log.remove_below(&world.topic, partition, first + 3).await;

    let running = world.start_unready(&[Role::Pipeline]).await;
    until_notified(&world, &["elsewhere"]).await;
    let range = format!("{}[{partition}] is not read: its retention removed offsets {} to {}", world.topic, first + 1, first + 2);
    eventually("/ready names the range and what decides about it", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains(&range) && body.contains("lost_records")).then_some(())
    })
    .await;
    assert_eq!(running.metric("tidings_pipeline_lost_offsets_total").await, 2.0);
    assert_eq!(running.labelled("tidings_pipeline_held_partitions", "reason=\"gone\"").await, 1);
    assert!(!notified(&world).await.contains(&"kept".to_owned()), "nothing is skipped silently");
    running.stop().await;

    world.config.pipeline.lost_records = LostRecords::Skip;
    let running = world.start_roles(&[Role::Pipeline]).await;
    until_notified(&world, &["kept"]).await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!((dead.header("tidings-error-class"), dead.value.as_deref()), ("records_lost", None));
    assert_eq!(dead.header("tidings-original-offset"), (first + 1).to_string());
    assert!(dead.header("tidings-error-message").contains(&format!("{} to {}", first + 1, first + 2)));
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.get(&partition), Some(&(first + 4)));
}

/// A world whose topic is halted by five records of poison, with twenty good ones behind them of which the log has lost the first
/// ten by the time it is read again. Gives the partition and the offset of the first that is lost.
async fn losing_while_halted(lost_records: LostRecords) -> (World, Running, i32, i64) {
    let world = World::with(|config| {
        config.pipeline.lost_records = lost_records;
        config.pipeline.breaker.buried_in_a_row = NonZeroU32::new(5).unwrap();
        config.pipeline.breaker.pause = ms(5_000);
    })
    .await;
    let emit = async |value: &str| world.log.produce(&world.topic, Some("a"), value.as_bytes()).await;
    for _ in 0..5 {
        emit("poison").await;
    }
    let (partition, first) = emit(&payment("good-0", "alice").to_string()).await;
    for number in 1..20 {
        emit(&payment(&format!("good-{number}"), "alice").to_string()).await;
    }
    let running = world.start_unready(&[Role::Pipeline]).await;
    eventually("the topic is halted", async || running.get("/ready").await.1.contains("breaker").then_some(())).await;
    world.log.remove_below(&world.topic, partition, first + 10).await;
    assert!(notified(&world).await.is_empty(), "the log lost them before they were read");
    (world, running, partition, first)
}

#[tokio::test]
async fn what_retention_removes_from_under_a_reader_stops_its_partition_visibly_and_the_others_go_on() {
    let (world, running, partition, first) = losing_while_halted(LostRecords::Stop).await;
    let range = format!("{}[{partition}] is not read: its retention removed offsets {first} to {}", world.topic, first + 9);
    eventually("/ready names the range", async || running.get("/ready").await.1.contains(&range).then_some(())).await;
    assert_eq!(running.metric("tidings_pipeline_lost_offsets_total").await, 10.0);
    assert_eq!(running.labelled("tidings_pipeline_held_partitions", "reason=\"gone\"").await, 1);
    let elsewhere = payment("elsewhere", "alice").to_string();
    world.log.produce_to((&world.topic, (partition + 1) % PARTITIONS), "b", elsewhere.as_bytes(), OwnedHeaders::new()).await;
    until_notified(&world, &["elsewhere"]).await;
    assert_eq!(notified(&world).await, ["elsewhere"], "nothing is skipped silently");
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.get(&partition), Some(&first));
}

#[tokio::test]
async fn what_retention_removes_from_under_a_reader_is_named_in_dlq_and_passed_over_if_configured_so() {
    let (world, running, partition, first) = losing_while_halted(LostRecords::Skip).await;
    let kept = (10..20).map(|number| format!("good-{number}")).collect::<Vec<_>>();
    until_notified(&world, &kept.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(notified(&world).await, kept);
    assert_eq!(running.metric("tidings_pipeline_lost_offsets_total").await, 10.0);
    let dead = world.own_records("dlq", 6).await;
    let lost = dead.iter().filter(|dead| dead.header("tidings-error-class") == "records_lost").collect::<Vec<_>>();
    let [lost] = lost.as_slice() else { panic!("{dead:?}") };
    assert_eq!(lost.header("tidings-original-offset"), first.to_string());
    assert!(lost.header("tidings-error-message").contains(&format!("{first} to {}", first + 9)));
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    assert_eq!(committed.get(&partition), Some(&(first + 20)));
}

#[tokio::test]
async fn partitions_that_are_added_while_a_topic_is_read_are_read_from_their_first_record() {
    let world = World::with(|config| {
        config.pipeline.start = Start::End;
        config.kafka.properties.insert("topic.metadata.refresh.interval.ms".into(), Scalar::Number(300));
    })
    .await;
    emit_to(&world, &world.topic, "old").await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.grow(&world.topic, 5).await;
    // A producer that does not remember how many there were.
    let log = Log::new(&world.log.brokers);
    for number in 3..5 {
        let event = payment(&format!("added-{number}"), "alice").to_string();
        log.produce_to((&world.topic, number), "k", event.as_bytes(), OwnedHeaders::new()).await;
    }
    until_notified(&world, &["added-3", "added-4"]).await;
    assert_eq!(notified(&world).await.len(), 2, "and nothing older of the others");
    running.await_ready().await;
    running.stop().await;
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, 5).await;
    assert_eq!((committed.get(&3), committed.get(&4)), (Some(&1), Some(&1)));
}
