//! Folding anew: `tidings inbox rebuild` gives the tables that were there.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::{Config, Database};
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::inbox::Held;
use crate::harness::postgres::Server;
use crate::harness::world::{World, ms, payment};

/// What mailboxes keep in these tests: fewer than are sent.
const KEPT: usize = 12;
const SENT: usize = 20;

/// Each test on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::World::with(super::small).await).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() {
                let server = super::Server::start();
                let world = super::World::with(|config| {
                    super::small(config);
                    config.store.url = server.database();
                });
                super::$name(world.await).await;
            })*
        }
    };
}

on_both! {
    tables_that_were_damaged_are_as_they_were_after_a_rebuild,
    the_tables_of_two_epochs_are_as_they_were_after_a_rebuild,
    what_kafka_no_longer_has_is_taken_over_unless_only_the_log_is_to_count,
    a_process_that_serves_meanwhile_goes_on_where_the_new_tables_stand,
    a_rebuild_that_was_killed_has_changed_nothing_and_the_next_one_succeeds,
}

fn small(config: &mut Config) {
    config.inbox.mailbox_rows = NonZeroUsize::new(KEPT).unwrap();
    config.inbox.devices_per_user = NonZeroUsize::new(1).unwrap();
    config.store.busy_timeout = ms(20_000);
    config.courier.ack_timeout = ms(500);
    config.courier.ladder = vec![ms(60_000)];
}

fn rebuild(world: &World) -> Command {
    let file: PathBuf = world.dir.path().join("rebuild.toml");
    std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.arg("--config").arg(file).args(["inbox", "rebuild"]).stdin(Stdio::null());
    command
}

/// What the command says on both outputs, and how it ends.
async fn ended(mut command: Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.success(), stdout, stderr)
}

async fn rebuilt(world: &World) -> String {
    let (is_success, said, shown) = ended(rebuild(world)).await;
    assert!(is_success, "{shown}");
    assert!(shown.contains("100 %"), "it shows how far it is: {shown}");
    said
}

/// A receipt where it belongs.
async fn receive(world: &World, epoch: &str, receipt: &Value) {
    let home: Channel = match &receipt["userId"] {
        Value::String(user) => Channel::mailbox(&user.parse().unwrap()),
        _ => receipt["channel"].as_str().unwrap().parse().unwrap(),
    };
    let partition = home.partition(world.epoch().await.partitions);
    let headers = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    let topic = world.own(&format!("receipts{epoch}"));
    world.log.produce_to((&topic, partition), home.as_str(), receipt.to_string().as_bytes(), headers).await;
}

/// More than is kept, acknowledged by two devices of which one has to go, read, put away and withdrawn; all of it folded.
async fn live(world: &World) -> Vec<String> {
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let mut frames = Vec::new();
    for number in 0..SENT {
        world.emit(&payment(&number.to_string(), "alice")).await;
        world.emit(&payment(&format!("of-bob-{number}"), "bob")).await;
        let frame = alice.frame("notification:new").await;
        alice.ack(&frame).await;
        frames.push(frame);
    }
    let item = |index: usize| json!({"id": frames[index]["notification"]["id"], "channel": "user-alice", "position": frames[index]["position"]});
    let state =
        |state: &str, index: usize| json!({"receipt": "state", "userId": "alice", "state": state, "items": [item(index)]});
    for receipt in [
        state("unread", 9),
        json!({"receipt": "upTo", "userId": "alice", "state": "read", "channel": "user-alice", "position": frames[10]["position"]}),
        state("unread", 10),
        state("dismissed", 15),
        json!({"receipt": "withdrawn", "channel": "user-alice", "id": frames[16]["notification"]["id"], "cause": "service"}),
        json!({"receipt": "state", "userId": "bob", "state": "seen", "items": [{"id": frames[0]["notification"]["id"]}]}),
    ] {
        receive(world, "", &receipt).await;
    }
    world.until_still().await;
    running.stop().await;
    let tables = world.until_still().await;
    for (table, least) in
        [("notification", 2 * SENT), ("trim", 2), ("stretch", 2), ("device", 1), ("state", 4), ("mark", 1), ("withdrawn", 1)]
    {
        assert!(count(&tables, table) >= least, "{table}: {tables:#?}");
    }
    tables
}

fn count(tables: &[String], table: &str) -> usize {
    tables.iter().filter(|line| line.split(' ').next() == Some(table)).count()
}

async fn tables_that_were_damaged_are_as_they_were_after_a_rebuild(world: World) {
    let before = live(&world).await;
    let damage =
        ["DELETE FROM states", "UPDATE notifications SET body = NULL WHERE channel = 'user-alice'", "DELETE FROM stretches"];
    world.alter(&damage).await;
    assert_ne!(world.tables().await, before);
    let said = rebuilt(&world).await;
    assert!(said.contains(&format!("{} notifications can be read, {KEPT} before", 2 * KEPT)), "{said}");
    assert_eq!(world.tables().await, before);
    rebuilt(&world).await;
    assert_eq!(world.tables().await, before, "and again");
}

