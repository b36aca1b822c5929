//! Gathering what the ledger judges by: offsets first, then the topics, then the store, then the devices.
//!
//! In that order a gathering beside running processes is sound: what an offset covers was written before the offset was committed.

use std::collections::{BTreeMap, BTreeSet};

use crate::devices::Devices;
use crate::harness::log::Seen;
use crate::harness::world::{PARTITIONS, World};
use crate::ledger::{Evidence, Id, Place, Rung};
use crate::load::{ABSENT, LISTENERS, SILENT};

/// What lies on `notifications` though the pipeline has not committed the events: what a kill would have done twice.
pub(crate) async fn decided_but_not_committed(world: &World) -> usize {
    let decided = decided(world).await;
    let notifications = world.log.records(&world.own("notifications")).await;
    let origins = notifications.iter().map(origin);
    origins.filter(|(partition, offset)| decided.get(partition).is_none_or(|next| offset >= next)).collect::<BTreeSet<_>>().len()
}

/// What lies on `notifications` and is not in the store.
pub(crate) async fn not_folded(world: &World) -> usize {
    let notified = notified(&world.log.records(&world.own("notifications")).await);
    let folded = folded(world).await;
    notified.keys().filter(|event| !folded.contains_key(*event)).count()
}

/// What the courier has read, or will read, and not decided.
pub(crate) async fn waiting(world: &World) -> usize {
    let rungs = rungs(world, offsets(world).await).await;
    let climbing = &rungs[..rungs.len() - 1];
    climbing.iter().map(|rung| rung.lies.keys().filter(|id| rung.holds(id)).count()).sum()
}

/// What has come to the first rung.
pub(crate) async fn climbed(world: &World) -> usize {
    let (first, _) = topics(world).swap_remove(1);
    world.log.records(&first).await.len()
}

/// All there is.
pub(crate) async fn gather(world: &World, devices: &Devices, letters: &BTreeSet<Place>) -> Evidence {
    let (decided, offsets) = (decided(world).await, offsets(world).await);
    let notified = notified(&world.log.records(&world.own("notifications")).await);
    let buried = buried(world).await.union(letters).copied().collect();
    let rungs = rungs(world, offsets).await;
    let ended = ended(world).await;
    let mut acknowledged = BTreeSet::new();
    for user in users() {
        acknowledged.extend(world.acknowledged(user).await);
    }
    let folded = folded(world).await;
    Evidence {
        decided,
        notified,
        buried,
        rungs,
        ended,
        acknowledged,
        folded,
        shown: devices.shown(),
        disorder: devices.disorder(),
    }
}

/// Places of events on the domain topic that have a letter.
pub(crate) async fn buried(world: &World) -> BTreeSet<Place> {
    let letters = world.log.records(&world.own("dlq")).await;
    let of_events = letters.iter().filter(|letter| letter.header("tidings-original-topic") == world.topic);
    let place = |letter: &Seen| {
        let number = |name: &str| letter.header(name).parse::<i64>().unwrap();
        (i32::try_from(number("tidings-original-partition")).unwrap(), number("tidings-original-offset"))
    };
    of_events.map(place).collect()
}

fn users() -> impl Iterator<Item = &'static str> {
    LISTENERS.into_iter().chain(SILENT).chain(ABSENT)
}

async fn decided(world: &World) -> BTreeMap<i32, i64> {
    world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await
}

fn origin(notification: &Seen) -> Place {
    let origin = &notification.json()["origin"];
    (i32::try_from(origin["partition"].as_i64().unwrap()).unwrap(), origin["offset"].as_i64().unwrap())
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn notified(records: &[Seen]) -> BTreeMap<String, BTreeSet<Id>> {
    let mut notified = BTreeMap::<_, BTreeSet<_>>::new();
    for record in records {
        let notification = &record.json()["notification"];
        notified.entry(text(&notification["eventId"])).or_default().insert(text(&notification["id"]));
    }
    notified
}

/// The topics that the courier reads, with the least time that a delivery waits on each.
fn topics(world: &World) -> Vec<(String, i64)> {
    let millis = |delay: tidings_core::time::Delay| i64::try_from(delay.0.as_millis()).unwrap();
    let courier = &world.config.courier;
    let rungs = courier.ladder.iter().map(|rung| (world.own(&format!("retry.{rung}")), millis(*rung)));
    [(world.own("notifications"), millis(courier.ack_timeout))].into_iter().chain(rungs).collect()
}

/// The next offsets that the courier would read, of each of its topics.
async fn offsets(world: &World) -> Vec<BTreeMap<i32, i64>> {
    let mut offsets = Vec::new();
    for (topic, _) in topics(world) {
        offsets.push(world.log.committed(&world.group("courier"), &topic, world.config.kafka.topics.partitions).await);
    }
    offsets
}

async fn rungs(world: &World, offsets: Vec<BTreeMap<i32, i64>>) -> Vec<Rung> {
    let mut rungs = Vec::new();
    for ((topic, least_ms), next) in topics(world).into_iter().zip(offsets) {
        let mut lies = BTreeMap::<_, Vec<_>>::new();
        for record in world.log.records(&topic).await {
            let id = text(&record.json()["notification"]["id"]);
            lies.entry(id).or_default().push(((record.partition, record.offset), record.timestamp_ms));
        }
        rungs.push(Rung { least_ms, next, lies });
    }
    rungs
}

async fn ended(world: &World) -> BTreeMap<Id, Vec<i64>> {
    let mut ended = BTreeMap::<_, Vec<_>>::new();
    for record in world.log.records(&world.own("undelivered")).await {
        ended.entry(text(&record.json()["delivery"]["notification"]["id"])).or_default().push(record.timestamp_ms);
    }
    ended
}

async fn folded(world: &World) -> BTreeMap<String, usize> {
    let mut folded = BTreeMap::new();
    for user in users() {
        for notification in world.inbox(user).await {
            *folded.entry(text(&notification["eventId"])).or_default() += 1;
        }
    }
    folded
}
