//! The load: a steady stream of events of every kind, until it is told to stop.
//!
//! Owns: the rules of the suite, its users, and the list of what the brokers have taken. The users are few, so each has an order to be held.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tidings::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::missed::some;
use crate::harness::world::{World, ms};
use crate::ledger::{Event, Kind};

/// Who has a device that acknowledges.
pub(crate) const LISTENERS: [&str; 4] = ["listener-0", "listener-1", "listener-2", "listener-3"];
/// Who has a device that never does.
pub(crate) const SILENT: [&str; 2] = ["silent-0", "silent-1"];
/// Who has none.
pub(crate) const ABSENT: [&str; 3] = ["absent-0", "absent-1", "absent-2"];

/// How long a first acknowledgement is waited for, and a delivery on the first rung.
pub(crate) const STEP_MS: u64 = 1_000;
/// Nothing leaves the last rung while a test runs.
pub(crate) const LAST_MS: u64 = 3_600_000;

const RULES: &str = r#"
[[rule]]
name = "waits"
event = "waits"
user = "{{ userId }}"
type = "waits"
message = "{{ text }}"

[[rule]]
name = "ends"
event = "ends"
user = "{{ userId }}"
type = "ends"
message = "{{ text }}"
ladder = ["1s"]
"#;

/// Short waits; whoever is not recovered is sent the whole mailbox.
pub(crate) fn hurried(config: &mut Config) {
    config.kafka.properties.insert("session.timeout.ms".into(), tidings::config::Scalar::Number(6_000));
    config.courier.ack_timeout = ms(STEP_MS);
    config.courier.transaction_timeout = ms(3_000);
    config.courier.ladder = vec![ms(STEP_MS), ms(LAST_MS)];
    config.gateway.recovery.newest = some(100_000);
    config.store.busy_timeout = ms(200);
    // So that a pipeline that is killed has something in hand.
    config.pipeline.commit_interval = ms(2_000);
}

/// Puts the rules of the suite into force.
pub(crate) fn with_rules(mut world: World) -> World {
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("chaos.toml"), RULES).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    world
}

/// How heavy it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) pause: Duration,
    pub(crate) text_bytes: usize,
}

impl Weight {
    pub(crate) const LIGHT: Self = Self { pause: Duration::from_millis(15), text_bytes: 20 };
}

/// Events that are said at this moment.
pub(crate) struct Load {
    said: Arc<Mutex<Vec<Event>>>,
    stop: CancellationToken,
    saying: JoinHandle<()>,
}

impl Load {
    pub(crate) fn begin(world: Arc<World>, weight: Weight) -> Self {
        let (said, stop) = (Arc::<Mutex<Vec<Event>>>::default(), CancellationToken::new());
        let saying = tokio::spawn(say(world, weight, said.clone(), stop.clone()));
        Self { said, stop, saying }
    }

    /// What the brokers have taken so far.
    pub(crate) fn said(&self) -> Vec<Event> {
        self.said.lock().clone()
    }

    /// Says no more, once the brokers have what was begun.
    pub(crate) async fn end(&mut self) {
        self.stop.cancel();
        if !self.saying.is_finished() {
            (&mut self.saying).await.unwrap();
        }
    }

    /// Goes on with the numbers that follow.
    pub(crate) fn go_on(&mut self, world: Arc<World>, weight: Weight) {
        self.stop = CancellationToken::new();
        self.saying = tokio::spawn(say(world, weight, self.said.clone(), self.stop.clone()));
    }
}

async fn say(world: Arc<World>, weight: Weight, said: Arc<Mutex<Vec<Event>>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let number = said.lock().len();
        let (kind, user) = of(number);
        let id = number.to_string();
        // What concerns one user lies in one partition; the others go anywhere.
        let key = user.map_or_else(|| id.clone(), str::to_owned);
        let place = world.log.produce(&world.topic, Some(&key), &value(kind, user, (&id, number), weight)).await;
        said.lock().push(Event { place, kind, id });
        tokio::time::sleep(weight.pause).await;
    }
}

/// Half of all is for who listens; the others take their turns.
fn of(number: usize) -> (Kind, Option<&'static str>) {
    let turn = number / 2;
    if number.is_multiple_of(2) {
        return (Kind::Heard, Some(LISTENERS[turn % LISTENERS.len()]));
    }
    let round = turn / 6;
    match turn % 6 {
        0 => (Kind::AbsentWaits, Some(ABSENT[round % ABSENT.len()])),
        1 => (Kind::AbsentEnds, Some(ABSENT[round % ABSENT.len()])),
        2 => (Kind::SilentWaits, Some(SILENT[round % SILENT.len()])),
        3 => (Kind::SilentEnds, Some(SILENT[round % SILENT.len()])),
        4 => (Kind::Poison, None),
        _ => (Kind::Idle, None),
    }
}

fn value(kind: Kind, user: Option<&str>, (id, number): (&str, usize), weight: Weight) -> Vec<u8> {
    let event = |name: &str, data: serde_json::Value| json!({"type": name, "id": id, "data": data}).to_string().into_bytes();
    let text = "x".repeat(weight.text_bytes);
    match kind {
        Kind::Heard | Kind::AbsentWaits | Kind::SilentWaits => event("waits", json!({"userId": user, "text": text})),
        Kind::AbsentEnds | Kind::SilentEnds => event("ends", json!({"userId": user, "text": text})),
        // By turns bytes that are nothing, and an event that its rule cannot be rendered for.
        Kind::Poison if number % 4 == 1 => format!("{{ not json {id}").into_bytes(),
        Kind::Poison => event("waits", json!({"userId": LISTENERS[0]})),
        Kind::Idle => event("nobody:cares", json!({"userId": LISTENERS[0]})),
    }
}
