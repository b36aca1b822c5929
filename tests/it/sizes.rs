//! What brokers refuse for its size: whoever asked is told, or it lies where somebody finds it; and what was to be written together with it
//! is written.

use std::collections::BTreeSet;

use rdkafka::message::{Header, OwnedHeaders};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tidings_core::channel::Channel;

use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::rest::{accepted, answered, ask, gateway, request as http, to_alice, token};
use crate::harness::world::{Running, World, ms};

/// What a topic of these tests takes in one batch.
const LIMIT: u32 = 4_000;
const LARGE_BYTES: usize = 6_000;
/// Two fit, three together do not.
const SMALL_BYTES: usize = 1_000;
const SMALL: usize = 20;

/// Drawn, so that compression does not make it fit.
fn drawn(bytes: usize) -> String {
    (0..bytes).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect()
}

/// Keeps anything from being folded, until all that lies on `topic` is due: so it is decided together.
async fn hold_until_all_are_due(world: &World, running: &Running, topic: &str, ask: impl AsyncFnOnce()) {
    hold_until_due(world, running, (topic, SMALL + 1), ask).await;
}

/// The same with so many.
async fn hold_until_due(world: &World, running: &Running, (topic, count): (&str, usize), ask: impl AsyncFnOnce()) {
    let file = SqliteConnectOptions::new().filename(world.dir.path().join("tidings.db"));
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    ask().await;
    world.own_records(topic, count).await;
    let due = count as f64;
    eventually("all of them are due", async || (running.metric("tidings_courier_due_records").await == due).then_some(())).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
}

/// Waits until nothing for the absent user is pending any more.
async fn until_nothing_is_pending(running: &Running) {
    eventually("nothing of it is pending any more", async || {
        let asked = http(running.address, Method::GET, "/v1/pending/absent").bearer_auth(token("ops", "admin"));
        (answered(asked).await.1["pending"] == json!([])).then_some(())
    })
    .await;
}

fn kind(record: &Value) -> String {
    record["notification"]["type"].as_str().unwrap().to_owned()
}

fn request(kind: &str, user: &str, bytes: usize) -> Value {
    json!({"to": {"user": user}, "type": kind, "message": drawn(bytes)})
}

