//! PostgreSQL as the store: what is the same as with a file, what happens while the server is away, and several nodes on one.
//! Long because each way in which a server or a projector goes and comes is a test of its own.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tidings::cli::Role;
use tidings::config::{Config, Scalar};
use tidings::store::Store;

use crate::harness::certificates::Authority;
use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::inbox::Held;
use crate::harness::missed::{MAILBOX, positions, query, told};
use crate::harness::postgres::Server;
use crate::harness::process::Process;
use crate::harness::world::{World, metric, ms, payment};

async fn world_on(server: &Server, change: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        config.store.url = server.database();
        config.store.busy_timeout = ms(500);
        // Nothing answers pings while a server starts.
        config.gateway.heartbeat_interval = ms(3_600_000);
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
async fn who_returns_while_the_server_is_away_is_sent_all_it_missed_once_that_is_back_in_time() {
    let server = Server::start();
    let world = world_on(&server, |config| {
        config.gateway.recovery.wait = ms(60_000);
        config.gateway.recovery.ring_records = std::num::NonZeroUsize::new(1).unwrap();
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.live(&mut alice, &["1", "2", "3", "4"]).await;
    world.until_folded(4).await;

    server.stop();
    // It names its positions, and nothing is asked before it is let in.
    let since = positions(&json!({MAILBOX: "1:0", "system-announcements": "1:0"}));
    let mut tablet = Client::greeted(running.address, &format!("{}&since={since}", query("tablet"))).await.0;
    assert_eq!(tablet.frame("subscribed").await["recovering"], true);
    world.live(&mut alice, &["5"]).await;
    assert!(tablet.passed_over("recovered").is_none());
    server.start_again();
    let told = told(&mut tablet, MAILBOX).await;
    let events = told.frames.iter().map(|frame| frame["notification"]["eventId"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((events, &told.recovered["recovered"]), (vec!["1", "2", "3", "4", "5"], &json!(true)));
    assert!(told.truncated.is_empty());
    running.stop().await;
}

/// The query of a device of Alice's that has seen nothing yet.
fn from_the_beginning(device: &str) -> String {
    format!("{}&since={}", query(device), positions(&json!({MAILBOX: "1:0"})))
}

/// What Alice's devices were shown, by event: how often.
type Ledger = BTreeMap<String, u32>;

/// Hears until so many events have come, acknowledges all, and enters them in the ledger.
async fn enter(alice: &mut Client, ledger: &mut Ledger, count: usize) {
    while ledger.len() < count {
        let Heard::Frame(frame) = alice.hear().await else { panic!("the connection ended after {ledger:?}") };
        if frame["type"] == "notification:new" {
            alice.ack(&frame).await;
            *ledger.entry(frame["notification"]["eventId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_again_and_again_under_load_loses_nothing_and_nobody_is_sent_anything_twice() {
    let server = Server::start();
    let world = world_on(&server, |config| {
        config.courier.ack_timeout = ms(1_000);
        config.gateway.recovery.wait = ms(500);
        // What a device missed is not in the node's memory.
        config.gateway.recovery.ring_records = std::num::NonZeroUsize::new(1).unwrap();
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let (mut ledger, mut number) = (Ledger::new(), 0);
    for outage in 0..3 {
        server.stop();
        for _ in 0..20 {
            number += 1;
            world.emit(&payment(&number.to_string(), "alice")).await;
        }
        enter(&mut alice, &mut ledger, number).await;
        // Whoever comes back meanwhile is told that nobody knows what it missed, and is sent what is live.
        let mut other = Client::greeted(running.address, &from_the_beginning("d2")).await.0;
        let told: Value = other.frame("recovered").await;
        assert_eq!(told["recovered"], false, "outage {outage}: {told}");
        // Long enough for the courier to want evidence.
        let due = "tidings_courier_due_records";
        eventually("something is due and nothing can be decided", async || (running.metric(due).await > 0.0).then_some(())).await;
        server.start_again();
        world.until_folded(number).await;
        running.await_ready().await;
    }
    let expected = (1..=number).map(|number| (number.to_string(), 1)).collect::<Ledger>();
    assert_eq!(ledger, expected);
    eventually("the courier has decided all", async || {
        (running.metric("tidings_courier_due_records").await == 0.0).then_some(())
    })
    .await;
    assert!(world.log.records(&world.own("retry.30s")).await.is_empty(), "no attempt was burnt for it");
    running.stop().await;
}

#[tokio::test]
async fn a_gateway_begins_without_the_server_serves_what_is_live_and_uses_it_once_it_is_there() {
    let server = Server::start();
    let world = world_on(&server, |config| config.gateway.recovery.wait = ms(500)).await;
    // Makes the tables, and holds what came before the gateway.
    let others = world.start_roles(&[Role::Pipeline, Role::Inbox]).await;
    world.emit(&payment("before", "alice")).await;
    eventually("it is folded", async || (world.inbox("alice").await.len() == 1).then_some(())).await;
    server.stop();

    let gateway = world.start_unready(&[Role::Gateway]).await;
    eventually("the gateway does its work", async || {
        let (status, body) = gateway.get("/ready").await;
        let roles = serde_json::from_str::<Value>(&body).unwrap()["roles"].clone();
        (status == 503 && roles["gateway"]["state"] == "ready" && roles["store"]["state"] != "ready").then_some(())
    })
    .await;
    let mut alice = gateway.connect("alice").await;
    world.emit(&payment("live", "alice")).await;
    let frame = alice.frame("notification:new").await;
    assert_eq!(frame["notification"]["eventId"], "live");
    alice.close().await;

    server.start_again();
    gateway.await_ready().await;
    eventually("what came before the gateway is recovered from the database", async || {
        let mut alice = Client::greeted(gateway.address, &from_the_beginning("d3")).await.0;
        let told = alice.frame("recovered").await;
        (told["recovered"] == true && alice.frame("notification:new").await["notification"]["eventId"] == "before").then_some(())
    })
    .await;
    gateway.stop().await;
    others.stop().await;
}

#[tokio::test]
async fn a_server_that_speaks_tls_and_asks_for_a_password_is_used_and_a_strangers_is_not() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Server::start_secure(&authority.issue((0, 30)));
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let file = files.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (ours, others) = (file("ca.pem", &authority.pem()), file("stranger.pem", &stranger.pem()));
    let world = World::with(|config| {
        config.store.url = server.secure_database(&ours);
        config.store.password_file = file("password", b"secret\n").display().to_string();
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let frame = alice.frame("notification:new").await;
    alice.ack(&frame).await;
    let mut database = sqlx::PgConnection::connect(server.url()).await.unwrap();
    eventually("it is folded over TLS", async || {
        let (sessions, plain): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE usename = 'tidings'",
        )
        .fetch_one(&mut database)
        .await
        .unwrap();
        assert_eq!(plain, 0);
        let folded = running.metric("tidings_inbox_folded_cursors_total").await;
        (sessions > 0 && folded >= 1.0).then_some(())
    })
    .await;
    running.stop().await;

    let mut wrong = world.config.store.clone();
    wrong.password_file = file("wrong", b"another").display().to_string();
    let refused = refusal(&wrong).await;
    assert!(refused.contains("the database's server refuses") && refused.contains("password authentication failed"), "{refused}");
    assert!(!refused.contains("another"), "{refused}");
    let mut strange = world.config.store.clone();
    strange.url = server.secure_database(&others);
    let refused = refusal(&strange).await;
    assert!(refused.contains("its certificate is not what"), "{refused}");
}

/// Why a database does not open, with all its causes.
async fn refusal(config: &tidings::config::StoreConfig) -> String {
    format!("{:#}", anyhow::Error::from(Store::migrate(config).await.unwrap_err()))
}

#[tokio::test]
async fn what_was_folded_is_there_after_a_restart_and_the_courier_judges_by_it() {
    let server = Server::start();
    let world = world_on(&server, |config| {
        // Time for an acknowledgement on a machine that pauses now and then.
        config.courier.ack_timeout = ms(4_000);
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

    // Both are in the middle of folding when one of them stalls.
    let held = Held::of(&world.config.store.url).await;
    emit_to_all(&world, 1).await;
    let mut database = sqlx::PgConnection::connect(server.url()).await.unwrap();
    eventually("both wait with a batch in hand", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE projection%'";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut database).await.unwrap();
        (waiting == 2).then_some(())
    })
    .await;
    stalls.signal(Signal::SIGSTOP);
    held.release().await;
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
