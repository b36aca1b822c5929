//! Not acknowledged: tried again, in time, once, and ended honestly.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Method;
use serde_json::json;
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::courier;
use tidings::kafka::cluster::Cluster;
use tidings::store::Store;
use tidings::telemetry::health::{Health, State};
use tidings::telemetry::{Metrics, Traces};
use tokio_util::sync::CancellationToken;

use crate::harness::log::Seen;
use crate::harness::rest::{NOTIFICATIONS, accepted, answered, ask, request, token};
use crate::harness::world::{World, ms, payment};
use crate::harness::{HANG, eventually};

const ACK_TIMEOUT_MS: i64 = 600;
const LADDER_MS: [i64; 2] = [700, 1100];

async fn world() -> World {
    waiting(ACK_TIMEOUT_MS, &LADDER_MS).await
}

/// A world that waits so long for the first acknowledgement, and then on each rung.
async fn waiting(ack_timeout_ms: i64, ladder_ms: &[i64]) -> World {
    World::with(|config| {
        config.courier.ack_timeout = ms(ack_timeout_ms.cast_unsigned());
        config.courier.ladder = ladder_ms.iter().map(|rung| ms(rung.cast_unsigned())).collect();
    })
    .await
}

#[tokio::test]
async fn an_absent_users_notification_climbs_every_rung_never_early_and_ends_undelivered() {
    let world = world().await;
    let running = world.start().await;
    for number in 0..20 {
        world.emit(&payment(&number.to_string(), &format!("absent-{}", number % 4))).await;
    }
    let undelivered = world.own_records("undelivered", 20).await;
    let first = world.own_records("retry.700ms", 20).await;
    let second = world.own_records("retry.1s100ms", 20).await;
    assert_eq!((undelivered.len(), first.len(), second.len()), (20, 20, 20), "one ladder each, no rung twice");

    let notifications = world.own_records("notifications", 20).await;
    for ended in &undelivered {
        let value = ended.json();
        let delivery = &value["delivery"];
        let id = &delivery["notification"]["id"];
        let on_rung = |records: &[crate::harness::log::Seen]| {
            let mut found = records.iter().filter(|record| record.json()["notification"]["id"] == *id);
            let time = found.next().expect("the rung holds it").timestamp_ms;
            assert!(found.next().is_none(), "it is on the rung once");
            time
        };
        let (start, one, two) = (on_rung(&notifications), on_rung(&first), on_rung(&second));
        assert!(one - start >= ACK_TIMEOUT_MS, "tried {} ms after it was appended", one - start);
        assert!(two - one >= LADDER_MS[0], "tried again after {} ms", two - one);
        assert!(ended.timestamp_ms - two >= LADDER_MS[1], "ended after {} ms", ended.timestamp_ms - two);
        assert_eq!(value["reason"], "offline");
        assert_eq!(delivery["attempts"].as_array().unwrap().len(), 2);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_courier_whose_clock_is_ahead_when_it_begins_tries_nothing_early() {
    const WAIT_MS: i64 = 6_000;
    let world = waiting(WAIT_MS, &[60_000]).await;
    let others = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    world.emit(&payment("1", "absent")).await;
    let [notified] = world.own_records("notifications", 1).await.try_into().unwrap();
    let (clock, step) = Clock::stepped();
    step.to(50 * 60_000);
    let courier = world.start_by(clock, &[Role::Courier]).await;
    let [tried] = world.own_records("retry.1m", 1).await.try_into().unwrap();
    assert!(tried.timestamp_ms - notified.timestamp_ms >= WAIT_MS, "after {} ms", tried.timestamp_ms - notified.timestamp_ms);
    assert_eq!(
        world.log.records(&world.own("signals")).await.iter().filter(|said| said.key.as_deref() == Some(b"hour")).count(),
        0
    );
    courier.stop().await;
    others.stop().await;
}

#[tokio::test]
async fn a_courier_to_which_no_broker_says_what_time_it_is_begins_and_says_what_to_set() {
    let world = waiting(ACK_TIMEOUT_MS, &[60_000]).await;
    let others = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    let (clock, stop, metrics) = (Clock::start(), CancellationToken::new(), Metrics::new());
    let health = Health::new(clock);
    let parts = courier::Parts {
        cluster: Cluster::new(&world.config.kafka).unwrap(),
        config: world.config.courier.clone(),
        epoch: world.epoch().await,
        onward: None,
        node: "by-its-own-clock".parse().unwrap(),
        clock,
        store: Store::open(&world.config.store).await.unwrap(),
        metrics,
        traces: Traces::default(),
        role: health.role("courier"),
    };
    // The check at the start refuses it; it is not asked where brokers do not let us see settings, and later.
    let signals = world.own("signals");
    world.log.set(&signals, ("message.timestamp.type", "CreateTime")).await;
    let courier = tokio::spawn(courier::run(parts, stop.clone()));
    world.emit(&payment("1", "absent")).await;
    world.own_records("retry.1m", 1).await;
    let entry = health.entries()["courier"].clone();
    let note = &entry.notes["hour"];
    assert!(
        [&signals, "message.timestamp.type", "LogAppendTime", "kafka-configs.sh"].iter().all(|word| note.contains(*word)),
        "{note}"
    );
    eventually("it is ready", async || (health.entries()["courier"].state == State::Ready).then_some(())).await;
    stop.cancel();
    courier.await.unwrap().unwrap();
    others.stop().await;
}

#[tokio::test]
async fn what_was_shown_but_not_acknowledged_is_redelivered_and_an_acknowledgement_by_id_ends_the_ladder() {
    let world = world().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let first = alice.frame("notification:new").await;
    assert_eq!(first.get("redelivery"), None);
    let again = alice.frame("notification:new").await;
    assert_eq!((&again["redelivery"], &again["notification"]), (&json!(1), &first["notification"]));
    alice.send(json!({"type": "ack", "notificationIds": [again["notification"]["id"]]})).await;
    world.until_acknowledged(again["notification"]["id"].as_str().unwrap()).await;

    // A second notification that is not acknowledged passes the same rungs behind it: once it has ended, the first one's
    // time is long past.
    world.emit(&payment("2", "alice")).await;
    let [ended] = world.own_records("undelivered", 1).await.try_into().unwrap();
    assert_eq!(ended.json()["delivery"]["notification"]["eventId"], "2");
    assert_eq!(ended.json()["reason"], "unacknowledged");
    running.stop().await;
}

#[tokio::test]
async fn a_user_who_comes_back_is_shown_what_was_missed() {
    // Time for her to come back before the second attempt.
    let world = waiting(ACK_TIMEOUT_MS, &[5_000, 1_000]).await;
    let running = world.start().await;
    world.emit(&payment("1", "alice")).await;
    world.own_records("retry.5s", 1).await;
    let mut alice = running.connect("alice").await;
    let missed = alice.frame("notification:new").await;
    assert_eq!((missed.get("redelivery"), &missed["notification"]["eventId"]), (None, &json!("1")));
    // The ladder goes on until it is acknowledged.
    let again = alice.frame("notification:new").await;
    assert_eq!((&again["redelivery"], &again["notification"]), (&json!(2), &missed["notification"]));
    running.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_in_time_never_climbs() {
    // Time for an acknowledgement on a machine that pauses now and then.
    let world = waiting(4_000, &LADDER_MS).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    for number in 0..10 {
        world.emit(&payment(&number.to_string(), "alice")).await;
        let frame = alice.frame("notification:new").await;
        alice.ack(&frame).await;
    }
    // The courier has passed all of them once a later one, of somebody absent, has ended.
    world.emit(&payment("absent", "nobody")).await;
    world.own_records("undelivered", 1).await;
    let climbed = world.own_records("retry.700ms", 1).await;
    let events = climbed.iter().map(|record| record.json()["notification"]["eventId"].clone()).collect::<Vec<_>>();
    assert_eq!(events, [json!("absent")]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_withdrawn_while_it_waits_on_a_rung_is_dropped_when_it_is_due() {
    const RUNG_MS: i64 = 6_000;
    let world = waiting(ACK_TIMEOUT_MS, &[RUNG_MS, 1_000]).await;
    let running = world.start().await;
    let to_absent =
        async |message: &str| accepted(ask(running.address, None, &json!({"to": {"user": "absent"}, "message": message}))).await;
    let asked = to_absent("withdrawn").await;
    let [waits] = world.own_records("retry.6s", 1).await.try_into().unwrap();
    let withdraw = request(running.address, Method::DELETE, &format!("{NOTIFICATIONS}/{asked}"));
    let (status, taken) = answered(withdraw.bearer_auth(token("billing", "service"))).await;
    assert_eq!((status, &taken["withdrawn"]), (202, &json!(1)), "{taken}");
    let [withdrawal] = world.own_records("receipts", 1).await.try_into().unwrap();
    assert!(withdrawal.timestamp_ms < waits.timestamp_ms + RUNG_MS, "it was due before it was withdrawn");

    // One that lies behind it all the way: once that has ended, the first one's time is long past.
    to_absent("left").await;
    let [ended] = world.own_records("undelivered", 1).await.try_into().unwrap();
    assert_eq!(ended.json()["delivery"]["notification"]["message"], "left");
    let [second] = world.own_records("retry.1s", 1).await.try_into().unwrap();
    assert_eq!(second.json()["notification"]["message"], "left", "no further attempt at the other");
    assert_eq!(running.labelled("tidings_courier_dropped_deliveries_total", "why=\"withdrawn\"").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn forged_headers_counts_due_times_and_lists_of_attempts_shorten_nothing_and_prolong_nothing() {
    let world = waiting(300, &[2_000]).await;
    let running = world.start().await;
    world.emit(&payment("1", "absent")).await;
    let [real] = world.own_records("retry.2s", 1).await.try_into().unwrap();
    let mut forged = real.json();
    // What is behind it and believed would go on with it, and so before its own time.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for (due, count, next_at) in
        [("0", -1_i64, "2001-01-01T00:00:00.000Z"), ("4102444800000", 1 << 31, "2100-01-01T00:00:00.000Z")]
    {
        let at = "2001-01-01T00:00:00.000Z";
        forged["notification"]["id"] = json!(uuid::Uuid::new_v4());
        forged["attempts"] = json!([{"at": at, "node": "x", "sink": "websocket", "outcome": "offline", "nextAt": next_at}]);
        forged["attemptsForgotten"] = json!(count);
        forge_with(&world, ("retry.2s", real.partition), &forged, (due, &count.to_string())).await;
    }
    let ended = world.own_records("undelivered", 3).await;
    let of = |records: &[Seen], pointer: &str| {
        let id = |record: &Seen| record.json().pointer(pointer).unwrap().as_str().unwrap().to_owned();
        records.iter().map(|record| (id(record), record.timestamp_ms)).collect::<BTreeMap<_, _>>()
    };
    let waited = of(&world.own_records("retry.2s", 3).await, "/notification/id");
    for (id, ended_at) in of(&ended, "/delivery/notification/id") {
        assert!(ended_at - waited[&id] >= 2_000, "{id} went on after {} ms", ended_at - waited[&id]);
    }
    for ended in &ended {
        let attempts = ended.json()["delivery"]["attempts"].as_array().unwrap().len();
        assert_eq!(ended.header("tidings-attempt"), attempts.to_string());
        assert_eq!(ended.header("tidings-original-topic"), world.own("notifications"));
        assert_eq!(ended.header("tidings-error-class"), "offline");
    }
    running.stop().await;
}

#[tokio::test]
async fn records_of_what_was_not_delivered_say_of_which_notification_why_and_how_often_it_was_tried() {
    let world = world().await;
    let running = world.start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(trace) });
    world.log.produce_with(&world.topic, None, payment("1", "absent").to_string().as_bytes(), headers).await;
    let [ended] = world.own_records("undelivered", 1).await.try_into().unwrap();
    let [first] = world.own_records("retry.700ms", 1).await.try_into().unwrap();
    let [second] = world.own_records("retry.1s100ms", 1).await.try_into().unwrap();
    let [notified] = world.own_records("notifications", 1).await.try_into().unwrap();
    let (topic, partition, offset) = (world.own("notifications"), notified.partition.to_string(), notified.offset.to_string());
    let appended_at = tidings_core::time::Timestamp::from_millis(notified.timestamp_ms).to_string();
    for (record, attempt) in [(&first, "1"), (&second, "2"), (&ended, "2")] {
        let expected = [
            ("tidings-original-topic", topic.as_str()),
            ("tidings-original-partition", &partition),
            ("tidings-original-offset", &offset),
            ("tidings-original-timestamp", &appended_at),
            ("tidings-original-key", "user-absent"),
            ("tidings-stage", "deliver"),
            ("tidings-cause", "recipient"),
            ("tidings-error-class", "offline"),
            ("tidings-error-message", "no device of the user had been written to"),
            ("tidings-attempt", attempt),
            ("traceparent", trace),
            ("__connect.errors.topic", &topic),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.stage", "deliver"),
            ("__connect.errors.exception.class.name", "offline"),
            ("__connect.errors.exception.message", "no device of the user had been written to"),
        ];
        for (name, content) in expected {
            assert_eq!(record.header(name), content, "{name} of attempt {attempt}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_forged_retry_of_what_is_not_there_is_buried_and_what_lies_behind_it_climbs() {
    let world = world().await;
    let running = world.start().await;
    world.emit(&payment("1", "absent")).await;
    let [real] = world.own_records("retry.700ms", 1).await.try_into().unwrap();
    for (field, value) in
        [("offset", json!(i64::MAX)), ("offset", json!(-1)), ("channel", json!("booking-updates")), ("epoch", json!(7))]
    {
        let mut forged = real.json();
        forged[field] = value;
        forge(&world, "retry.700ms", real.partition, &forged).await;
    }
    world.emit(&payment("2", "absent")).await;
    let ended = world.own_records("undelivered", 2).await;
    assert_eq!(ended.last().unwrap().json()["delivery"]["notification"]["eventId"], "2");
    let dead = world.own_records("dlq", 4).await;
    assert!(dead.iter().all(|dead| dead.header("tidings-error-class") == "forged"), "{dead:?}");
    assert!(dead.iter().any(|dead| dead.json()["offset"] == i64::MAX));
    running.stop().await;
}

/// Writes a retry record that tidings did not write.
async fn forge(world: &World, topic: &str, partition: i32, value: &serde_json::Value) {
    forge_with(world, (topic, partition), value, ("0", "99")).await;
}

/// The same with a time at which it is due, and a number of attempts, in its headers.
async fn forge_with(world: &World, (topic, partition): (&str, i32), value: &serde_json::Value, (due, attempt): (&str, &str)) {
    let producer: FutureProducer = crate::harness::log::config(&world.log.brokers).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "tidings-version", value: Some("1") })
        .insert(Header { key: "tidings-due", value: Some(due) })
        .insert(Header { key: "tidings-attempt", value: Some(attempt) })
        .insert(Header { key: "tidings-original-topic", value: Some("elsewhere") })
        .insert(Header { key: "tidings-original-timestamp", value: Some("2001-01-01T00:00:00.000Z") })
        .insert(Header { key: "tidings-error-class", value: Some("forged") });
    let (topic, value) = (world.own(topic), value.to_string());
    let record = FutureRecord::to(&topic).partition(partition).key("user-absent").payload(&value).headers(headers);
    producer.send(record, HANG).await.map_err(|(error, _)| error).unwrap();
}
