//! A cluster with TLS and passwords (SASL), reached by nothing but configuration.

use crate::harness::broker::OwnBroker;
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{World, payment};

#[tokio::test]
async fn a_cluster_with_tls_and_passwords_is_used_from_the_first_topic_to_the_last_cursor() {
    let authority = Authority::new();
    let (broker, files) = (OwnBroker::start_secure(&authority.issue((0, 30))), tempfile::tempdir().unwrap());
    let world = World::on(&broker.brokers, |config| broker.secured(config, files.path(), (&authority, "password"))).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let frame = alice.frame("notification:new").await;
    alice.ack(&frame).await;
    world.until_acknowledged(frame["notification"]["id"].as_str().unwrap()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_certificate_of_a_stranger_are_named_and_waited_out() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (broker, files) = (OwnBroker::start_secure(&authority.issue((0, 30))), tempfile::tempdir().unwrap());
    let mut world = World::on(&broker.brokers, |_| {}).await;
    for (who, password, named) in
        [(&authority, "another password", "Authentication failed"), (&stranger, "password", "certificate verify failed")]
    {
        broker.secured(&mut world.config, files.path(), (who, password));
        let process = Process::spawn(&world);
        let logged = eventually(&format!("the log says {named:?}"), async || {
            let logged = process.logged();
            logged.contains(named).then_some(logged)
        })
        .await;
        assert!(!logged.contains("another password"), "{logged}");
        let (status, body) = crate::harness::world::get(process.address, "/ready").await;
        assert!(status == 503 && body.contains("kafka"), "{body}");
    }
}
