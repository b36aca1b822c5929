//! What nobody acknowledged: ladders of rules, what was tried, and what operators see of it and do about it. Long because the whole way of what is not
//! acknowledged is walked here, from the first rung to being begun anew.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Config;

use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::rest::{accepted, answered, ask, request, token};
use crate::harness::world::{Running, World, ms, payment};

/// Waits so long for the first acknowledgement, and then on each rung.
fn ladder(config: &mut Config, ack_timeout: u64, rungs: &[u64]) {
    config.courier.ack_timeout = ms(ack_timeout);
    config.courier.ladder = rungs.iter().copied().map(ms).collect();
}

async fn waiting(ack_timeout: u64, rungs: &[u64]) -> World {
    World::with(|config| ladder(config, ack_timeout, rungs)).await
}

/// What an operator is answered.
async fn operator(running: &Running, method: Method, path: &str) -> (u16, Value) {
    answered(request(running.address, method, path).bearer_auth(token("ops", "admin"))).await
}

async fn told(running: &Running, path: &str) -> Value {
    let (status, body) = operator(running, Method::GET, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn done(running: &Running, path: &str) -> Value {
    let (status, body) = operator(running, Method::POST, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn redrive(running: &Running, body: &Value) -> Value {
    let asked = request(running.address, Method::POST, "/v1/undelivered/redrive").bearer_auth(token("ops", "admin"));
    let (status, report) = answered(asked.header("content-type", "application/json").body(body.to_string())).await;
    assert_eq!(status, 200, "{report}");
    report
}

/// What is pending, once there is so much.
async fn pending(running: &Running, count: usize) -> Value {
    eventually("so much is pending", async || {
        let page = told(running, "/v1/pending").await;
        (page["pending"].as_array().unwrap().len() == count).then_some(page)
    })
    .await
}

fn outcomes(one: &Value) -> Vec<(u64, String)> {
    let attempts = one["attempts"].as_array().unwrap().iter();
    attempts.map(|told| (told["number"].as_u64().unwrap(), told["outcome"].as_str().unwrap().to_owned())).collect()
}

fn outcome(number: u64, outcome: &str) -> (u64, String) {
    (number, outcome.to_owned())
}

async fn of_event(world: &World, topic: &str, event: &str) -> Vec<Seen> {
    let records = world.log.records(&world.own(topic)).await;
    records.into_iter().filter(|record| record.json()["notification"]["eventId"] == event).collect()
}

const RULES: &str = r#"
[[rule]]
name = "once-more"
event = "once-more"
user = "{{ userId }}"
type = "t"
ladder = ["700ms"]

[[rule]]
name = "for-long"
event = "for-long"
user = "{{ userId }}"
type = "t"
"#;

const ONCE: &str = r#"
[[rule]]
name = "once"
event = "once"
user = "{{ userId }}"
type = "t"
ladder = []
"#;

#[tokio::test]
async fn a_rules_own_ladder_ends_behind_its_last_rung_and_the_common_one_repeats_its_last() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.toml"), RULES).unwrap();
    std::fs::write(folder.path().join("once.toml"), ONCE).unwrap();
    let world = World::with(|config| {
        ladder(config, 600, &[700, 900]);
        config.courier.give_up_after = ms(60_000);
        config.pipeline.rules = folder.path().display().to_string();
    })
    .await;
    let running = world.start().await;
    for kind in ["for-long", "once-more", "once"] {
        world.emit(&json!({"type": kind, "id": kind, "data": {"userId": "absent"}})).await;
    }
    let repeated = eventually("the last rung is repeated", async || {
        let records = of_event(&world, "retry.900ms", "for-long").await;
        (records.len() >= 3).then_some(records)
    })
    .await;
    for (record, attempts) in repeated.iter().zip(2..) {
        assert_eq!(record.json()["attempts"].as_array().unwrap().len(), attempts);
        assert_eq!(record.header("tidings-attempt"), attempts.to_string());
    }
    assert!(repeated.is_sorted_by(|one, next| next.timestamp_ms - one.timestamp_ms >= 900), "never early");
    let ended = world.own_records("undelivered", 2).await;
    let ended = |event: &str| {
        let found = ended.iter().map(Seen::json).find(|record| record["delivery"]["notification"]["eventId"] == event);
        found.unwrap_or_else(|| panic!("{event} has not ended"))
    };
    let (once_more, once) = (ended("once-more"), ended("once"));
    assert_eq!((&once_more["delivery"]["ladder"], &once_more["reason"]), (&json!(["700ms"]), &json!("offline")));
    assert_eq!(once_more["delivery"]["attempts"].as_array().unwrap().len(), 1);
    assert_eq!((&once["delivery"]["ladder"], once["delivery"]["attempts"].as_array().unwrap().len()), (&json!([]), 0));
    assert_eq!(of_event(&world, "retry.900ms", "once-more").await.len(), 0);
    assert_eq!(of_event(&world, "retry.700ms", "once").await.len(), 0);
    running.stop().await;
}

/// When each notification was appended to a topic; that it lies there more than once is a second ladder.
pub(crate) async fn appended(world: &World, topic: &str, pointer: &str) -> BTreeMap<String, i64> {
    let mut times = BTreeMap::new();
    for record in world.log.records(&world.own(topic)).await {
        let id = record.json().pointer(pointer).unwrap().as_str().unwrap().to_owned();
        assert_eq!(times.insert(id.clone(), record.timestamp_ms), None, "{id} lies on {topic} twice");
    }
    times
}

/// The nodes that have tried what lies on these topics.
async fn deciders(world: &World, topics: &[&str]) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for topic in topics {
        for record in world.log.records(&world.own(topic)).await {
            let attempts = record.json()["attempts"].as_array().unwrap().clone();
            nodes.extend(attempts.iter().map(|attempt| attempt["node"].as_str().unwrap().to_owned()));
        }
    }
    nodes
}

#[tokio::test]
async fn couriers_that_come_and_go_leave_one_ladder_for_each_and_are_never_early() {
    const LOT: usize = 40;
    const RUNGS: [&str; 2] = ["retry.1s500ms", "retry.2s"];
    let mut world = waiting(600, &[1_500, 2_000]).await;
    let others = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    world.config.node.id = "first".into();
    let first = world.start_roles(&[Role::Courier]).await;
    world.config.node.id = "second".into();
    let second = world.start_roles(&[Role::Courier]).await;
    let emit = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            world.emit(&payment(&number.to_string(), &format!("absent-{number}"))).await;
        }
    };
    emit(0..LOT).await;
    // Nobody folds what was said of them, so both of them wait for the ends of `cursors` and `receipts`.
    let due = async || first.metric("tidings_courier_due_records").await + second.metric("tidings_courier_due_records").await;
    eventually("all are due, and each has one who holds it", async || (due().await == LOT as f64).then_some(())).await;
    assert!(deciders(&world, &RUNGS).await.is_empty(), "decided without evidence");
    let inbox = world.start_roles(&[Role::Inbox]).await;
    let both = ["first", "second"].map(str::to_owned);
    eventually("both have decided", async || (deciders(&world, &RUNGS).await == BTreeSet::from(both.clone())).then_some(()))
        .await;
    // Partitions go to the other one while deliveries are on their way, and then all of them.
    emit(LOT..2 * LOT).await;
    world.own_records(RUNGS[0], LOT + LOT / 4).await;
    first.stop().await;
    world.own_records("undelivered", 2 * LOT).await;
    let of = async |topic: &str, pointer: &str| appended(&world, topic, pointer).await;
    let steps = [
        (of("notifications", "/notification/id").await, 600),
        (of(RUNGS[0], "/notification/id").await, 1_500),
        (of(RUNGS[1], "/notification/id").await, 2_000),
        (of("undelivered", "/delivery/notification/id").await, 0),
    ];
    assert!(steps.iter().all(|(times, _)| times.len() == 2 * LOT));
    for pair in steps.windows(2) {
        let [(before, least), (after, _)] = pair else { unreachable!() };
        for (id, at) in before {
            assert!(after[id] - at >= *least, "{id} went on after {} ms of {least}", after[id] - at);
        }
    }
    second.stop().await;
    inbox.stop().await;
    others.stop().await;
}