/// A second epoch, to which something pending is carried over, and what is said there of both.
async fn grown(world: &World) -> Vec<String> {
    let before = live(world).await;
    assert!(count(&before, "copy") == 0);
    // Bob was never there: all of his is pending.
    world.grow(8).await.unwrap();
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("later", "alice")).await;
    let frame = alice.frame("notification:new").await;
    alice.ack(&frame).await;
    world.own_records("notifications.e2", SENT + 1).await;
    let item = json!({"id": frame["notification"]["id"], "channel": "user-alice", "position": frame["position"]});
    for receipt in [
        json!({"receipt": "state", "userId": "alice", "state": "unread", "items": [item]}),
        json!({"receipt": "upTo", "userId": "bob", "state": "seen", "channel": "user-bob", "position": "2:3"}),
    ] {
        receive(world, ".e2", &receipt).await;
    }
    world.until_still().await;
    running.stop().await;
    let tables = world.until_still().await;
    assert!(count(&tables, "copy") >= SENT && count(&tables, "mark") == 2, "{tables:#?}");
    tables
}

async fn the_tables_of_two_epochs_are_as_they_were_after_a_rebuild(world: World) {
    let before = grown(&world).await;
    world.alter(&["DELETE FROM copies", "DELETE FROM marks", "DELETE FROM notifications WHERE channel = 'user-bob'"]).await;
    let said = rebuilt(&world).await;
    assert!(said.contains("of epoch 1, 2 in"), "{said}");
    assert_eq!(world.tables().await, before);
    // The topics of an epoch that is done with may be deleted; what was folded from them stays.
    for topic in ["notifications", "cursors", "receipts", "retry.1m"] {
        world.log.delete(&world.own(topic)).await;
    }
    let said = rebuilt(&world).await;
    assert!(said.contains("of epoch 2 in") && said.contains("taken over from the old tables"), "{said}");
    assert_eq!(world.tables().await, before);
}

async fn what_kafka_no_longer_has_is_taken_over_unless_only_the_log_is_to_count(world: World) {
    let before = live(&world).await;
    for (topic, user, left) in [("notifications", "alice", 3), ("notifications", "bob", SENT as i64), ("receipts", "alice", 1)] {
        let partition = Channel::mailbox(&user.parse().unwrap()).partition(world.config.kafka.topics.partitions);
        let records = world.log.records(&world.own(topic)).await;
        let end = records.iter().filter(|one| one.partition == partition).map(|one| one.offset + 1).max().unwrap();
        world.log.remove_below(&world.own(topic), partition, (end - left).max(0)).await;
    }
    let said = rebuilt(&world).await;
    assert!(said.contains("taken over from the old tables") && !said.contains("gone"), "{said}");
    assert_eq!(world.tables().await, before);
    let mut bare = rebuild(&world);
    bare.arg("--log-only");
    let (is_success, said, shown) = ended(bare).await;
    assert!(is_success, "{shown}");
    assert!(said.contains(&format!("; {} of the notifications before are gone", KEPT - 3)), "{said}");
    assert_eq!(world.inbox("alice").await.len(), 3);
}

async fn a_process_that_serves_meanwhile_goes_on_where_the_new_tables_stand(world: World) {
    live(&world).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Inbox]).await;
    world.alter(&["DELETE FROM states"]).await;
    rebuilt(&world).await;
    let before = world.until_still().await;
    assert_eq!(count(&before, "state"), 4);
    world.emit(&payment("later", "carol")).await;
    eventually("what comes later is folded", async || (world.inbox("carol").await.len() == 1).then_some(())).await;
    running.stop().await;
    let after = world.tables().await;
    let rows = |lines: &[String]| lines.iter().filter(|line| !line.starts_with("projection ")).cloned().collect::<Vec<_>>();
    let mut others = rows(&after);
    others.retain(|line| !line.contains("user-carol"));
    assert_eq!(others, rows(&before), "nothing else has changed");
}

async fn a_rebuild_that_was_killed_has_changed_nothing_and_the_next_one_succeeds(world: World) {
    let before = live(&world).await;
    let held = Held::of(&world.config.store.url).await;
    let shown = world.dir.path().join("shown");
    let file = std::fs::File::create(&shown).unwrap();
    let mut killed = rebuild(&world).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    eventually("all is folded, and the swap waits", async || {
        assert_eq!(
            killed.try_wait().unwrap(),
            None,
            "it ended before it was killed: {}",
            std::fs::read_to_string(&shown).unwrap()
        );
        std::fs::read_to_string(&shown).unwrap().contains("100 %").then_some(())
    })
    .await;
    let (is_success, _, shown) = ended(rebuild(&world)).await;
    assert!(!is_success && shown.contains("runs already"), "{shown}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    held.release().await;
    assert_eq!(world.tables().await, before);
    rebuilt(&world).await;
    assert_eq!(world.tables().await, before);
    if let Database::Sqlite(path) = &world.config.store.url {
        let left = |end: &str| PathBuf::from(format!("{}.rebuild{end}", path.display())).exists();
        assert!(!left("") && !left("-wal"), "nothing is left beside it");
    }
}
