//! A cluster that grows: topics with more partitions and the next epoch, and nothing that was pending is lost on the way.
//! Long because what may happen at the same time is let happen.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Scalar;
use tokio_util::sync::CancellationToken;

use crate::harness::client::Client;
use crate::harness::missed::{self, MAILBOX};
use crate::harness::process::Process;
use crate::harness::world::{World, http, ms, payment, sum};
use crate::harness::{eventually, seed};

/// How often the command is killed, at least.
const ROUNDS: i32 = 5;
/// More than a world has at first.
const MORE: i32 = 8;

async fn world() -> World {
    World::with(|config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(60_000)];
    })
    .await
}

/// The command, on the world's cluster.
fn create(world: &World, partitions: i32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(["topics", "create", "--partitions", &partitions.to_string()]);
    command.env("TIDINGS_KAFKA__BROKERS", &world.log.brokers);
    command.env("TIDINGS_KAFKA__TOPIC_PREFIX", &world.config.kafka.topic_prefix);
    command.env("TIDINGS_KAFKA__GROUP_PREFIX", &world.config.kafka.group_prefix);
    command.env("TIDINGS_COURIER__LADDER", "1m");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn event(frame: &Value) -> String {
    frame["notification"]["eventId"].as_str().unwrap().to_owned()
}

/// Acknowledges whatever comes, until an event has come; gives all events in the order in which they came first.
async fn until(client: &mut Client, last: &str) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let frame = client.frame("notification:new").await;
        let event = event(&frame);
        let ack = match frame.get("redelivery") {
            None => json!({"type": "ack", "channel": frame["channel"], "position": frame["position"]}),
            Some(_) => json!({"type": "ack", "notificationIds": [frame["notification"]["id"]]}),
        };
        client.send(ack).await;
        if !events.contains(&event) {
            events.push(event);
        }
        if events.iter().any(|event| event == last) {
            return events;
        }
    }
}

/// Alice comes back with the position she has, and is told what became of it.
async fn back(address: std::net::SocketAddr, position: &Value) -> (Client, Value) {
    let mut alice = missed::back(address, &json!({MAILBOX: position})).await;
    let told = alice.frame("recovered").await;
    (alice, told)
}

#[tokio::test]
async fn what_was_pending_when_an_epoch_ended_is_delivered_in_the_next_and_nothing_else_is_again() {
    let mut world = world().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["acknowledged"]).await;
    world.emit(&payment("offered", "alice")).await;
    let offered = alice.frame("notification:new").await;
    alice.close().await;
    world.own_records("retry.1m", 1).await;
    running.stop().await;
    // Nobody decides about this one while its epoch lasts.
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    world.emit(&payment("undecided", "alice")).await;
    eventually("it is folded", async || (world.inbox("alice").await.len() == 3).then_some(())).await;
    running.stop().await;

    world.grow(MORE).await.unwrap();
    world.config.courier.ack_timeout = ms(6_000);
    let running = world.start().await;
    let (mut alice, told) = back(running.address, &offered["position"]).await;
    assert_eq!(told["recovered"], false, "{told}");
    let carried = world.own_records("notifications.e2", 2).await;
    let attempts = carried.iter().map(|record| {
        let record = record.json();
        (record["notification"]["eventId"].clone(), record["attempts"].as_array().map_or(0, Vec::len))
    });
    let attempts = attempts.collect::<std::collections::HashMap<_, _>>();
    assert_eq!(attempts, [(json!("offered"), 1), (json!("undecided"), 0)].into(), "what was tried is not forgotten");
    world.emit(&payment("after", "alice")).await;
    let mut events = until(&mut alice, "after").await;
    events.sort();
    assert_eq!(events, ["after", "offered", "undecided"]);

    // A ladder of its own, which ends with the acknowledgement although the first epoch's offer never got one.
    let dropped = "tidings_courier_dropped_deliveries_total";
    eventually("the courier knows all three delivered", async || {
        let (_, text) = running.get("/metrics").await;
        text.contains(&format!("{dropped}{{why=\"delivered\"}} 3\n")).then_some(())
    })
    .await;
    assert_eq!(world.own_records("notifications.e2", 3).await.len(), 3);
    let mut kept = world.inbox("alice").await.iter().map(|one| one["eventId"].clone()).collect::<Vec<_>>();
    kept.sort_by_key(ToString::to_string);
    assert_eq!(kept, ["acknowledged", "after", "offered", "undecided"], "each row once, the old ones too");
    assert_eq!(running.metric("tidings_earlier_courier_carried_deliveries_total").await, 2.0);
    running.stop().await;

    // Positions of this epoch lead to what was carried over, also without a node's memory.
    let running = world.start().await;
    let (mut alice, told) = back(running.address, &json!("2:0")).await;
    assert_eq!(told["recovered"], true, "{told}");
    let mut events = until(&mut alice, "after").await;
    events.sort();
    assert_eq!(events, ["after", "offered", "undecided"]);
    running.stop().await;
}

