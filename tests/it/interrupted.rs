//! What is killed in the midst of it, or done by two at once, where ladders climb or are begun anew: each delivery keeps one ladder, and its history
//! tells each attempt once.

use std::collections::BTreeSet;

use rdkafka::message::{Header, OwnedHeaders};
use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::command::run;
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::process::Process;
use crate::harness::rest::{answered, request, token};
use crate::harness::world::{World, booking, ms, payment};
use crate::pending::appended;

async fn operator(address: std::net::SocketAddr, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let asked = request(address, method, path).bearer_auth(token("ops", "admin"));
    answered(match body {
        Some(body) => asked.header("content-type", "application/json").body(body.to_string()),
        None => asked,
    })
    .await
}

#[tokio::test]
async fn a_courier_killed_between_rungs_leaves_one_ladder_each_and_a_history_of_every_attempt() {
    const COUNT: usize = 40;
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(600);
        config.courier.ladder = vec![ms(1_500), ms(2_000), ms(600_000)];
        config.courier.transaction_timeout = ms(3_000);
        config.kafka.properties.insert("session.timeout.ms".into(), tidings::config::Scalar::Number(6_000));
    })
    .await;
    let others = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    let mut courier = Process::spawn_roles(&world, &["courier"]);
    for number in 0..COUNT {
        world.emit(&payment(&number.to_string(), &format!("absent-{number}"))).await;
    }
    for rung in ["retry.1s500ms", "retry.2s"] {
        let climbed = world.own_records(rung, COUNT / 4).await.len();
        courier.kill();
        println!("killed when {climbed} of {COUNT} had come to {rung}");
        courier = Process::spawn_roles(&world, &["courier"]);
    }
    world.own_records("retry.10m", COUNT).await;
    let of = async |topic: &str| appended(&world, topic, "/notification/id").await;
    let steps = [
        (of("notifications").await, 600),
        (of("retry.1s500ms").await, 1_500),
        (of("retry.2s").await, 2_000),
        (of("retry.10m").await, 0),
    ];
    assert!(steps.iter().all(|(times, _)| times.len() == COUNT), "{steps:?}");
    for pair in steps.windows(2) {
        let [(before, least), (after, _)] = pair else { unreachable!() };
        assert!(before.iter().all(|(id, at)| after[id] - at >= *least), "something went on early");
    }

    let page = eventually("every history is told", async || {
        let (_, page) = operator(others.address, Method::GET, "/v1/pending?limit=100", None).await;
        let all = page["pending"].as_array()?;
        let told = all.iter().filter(|one| one["attempts"].as_array().is_some_and(|attempts| attempts.len() == 4)).count();
        (told == COUNT).then_some(page)
    })
    .await;
    for one in page["pending"].as_array().unwrap() {
        let attempts = one["attempts"].as_array().unwrap();
        let told = attempts.iter().map(|attempt| (attempt["number"].as_u64().unwrap(), attempt["outcome"].as_str().unwrap()));
        let expected = [(0, "offline"), (1, "offline"), (2, "offline"), (3, "waiting")];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{one}");
        let times = attempts.iter().map(|attempt| attempt["at"].as_str().unwrap()).collect::<Vec<_>>();
        assert!(times.is_sorted() && times.iter().collect::<BTreeSet<_>>().len() == times.len(), "{one}");
    }
    others.stop().await;
}

/// Ends at once, since its ladder has no rung.
const ONCE: &str = "[[rule]]\nname = \"once\"\nevent = \"once\"\nuser = \"{{ userId }}\"\ntype = \"t\"\nladder = []\n";

/// A world in which so much has ended undelivered, without anybody who runs.
async fn ended(count: u64) -> World {
    let mut world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(600_000)];
    })
    .await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("once.toml"), ONCE).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    let running = world.start().await;
    let numbers = (0..count).collect::<Vec<_>>();
    for numbers in numbers.chunks(250) {
        let emitted = numbers.iter().map(async |number| {
            let event = json!({"type": "once", "id": number.to_string(), "data": {"userId": format!("absent-{}", number % 50)}});
            world.emit(&event).await;
        });
        futures_util::future::join_all(emitted).await;
    }
    let all = usize::try_from(count).unwrap();
    world.own_records("undelivered", all).await;
    running.stop().await;
    world
}

/// Asks a node to begin everything anew.
async fn redriven(address: std::net::SocketAddr) -> (u16, Value) {
    operator(address, Method::POST, "/v1/undelivered/redrive", Some(&json!({"selection": {}, "execute": true}))).await
}

