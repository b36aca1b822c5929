//! What goes on while the brokers or the store do not answer, and what is told when they do: presence, and what is unread.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use serde_json::json;
use tidings::cli::Role;
use tidings::config::Scalar;

use crate::harness::broker::OwnBroker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::gate::Gate;
use crate::harness::missed::query;
use crate::harness::postgres::Server;
use crate::harness::present::{is, status, until_cluster};
use crate::harness::process::Process;
use crate::harness::reading::{counts, device};
use crate::harness::world::{World, failed, ms, payment};

/// Waits until a word of a node to the others was given up.
async fn until_unheard(address: SocketAddr) {
    let lost = ("dependency", "retry_in_place", "signal_unwritten");
    eventually(&format!("{address} was not heard for a lease"), async || {
        (failed(address, "gateway", lost).await > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_an_outage_longer_than_a_lease_nobody_is_given_up_and_what_changed_is_told_once_when_the_brokers_are_back() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| {
        let presence = &mut config.gateway.presence;
        (presence.lease, presence.grace, presence.pause) = (ms(6_000), ms(300), ms(50));
        // Nothing answers pings meanwhile.
        config.gateway.heartbeat_interval = ms(3_600_000);
        // Both are back long before either could miss the other.
        config.kafka.properties.insert("reconnect.backoff.max.ms".into(), Scalar::Number(300));
    })
    .await;
    let (first, second) = (world.start_roles(&[Role::Gateway]).await, Process::spawn_roles(&world, &["gateway"]));
    second.await_ready().await;
    let (mut laptop, _) = device(first.address, "alice", "laptop").await;
    let (phone, _) = device(second.address, "alice", "phone").await;
    let (_tablet, _) = device(second.address, "alice", "tablet").await;
    let came = BTreeSet::from([status(&mut laptop).await, status(&mut laptop).await]);
    assert_eq!(came, BTreeSet::from([is("phone", "online"), is("tablet", "online")]));

    broker.signal(Signal::SIGKILL);
    phone.close().await;
    let (_watch, _) = device(second.address, "alice", "watch").await;
    let (_bob, _) = device(second.address, "bob", "phone").await;
    let (_desk, _) = device(first.address, "alice", "desk").await;
    until_unheard(first.address).await;
    until_unheard(second.address).await;
    broker.start_again();

    let changed = [status(&mut laptop).await, status(&mut laptop).await, status(&mut laptop).await];
    let expected = [is("phone", "offline"), is("watch", "online"), is("desk", "online")];
    assert_eq!(BTreeSet::from(changed), BTreeSet::from(expected));
    for node in [first.address, second.address] {
        until_cluster(node, 2, 5).await;
    }
    laptop.send(json!({"type": "ping"})).await;
    laptop.frame("pong").await;
    assert_eq!(laptop.passed_over("device:status"), None, "the others were there all the time");
    first.stop().await;
}

/// Reads until an event's notification has come.
async fn until_shown(client: &mut Client, event: &str) {
    while client.frame("notification:new").await["notification"]["eventId"] != event {}
}

#[tokio::test]
async fn while_the_store_hangs_clients_connect_and_hear_what_is_live_and_counts_follow_when_it_answers() {
    let server = Server::start();
    let (gate, through) = Gate::before(&server.database()).await;
    let world = World::with(|config| {
        config.store.url = through;
        config.gateway.counts.interval = ms(100);
        config.gateway.recovery.wait = ms(700);
    })
    .await;
    let running = world.start().await;
    let (mut phone, _) = device(running.address, "alice", "phone").await;
    world.emit(&payment("1", "alice")).await;
    counts(&mut phone, 1, 1).await;

    gate.close();
    let (mut laptop, greeting) = Client::greeted(running.address, &query("laptop")).await;
    assert_eq!(greeting.get("counts"), None, "nobody can say: {greeting}");
    world.emit(&payment("2", "alice")).await;
    for client in [&mut phone, &mut laptop] {
        until_shown(client, "2").await;
        client.send(json!({"type": "ping"})).await;
        client.frame("pong").await;
        assert_eq!(client.passed_over("counts"), None, "none rather than wrong ones");
    }
    gate.open();
    for client in [&mut phone, &mut laptop] {
        counts(client, 2, 2).await;
    }
    running.stop().await;
}