#[tokio::test]
async fn a_process_of_an_earlier_epoch_stops_with_the_reason_and_serves_the_next_when_it_is_started_again() {
    let world = world().await;
    let mut process = Process::spawn(&world);
    process.await_ready().await;
    let query = format!("token={}&deviceId=d1&ack=client", World::token("alice"));
    let (mut alice, _) = Client::greeted(process.address, &query).await;
    world.live(&mut alice, &["before"]).await;
    world.grow(MORE).await.unwrap();
    // It goes as in any drain: clients are told to come back.
    alice.frame("reconnect").await;
    assert!(!process.ended().await.success());
    let logged = process.logged();
    let why = format!("epoch 2 with {MORE} partitions has begun, and this process serves epoch 1: it stops; start it again");
    assert!(logged.contains(&why), "{logged}");

    let process = Process::spawn(&world);
    process.await_ready().await;
    let (mut alice, _) = Client::greeted(process.address, &query).await;
    world.emit(&payment("live", "alice")).await;
    let frame = alice.frame("notification:new").await;
    assert_eq!((event(&frame).as_str(), frame["position"].as_str().unwrap().split_once(':').unwrap().0), ("live", "2"));
    let [live] = world.own_records("notifications.e2", 1).await.try_into().unwrap();
    let channel = MAILBOX.parse::<tidings_core::channel::Channel>().unwrap();
    assert_eq!(live.partition, channel.partition(MORE));
}

#[tokio::test]
async fn what_a_late_process_of_an_earlier_epoch_still_writes_is_delivered_too() {
    let world = world().await;
    let running = world.start().await;
    world.emit(&payment("first", "alice")).await;
    let [first] = world.own_records("notifications", 1).await.try_into().unwrap();
    running.stop().await;
    world.grow(MORE).await.unwrap();
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    assert_eq!(until(&mut alice, "first").await, ["first"]);

    let mut late = first.json();
    late["notification"]["id"] = json!("438e828e-0a38-5599-8fb1-76b0e4574c75");
    late["notification"]["eventId"] = json!("late");
    let version = rdkafka::message::Header { key: "tidings-version", value: Some("1") };
    let headers = rdkafka::message::OwnedHeaders::new().insert(version);
    let place = (world.own("notifications"), first.partition);
    world.log.produce_to((&place.0, place.1), MAILBOX, late.to_string().as_bytes(), headers).await;
    assert_eq!(until(&mut alice, "late").await, ["late"]);
    running.stop().await;
}

