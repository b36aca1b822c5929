//! Operators who ask at the same time: whose turn it is, who ends whom, and what is said of it on `audit`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::config::Database;
use tidings::kafka::cluster::Cluster;
use tidings::replay::{Anew, Mode, Part, RedriveUndelivered, ReplayError, UndeliveredReport, Watch};
use tidings::store::Store;
use tidings_core::record::meta::EpochRecord;
use tidings_core::selection::UndeliveredFilter;
use tokio_util::sync::CancellationToken;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::rest::{answered, request, token};
use crate::harness::world::{Running, World, ms, payment};
use crate::undelivered::{REDRIVE, asked, end, ids, once_more, world};

async fn acts(world: &World) -> Vec<Value> {
    world.log.records(&world.own("audit")).await.iter().map(Seen::json).collect()
}

#[tokio::test]
async fn what_is_meant_is_said_once_for_each_call_however_much_is_begun() {
    const COUNT: usize = 4;
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    end(&world, COUNT).await;
    let users = (0..3).map(|number| format!("absent-{number}")).collect::<Vec<_>>();
    let (status, report) = asked(&running, &json!({"selection": {"users": users}, "execute": true, "rate": 1})).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(COUNT)), "{report}");
    let acts = acts(&world).await;
    let said = acts.iter().filter_map(|act| act["selection"].as_str()).filter(|said| !said.is_empty()).collect::<Vec<_>>();
    assert_eq!(said, ["--user absent-0 --user absent-1 --user absent-2"]);
    // One a second, so each has a transaction and a mark of its own.
    assert_eq!(acts.iter().filter(|act| act["redriven"] != json!([])).count(), COUNT, "{acts:?}");
    assert_eq!(acts.iter().map(|act| act["id"].to_string()).collect::<BTreeSet<_>>().len(), 1, "marks name it");
    running.stop().await;
}

#[tokio::test]
async fn what_is_more_than_audit_takes_is_refused_before_anything_is_begun() {
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    end(&world, 1).await;
    world.log.take_less(&world.own("audit"), 600).await;
    let users = (0..100).map(|number| format!("absent-{number}")).collect::<Vec<_>>();
    let (status, problem) = asked(&running, &json!({"selection": {"users": users}, "execute": true})).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 413 && detail.contains("name fewer at a time"), "{status}: {problem}");
    assert!(world.log.records(&world.own("retry.1m")).await.is_empty(), "nothing was begun");
    let (status, report) = asked(&running, &json!({"selection": {"reason": "offline"}, "execute": true})).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(1)), "{report}");
    running.stop().await;
}

/// Asks for all, one a second, beside the test; gives the answer. Waits until the first ladder is begun.
async fn slowly(world: &World, running: &Running) -> tokio::task::JoinHandle<(u16, Value)> {
    let body = json!({"selection": {}, "execute": true, "rate": 1}).to_string();
    let asked = request(running.address, Method::POST, REDRIVE).bearer_auth(token("ops", "admin"));
    let asking = tokio::spawn(answered(asked.header("content-type", "application/json").body(body)));
    world.own_records("retry.1m", 1).await;
    asking
}

