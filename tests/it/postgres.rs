//! PostgreSQL as the store: what is the same as with a file, what happens while the server is away, and several nodes on one.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use tidings::cli::Role;
use tidings::config::{Config, Scalar};
use tidings::store::Store;

use crate::harness::eventually;
use crate::harness::postgres::Server;
use crate::harness::process::Process;
use crate::harness::world::{World, metric, ms, payment};

async fn world_on(server: &Server, change: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        config.store.url = server.database();
        config.store.busy_timeout = ms(500);
        change(config);
    })
    .await
}

#[tokio::test]
async fn a_server_that_is_away_stops_no_delivery_and_loses_nothing() {
    let server = Server::start();
    let world = world_on(&server, |_| {}).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["before"]).await;
    world.until_folded(1).await;

    server.stop();
    world.live(&mut alice, &["one", "two"]).await;
    eventually("/ready names the inbox", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("inbox")).then_some(())
    })
    .await;
    world.live(&mut alice, &["three"]).await;

    server.start_again();
    world.until_folded(4).await;
    running.await_ready().await;
    assert!(world.log.records(&world.own("retry.30s")).await.is_empty(), "no attempt was burnt for it");
    running.stop().await;
}

#[tokio::test]
async fn what_was_folded_is_there_after_a_restart_and_the_courier_judges_by_it() {
    let server = Server::start();
    let world = world_on(&server, |config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(60_000)];
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["acknowledged"]).await;
    world.emit(&payment("ignored", "alice")).await;
    let ignored = alice.frame("notification:new").await["notification"]["id"].clone();
    let retried = world.own_records("retry.1m", 1).await;
    assert_eq!(retried.iter().map(|record| record.json()["notification"]["id"].clone()).collect::<Vec<_>>(), [ignored]);
    running.stop().await;

    let running = world.start_roles(&[Role::Inbox]).await;
    let kept = world.inbox("alice").await;
    assert_eq!(kept.iter().map(|notification| notification["eventId"].clone()).collect::<Vec<_>>(), ["acknowledged", "ignored"]);
    assert_eq!(world.acknowledged("alice").await, [kept[0]["id"].as_str().unwrap()]);
    running.stop().await;
}

#[tokio::test]
async fn a_schema_that_may_not_be_changed_at_start_is_refused_until_it_was_migrated_by_hand() {
    let server = Server::start();
    let world = world_on(&server, |config| config.store.migrate = false).await;
    let refused = world.start_unready(&[Role::Inbox]).await.ended().await.unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("version 0") && said.contains("`tidings store migrate`"), "{said}");
    Store::migrate(&world.config.store).await.unwrap().close().await;
    let running = world.start_roles(&[Role::Inbox]).await;
    running.stop().await;
}

/// The users whose payments are due, many to a partition.
fn users() -> Vec<String> {
    (0..24).map(|number| format!("u{number}")).collect()
}

async fn emit_to_all(world: &World, round: u32) {
    for user in users() {
        world.emit(&payment(&format!("{user}-{round}"), &user)).await;
    }
}

/// What is in all mailboxes: user and event.
async fn all_inboxes(world: &World) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for user in users() {
        let events = world.inbox(&user).await.into_iter().map(|one| one["eventId"].as_str().unwrap().to_owned());
        all.extend(events.map(|event| (user.clone(), event)));
    }
    all
}

async fn until_all_have(world: &World, rounds: u32) {
    let expected = users().len() * rounds as usize;
    eventually(&format!("all have {rounds} notifications"), async || (all_inboxes(world).await.len() == expected).then_some(()))
        .await;
}

#[tokio::test]
async fn a_projector_that_stalls_loses_its_partitions_and_changes_nothing_when_it_wakes_up() {
    let server = Server::start();
    let world = world_on(&server, |config| {
        config.store.answer_timeout = ms(1_000);
        config.kafka.properties.insert("session.timeout.ms".into(), Scalar::Number(6_000));
    })
    .await;
    let pipeline = world.start_roles(&[Role::Pipeline]).await;
    let (mut inbox, mut stalls) = (Process::spawn_roles(&world, &["inbox"]), Process::spawn_roles(&world, &["inbox"]));
    inbox.await_ready().await;
    stalls.await_ready().await;
    emit_to_all(&world, 0).await;
    until_all_have(&world, 1).await;
    // Of all partitions a member may have been given none of notifications.
    let folded = async |process: &Process| metric(process.address, "tidings_inbox_folded_notifications_total").await;
    if folded(&inbox).await > folded(&stalls).await {
        std::mem::swap(&mut inbox, &mut stalls);
    }

    stalls.signal(Signal::SIGSTOP);
    emit_to_all(&world, 1).await;
    world.own_records("notifications", users().len() * 2).await;
    let now = all_inboxes(&world).await.len();
    assert!(now < users().len() * 2, "nothing waited for the one that stalls");
    until_all_have(&world, 2).await;
    let before = all_inboxes(&world).await;

    stalls.signal(Signal::SIGCONT);
    stalls.await_ready().await;
    assert_eq!(all_inboxes(&world).await, before);
    emit_to_all(&world, 2).await;
    until_all_have(&world, 3).await;
    let events = all_inboxes(&world).await.into_iter().map(|(_, event)| event).collect::<BTreeSet<_>>();
    assert_eq!(events.len(), users().len() * 3, "each once");
    for mut process in [inbox, stalls] {
        process.terminate();
        assert!(process.ended().await.success(), "{}", process.logged());
    }
    pipeline.stop().await;
}

#[tokio::test]
async fn a_password_is_shown_nowhere_and_its_file_is_named_if_it_cannot_be_read() {
    let mut config = tidings::config::load(None, &[]).unwrap();
    config.store.url = "postgres://u@127.0.0.1:1/name".parse().unwrap();
    config.store.password_file = "/no such file".into();
    let refused = Store::open(&config.store).await.unwrap_err().to_string();
    assert!(refused.contains("`store.password_file`") && refused.contains("no such file"), "{refused}");
    config.store.password_file.clear();
    config.store.password = "s3cret-of-the-database".into();
    let shown = format!("{config:?} {:?} {}", config.store, config.shown().unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
}