#[tokio::test]
async fn what_is_old_is_given_up_on_the_last_rung() {
    let world = World::with(|config| {
        ladder(config, 300, &[400]);
        config.courier.give_up_after = ms(2_000);
    })
    .await;
    let running = world.start().await;
    world.emit(&payment("1", "absent")).await;
    let [ended] = world.own_records("undelivered", 1).await.try_into().unwrap();
    let [notified] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert!(ended.timestamp_ms - notified.timestamp_ms >= 2_000, "given up early");
    let attempts = ended.json()["delivery"]["attempts"].as_array().unwrap().len();
    assert_eq!(of_event(&world, "retry.400ms", "1").await.len(), attempts, "one record for each attempt");
    running.stop().await;
}

#[tokio::test]
async fn what_is_pending_is_told_with_what_was_tried_until_it_is_acknowledged() {
    let world = waiting(600, &[700, 60_000]).await;
    let running = world.start().await;
    let asked = accepted(ask(running.address, None, &json!({"to": {"user": "alice"}, "message": "m"}))).await;
    // What has just been sent waits, too.
    let first = eventually("it is in the mailbox", async || {
        let page = told(&running, "/v1/pending/alice").await;
        page["pending"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(first["attempts"][0]["number"], 0);
    world.own_records("retry.1m", 1).await;
    let page = eventually("two attempts are told", async || {
        let page = told(&running, "/v1/pending").await;
        (page["pending"][0]["attempts"].as_array()?.len() == 3).then_some(page)
    })
    .await;
    assert_eq!(page["counts"], json!({"offline": 1, "unacknowledged": 0}));
    let one = &page["pending"][0];
    assert_eq!((&one["userId"], &one["id"]), (&json!("alice"), &first["id"]));
    assert_eq!(outcomes(one), [outcome(0, "offline"), outcome(1, "offline"), outcome(2, "waiting")]);
    let last = &one["attempts"][2];
    assert_eq!((last["node"].is_string(), &last["sink"], &last["nextAt"]), (true, &json!("websocket"), &one["nextAt"]));
    assert_eq!(told(&running, "/v1/pending/alice").await["pending"][0]["attempts"], one["attempts"]);
    assert_eq!(told(&running, "/v1/pending/bob").await["pending"], json!([]));
    assert_eq!(told(&running, "/v1/pending?outcome=unacknowledged").await["pending"], json!([]));

    let mut alice = running.connect("alice").await;
    let missed = alice.frame("notification:new").await;
    assert_eq!(missed["notification"]["id"], one["id"], "recovery does not wait for the ladder");
    alice.ack(&missed).await;
    pending(&running, 0).await;
    let status =
        request(running.address, Method::GET, &format!("/v1/notifications/{asked}")).bearer_auth(token("billing", "service"));
    let (_, status) = answered(status).await;
    assert_eq!(status["state"], "delivered");
    let expected = [outcome(0, "offline"), outcome(1, "offline"), outcome(2, "acknowledged")];
    assert_eq!(outcomes(&status["notifications"][0]), expected);
    running.stop().await;
}

#[tokio::test]
async fn offline_is_told_from_unacknowledged() {
    let world = waiting(600, &[60_000]).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    world.emit(&payment("2", "absent")).await;
    alice.frame("notification:new").await;
    let page = pending(&running, 2).await;
    let of = |user: &str| {
        let all = page["pending"].as_array().unwrap();
        outcomes(all.iter().find(|one| one["userId"] == user).unwrap())
    };
    assert_eq!(of("alice"), [outcome(0, "unacknowledged"), outcome(1, "waiting")]);
    assert_eq!(of("absent"), [outcome(0, "offline"), outcome(1, "waiting")]);
    assert_eq!(page["counts"], json!({"offline": 1, "unacknowledged": 1}));
    let offline = told(&running, "/v1/pending?outcome=offline").await;
    assert_eq!((offline["pending"].as_array().unwrap().len(), &offline["pending"][0]["userId"]), (1, &json!("absent")));
    running.stop().await;
}

#[tokio::test]
async fn what_is_retried_on_demand_is_sent_again_at_a_rate_and_the_ladder_stays_one() {
    let world = World::with(|config| {
        ladder(config, 600, &[60_000]);
        config.http.retries_per_second = std::num::NonZeroUsize::MIN;
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    for (number, user) in [("1", "alice"), ("2", "alice"), ("3", "absent")] {
        world.emit(&payment(number, user)).await;
    }
    pending(&running, 3).await;
    let first = done(&running, "/v1/retry/alice").await;
    assert_eq!((&first["sent"], &first["users"], &first["offline"]), (&json!(1), &json!(1), &json!(0)));
    let next = first["nextPageToken"].as_str().expect("there is a second one");
    let second = done(&running, &format!("/v1/retry/alice?pageToken={next}")).await;
    assert_eq!((&second["sent"], second.get("nextPageToken")), (&json!(1), None));
    let (mut again, mut message_ids) = (Vec::new(), BTreeSet::new());
    while again.len() < 2 {
        let frame = alice.frame("notification:new").await;
        assert!(message_ids.insert(frame["messageId"].to_string()), "{frame}");
        // The first rung's own attempt is the first one.
        if frame["redelivery"] == 2 {
            again.push(frame["notification"]["eventId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(again, ["1", "2"], "in their order");

    let (mut sent, mut offline, mut query) = (0, 0, String::new());
    loop {
        let part = done(&running, &format!("/v1/retry-all{query}")).await;
        sent += part["sent"].as_u64().unwrap();
        offline += part["offline"].as_u64().unwrap();
        let Some(next) = part["nextPageToken"].as_str() else { break };
        query = format!("?pageToken={next}");
    }
    assert_eq!((sent, offline), (2, 1));
    for _ in 0..sent {
        let frame = alice.frame("notification:new").await;
        assert_eq!(frame["redelivery"], 2, "no attempt of the ladder came between");
        assert!(message_ids.insert(frame["messageId"].to_string()), "another frame, although it has the same number: {frame}");
    }
    assert_eq!(world.own_records("retry.1m", 3).await.len(), 3, "one ladder each");
    let acts = world.log.records(&world.own("audit")).await.iter().map(Seen::json).collect::<Vec<_>>();
    assert!(acts.iter().all(|act| act["act"] == "retry" && act["who"] == "ops"), "{acts:?}");
    let mut selections = acts.iter().map(|act| act["selection"].as_str().unwrap()).collect::<Vec<_>>();
    selections.sort_unstable();
    selections.dedup();
    assert_eq!(selections, ["--all", "alice"]);
    assert_eq!(acts.iter().map(|act| act["sent"].as_u64().unwrap()).sum::<u64>(), 4);
    running.stop().await;
}

#[tokio::test]
async fn what_is_pending_in_an_earlier_epoch_is_counted_until_couriers_have_carried_it_over() {
    let world = waiting(600, &[60_000]).await;
    let running = world.start().await;
    world.emit(&payment("1", "alice")).await;
    pending(&running, 1).await;
    running.stop().await;
    world.grow(8).await.unwrap();
    // Nobody carries it over yet.
    let running = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
    let left = pending(&running, 1).await;
    assert!(left["pending"][0]["position"].as_str().unwrap().starts_with("1:"), "{left}");
    assert_eq!(done(&running, "/v1/retry-all").await, json!({"sent": 0, "users": 0, "offline": 0, "earlier": 1}));
    assert_eq!(done(&running, "/v1/retry/alice").await["earlier"], 1);
    let courier = world.start_roles(&[Role::Courier]).await;
    world.own_records("notifications.e2", 1).await;
    let retried = eventually("it is of this epoch", async || {
        let retried = done(&running, "/v1/retry/alice").await;
        (retried["earlier"] == 0).then_some(retried)
    })
    .await;
    assert_eq!(retried["offline"], 1, "{retried}");
    courier.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn what_ended_is_redriven_once_keeps_its_id_and_says_so_in_its_history() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.toml"), ONCE).unwrap();
    let world = World::with(|config| {
        ladder(config, 300, &[60_000]);
        config.pipeline.rules = folder.path().display().to_string();
    })
    .await;
    let running = world.start().await;
    // Its ladder has no rung: it ends when nobody has acknowledged it in time.
    world.emit(&json!({"type": "once", "id": "1", "data": {"userId": "alice"}})).await;
    let [notified] = world.own_records("notifications", 1).await.try_into().unwrap();
    world.own_records("undelivered", 1).await;
    let id = notified.json()["notification"]["id"].clone();

    let listing = told(&running, "/v1/undelivered?user=alice").await;
    assert_eq!((&listing["undelivered"], &listing["redriven"]), (&json!(1), &json!(0)));
    assert_eq!((&listing["newest"][0]["id"], &listing["newest"][0]["reason"]), (&id, &json!("offline")));
    assert_eq!(told(&running, "/v1/undelivered?user=bob").await["undelivered"], 0);
    let selection = json!({"reason": "offline", "ids": [id]});
    let tried = redrive(&running, &json!({"selection": selection})).await;
    assert_eq!(tried, json!({"executed": false, "selected": 1, "redriven": 1, "skipped": {}}));
    assert!(world.log.records(&world.own("audit")).await.is_empty(), "a dry run writes nothing");

    let report = redrive(&running, &json!({"selection": selection, "execute": true})).await;
    assert_eq!(report, json!({"executed": true, "selected": 1, "redriven": 1, "skipped": {}}));
    let [begun] = world.own_records("retry.1m", 1).await.try_into().unwrap();
    let begun = begun.json();
    assert_eq!((&begun["notification"]["id"], &begun["attempts"][0]["by"]), (&id, &json!("ops")));
    let [meant, begun] = world.own_records("audit", 2).await.try_into().unwrap();
    let (meant, begun) = (meant.json(), begun.json());
    assert_eq!(meant["selection"], format!("--reason offline --id {}", id.as_str().unwrap()));
    assert_eq!((&meant["act"], &meant["id"], &meant["redriven"]), (&json!("undelivered"), &begun["id"], &json!([])), "{meant}");
    assert_eq!((begun["redriven"].as_array().map(Vec::len), &begun["selection"]), (Some(1), &json!("")), "{begun}");

    let report = redrive(&running, &json!({"selection": {}, "execute": true})).await;
    assert_eq!(report, json!({"executed": true, "selected": 1, "redriven": 0, "skipped": {"redriven_before": 1}}));
    assert_eq!(told(&running, "/v1/undelivered").await["redriven"], 1);
    running.stop().await;
}

#[tokio::test]
async fn what_was_delivered_meanwhile_is_withdrawn_or_has_expired_is_not_redriven() {
    let world = waiting(300, &[400]).await;
    let running = world.start().await;
    let to = |user: &str, more: Value| {
        let mut asked = json!({"to": {"user": user}, "message": "m"});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    };
    let withdrawn = accepted(ask(running.address, None, &to("bob", json!({})))).await;
    accepted(ask(running.address, None, &to("alice", json!({})))).await;
    world.own_records("undelivered", 2).await;
    let mut alice = running.connect("alice").await;
    let missed = alice.frame("notification:new").await;
    alice.ack(&missed).await;
    world.until_acknowledged(missed["notification"]["id"].as_str().unwrap()).await;
    let withdraw = request(running.address, Method::DELETE, &format!("/v1/notifications/{withdrawn}"));
    assert_eq!(answered(withdraw.bearer_auth(token("billing", "service"))).await.0, 202);
    let report = eventually("the store knows both", async || {
        let report = redrive(&running, &json!({"selection": {}})).await;
        (report["redriven"] == 0).then_some(report)
    })
    .await;
    assert_eq!(report["skipped"], json!({"delivered": 1, "withdrawn": 1}));
    running.stop().await;
}

#[tokio::test]
async fn operators_alone_may_and_what_is_asked_wrongly_is_refused() {
    let world = World::new().await;
    let running = world.start().await;
    for (method, path) in [
        (Method::GET, "/v1/pending"),
        (Method::GET, "/v1/pending/alice"),
        (Method::POST, "/v1/retry/alice"),
        (Method::POST, "/v1/retry-all"),
        (Method::GET, "/v1/undelivered"),
        (Method::POST, "/v1/undelivered/redrive"),
    ] {
        for role in ["service", "driver"] {
            let asked = request(running.address, method.clone(), path).bearer_auth(token("alice", role));
            assert_eq!(answered(asked).await.0, 403, "{method} {path} as {role}");
        }
    }
    for (method, path, told) in [
        (Method::GET, "/v1/pending?outcome=asleep", "`offline` or `unacknowledged`"),
        (Method::GET, "/v1/pending?limit=0", "from 1 to"),
        (Method::GET, "/v1/pending?pageToken=7", "nextPageToken"),
        (Method::GET, "/v1/pending/%00", "names no user"),
        (Method::POST, "/v1/retry/%ff", "names no user"),
        (Method::POST, "/v1/retry-all?pageToken=7", "nextPageToken"),
        (Method::GET, "/v1/undelivered?since=yesterday", "`since`"),
        (Method::GET, "/v1/undelivered?id=7", "`id`"),
        (Method::GET, "/v1/undelivered?reason=asleep", "`offline` or `unacknowledged`"),
        (Method::GET, "/v1/undelivered?since=2026-01-31T12:00:00Z&until=2026-01-31T11:00:00Z", "swap the two times"),
        (Method::GET, "/v1/undelivered?pageToken=7-", "nextPageToken"),
    ] {
        let (status, problem) = operator(&running, method, path).await;
        assert_eq!(status, 400, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{path}: {problem}");
    }
    let inverted = json!({"since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:00:00Z"});
    for (selection, pointer) in [(json!({"reason": "asleep"}), "#/selection/reason"), (inverted, "#/selection")] {
        let asked = request(running.address, Method::POST, "/v1/undelivered/redrive").bearer_auth(token("ops", "admin"));
        let asked = asked.header("content-type", "application/json").body(json!({"selection": selection}).to_string());
        let (status, problem) = answered(asked).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{problem}");
    }
    running.stop().await;
}
