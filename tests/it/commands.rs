//! The command line, as somebody with only the README would use it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use reqwest::Method;
use tidings::cli::Role;

use crate::harness::postgres::Server;
use crate::harness::rest;
use crate::harness::world::{SECRET, World, booking};
use crate::harness::{command as configured, eventually};

/// Runs `tidings` with the world's brokers and names, and `input` on standard input.
fn tidings(world: &World, args: &[&str], input: &str) -> Output {
    let mut child = command(world, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(args).env("TIDINGS_KAFKA__BROKERS", &world.log.brokers).env("TIDINGS_AUTH__SECRET", SECRET);
    command.env("TIDINGS_KAFKA__TOPIC_PREFIX", &world.config.kafka.topic_prefix);
    command.env("TIDINGS_KAFKA__TOPICS__PARTITIONS", world.config.kafka.topics.partitions.to_string());
    command
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn an_event_that_is_produced_is_printed_by_tail() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let token = printed(&tidings(&world, &["token", "--user", "alice"], "")).trim().to_owned();
    let url = format!("ws://{}/ws", running.address);
    let heard = world.dir.path().join("tail");
    let args = ["tail", "--url", &url, "--token", &token, "--channel", "booking-updates"];
    let mut tail = command(&world, &args).stdout(std::fs::File::create(&heard).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    eventually("tail listens to its mailbox, to announcements and to what it was told to", async || {
        let stats = rest::request(running.address, Method::GET, "/v1/stats").bearer_auth(rest::token("ops", "admin"));
        (rest::answered(stats).await.1["node"]["subscriptions"] == 3).then_some(())
    })
    .await;

    let event = booking("1", "alice").to_string();
    let place = printed(&tidings(&world, &["produce", "--topic", &world.topic, "--key", "k"], &event));
    assert!(place.starts_with(&format!("{}[", world.topic)) && place.trim().ends_with("]@0"), "{place}");
    let lines = eventually("tail has printed both notifications", async || {
        let lines = std::fs::read_to_string(&heard).unwrap();
        (lines.lines().count() >= 2).then_some(lines)
    })
    .await;
    assert!(lines.contains("user-alice  Booking Confirmed: Your booking for Tesla Model 3 has been confirmed."), "{lines}");
    assert!(lines.contains("booking-updates  Booking Confirmed: A booking has been confirmed."), "{lines}");
    tail.kill().unwrap();
    tail.wait().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn tail_stays_away_after_a_code_that_says_so() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Gateway]).await;
    let url = format!("ws://{}/ws", running.address);
    let refused = tokio::task::spawn_blocking(move || tidings(&world, &["tail", "--url", &url, "--token", "forged"], ""));
    let output = refused.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("4002"));
    running.stop().await;
}

#[tokio::test]
async fn a_line_of_the_input_each_is_a_record_each() {
    let world = World::new().await;
    let args = ["produce", "--topic", &world.topic, "--lines", "--header", "source=test", "--key", "k"];
    let places = printed(&tidings(&world, &args, "one\ntwo\n\nthree\n"));
    assert_eq!(places.lines().count(), 3);
    let records = world.log.records(&world.topic).await;
    let values = records.iter().map(|record| record.value.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(values, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert!(records.iter().all(|record| record.header("source") == "test"));
}

#[tokio::test]
async fn topics_are_made_once_and_checked() {
    let world = World::new().await;
    // By the world's own configuration: its ladder is shorter than the default.
    let again = configured::printed(&world, 0, &["topics", "create"]).await;
    assert!(again.lines().all(|line| line.starts_with("kept")), "{again}");
    assert!(configured::printed(&world, 0, &["topics", "check"]).await.contains("epoch 1"));
    let mut other = configured::command(&world, &["topics", "check"]);
    let other = other.env("TIDINGS_KAFKA__TOPICS__PARTITIONS", "7").output().unwrap();
    let said = printed(&other);
    assert!(said.contains("epoch 1 with 4 partitions"), "what counts is the epoch, once there is one: {said}");
}

#[tokio::test]
async fn a_database_is_migrated_by_hand_once_and_one_of_a_later_release_is_left_alone() {
    let mut world = World::new().await;
    world.config.store.migrate = false;
    let server = Server::start();
    let file = format!("sqlite://{}", world.dir.path().join("by-hand.db").display());
    for url in [file, server.url().to_owned()] {
        world.config.store.url = url.parse().unwrap();
        let refused = world.start_unready(&[Role::Inbox]).await.ended().await.unwrap_err();
        assert!(format!("{refused:#}").contains("`tidings store migrate`"), "{refused:#}");
        for _ in 0..2 {
            let output = command(&world, &["store", "migrate"]).env("TIDINGS_STORE__URL", &url).output().unwrap();
            let said = printed(&output);
            assert!(said.contains(&url), "{said}");
        }
        world.start_roles(&[Role::Inbox]).await.stop().await;

        // What a later release may leave behind: nothing of this one works on it.
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9000, 'later', true, 'x', 0)";
        world.alter(&["UPDATE compatibility SET oldest = 9000", later]).await;
        let output = command(&world, &["store", "migrate"]).env("TIDINGS_STORE__URL", &url).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("version 9000") && said.contains(&url), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_before_anything_starts() {
    let world = World::new().await;
    let file = world.dir.path().join("wrong.toml");
    std::fs::write(&file, "[gateway]\n\nport = \"http\"\n").unwrap();
    let output = command(&world, &["--config", file.to_str().unwrap(), "serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{}:3: `gateway.port`", file.display())), "{said}");
}

#[tokio::test]
async fn everything_embedded_delivers_an_event_and_buries_poison() {
    let world = World::new().await;
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let log = world.dir.path().join("embedded.log");
    let mut serve = command(&world, &["serve", "--embedded"]);
    serve
        .env("TIDINGS_GATEWAY__PORT", port.to_string())
        .env("TIDINGS_STORE__URL", format!("sqlite://{}", world.dir.path().join("embedded.db").display()));
    serve.env("TIDINGS_GATEWAY__HOST", "127.0.0.1").env("TIDINGS_PIPELINE__TOPICS", "bookings");
    let mut serve = serve.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    crate::harness::world::await_ready(address).await;
    let logged = std::fs::read_to_string(&log).unwrap();
    let brokers = logged.split("brokers=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the brokers are logged");

    let embedded = crate::harness::log::Log::new(brokers);
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let (mut alice, _) = crate::harness::client::Client::greeted(address, &query).await;
    embedded.produce("bookings", Some("k"), b"poison").await;
    embedded.produce("bookings", Some("k"), booking("1", "alice").to_string().as_bytes()).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "1");
    let dead = eventually("the poison is in dlq", async || embedded.records(&world.own("dlq")).await.pop()).await;
    assert_eq!(dead.value.as_deref(), Some(&b"poison"[..]));
    serve.kill().unwrap();
    serve.wait().unwrap();
}
