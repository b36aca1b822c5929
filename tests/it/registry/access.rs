//! How a registry knows us, and how we know it: passwords, tokens, an authority of one's own; and what is said when that is wrong.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tidings::cli::Role;

use super::{WORDS, message, said, with_registry};
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::harness::front::Front;
use crate::harness::registry::{Producer, shared};
use crate::harness::world::{World, ms};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn a_registry_behind_an_own_authority_is_asked_with_a_password_or_a_token() {
    let (registry, authority) = (shared(), Authority::new());
    let secrets = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let file = secrets.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (ca, token) = (file("ca.pem", &authority.pem()), file("token", b"t0k3n\n"));
    for is_by_token in [false, true] {
        let expected = if is_by_token { "Bearer t0k3n".to_owned() } else { basic("key", "s3cret") };
        let front = Front::guarded(&registry, Some(expected), Some(&authority.issue((0, 30)))).await;
        let world = World::with(|config| {
            with_registry(config, &front.url);
            config.registry.ca = ca.clone();
            if is_by_token {
                config.registry.token_file = token.clone();
            } else {
                config.registry.user = "key".into();
                config.registry.password = "s3cret".into();
            }
        })
        .await;
        let running = world.start_roles(&[Role::Pipeline]).await;
        Producer::start(&world.config.kafka.brokers, &registry).produce(&said("avro", &world.topic, "1"));
        let notified = world.own_records("notifications", 1).await;
        assert_eq!(message(&notified[0]), WORDS);
        assert_eq!((front.answered(200).len(), front.answered(401).len()), (1, 0));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_registry_that_nobody_vouches_for_is_waited_for_and_is_asked_for_nothing() {
    let registry = shared();
    let front = Front::guarded(&registry, None, Some(&Authority::new().issue((0, 30)))).await;
    let world = World::with(|config| with_registry(config, &front.url)).await;
    let running = world.start_unready(&[Role::Pipeline]).await;
    Producer::start(&world.config.kafka.brokers, &registry).produce(&said("avro", &world.topic, "1"));
    eventually("the process says why it waits", async || {
        let (status, body) = running.get("/ready").await;
        (status == 503 && body.contains("UnknownIssuer")).then_some(())
    })
    .await;
    assert!(front.answered(200).is_empty());
    assert!(world.log.records(&world.own("dlq")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_ban_end_the_process_with_what_to_do_and_nothing_is_committed() {
    let registry = shared();
    for status in [401, 403] {
        let front = Front::guarded(&registry, Some(basic("key", "right")), None).await;
        if status == 403 {
            front.says(403, "");
        }
        let world = World::with(|config| {
            with_registry(config, &front.url);
            config.registry.user = "key".into();
            config.registry.password = "wr0ng".into();
            // Who is refused is not asked again before somebody has changed something.
            config.registry.failure_retention = ms(60_000);
        })
        .await;
        let running = world.start_roles(&[Role::Pipeline]).await;
        Producer::start(&world.config.kafka.brokers, &registry).produce(&said("avro", &world.topic, "1"));
        let error = format!("{:#}", running.ended().await.unwrap_err());
        for part in [&format!("refuses us with {status}"), "registry.password", &front.url] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("wr0ng"), "{error}");
        assert_eq!(front.answered(status).values().sum::<usize>(), 1);
        assert!(world.log.records(&world.own("dlq")).await.is_empty());
        let committed = world.log.committed(&world.group("pipeline"), &world.topic, 3).await;
        assert!(committed.values().all(|offset| *offset <= 0), "{committed:?}");
    }
}
