//! Starting, draining, and living through what breaks around.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use tidings::cli::Role;
use tidings::config::Scalar;

use crate::harness::broker::OwnBroker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::log::config;
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, World, get, ms, payment};

#[tokio::test]
async fn sigterm_finishes_what_was_read_tells_clients_to_come_back_and_exits_zero() {
    let world = World::new().await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let (mut alice, _) = Client::greeted(process.address, &query).await;
    let (mut end, mut number) = (0, 0);
    // Work is coming in when the signal does.
    while number < 50 || world.log.records(&world.own("notifications")).await.is_empty() {
        number += 1;
        let value = payment(&number.to_string(), "bob").to_string();
        end = world.log.produce(&world.topic, Some("k"), value.as_bytes()).await.1 + 1;
    }
    process.terminate();
    let reconnect = alice.frame("reconnect").await;
    assert!(reconnect["retryAfter"].is_number(), "{reconnect}");
    assert_eq!(alice.close_code().await, 1012);
    assert!(process.ended().await.success(), "{}", process.logged());
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    let committed = committed.values().copied().max().unwrap_or(0);
    let notified = i64::try_from(world.log.records(&world.own("notifications")).await.len()).unwrap();
    assert!(committed > 0, "something had been read");
    assert_eq!(committed, notified, "of {end} events, all that were read were finished and committed, and no more");
}

#[tokio::test]
async fn a_broker_stopped_for_ten_seconds_loses_nothing_and_is_visible() {
    let broker = OwnBroker::start();
    // Nothing answers pings while the broker is away.
    let world = World::on(&broker.brokers, |config| config.gateway.heartbeat_interval = ms(3_600_000)).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("before", "alice")).await;
    let before = alice.frame("notification:new").await;
    alice.ack(&before).await;

    // Not acknowledged when the broker goes: it is on the ladder then, and in the connection's window.
    world.emit(&payment("meanwhile", "alice")).await;
    let meanwhile = alice.frame("notification:new").await;
    broker.stop();
    alice.ack(&meanwhile).await;
    eventually("/ready names the broker", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("kafka")).then_some(())
    })
    .await;
    assert_eq!(running.get("/health").await.0, 200, "the process is alive meanwhile");
    tokio::time::sleep(Duration::from_secs(10)).await;
    broker.start_again();

    running.await_ready().await;
    world.emit(&payment("after", "alice")).await;
    let after = alice.frame("notification:new").await;
    assert_eq!(after["notification"]["eventId"], "after");
    alice.ack(&after).await;
    for frame in [&before, &meanwhile, &after] {
        world.until_acknowledged(frame["notification"]["id"].as_str().unwrap()).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |_| {}).await;
    broker.stop();
    let running = world.start_unready(&[Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier]).await;
    let (status, body) = eventually("the listener answers", async || {
        let answer = running.get("/ready").await;
        answer.1.contains("kafka").then_some(answer)
    })
    .await;
    assert_eq!(status, 503, "{body}");
    broker.start_again();
    running.await_ready().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    alice.frame("notification:new").await;
    running.stop().await;
}

#[tokio::test]
async fn a_service_that_dies_takes_the_process_down_with_a_non_zero_code() {
    let world = World::with(|config| {
        config.node.id = "twin".into();
        config.courier.ack_timeout = ms(200);
    })
    .await;
    // Two of one name take the courier's transactional id from each other, again and again.
    let first = Process::spawn(&world);
    first.await_ready().await;
    let mut twins = [first, Process::spawn(&world)];
    let mut number = 0;
    let status = eventually("one of the twins gives up", async || {
        number += 1;
        world.emit(&payment(&number.to_string(), &format!("user-{}", number % 8))).await;
        twins.iter_mut().find_map(Process::try_ended)
    })
    .await;
    assert!(!status.success(), "{status}");
    let logged = twins.map(|twin| twin.logged()).join("\n");
    assert!(logged.contains("the courier failed"), "{logged}");
}

#[tokio::test]
async fn missing_topics_are_named_with_the_command_that_makes_them() {
    let world = World::new().await;
    let mut lost = world;
    lost.config.kafka.topic_prefix = format!("{}elsewhere.", lost.config.kafka.topic_prefix);
    let mut process = Process::spawn(&lost);
    let status = process.ended().await;
    assert!(!status.success());
    let logged = process.logged();
    assert!(logged.contains(&lost.own("notifications")) && logged.contains("tidings topics create"), "{logged}");
}

#[tokio::test]
async fn a_partition_count_that_changes_stops_the_process_with_the_reason() {
    let world = World::new().await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let admin: AdminClient<DefaultClientContext> = config(&world.log.brokers).create().unwrap();
    let (topic, more) = (world.own("notifications"), usize::try_from(world.config.kafka.topics.partitions + 1).unwrap());
    for grown in admin.create_partitions([&NewPartitions::new(&topic, more)], &AdminOptions::new()).await.unwrap() {
        grown.unwrap();
    }
    assert!(!process.ended().await.success());
    let logged = process.logged();
    assert!(logged.contains(&format!("topic {topic} has {more} partitions")) && logged.contains("epoch"), "{logged}");
}

#[tokio::test]
async fn no_token_is_written_to_the_log() {
    let world = World::with(|config| config.log.level = "debug".into()).await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let token = World::token("alice");
    let (alice, _) = Client::greeted(process.address, &format!("token={token}")).await;
    let forged = format!("{token}x");
    assert_eq!(Client::open(process.address, &format!("token={forged}")).await.close_code().await, 4002);
    get(process.address, &format!("/nowhere?token={token}")).await;
    alice.close().await;
    let logged = eventually("the closed connection is logged", async || {
        let logged = process.logged();
        (logged.contains("alice") && logged.contains("1000")).then_some(logged)
    })
    .await;
    let signature = token.rsplit('.').next().unwrap();
    assert!(!logged.contains(signature), "{logged}");
}

#[tokio::test]
async fn a_drain_with_the_broker_away_still_tells_clients_to_come_back() {
    let broker = OwnBroker::start();
    let mut world = World::on(&broker.brokers, |config| config.shutdown.drain_timeout = ms(8_000)).await;
    // What follows from an event waits in the producer, and cannot be written once the broker is away.
    world.config.kafka.properties.insert("linger.ms".into(), Scalar::Number(60_000));
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("open", "bob")).await;
    eventually("an event is read and not finished", async || {
        (running.metric("tidings_pipeline_in_flight_records").await > 0.0).then_some(())
    })
    .await;
    broker.stop();
    running.begin_stop();
    let reconnect = alice.frame("reconnect").await;
    assert!(reconnect["retryAfter"].is_number(), "{reconnect}");
    assert_eq!(alice.close_code().await, 1012);
    // Whether all was finished depends on what was open; the wait asserts that it ends.
    let _ = running.ended().await;
}
