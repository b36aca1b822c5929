//! Presence when thousands come, when their node is killed and they go elsewhere, and how long a node that is not heard counts as living.

use futures_util::StreamExt as _;
use serde_json::json;
use tidings_core::time::Timestamp;

use crate::harness::client::Client;
use crate::harness::log::Seen;
use crate::harness::present::{is, status, until_cluster};
use crate::harness::world::{Running, World, ms};
use crate::presence::{CHANNEL, ask_all, node, open, process, short, signals};

/// As many on each of two nodes.
const DEVICES: usize = 1_000;
/// How many come at a time.
const AT_ONCE: usize = 50;

/// Devices that listen, each a user's.
async fn crowd(address: std::net::SocketAddr, users: std::ops::Range<usize>) -> Vec<Client> {
    let coming = users.map(|number| async move {
        let mut line = open(address, &format!("u{number:04}"), "phone").await;
        line.subscribe(CHANNEL).await;
        line
    });
    futures_util::stream::iter(coming).buffered(AT_ONCE).collect().await
}

/// Asks on a node until as many are present, and it names a page of them.
async fn until_count(running: &Running, count: usize) {
    let mut asker = open(running.address, "zoe", "laptop").await;
    crate::harness::eventually(&format!("{count} are present"), async || {
        let answer = ask_all(&mut asker, &json!({})).await;
        (answer["count"] == count && answer["users"].as_array().unwrap().len() == 100.min(count)).then_some(())
    })
    .await;
    asker.close().await;
}

#[tokio::test]
async fn thousands_on_two_nodes_are_counted_and_when_one_is_killed_theirs_are_gone_until_they_come_elsewhere() {
    let world = World::with(|config| {
        short(config);
        config.gateway.presence.pause = ms(250);
    })
    .await;
    let (stays, killed) = (node(&world).await, process(&world).await);
    let here = crowd(stays.address, 0..DEVICES).await;
    let there = crowd(killed.address, DEVICES..2 * DEVICES).await;
    until_cluster(stays.address, 2, 2 * DEVICES).await;
    until_cluster(killed.address, 2, 2 * DEVICES).await;
    until_count(&stays, 2 * DEVICES).await;

    killed.kill();
    drop(there);
    until_cluster(stays.address, 1, DEVICES).await;
    until_count(&stays, DEVICES).await;
    let back = crowd(stays.address, DEVICES..2 * DEVICES).await;
    until_cluster(stays.address, 1, 2 * DEVICES).await;
    until_count(&stays, 2 * DEVICES).await;

    // One record holds what came in a pause: not one for each device.
    let said = signals(&world, "announcement").await;
    let with_devices = said.iter().filter(|record| record.get("came").is_some() || record.get("left").is_some()).count();
    assert!((3..=3 * DEVICES / 10).contains(&with_devices), "{with_devices} records");
    drop((here, back));
    stays.stop().await;
}

#[tokio::test]
async fn a_node_that_is_not_heard_any_more_has_its_devices_until_its_lease_ends() {
    const LEASE_MS: i64 = 6_000;
    let world = World::with(|config| {
        short(config);
        config.gateway.presence.lease = ms(LEASE_MS.unsigned_abs());
    })
    .await;
    let (stays, killed) = (node(&world).await, process(&world).await);
    let mut alice = open(stays.address, "alice", "laptop").await;
    let _phone = open(killed.address, "alice", "phone").await;
    assert_eq!(status(&mut alice).await, is("phone", "online"));
    let phones_node =
        |record: &Seen| record.json()["came"].as_array().is_some_and(|came| came.iter().any(|one| one["deviceId"] == "phone"));
    killed.kill();
    let records = world.log.records(&world.own("signals")).await;
    let its_run = records.iter().find(|record| phones_node(record)).unwrap().json()["lease"]["incarnation"].clone();
    assert!(its_run.is_string(), "{its_run}");
    let last = records
        .iter()
        .filter(|record| record.json()["lease"]["incarnation"] == its_run)
        .map(|record| record.timestamp_ms)
        .max()
        .unwrap();
    let gone = alice.frame("device:status").await;
    assert_eq!((&gone["deviceId"], &gone["status"]), (&json!("phone"), &json!("offline")), "nothing is told in between");
    let told: Timestamp = serde_json::from_value(gone["timestamp"].clone()).unwrap();
    // Broker and node read one clock, to the millisecond.
    assert!(told.as_millis() + 1 >= last + LEASE_MS, "told at {told}, last heard at {last}");
    stays.stop().await;
}