#[tokio::test]
async fn a_delivery_that_a_topic_of_the_couriers_does_not_take_ends_in_dlq_and_those_decided_with_it_go_on() {
    // The last one takes long enough to be held on its rung.
    for (refusing, rung_s) in [("signals", 1), ("retry.1s", 1), ("undelivered", 10)] {
        let rung = format!("retry.{rung_s}s");
        let world = World::with(|config| {
            config.courier.ack_timeout = ms(3_000);
            config.courier.ladder = vec![ms(1_000 * rung_s)];
            config.store.busy_timeout = ms(200);
        })
        .await;
        let running = world.start().await;
        world.log.take_less(&world.own(refusing), LIMIT).await;
        hold_until_all_are_due(&world, &running, "notifications", async || {
            world.ask(&request("large", "absent", LARGE_BYTES)).await;
            for number in 0..SMALL {
                world.ask(&request(&format!("small-{number}"), &format!("absent-{number}"), SMALL_BYTES)).await;
            }
        })
        .await;
        if refusing == "undelivered" {
            world.own_records(&rung, SMALL + 1).await;
            hold_until_all_are_due(&world, &running, &rung, async || {
                // Until these are folded, what was said of a delivery is not known.
                for number in 0..world.config.kafka.topics.partitions {
                    let place = (world.own("cursors"), Some(number));
                    world.log.produce_any((&place.0, place.1), "k", None, OwnedHeaders::new()).await;
                }
            })
            .await;
        }
        // The large one ends too, and is told in part.
        let ended = world.own_records("undelivered", SMALL + 1).await;
        let kinds = ended.iter().map(|ended| kind(&ended.json()["delivery"]));
        let expected = (0..SMALL).map(|number| format!("small-{number}")).chain(["large".to_owned()]);
        assert_eq!(kinds.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>(), "{refusing}");
        assert_eq!(ended.len(), SMALL + 1, "{refusing}: each once");
        let refused = ended.iter().map(Seen::json).find(|ended| !ended["refused"].is_null()).unwrap();
        let delivery = &refused["delivery"];
        assert_eq!((kind(delivery).as_str(), &refused["refused"]), ("large", &json!("too_large")), "{refusing}");
        assert_eq!(delivery["notification"].get("message"), None, "{refusing}: in part");
        until_nothing_is_pending(&running).await;

        let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
        assert_eq!((dead.header("tidings-error-class"), dead.header("tidings-truncated")), ("too_large", "true"), "{refusing}");
        let read = if refusing == "undelivered" { &rung } else { "notifications" };
        assert_eq!(dead.header("tidings-original-topic"), world.own(read));
        assert_eq!(kind(&dead.json()), "large", "{refusing}");
        assert_eq!(running.failed("courier", ("refused", "dead_letter", "too_large")).await, 1, "{refusing}");
        let aborted = running.metric("tidings_courier_aborted_transactions_total").await;
        assert!(aborted >= 2.0, "{refusing}: all of them were to be written together at first, {aborted}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_large_delivery_beside_a_busy_line_makes_no_round_small() {
    const BUSY: usize = 40;
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(3_000);
        config.courier.ladder = vec![ms(1_000)];
        config.store.busy_timeout = ms(200);
    })
    .await;
    let running = world.start().await;
    let partition =
        |user: &str| format!("user-{user}").parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    let users = (0..).map(|number| format!("absent-{number}"));
    let (first, other) =
        (users.clone().find(|user| partition(user) == 0).unwrap(), users.clone().find(|user| partition(user) == 1));
    // It takes all of the busy line at once, but not the large one.
    world.log.take_less(&world.own("retry.1s"), 14_000).await;
    hold_until_due(&world, &running, ("notifications", BUSY + 1), async || {
        world.ask(&request("large", &other.unwrap(), 16_000)).await;
        for number in 0..BUSY {
            world.ask(&request(&format!("small-{number}"), &first, 10)).await;
        }
    })
    .await;
    let climbed = world.own_records("retry.1s", BUSY).await;
    assert_eq!(climbed.len(), BUSY, "each once");
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!((kind(&dead.json()).as_str(), dead.header("tidings-error-class")), ("large", "too_large"));
    let aborted = running.metric("tidings_courier_aborted_transactions_total").await;
    assert!((1.0..10.0).contains(&aborted), "{aborted}: the others do not travel one by one until it is alone");
    running.stop().await;
}

#[tokio::test]
async fn a_burial_of_which_not_even_the_context_fits_waits_for_a_larger_dlq_and_holds_up_no_other_line() {
    const USERS: usize = 8;
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(500);
        config.courier.ladder = vec![ms(1_000)];
    })
    .await;
    let running = world.start().await;
    world.log.take_less(&world.own("dlq"), 100).await;
    let version = OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    world.log.produce_to((&world.own("retry.1s"), 0), "k", b"not json", version).await;
    let said = eventually("/ready says what the courier waits for", async || {
        let (_, said) = running.get("/ready").await;
        said.contains("not even the context of a record fits").then_some(said)
    })
    .await;
    assert!(said.contains(&world.own("dlq")) && said.contains("max.message.bytes"), "{said}");

    let partition =
        |user: &str| format!("user-{user}").parse::<Channel>().unwrap().partition(world.config.kafka.topics.partitions);
    let users = (0..).map(|number| format!("absent-{number}")).filter(|user| partition(user) != 0);
    for user in users.take(USERS) {
        world.ask(&request("small", &user, 10)).await;
    }
    assert_eq!(world.own_records("undelivered", USERS).await.len(), USERS, "each once");
    assert_eq!(world.log.records(&world.own("dlq")).await.len(), 0);

    world.log.take_less(&world.own("dlq"), 1_000_000).await;
    let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
    assert_eq!(dead.header("tidings-original-topic"), world.own("retry.1s"));
    running.await_ready().await;
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_its_topic_does_not_take_is_refused_with_413_and_its_key_is_free() {
    let world = World::new().await;
    let running = gateway(&world).await;
    world.log.take_less(&world.own("requests"), LIMIT).await;
    let (status, problem) = answered(ask(running.address, Some("key"), &to_alice(&drawn(LARGE_BYTES)))).await;
    assert_eq!(status, 413, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("max.message.bytes"), "{problem}");
    let id = accepted(ask(running.address, Some("key"), &to_alice("short"))).await;
    let [told] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(told.json()["notification"]["eventId"], id.as_str());
    running.stop().await;
}
