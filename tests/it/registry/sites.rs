//! Several URLs: whose answer counts when some are away, busy, or do not let us in.

use std::net::TcpListener;

use tidings::cli::Role;
use tidings::config::Config;

use super::{WORDS, due, message, prefixed, said, schema, unknown, with_registry};
use crate::harness::eventually;
use crate::harness::front::Front;
use crate::harness::registry::{Answer, Chosen, Producer, shared};
use crate::harness::world::{World, ms};

/// A URL where nobody listens.
fn dead() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

fn with_urls(config: &mut Config, urls: &[&str]) {
    with_registry(config, "");
    config.registry.urls = urls.iter().map(|url| (*url).to_owned()).collect();
}

#[tokio::test]
async fn urls_that_are_away_busy_broken_or_refuse_us_are_passed_over_and_who_answered_is_asked_first() {
    let registry = shared();
    let fronts = [(429, "Retry-After: 60\r\n"), (503, ""), (404, ""), (401, ""), (403, "")];
    let mut refusing = Vec::new();
    for (status, headers) in fronts {
        let front = Front::before(&registry).await;
        front.says(status, headers);
        refusing.push(front);
    }
    let answering = Front::before(&registry).await;
    let dead = dead();
    let urls = [dead.as_str()].into_iter().chain(refusing.iter().map(|front| front.url.as_str()));
    let urls = urls.chain([answering.url.as_str()]).collect::<Vec<_>>();
    let world = World::with(|config| with_urls(config, &urls)).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let mut service = Producer::start(&world.config.kafka.brokers, &registry);
    service.produce(&said("avro", &world.topic, "1"));
    world.own_records("notifications", 1).await;
    let mut newer = said("avro", &world.topic, "2");
    newer["schema"] = newer["schema"].as_str().unwrap().replace(r#""name":"Due""#, r#""name":"Due","doc":"newer""#).into();
    service.produce(&newer);
    let notified = world.own_records("notifications", 2).await;
    assert!(notified.iter().all(|record| message(record) == WORDS));
    assert_eq!(answering.answered(200).len(), 2);
    for (front, (status, _)) in refusing.iter().zip(fronts) {
        assert_eq!(front.answered(status).values().sum::<usize>(), 1, "{status} was asked for the first schema only");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_the_registry_says_counts_although_another_url_is_away() {
    let chosen = Chosen::answering(|path| match path {
        "/schemas/ids/7" => schema("JSON", r#"{"type":"object"}"#),
        _ => unknown(),
    })
    .await;
    let dead = dead();
    for urls in [[chosen.url.as_str(), &dead], [&dead, chosen.url.as_str()]] {
        let world = World::with(|config| with_urls(config, &urls)).await;
        let running = world.start_roles(&[Role::Pipeline]).await;
        world.log.produce(&world.topic, Some("k"), &prefixed(8, &due("never"))).await;
        world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("behind"))).await;
        world.own_records("notifications", 1).await;
        let [dead] = world.own_records("dlq", 1).await.try_into().unwrap();
        assert_eq!(dead.header("tidings-error-class"), "schema_unknown");
        running.stop().await;
    }
}

#[tokio::test]
async fn urls_that_do_not_let_us_in_end_the_process_if_all_of_them_say_so() {
    let [first, second] = [403, 401].map(|status| Chosen::answering(move |_| Answer(status, "", String::new())));
    let (first, second) = (first.await, second.await);
    let world = World::with(|config| with_urls(config, &[&first.url, &second.url])).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.log.produce(&world.topic, Some("k"), &prefixed(7, &due("1"))).await;
    let error = format!("{:#}", running.ended().await.unwrap_err());
    assert!(error.contains("refuses us with 403") && error.contains(&first.url), "{error}");
    assert_eq!(second.asked("/schemas/ids/7"), 1);
}

#[tokio::test]
async fn while_one_url_is_away_another_that_does_not_let_us_in_ends_nothing() {
    let registry = shared();
    let refusing = Chosen::answering(|_| Answer(403, "", String::new())).await;
    for is_first in [true, false] {
        let away = Front::before(&registry).await;
        away.says(503, "");
        let mut urls = [refusing.url.as_str(), away.url.as_str()];
        if !is_first {
            urls.reverse();
        }
        let world = World::with(|config| with_urls(config, &urls)).await;
        let running = world.start_unready(&[Role::Pipeline]).await;
        Producer::start(&world.config.kafka.brokers, &registry).produce(&said("avro", &world.topic, "1"));
        eventually("both are named, with what each says", async || {
            let (status, body) = running.get("/ready").await;
            let is_told = urls.iter().all(|url| body.contains(url)) && body.contains("refuses us with 403");
            (status == 503 && is_told).then_some(())
        })
        .await;
        away.passes_on();
        let notified = world.own_records("notifications", 1).await;
        assert_eq!(message(&notified[0]), WORDS);
        assert!(world.log.records(&world.own("dlq")).await.is_empty());
        running.stop().await;
    }
}

#[tokio::test]
async fn while_all_urls_are_away_each_is_named_and_records_wait_for_the_first_that_comes_back() {
    let registry = shared();
    let fronts = [Front::before(&registry).await, Front::before(&registry).await];
    fronts.iter().for_each(|front| front.says(503, ""));
    let urls = fronts.each_ref().map(|front| front.url.as_str());
    let world = World::with(|config| {
        with_urls(config, &urls);
        // An outage is no time in which the schema is unknown.
        config.registry.unknown_wait = ms(1);
    })
    .await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    Producer::start(&world.config.kafka.brokers, &registry).produce(&said("avro", &world.topic, "1"));
    eventually("both are named", async || {
        let (_, body) = running.get("/ready").await;
        urls.iter().all(|url| body.contains(url)).then_some(())
    })
    .await;
    fronts[1].passes_on();
    world.own_records("notifications", 1).await;
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}
