//! How members of a group come and go: by name and by either protocol; a storm of them is in `tests/chaos`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tidings::cli::Role;
use tidings::config::{GroupProtocol, Scalar};
use tokio_util::sync::CancellationToken;

use crate::harness::broker::OwnBroker;
use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, Running, World, get, ms, payment};

/// Between two events: about a hundred a second, for three brokers and all services share the machine.
const PAUSE: Duration = Duration::from_millis(10);

async fn held(member: &Running) -> f64 {
    member.metric("tidings_pipeline_taken_up_partitions_total").await
        - member.metric("tidings_pipeline_given_back_partitions_total").await
}

async fn until_shared(members: &[&Running], partitions: i32) {
    eventually("every member has some of the partitions, and together all", async || {
        let mut all = 0.0;
        for member in members {
            let held = held(member).await;
            if held == 0.0 {
                return None;
            }
            all += held;
        }
        (all == f64::from(partitions)).then_some(())
    })
    .await;
}

/// Emits `count` events, spread over all partitions.
async fn emit(world: &World, from: u64, count: u64) {
    for number in from..from + count {
        let value = payment(&number.to_string(), "alice").to_string();
        world.log.produce(&world.topic, Some(&number.to_string()), value.as_bytes()).await;
    }
}

/// The events that became notifications.
async fn notified(world: &World) -> BTreeSet<u64> {
    let records = world.log.records(&world.own("notifications")).await;
    records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().parse().unwrap()).collect()
}

async fn until_all_are_notified(world: &World, count: u64) {
    eventually("every event became a notification", async || (notified(world).await.len() as u64 >= count).then_some(())).await;
    assert_eq!(notified(world).await, (0..count).collect::<BTreeSet<_>>());
}

/// Of the domain topic and of `requests`, which have the same group.
fn all_partitions(world: &World) -> i32 {
    PARTITIONS + world.config.kafka.topics.partitions
}

/// The partitions of a topic that a client reads, as librdkafka says.
async fn read(member: &Running, client: &str, topic: &str) -> usize {
    let (_, text) = member.get("/metrics").await;
    let start = format!("tidings_kafka_lag_records{{client=\"{client}\",topic=\"{topic}\"");
    text.lines().filter(|line| line.starts_with(&start)).count()
}

#[tokio::test]
async fn of_two_inboxes_each_folds_half_of_every_topic() {
    let world = World::with(|config| {
        config.kafka.properties.insert("statistics.interval.ms".into(), Scalar::Number(200));
    })
    .await;
    let members = [world.start_roles(&[Role::Inbox]).await, world.start_roles(&[Role::Inbox]).await];
    let half = usize::try_from(world.config.kafka.topics.partitions / 2).unwrap();
    eventually("notifications and cursors are shared evenly", async || {
        for member in &members {
            for topic in ["notifications", "cursors"] {
                if read(member, "inbox", &world.own(topic)).await != half {
                    return None;
                }
            }
        }
        Some(())
    })
    .await;
    for member in members {
        member.stop().await;
    }
}

#[tokio::test]
async fn a_static_member_that_restarts_keeps_its_partitions_and_the_others_notice_nothing() {
    let mut world = World::with(|config| config.kafka.static_membership = true).await;
    world.config.node.id = "stays".into();
    let stays = world.start_roles(&[Role::Pipeline]).await;
    world.config.node.id = "restarts".into();
    let restarts = world.start_roles(&[Role::Pipeline]).await;
    until_shared(&[&stays, &restarts], all_partitions(&world)).await;
    let (before, others) = (held(&restarts).await, stays.metric("tidings_pipeline_taken_up_partitions_total").await);
    emit(&world, 0, 60).await;
    until_all_are_notified(&world, 60).await;

    restarts.stop().await;
    emit(&world, 60, 60).await;
    let restarts = world.start_roles(&[Role::Pipeline]).await;
    until_all_are_notified(&world, 120).await;
    assert_eq!(held(&restarts).await, before, "it has what it had");
    assert_eq!(stays.metric("tidings_pipeline_taken_up_partitions_total").await, others, "nothing came to the other meanwhile");
    restarts.stop().await;
    stays.stop().await;
}