#[tokio::test]
async fn an_epoch_has_no_fewer_partitions_and_follows_only_once_the_one_before_the_last_is_finished() {
    let world = world().await;
    let fewer = world.grow(1).await.unwrap_err().to_string();
    assert!(fewer.contains("cannot have fewer"), "{fewer}");
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.emit(&payment("pending", "alice")).await;
    world.own_records("notifications", 1).await;
    running.stop().await;
    world.grow(MORE).await.unwrap();
    let early = world.grow(2 * MORE).await.unwrap_err().to_string();
    let topic = world.own("notifications");
    assert!(
        early.contains(&format!("{topic} of epoch 1 holds 1 offsets")) && early.contains("wait for couriers and inboxes"),
        "{early}"
    );
    assert_eq!(world.epoch().await.epoch.0, 2);

    let running = world.start_roles(&[Role::Inbox, Role::Courier]).await;
    world.own_records("notifications.e2", 1).await;
    eventually("the next epoch may begin", async || world.grow(2 * MORE).await.is_ok().then_some(())).await;
    let (epoch, twice) = (world.epoch().await, world.grow(2 * MORE).await);
    assert!(twice.is_ok(), "nothing is left to do");
    assert_eq!((epoch.epoch.0, epoch.partitions, world.epoch().await), (3, 2 * MORE, epoch.clone()));
    // It served the second.
    assert!(running.ended().await.is_err());
}

#[tokio::test]
async fn an_epoch_is_not_done_with_before_an_inbox_has_folded_what_no_courier_waits_for() {
    let world = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let request = json!({"to": {"channel": "booking-updates"}, "message": "to who listens"});
    world.ask(&request).await;
    world.own_records("notifications", 1).await;
    running.stop().await;
    world.grow(MORE).await.unwrap();

    // A mailbox's notification behind it would wait for the inbox; this one the courier passes over.
    let courier = world.start_roles(&[Role::Courier]).await;
    let (group, topic) = (world.group("courier"), world.own("notifications"));
    eventually("the courier is through", async || {
        let committed = world.log.committed(&group, &topic, world.config.kafka.topics.partitions).await;
        committed.values().any(|offset| *offset > 0).then_some(())
    })
    .await;
    let early = world.grow(2 * MORE).await.unwrap_err().to_string();
    assert!(early.contains("holds 1 offsets"), "{early}");

    let inbox = world.start_roles(&[Role::Inbox]).await;
    eventually("the next epoch may begin", async || world.grow(2 * MORE).await.is_ok().then_some(())).await;
    assert!(inbox.ended().await.is_err() && courier.ended().await.is_err(), "they served the second");
}

#[tokio::test]
async fn killed_at_any_moment_the_command_leaves_one_epoch_whole_and_finishes_when_it_is_run_again() {
    let mut random = seed::random("epochs");
    let world = world().await;
    let clock = Instant::now();
    assert!(create(&world, 5).status().unwrap().success());
    let whole = clock.elapsed();
    let (mut interrupted, mut old) = (0, 0);
    for partitions in 6.. {
        let before = world.epoch().await;
        let mut command = create(&world, partitions).spawn().unwrap();
        tokio::time::sleep(random.random_range(Duration::ZERO..whole)).await;
        interrupted += i32::from(kill(&mut command));
        // All topics of whichever epoch is in force are as they must be.
        let after = world.epoch().await;
        assert!([before.epoch.0, before.epoch.0 + 1].contains(&after.epoch.0), "{before:?} {after:?}");
        old += i32::from(after == before);
        assert!(create(&world, partitions).status().unwrap().success());
        let done = world.epoch().await;
        assert_eq!((done.epoch.0, done.partitions), (before.epoch.0 + 1, partitions));
        let rounds = partitions - 5;
        println!("{interrupted} of {rounds} were interrupted, {old} of them before the next epoch had begun");
        // How long the command takes is the machine's mood.
        if rounds >= ROUNDS && interrupted > 0 && old > 0 {
            return;
        }
        assert!(rounds < 4 * ROUNDS, "nothing was interrupted in time, so this proves nothing");
    }
}

/// Kills a command; says whether it still ran.
fn kill(command: &mut Child) -> bool {
    let runs = command.try_wait().unwrap().is_none();
    command.kill().unwrap();
    command.wait().unwrap();
    runs
}

