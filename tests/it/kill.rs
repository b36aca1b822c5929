//! Killed at any moment, nothing is lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use crate::harness::client::{Client, Heard};
use crate::harness::process::Process;
use crate::harness::world::{PARTITIONS, World, ms, payment};
use crate::harness::{eventually, seed};

const KILLS: u32 = 5;
/// Between two events: a few hundred a second.
const PAUSE: Duration = Duration::from_millis(2);

/// What the device has been shown, by the event's id.
type Shown = Arc<Mutex<BTreeSet<String>>>;

#[tokio::test]
async fn killed_at_five_random_moments_every_event_is_in_the_inbox_once_and_was_delivered() {
    let mut random = seed::random("killed_at_five_random_moments");
    let world = World::with(|config| {
        config.kafka.properties.insert("session.timeout.ms".into(), tidings::config::Scalar::Number(6000));
        config.courier.ack_timeout = ms(1000);
        config.courier.transaction_timeout = ms(3000);
        config.courier.ladder = ["1s", "2s", "4s", "8s", "16s", "32s", "64s"].map(|rung| rung.parse().unwrap()).into();
        config.pipeline.commit_interval = ms(5000);
    })
    .await;
    let world = Arc::new(world);
    let (shown, produced, stop) = (Shown::default(), Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let producing = tokio::spawn(produce(world.clone(), produced.clone(), stop.clone()));
    let mut listening = None;
    for number in 1..=KILLS {
        let process = Process::spawn(&world);
        process.await_ready().await;
        listening = Some(tokio::spawn(listen(process.address, shown.clone())));
        // On a slow machine that may take longer than the moment that is drawn.
        let begun = async || (decided_but_not_committed(&world).await > 0).then_some(());
        eventually("something is decided and not committed", begun).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2500))).await;
        process.kill();
        let in_flight = decided_but_not_committed(&world).await;
        println!("kill {number}: {in_flight} records were decided and not committed, {} shown", shown.lock().len());
        assert!(in_flight > 0, "nothing was in flight, so this kill proves nothing");
    }
    stop.cancel();
    producing.await.unwrap();

    let process = Process::spawn(&world);
    process.await_ready().await;
    drop(listening);
    tokio::spawn(listen(process.address, shown.clone()));
    let all = produced.load(Ordering::Relaxed);
    eventually("every event is in the inbox", async || (world.inbox("alice").await.len() as u64 >= all).then_some(())).await;
    let inbox = world.inbox("alice").await;
    let events = inbox.iter().map(|notification| notification["eventId"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((inbox.len() as u64, events.len() as u64), (all, all), "each event is in the inbox exactly once");
    eventually("every event was delivered", async || (shown.lock().len() as u64 == all).then_some(())).await;
    assert_eq!(*shown.lock(), events);
    let duplicates = world.log.records(&world.own("notifications")).await.len() as u64 - all;
    println!("{all} events, {duplicates} of them were decided twice");
}

/// How many events are on `notifications` already although the pipeline had not committed them when it was killed.
async fn decided_but_not_committed(world: &World) -> usize {
    let committed = world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    let notifications = world.log.records(&world.own("notifications")).await;
    let origins = notifications.iter().map(|record| {
        let origin = &record.json()["origin"];
        (i32::try_from(origin["partition"].as_i64().unwrap()).unwrap(), origin["offset"].as_i64().unwrap())
    });
    let open = origins.filter(|(partition, offset)| committed.get(partition).is_none_or(|next| offset >= next));
    open.collect::<BTreeSet<_>>().len()
}

async fn produce(world: Arc<World>, produced: Arc<AtomicU64>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let number = produced.load(Ordering::Relaxed);
        // A key of its own, so that all partitions have some.
        let (key, event) = (number.to_string(), payment(&number.to_string(), "alice").to_string());
        world.log.produce(&world.topic, Some(&key), event.as_bytes()).await;
        produced.store(number + 1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Comes back whenever the line breaks, as any client does, for as long as the process lives.
async fn listen(address: SocketAddr, shown: Shown) {
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        let query = format!("token={}&deviceId=d1&ack=client", World::token("alice"));
        if let Some(alice) = Client::try_open(address, &query).await {
            acknowledge(alice, &shown).await;
        }
    }
}

/// Reads and acknowledges until the line breaks.
async fn acknowledge(mut alice: Client, shown: &Shown) {
    while let Heard::Frame(frame) = alice.hear().await {
        if frame["type"] != "notification:new" {
            continue;
        }
        shown.lock().insert(frame["notification"]["eventId"].as_str().unwrap().to_owned());
        let acknowledged = if frame["redelivery"].is_null() {
            alice.try_send(&serde_json::json!({"type": "ack", "channel": frame["channel"], "position": frame["position"]})).await
        } else {
            alice.try_send(&serde_json::json!({"type": "ack", "notificationIds": [frame["notification"]["id"]]})).await
        };
        if !acknowledged {
            return;
        }
    }
}
