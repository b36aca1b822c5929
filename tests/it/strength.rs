//! What breaks around a running process, and is there again: the database, the disk, the clock.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::config::Database;
use tidings_core::time::Delay;

use crate::harness::broker::OwnBroker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{Running, World, get, ms, payment, unix_now};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_database_that_somebody_holds_locked_stops_no_delivery_and_loses_nothing() {
    let world = World::with(|config| config.store.busy_timeout = ms(200)).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["before"]).await;
    world.until_folded(1).await;

    let file = SqliteConnectOptions::new().filename(world.dir.path().join("tidings.db"));
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    world.live(&mut alice, &["one", "two"]).await;
    eventually("/ready names the inbox", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("inbox")).then_some(())
    })
    .await;
    world.live(&mut alice, &["three"]).await;
    assert_eq!(world.inbox("alice").await.len(), 1, "nothing could be folded meanwhile");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    world.until_folded(4).await;
    running.await_ready().await;
    assert!(world.log.records(&world.own("retry.30s")).await.is_empty(), "no attempt was burnt for it");
    running.stop().await;
}

#[tokio::test]
async fn a_full_disk_under_the_database_stops_no_delivery_and_loses_nothing() {
    let world = World::with(|config| config.store.busy_timeout = ms(200)).await;
    let mut process = Process::spawn_with_files_of(&world, 400_000);
    process.await_ready().await;
    let (mut alice, _) =
        Client::greeted(process.address, &format!("token={}&deviceId=d1&ack=client", World::token("alice"))).await;
    let mut count = 0;
    eventually("/ready names the inbox", async || {
        count += 1;
        // Each takes some room.
        let long = json!({"type": "booking:confirmed", "id": format!("e-{count}"),
            "data": {"userId": "alice", "bookingId": count, "vehicleName": "x".repeat(8_000)}});
        world.emit(&long).await;
        let frame = alice.frame("notification:new").await;
        alice.ack(&frame).await;
        let (status, body) = get(process.address, "/ready").await;
        (status == 503 && body.contains("inbox")).then_some(())
    })
    .await;
    world.live(&mut alice, &["live"]).await;
    assert!(world.inbox("alice").await.len() <= count, "the disk was not full");

    process.lift_file_limit();
    world.until_folded(count + 1).await;
    process.await_ready().await;
    process.terminate();
    assert!(process.ended().await.success(), "{}", process.logged());
}

/// A world whose database lies in a folder of its own.
async fn world_with_folder() -> (World, PathBuf) {
    let mut world = World::new().await;
    let folder = world.dir.path().join("data");
    world.config.store.url = Database::Sqlite(folder.join("tidings.db"));
    (world, folder)
}

/// Why the services ended by themselves.
async fn end(running: Running) -> String {
    format!("{:#}", running.ended().await.unwrap_err())
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_ends_the_start_with_its_place_and_what_to_do_until_it_can() {
    let (world, folder) = world_with_folder().await;
    let file = folder.join("tidings.db").display().to_string();
    let refused = end(world.start_unready(&[Role::Inbox]).await).await;
    assert!(refused.contains(&file) && refused.contains("folder"), "the folder is not there: {refused}");
    // Where permissions bind nobody, this is what cannot be read.
    std::fs::create_dir_all(&file).unwrap();
    let refused = end(world.start_unready(&[Role::Inbox]).await).await;
    assert!(refused.contains(&file), "a folder lies in its place: {refused}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, "no database, and long enough to be taken for one".repeat(40)).unwrap();
    let refused = end(world.start_unready(&[Role::Inbox]).await).await;
    assert!(refused.contains("not the one this release made") && refused.contains("rebuild"), "other bytes: {refused}");
    std::fs::remove_file(&file).unwrap();
    world.start_roles(&[Role::Inbox]).await.stop().await;
}

#[tokio::test]
async fn a_database_that_is_taken_away_ends_its_process_and_the_next_one_has_all_of_it_anew() {
    let (world, folder) = world_with_folder().await;
    std::fs::create_dir(&folder).unwrap();
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["before", "too"]).await;
    world.until_folded(2).await;

    std::fs::remove_dir_all(&folder).unwrap();
    world.emit(&payment("meanwhile", "alice")).await;
    let why = end(running).await;
    assert!(why.contains("tidings.db") && why.contains("was removed or replaced"), "{why}");

    std::fs::create_dir(&folder).unwrap();
    let running = world.start().await;
    world.until_inbox(3).await;
    eventually("what was acknowledged is so again", async || {
        let acknowledged = world.acknowledged("alice").await;
        let ids = world.inbox("alice").await.into_iter().map(|known| known["id"].as_str().unwrap().to_owned());
        ids.take(2).all(|id| acknowledged.contains(&id)).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_full_disk_under_the_broker_is_waited_out_and_nothing_is_lost() {
    let Some(broker) = OwnBroker::on_small_disk(96) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "this user may not mount a disk, and so cannot try what CI must");
        println!("not tried: this user may not mount a disk");
        return;
    };
    // Nothing answers pings while the broker is away.
    let world = World::on(&broker.brokers, |config| config.gateway.heartbeat_interval = ms(HOUR_MS.cast_unsigned())).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["before"]).await;
    world.until_folded(1).await;

    broker.fill_disk();
    let (log, topic) = (world.log.clone(), world.topic.clone());
    let emitting = tokio::spawn(async move {
        for number in 0..20 {
            log.produce(&topic, Some("k"), payment(&number.to_string(), "alice").to_string().as_bytes()).await;
        }
    });
    eventually("the broker has given up", async || (!broker.is_running()).then_some(())).await;
    assert!(!emitting.is_finished(), "the disk was not full");
    eventually("/ready says that no broker answers", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("broker")).then_some(())
    })
    .await;

    broker.free_disk();
    broker.start_again();
    emitting.await.unwrap();
    for number in 0..20 {
        let frame = alice.frame("notification:new").await;
        assert_eq!(frame["notification"]["eventId"], number.to_string(), "in order, each once");
        alice.ack(&frame).await;
    }
    world.until_folded(21).await;
    running.await_ready().await;
    running.stop().await;
}