#[tokio::test]
async fn with_the_protocol_of_the_brokers_members_share_hand_over_and_do_nothing_twice() {
    let world = World::with(|config| {
        config.kafka.group_protocol = GroupProtocol::Consumer;
        config.kafka.properties.remove("heartbeat.interval.ms");
        let topic = config.pipeline.topics[0].to_string();
        config.pipeline.topics = vec![format!("^{topic}(-never)?").parse().unwrap()];
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec!["1s".parse().unwrap()];
    })
    .await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Pipeline]).await;
    until_shared(&[&first, &second], all_partitions(&world)).await;
    emit(&world, 0, 60).await;
    until_all_are_notified(&world, 60).await;
    second.stop().await;
    until_shared(&[&first], all_partitions(&world)).await;
    emit(&world, 60, 60).await;
    until_all_are_notified(&world, 120).await;
    let records = world.log.records(&world.own("notifications")).await;
    assert_eq!(records.len(), 120, "what the one had done the other did not do again");
    // Transactions name the group too.
    world.own_records("undelivered", 120).await;
    first.stop().await;
}

/// Emits until it is told to stop; counts what the brokers have.
async fn produce(world: Arc<World>, produced: Arc<AtomicU64>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let number = produced.load(Ordering::Relaxed);
        emit(&world, number, 1).await;
        produced.store(number + 1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn one_of_three_brokers_killed_under_load_loses_nothing_and_stops_nothing() {
    let brokers = OwnBroker::three();
    let world = World::on(&brokers.brokers, |config| {
        config.kafka.topics.replication_factor = 3;
        config.courier.ack_timeout = ms(60_000);
    })
    .await;
    let world = Arc::new(world);
    let (produced, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let running = world.start().await;
    let producing = tokio::spawn(produce(world.clone(), produced.clone(), stop.clone()));
    let until_produced = async |count: u64| {
        eventually("the load goes on", async || (produced.load(Ordering::Relaxed) >= count).then_some(())).await;
    };
    until_produced(100).await;
    let (before, at) = (notified(&world).await.len(), produced.load(Ordering::Relaxed));
    brokers.kill(2);
    until_produced(at + 100).await;
    eventually("events still become notifications", async || (notified(&world).await.len() > before + 50).then_some(())).await;
    brokers.start_again();
    until_produced(produced.load(Ordering::Relaxed) + 100).await;
    stop.cancel();
    producing.await.unwrap();
    let count = produced.load(Ordering::Relaxed);
    until_all_are_notified(&world, count).await;
    let inbox = eventually("every event is in the inbox", async || {
        let inbox = world.inbox("alice").await;
        (inbox.len() as u64 >= count).then_some(inbox)
    })
    .await;
    assert_eq!(inbox.len() as u64, count, "each once");
    running.await_ready().await;
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_keeps_no_member_from_polling_for_longer_than_its_group_waits() {
    const POLLS: Duration = Duration::from_secs(9);
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| {
        let properties = &mut config.kafka.properties;
        properties.insert("session.timeout.ms".into(), Scalar::Number(6_000));
        properties.insert("max.poll.interval.ms".into(), Scalar::Number(i64::try_from(POLLS.as_millis()).unwrap()));
        // So soon it is noticed that nobody answers, and asked about.
        properties.insert("socket.timeout.ms".into(), Scalar::Number(2_000));
        let more = (0..12).map(|number| format!("{}-{number}", config.pipeline.topics[0]).parse().unwrap()).collect::<Vec<_>>();
        config.pipeline.topics.extend(more);
    })
    .await;
    for topic in &world.config.pipeline.topics[1..] {
        world.log.create(&topic.to_string(), 1, &[]).await;
    }
    let process = Process::spawn(&world);
    process.await_ready().await;
    world.emit(&payment("before", "alice")).await;
    world.until_inbox(1).await;

    broker.signal(Signal::SIGSTOP);
    tokio::time::sleep(3 * POLLS).await;
    let (status, body) = get(process.address, "/ready").await;
    assert!(status == 503 && body.contains("broker"), "its silence was heard: {body}");
    broker.signal(Signal::SIGCONT);

    world.emit(&payment("behind", "alice")).await;
    world.until_inbox(2).await;
    let logged = process.logged();
    assert!(!logged.contains("poll interval") && !logged.contains("MaxPollExceeded"), "{logged}");
}