/// Emits events for some users until it is told to stop. Gives how many.
async fn produce(world: Arc<World>, stop: CancellationToken) -> usize {
    for number in 0.. {
        if stop.is_cancelled() {
            return number;
        }
        world.emit(&payment(&number.to_string(), USERS[number % USERS.len()])).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("there are more numbers than time")
}

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// How much a process has carried over from the epoch before, if it says.
async fn carried(process: &Process) -> Option<f64> {
    let metrics = http().get(format!("http://{}/metrics", process.address)).send().await.ok()?.text().await.ok()?;
    sum(&metrics, "tidings_earlier_courier_carried_deliveries_total")
}

/// A new device of a user's is sent each of these events, and the inbox has each, once.
async fn is_sent_and_kept_once(world: &World, address: std::net::SocketAddr, (user, expected): (&str, &BTreeSet<String>)) {
    // Nobody was there: all of it is pending, wherever it lies.
    let query = format!("token={}&deviceId=d1&ack=client", World::token(user));
    let mut client = Client::greeted(address, &query).await.0;
    let (mut shown, mut ids) = (BTreeSet::new(), BTreeSet::new());
    while shown.len() < expected.len() {
        let frame = client.frame("notification:new").await;
        assert!(ids.insert(frame["notification"]["id"].to_string()) || frame.get("redelivery").is_some(), "twice: {frame}");
        shown.insert(event(&frame));
        if frame.get("redelivery").is_none() {
            client.ack(&frame).await;
        }
    }
    assert_eq!(shown, *expected);
    let kept = eventually("all of it is folded", async || {
        let kept = world.inbox(user).await;
        (kept.len() >= expected.len()).then_some(kept)
    })
    .await;
    let kept = kept.iter().map(|one| one["eventId"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((kept.len(), kept.into_iter().collect::<BTreeSet<_>>()), (expected.len(), expected.clone()));
}

#[tokio::test]
async fn a_cluster_that_grows_while_events_flow_and_a_process_is_killed_delivers_each_and_keeps_each_once() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(60_000)];
        config.courier.transaction_timeout = ms(3_000);
        config.kafka.properties.insert("session.timeout.ms".into(), Scalar::Number(6_000));
    })
    .await;
    let (world, stop) = (Arc::new(world), CancellationToken::new());
    let serve = async || {
        let process = Process::spawn(&world);
        process.await_ready().await;
        process
    };
    let old = [serve().await, serve().await];
    let producing = tokio::spawn(produce(world.clone(), stop.clone()));
    world.own_records("retry.1m", 50).await;
    let mut grow = create(&world, MORE);
    assert!(tokio::task::spawn_blocking(move || grow.status()).await.unwrap().unwrap().success());
    for mut process in old {
        assert!(!process.ended().await.success(), "it served the first epoch");
    }
    let (killed, stays) = (Process::spawn(&world), Process::spawn(&world));
    eventually("something is carried over", async || {
        let carried = (carried(&killed).await.unwrap_or(0.0), carried(&stays).await.unwrap_or(0.0));
        (carried.0 + carried.1 > 0.0).then_some(())
    })
    .await;
    killed.kill();
    let again = serve().await;
    stays.await_ready().await;
    stop.cancel();
    let produced = producing.await.unwrap();
    let due = |user: usize| (0..produced).filter(move |number| number % USERS.len() == user).map(|number| number.to_string());
    for (number, user) in USERS.iter().enumerate() {
        let expected = due(number).collect::<BTreeSet<_>>();
        is_sent_and_kept_once(&world, again.address, (user, &expected)).await;
    }
}

#[tokio::test]
async fn what_an_attempt_left_with_another_size_is_named() {
    let world = world().await;
    world.log.create(&world.own("notifications.e2"), 6, &[]).await;
    let refused = world.grow(MORE).await.unwrap_err().to_string();
    assert!(refused.contains("notifications.e2 was made with 6 partitions") && refused.contains("--partitions 6"), "{refused}");
    assert_eq!(world.epoch().await.epoch.0, 1);
}
