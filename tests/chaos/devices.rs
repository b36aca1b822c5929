//! The devices: they come back whenever their line breaks, bring the positions they know, and drop what they know already.
//!
//! Owns: what each was shown, and in which order. Where they may connect, `crew` says, by entering and striking out addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::client::{Client, Heard};
use crate::harness::missed::positions;
use crate::harness::world::World;
use crate::harness::{eventually, missed};
use crate::ledger::Id;
use crate::load::{LISTENERS, SILENT};

/// Where somebody answers, as a balancer would know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes(Arc<Mutex<BTreeSet<SocketAddr>>>);

impl Nodes {
    pub(crate) fn enter(&self, address: SocketAddr) {
        self.0.lock().insert(address);
    }

    pub(crate) fn strike(&self, address: SocketAddr) {
        self.0.lock().remove(&address);
    }

    pub(crate) fn drawn(&self) -> Option<SocketAddr> {
        let nodes = self.0.lock();
        (!nodes.is_empty()).then(|| *nodes.iter().nth(rand::rng().random_range(0..nodes.len())).unwrap())
    }
}

/// What a device does with what it is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Acks {
    Each,
    Never,
}

/// What a device knows, also over broken lines.
#[derive(Debug, Default)]
struct Memory {
    /// Brought along as `since`.
    positions: serde_json::Map<String, Value>,
    known: BTreeSet<Id>,
    /// By event; more than one id of an event would be a thing seen twice.
    shown: BTreeMap<String, Vec<Id>>,
    /// The newest event that came in its order, and not as a further attempt.
    newest: Option<u64>,
    disorder: Vec<String>,
    tally: Tally,
}

/// What happened to a device, or to all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) connections: u64,
    /// Frames with an id that the device knew, and dropped.
    pub(crate) dropped: u64,
    pub(crate) redeliveries: u64,
    pub(crate) not_recovered: u64,
    /// Lines that are open now.
    pub(crate) open: u64,
    /// Closed for reading too slowly.
    pub(crate) too_slow: u64,
}

struct Device {
    user: &'static str,
    acks: Acks,
    memory: Mutex<Memory>,
    /// Reads nothing while it is so.
    is_stalled: watch::Sender<bool>,
}

/// All devices of a trial.
pub(crate) struct Devices {
    all: Vec<Arc<Device>>,
    living: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Devices {
    /// One device for each user that has one, on any of the nodes.
    pub(crate) fn begin(nodes: &Nodes) -> Self {
        let stop = CancellationToken::new();
        let users = LISTENERS.map(|user| (user, Acks::Each)).into_iter().chain(SILENT.map(|user| (user, Acks::Never)));
        let device =
            |(user, acks)| Arc::new(Device { user, acks, memory: Mutex::default(), is_stalled: watch::channel(false).0 });
        let all = users.map(device).collect::<Vec<_>>();
        let living = all.iter().map(|device| tokio::spawn(live(device.clone(), nodes.clone(), stop.clone()))).collect();
        Self { all, living, stop }
    }

    pub(crate) async fn until_connected(&self) {
        eventually("every device is connected", async || (self.tally().open == self.all.len() as u64).then_some(())).await;
    }

    /// The first listener's device reads nothing from now on.
    pub(crate) fn stall(&self) {
        self.all[0].is_stalled.send_replace(true);
    }

    /// It reads on.
    pub(crate) fn read_on(&self) {
        self.all[0].is_stalled.send_replace(false);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.all.iter().fold(Tally::default(), |sum, device| {
            let one = device.memory.lock().tally;
            Tally {
                connections: sum.connections + one.connections,
                dropped: sum.dropped + one.dropped,
                redeliveries: sum.redeliveries + one.redeliveries,
                not_recovered: sum.not_recovered + one.not_recovered,
                open: sum.open + one.open,
                too_slow: sum.too_slow + one.too_slow,
            }
        })
    }

    /// As what each event was shown.
    pub(crate) fn shown(&self) -> BTreeMap<String, Vec<Id>> {
        let all = self.all.iter().flat_map(|device| device.memory.lock().shown.clone());
        all.fold(BTreeMap::new(), |mut shown, (event, ids)| {
            shown.entry(event).or_insert_with(Vec::new).extend(ids);
            shown
        })
    }

    pub(crate) fn disorder(&self) -> Vec<String> {
        self.all.iter().flat_map(|device| device.memory.lock().disorder.clone()).collect()
    }

    /// Whoever of them stopped by a mistake of the test's says so here.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        for living in self.living {
            living.await.unwrap();
        }
    }
}

async fn live(device: Arc<Device>, nodes: Nodes, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let backoff = Duration::from_millis(rand::rng().random_range(50..250));
        if let Some(address) = nodes.drawn()
            && let Some(client) = Client::try_open(address, &query(&device)).await
        {
            device.memory.lock().tally.connections += 1;
            tokio::select! {
                () = device.read(client) => {}
                () = stop.cancelled() => {}
            }
            device.memory.lock().tally.open = 0;
        }
        tokio::time::sleep(backoff).await;
    }
}

fn query(device: &Device) -> String {
    let mut query = format!("token={}&deviceId=only&ack=client", World::token(device.user));
    let known = Value::Object(device.memory.lock().positions.clone());
    if known != json!({}) {
        query.push_str(&format!("&since={}", positions(&known)));
    }
    query
}

impl Device {
    /// Reads until the line breaks.
    async fn read(&self, mut client: Client) {
        let mut stalled = self.is_stalled.subscribe();
        loop {
            stalled.wait_for(|is_stalled| !is_stalled).await.unwrap();
            let frame = match client.hear().await {
                Heard::Frame(frame) => frame,
                Heard::Closed(4008) => return self.memory.lock().tally.too_slow += 1,
                Heard::Closed(_) | Heard::Gone => return,
            };
            let answer = self.memory.lock().take(&frame);
            if let Some(answer) = answer.filter(|_| self.acks == Acks::Each)
                && !client.try_send(&answer).await
            {
                return;
            }
        }
    }
}

impl Memory {
    /// Takes a frame in; gives what a device that acknowledges answers.
    fn take(&mut self, frame: &Value) -> Option<Value> {
        match frame["type"].as_str().unwrap() {
            "connected" => self.tally.open = 1,
            "recovered" if frame["recovered"] == true => self.remember(frame),
            "recovered" => self.tally.not_recovered += 1,
            "notification:new" => return Some(self.show(frame)),
            _ => {}
        }
        None
    }

    fn remember(&mut self, frame: &Value) {
        if let (Some(channel), position @ Value::String(_)) = (frame["channel"].as_str(), &frame["position"]) {
            self.positions.insert(channel.to_owned(), position.clone());
        }
    }

    fn show(&mut self, frame: &Value) -> Value {
        let (id, event) = (missed::id(frame), frame["notification"]["eventId"].as_str().unwrap().to_owned());
        let number = event.parse::<u64>().unwrap();
        let is_new = self.known.insert(id.clone());
        if is_new {
            self.shown.entry(event).or_default().push(id.clone());
        } else {
            self.tally.dropped += 1;
        }
        if frame["redelivery"].is_u64() {
            self.tally.redeliveries += 1;
            return json!({"type": "ack", "notificationIds": [id]});
        }
        // What came as a further attempt before may come in its order now.
        match self.newest {
            Some(newest) if number < newest && is_new => self.disorder.push(format!("{number} was shown behind {newest}")),
            newest => self.newest = newest.max(Some(number)),
        }
        self.remember(frame);
        json!({"type": "ack", "channel": frame["channel"], "position": frame["position"]})
    }
}
