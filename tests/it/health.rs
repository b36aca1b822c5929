//! `/health` and `/ready`, as machines and people on call read them. `newer` has partitions that are held, `reload` has notes.

use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings_core::time::Timestamp;

use crate::harness::eventually;
use crate::harness::world::{Running, World};

async fn asked(running: &Running, path: &str) -> (u16, Value) {
    let (status, body) = running.get(path).await;
    (status, serde_json::from_str(&body).unwrap())
}

fn fields(role: &Value) -> Vec<&str> {
    role.as_object().unwrap().keys().map(String::as_str).collect()
}

fn since(role: &Value) -> Timestamp {
    role["since"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_role_that_waits_says_since_when_and_what_for() {
    let mut world = World::new().await;
    // Nobody listens there.
    world.config.kafka.brokers = "127.0.0.1:9".into();
    let before = Clock::start().now();
    let running = world.start_unready(&[Role::Inbox]).await;
    let ready = eventually("the brokers were asked for", async || {
        let (status, body) = asked(&running, "/ready").await;
        assert_eq!((status, &body["status"]), (503, &json!("waiting")));
        body["roles"]["kafka"]["reason"].as_str()?.contains("127.0.0.1:9").then_some(body)
    })
    .await;
    assert_eq!(fields(&ready["roles"]), ["inbox", "kafka", "topics"]);
    for role in ready["roles"].as_object().unwrap().values() {
        assert_eq!((fields(role), &role["state"]), (vec!["reason", "since", "state"], &json!("waiting")));
        assert!((before..=Clock::start().now()).contains(&since(role)), "{role}");
    }
    let (status, alive) = asked(&running, "/health").await;
    assert_eq!((status, &alive["status"]), (200, &json!("alive")), "the process lives all the same");
    assert_eq!(alive["roles"]["inbox"]["since"], ready["roles"]["inbox"]["since"]);
    running.stop().await;
}

#[tokio::test]
async fn a_role_that_does_its_work_says_since_when_and_nothing_more() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let (status, ready) = asked(&running, "/ready").await;
    assert_eq!((status, &ready["status"]), (200, &json!("ready")));
    assert_eq!(fields(&ready["roles"]), ["gateway", "kafka", "pipeline", "topics"]);
    for role in ready["roles"].as_object().unwrap().values() {
        assert_eq!((fields(role), &role["state"]), (vec!["since", "state"], &json!("ready")));
        assert!(since(role) <= Clock::start().now());
    }
    running.stop().await;
}