#[tokio::test]
async fn a_clock_that_steps_ends_no_connection_whose_token_counts_and_loses_nothing() {
    const ACK_TIMEOUT: Duration = Duration::from_secs(2);
    let world = World::with(|config| {
        config.gateway.heartbeat_interval = ms(2_000);
        config.courier.ack_timeout = Delay(ACK_TIMEOUT);
        config.courier.ladder = vec![ms(2_000), ms(2_500)];
    })
    .await;
    let (clock, step) = Clock::stepped();
    let running = world.start_by(clock, &[Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier]).await;
    running.await_ready().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["before"]).await;

    step.to(-HOUR_MS);
    world.live(&mut alice, &["an hour back"]).await;
    // Not acknowledged: it is due an hour later by this clock, and nothing may happen to it earlier.
    world.emit(&payment("waits", "alice")).await;
    let waits = alice.frame("notification:new").await;
    // By every other clock its time comes meanwhile.
    alice.reads_until(tokio::time::sleep(2 * ACK_TIMEOUT)).await;
    world.emit(&payment("still there", "alice")).await;
    let there = alice.frame("notification:new").await["notification"]["id"].clone();
    alice.send(json!({"type": "ack", "notificationIds": [there]})).await;
    world.until_acknowledged(there.as_str().unwrap()).await;
    let signals = world.log.records(&world.own("signals")).await;
    assert!(signals.iter().all(|signal| signal.json()["signal"] != "redeliver"), "an attempt before its time");

    step.to(0);
    let again = alice.frame("notification:new").await;
    assert_eq!((&again["notification"]["id"], again["redelivery"].as_u64()), (&waits["notification"]["id"], Some(1)));
    alice.send(json!({"type": "ack", "notificationIds": [again["notification"]["id"]]})).await;
    world.until_acknowledged(waits["notification"]["id"].as_str().unwrap()).await;

    let short = format!("token={}", World::token_of(&json!({"sub": "bob", "exp": unix_now() + 600})));
    let mut bob = Client::greeted(running.address, &short).await.0;
    step.to(HOUR_MS / 2);
    assert_eq!(bob.close_code().await, 4002, "his token has expired by now");
    assert_eq!(Client::open(running.address, &short).await.close_code().await, 4002);
    world.live(&mut alice, &["half an hour ahead"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_nothing_due_early_and_ends_nothing() {
    const DAY_MS: i64 = 24 * HOUR_MS;
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(2_000);
        config.courier.ladder = vec![ms(2_500)];
        config.courier.give_up_after = ms(HOUR_MS.cast_unsigned());
    })
    .await;
    let others = world.start_roles(&[Role::Pipeline, Role::Inbox]).await;
    let (clock, step) = Clock::stepped();
    let courier = world.start_by(clock, &[Role::Courier]).await;
    courier.await_ready().await;
    world.emit(&payment("waits", "absent")).await;
    let [notified] = world.own_records("notifications", 1).await.try_into().unwrap();
    step.to(DAY_MS);
    let tried = world.own_records("retry.2s500ms", 3).await;
    assert!(tried[0].timestamp_ms - notified.timestamp_ms >= 2_000, "tried early");
    assert!(tried.is_sorted_by(|one, next| next.timestamp_ms - one.timestamp_ms >= 2_500), "tried again early");
    assert!(world.log.records(&world.own("undelivered")).await.is_empty(), "it is no day old");
    courier.stop().await;
    others.stop().await;
}