#[tokio::test]
async fn who_is_refused_or_has_nothing_to_begin_ends_nobody_who_redrives() {
    const COUNT: usize = 15;
    let (mut world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    end(&world, COUNT).await;
    world.config.node.id = "second".into();
    let second = world.start_roles(&[Role::Gateway]).await;
    // With tables into which nobody folds anything.
    world.config.node.id = "third".into();
    world.config.store.url = Database::Sqlite(world.dir.path().join("other.db"));
    Store::open(&world.config.store).await.unwrap();
    (world.config.http.request_timeout, world.config.http.wait_limit) = (ms(6_000), ms(1_000));
    world.config.http.broker_timeout = ms(1_000);
    let behind = world.start_roles(&[Role::Gateway]).await;

    let asking = slowly(&world, &running).await;
    let gone = json!({"selection": {"ids": ["438e828e-0a38-5599-8fb1-76b0e4574c75"]}, "execute": true});
    let (status, report) = asked(&second, &gone).await;
    assert_eq!((status, &report["skipped"]["gone"]), (200, &json!(1)), "{report}");
    let (status, problem) = asked(&behind, &json!({"selection": {}, "execute": true})).await;
    assert!(status == 503 && problem["detail"].as_str().unwrap().contains("the inbox has folded"), "{status}: {problem}");
    assert!(!asking.is_finished(), "it was done before anybody could have ended it");
    let (status, report) = asking.await.unwrap();
    assert_eq!((status, &report["redriven"]), (200, &json!(COUNT)), "{report}");
    for running in [behind, second, running] {
        running.stop().await;
    }
}

/// Redrives all as a process of an epoch does.
async fn redriven(world: &World, epoch: EpochRecord, rate: u32) -> Result<UndeliveredReport, ReplayError> {
    let (cluster, clock) = (Cluster::new(&world.config.kafka).unwrap().of_epoch(&epoch), Clock::start());
    let known_for = Duration::from_hours(7 * 24);
    let anew = Anew::new(cluster, (&world.config.courier, known_for), (epoch, "old".parse().unwrap()), clock);
    let store = Store::open(&world.config.store).await.unwrap();
    let mode = Mode::Execute { who: "old".parse().unwrap() };
    let rate = NonZeroU32::new(rate).unwrap();
    let (filter, part) = (UndeliveredFilter::default(), Part::default());
    let wanted = RedriveUndelivered { filter, part, mode, rate, store_until: None };
    let redriving = move || {
        let stop = CancellationToken::new();
        anew.redrive(&wanted, &store, &mut Watch { stop: &stop, progress: &mut |_| {} })
    };
    tokio::task::spawn_blocking(redriving).await.unwrap()
}

#[tokio::test]
async fn of_two_epochs_one_redrives_and_who_is_of_the_earlier_one_begins_nothing_more() {
    const COUNT: usize = 90;
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let ended = end(&world, COUNT).await;
    running.stop().await;
    let epoch = world.epoch().await;
    let running = world.start_roles(&[Role::Inbox]).await;
    let earlier = async {
        let ended = redriven(&world, epoch.clone(), 1).await;
        let is_ended = matches!(ended, Err(ReplayError::Transaction(_) | ReplayError::Brokers));
        assert!(is_ended, "the later one ends it: {ended:?}");
    };
    let later = async {
        world.own_records("retry.1m", 1).await;
        world.grow(8).await.unwrap();
        // Of the epoch before what is begun until then is still folded.
        let later = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
        let (status, report) = asked(&later, &json!({"selection": {}, "execute": true})).await;
        assert_eq!(status, 200, "{report}");
        later
    };
    let ((), later) = tokio::join!(earlier, later);
    let (before, now) = (world.own_records("retry.1m", 1).await, world.own_records("notifications.e2", 1).await);
    let mut begun = ids(&before, "/notification/id");
    begun.extend(ids(&now, "/notification/id"));
    begun.sort();
    assert_eq!(begun, ids(&ended, "/delivery/notification/id"), "each once");
    let late = redriven(&world, epoch.clone(), 1_000).await.map(|report| (report.redriven, report.skipped));
    assert_eq!(late.unwrap(), (0, [("redriven_before", COUNT as u64)].into()));

    once_more(&world, &ended[..1]).await;
    let refused = redriven(&world, epoch, 1_000).await;
    assert!(matches!(refused, Err(ReplayError::Over { .. })), "{refused:?}");
    later.stop().await;
    running.ended().await.unwrap_err();
}

#[tokio::test]
async fn what_ended_longer_ago_than_it_is_known_what_was_begun_since_is_redriven_and_told_as_such() {
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let [ended] = end(&world, 1).await.try_into().unwrap();
    let mut old = ended.clone();
    let mut value = ended.json();
    value["delivery"]["notification"]["id"] = json!("438e828e-0a38-5599-8fb1-76b0e4574c75");
    value["endedAt"] = json!("2020-01-31T12:00:00.000Z");
    old.value = Some(value.to_string().into_bytes());
    once_more(&world, &[old]).await;
    for execute in [false, true] {
        let (_, report) = asked(&running, &json!({"selection": {}, "execute": execute})).await;
        assert_eq!((&report["redriven"], &report["unproven"]), (&json!(2), &json!(1)), "{report}");
    }
    let (_, report) = asked(&running, &json!({"selection": {}, "execute": true})).await;
    assert_eq!((&report["redriven"], report.get("unproven")), (&json!(0), None), "{report}");
    running.stop().await;
}

/// A world in which one notification a second is sent again, at most.
async fn one_a_second(change: impl FnOnce(&mut tidings::config::Config)) -> World {
    World::with(|config| {
        (config.courier.ack_timeout, config.courier.ladder) = (ms(600), vec![ms(60_000)]);
        config.http.retries_per_second = std::num::NonZeroUsize::MIN;
        change(config);
    })
    .await
}

/// A device whose user has one notification pending, and that.
async fn pending(world: &World, running: &Running) -> (Client, Value) {
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let first = alice.frame("notification:new").await;
    eventually("it waits", async || {
        let (_, page) = answered(request(running.address, Method::GET, "/v1/pending").bearer_auth(token("ops", "admin"))).await;
        (page["pending"].as_array()?.len() == 1).then_some(())
    })
    .await;
    (alice, first)
}

/// What so many are answered who ask at the same time for the same to be sent again.
async fn retried_by(running: &Running, callers: usize) -> Vec<(u16, Value)> {
    let ask = |_| answered(request(running.address, Method::POST, "/v1/retry/alice").bearer_auth(token("ops", "admin")));
    futures_util::future::join_all((0..callers).map(ask)).await
}

#[tokio::test]
async fn who_would_wait_too_long_for_his_turn_is_told_to_come_back_before_his_request_is_given_up() {
    let world = one_a_second(|config| {
        (config.http.request_timeout, config.http.wait_limit, config.http.broker_timeout) = (ms(6_000), ms(1_000), ms(1_000));
    })
    .await;
    let running = world.start().await;
    let (_alice, _) = pending(&world, &running).await;
    // Each takes a second, and has two to wait for it.
    let busy = eventually("one waits in vain", async || {
        let answers = retried_by(&running, 8).await;
        assert!(answers.iter().all(|(status, _)| [200, 503].contains(status)), "{answers:?}");
        answers.into_iter().find(|(status, _)| *status == 503)
    })
    .await;
    assert_eq!(busy.1["type"], "urn:tidings:problem:busy", "{busy:?}");
    running.stop().await;
}

#[tokio::test]
async fn what_is_pending_is_looked_up_by_one_operator_after_the_other_so_what_was_acknowledged_meanwhile_is_not_sent_again() {
    const CALLERS: usize = 5;
    let world = one_a_second(|_| {}).await;
    let running = world.start().await;
    let (mut alice, first) = pending(&world, &running).await;
    let acknowledging = async {
        while alice.frame("notification:new").await["redelivery"] != 2 {}
        alice.ack(&first).await;
    };
    let (answers, ()) = tokio::join!(retried_by(&running, CALLERS), acknowledging);
    let sent = answers.iter().map(|(_, retried)| retried["sent"].as_u64().unwrap()).sum::<u64>();
    // Who came first sent it; each of the others had a second for the acknowledgement to be folded.
    assert!((1..CALLERS as u64).contains(&sent), "{answers:?}");
    running.stop().await;
}