/// All ladders were begun anew, each once, whoever did it.
async fn all_begun_once(world: &World, count: u64) {
    let begun = appended(world, "retry.10m", "/notification/id").await;
    assert_eq!(begun.len() as u64, count, "each on its first rung once");
    let acts = world.log.records(&world.own("audit")).await;
    let marked = |act: &Seen| {
        let act = act.json();
        // The first record of a call says what is meant.
        let redriven = act["redriven"].as_array();
        let ranges = redriven.into_iter().flatten().flat_map(|one| one["offsets"].as_array().unwrap().clone());
        ranges.map(|range| range["to"].as_u64().unwrap() - range["from"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(acts.iter().map(marked).sum::<u64>(), count, "audit tells of each once");
}

#[tokio::test]
async fn a_redrive_of_what_was_undelivered_that_is_killed_forks_no_ladder_and_the_next_one_begins_the_rest() {
    const COUNT: u64 = 3_000;
    let world = ended(COUNT).await;
    let killed = Process::spawn_roles(&world, &["gateway"]);
    killed.await_ready().await;
    let address = killed.address;
    let asking = tokio::spawn(async move {
        let body = json!({"selection": {}, "execute": true}).to_string();
        let asked = request(address, Method::POST, "/v1/undelivered/redrive").bearer_auth(token("ops", "admin"));
        asked.header("content-type", "application/json").body(body).send().await.is_ok_and(|answer| answer.status().is_success())
    });
    // What is meant, and the first that were begun.
    world.own_records("audit", 2).await;
    killed.kill();
    assert!(!asking.await.unwrap(), "it was done before it was killed");

    let running = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
    let (status, rest) = redriven(running.address).await;
    assert_eq!(status, 200, "{rest}");
    let (before, now) = (rest["skipped"]["redriven_before"].as_u64().unwrap_or(0), rest["redriven"].as_u64().unwrap());
    assert!(before > 0 && now > 0 && before + now == COUNT, "it was killed in the midst of it: {rest}");
    all_begun_once(&world, COUNT).await;
    running.stop().await;
}

#[tokio::test]
async fn two_nodes_that_redrive_what_was_undelivered_at_once_begin_each_ladder_once() {
    const COUNT: u64 = 1_200;
    let mut world = ended(COUNT).await;
    let first = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
    world.config.node.id = "second".into();
    let second = world.start_roles(&[Role::Gateway]).await;
    let answers = tokio::join!(redriven(first.address), redriven(second.address));
    for (status, said) in [&answers.0, &answers.1] {
        // Who came later has ended the earlier one.
        assert!(matches!(status, 200 | 409 | 503), "{status}: {said}");
    }
    let (status, rest) = redriven(second.address).await;
    assert_eq!(status, 200, "{rest}");
    all_begun_once(&world, COUNT).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn two_who_redrive_dead_letters_at_once_show_nothing_twice() {
    const COUNT: usize = 60;
    let world = World::with(|config| config.pipeline.breaker.enabled = false).await;
    let running = world.start().await;
    for number in 0..COUNT {
        let mut event = payment(&number.to_string(), "alice");
        event["data"].as_object_mut().unwrap().remove("dueDate");
        world.log.produce(&world.topic, Some("k"), event.to_string().as_bytes()).await;
    }
    world.own_records("dlq", COUNT).await;
    let rules = world.dir.path().join("mended");
    std::fs::create_dir(&rules).unwrap();
    let rule = "[[rule]]\nname = \"payment-due\"\nevent = \"payment:due\"\nuser = \"{{ userId }}\"\ntype = \"payment_due\"\nmessage = \"Pay.\"\n";
    std::fs::write(rules.join("payment.toml"), rule).unwrap();
    let args = ["dlq", "redrive", "--all", "--rules", rules.to_str().unwrap(), "--execute"];
    let (one, other) = tokio::join!(run(&world, &args), run(&world, &args));
    assert!(one.status.success() && other.status.success(), "{one:?} {other:?}");
    // What was sent last is in the inbox behind all of it.
    world.emit(&booking("last", "alice")).await;
    world.until_inbox(COUNT + 1).await;
    let events = world.inbox("alice").await.into_iter().map(|shown| shown["eventId"].as_str().unwrap().to_owned());
    assert_eq!(events.collect::<BTreeSet<_>>().len(), COUNT + 1, "each once");
    running.stop().await;
}

#[tokio::test]
async fn due_times_a_year_ahead_and_counts_of_attempts_that_cannot_be_are_ignored() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(1_000), ms(1_500)];
    })
    .await;
    let running = world.start().await;
    world.emit(&payment("0", "absent")).await;
    let [real] = world.own_records("retry.1s", 1).await.try_into().unwrap();
    let ahead = tidings_core::time::Timestamp::from_millis(real.timestamp_ms + YEAR_MS).to_string();
    for (due, attempt) in [(ahead.as_str(), "1"), ("99999999999999999999", "-1"), ("0", "2147483648"), ("-1", "many")] {
        let mut forged = real.json();
        // Which say what nobody asks them.
        (forged["due"], forged["attempt"]) = (json!(due), json!(attempt));
        let headers = [("tidings-version", "1"), ("tidings-due", due), ("tidings-attempt", attempt)];
        let headers =
            headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        world
            .log
            .produce_to((&world.own("retry.1s"), real.partition), "user-absent", forged.to_string().as_bytes(), headers)
            .await;
    }
    let ended = world.own_records("undelivered", 5).await;
    let (first, second) = (world.own_records("retry.1s", 5).await, world.own_records("retry.1s500ms", 5).await);
    assert_eq!((first.len(), second.len(), ended.len()), (5, 5, 5), "each climbed as if nothing were said");
    for (at, ended) in ended.iter().enumerate() {
        // All are of one partition, so they keep their order on every rung.
        let [one, two] = [&first[at], &second[at]].map(|record| record.timestamp_ms);
        assert!(two - one >= 1_000 && ended.timestamp_ms - two >= 1_500, "early");
        assert_eq!(ended.header("tidings-attempt"), "2", "counted by the list, which the rungs wrote");
    }
    assert!(world.log.records(&world.own("dlq")).await.is_empty(), "nothing is wrong with them");
    running.stop().await;
}
