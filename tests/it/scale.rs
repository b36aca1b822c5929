//! Several gateway nodes behind a plain TCP balancer: everybody is sent everything once, whichever node they are on, and goes on elsewhere
//! when theirs is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::balancer::Balancer;
use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::postgres::Server;
use crate::harness::process::Process;
use crate::harness::world::{Running, World, booking, metric, ms};

const BROADCAST: &str = "booking-updates";
/// As many for each node at least.
const DEVICES: usize = 9;

/// Where nodes read what is no longer in their memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    Postgres,
    NoStore,
}

/// Gateways, each a process of its own, behind a balancer; the other services run in this process.
struct Site {
    world: World,
    nodes: Vec<Process>,
    balancer: Balancer,
    others: Running,
    _server: Option<Server>,
}

impl Site {
    async fn of(nodes: usize, with: With) -> Self {
        let server = (with == With::Postgres).then(Server::start);
        let world = World::with(|config| {
            if let Some(server) = &server {
                config.store.url = server.database();
                // However busy the machine is, nobody is told that it may have been here in a channel where it was not.
                config.gateway.recovery.device_wait = ms(60_000);
                config.gateway.recovery.wait = ms(60_000);
                // Whoever was away for more than a moment is sent what it missed from the database.
                config.gateway.recovery.ring_records = NonZeroUsize::new(2).unwrap();
            }
        })
        .await;
        let roles: &[Role] = if server.is_some() { &[Role::Pipeline, Role::Inbox] } else { &[Role::Pipeline] };
        let others = world.start_roles(roles).await;
        let nodes = (0..nodes).map(|_| Process::spawn_roles(&world, &["gateway"])).collect::<Vec<_>>();
        for node in &nodes {
            node.await_ready().await;
        }
        let balancer = Balancer::in_front_of(nodes.iter().map(|node| node.address).collect()).await;
        Self { world, nodes, balancer, others, _server: server }
    }

    async fn emit(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.world.emit(&booking(&number.to_string(), &user(number % DEVICES))).await;
        }
    }

    /// One device of each user, subscribed and connected through the balancer.
    async fn devices(&self) -> Vec<Device> {
        let mut devices = Vec::new();
        for number in 0..DEVICES {
            devices.push(Device::begin(user(number), self.balancer.address).await);
        }
        for node in &self.nodes {
            eventually("every node has its share", async || {
                let open = metric(node.address, "tidings_gateway_open_connections").await;
                (open as usize >= DEVICES / self.nodes.len()).then_some(())
            })
            .await;
        }
        devices
    }
}

fn user(number: usize) -> String {
    format!("u{number}")
}

/// A device that remembers its positions and the ids it was shown, and comes back whenever its line breaks.
struct Device {
    user: String,
    balancer: SocketAddr,
    client: Client,
    positions: BTreeMap<String, Value>,
    /// The events it was shown, by channel, each once.
    shown: BTreeMap<String, Vec<String>>,
    ids: Vec<Value>,
    /// How often it was sent what it knew, and how often it came back.
    doubles: usize,
    returns: usize,
}

impl Device {
    async fn begin(user: String, balancer: SocketAddr) -> Self {
        let (client, greeting) = Client::greeted(balancer, &query(&user, &BTreeMap::new())).await;
        let mailbox = format!("user-{user}");
        let positions = BTreeMap::from([(mailbox.clone(), greeting["channels"][&mailbox].clone())]);
        let (shown, ids) = (BTreeMap::new(), Vec::new());
        let mut this = Self { user, balancer, client, positions, shown, ids, doubles: 0, returns: 0 };
        let subscribed = this.client.subscribe(BROADCAST).await;
        this.positions.insert(BROADCAST.to_owned(), subscribed["position"].clone());
        this
    }

    /// Listens until it was shown so many events in `channel`.
    async fn until(&mut self, channel: &str, count: usize) {
        while self.shown.get(channel).map_or(0, Vec::len) < count {
            match self.client.hear().await {
                Heard::Frame(frame) => self.hear(frame).await,
                Heard::Closed(_) | Heard::Gone => self.come_back().await,
            }
        }
    }

    async fn hear(&mut self, frame: Value) {
        if frame["type"] == "recovered" {
            assert_eq!((&frame["recovered"], frame.get("truncated")), (&json!(true), None), "{}: {frame}", self.user);
        }
        if frame["type"] != "notification:new" {
            return;
        }
        let channel = frame["channel"].as_str().unwrap().to_owned();
        self.positions.insert(channel.clone(), frame["position"].clone());
        // The line may break over it; then what is not acknowledged comes again.
        self.client.try_send(&json!({"type": "ack", "channel": channel, "position": frame["position"]})).await;
        let id = &frame["notification"]["id"];
        if self.ids.contains(id) {
            self.doubles += 1;
        } else {
            self.ids.push(id.clone());
            self.shown.entry(channel).or_default().push(frame["notification"]["eventId"].as_str().unwrap().to_owned());
        }
    }

    async fn come_back(&mut self) {
        let query = query(&self.user, &self.positions);
        self.client = eventually("a node takes it", async || Client::try_open(self.balancer, &query).await).await;
        let subscribe = json!({"type": "subscribe", "channel": BROADCAST, "since": self.positions[BROADCAST]});
        if self.client.try_send(&subscribe).await {
            self.returns += 1;
        }
    }
}

fn query(user: &str, positions: &BTreeMap<String, Value>) -> String {
    let query = format!("token={}&deviceId=d-{user}&ack=client", World::token(user));
    let Some(position) = positions.get(&format!("user-{user}")) else { return query };
    let since = json!({format!("user-{user}"): position}).to_string();
    format!("{query}&since={}", form_urlencoded::byte_serialize(since.as_bytes()).collect::<String>())
}

/// The events that a device must have been shown, by channel.
fn expected(device: &Device, count: usize) -> BTreeMap<String, Vec<String>> {
    let own = (0..count).filter(|number| user(number % DEVICES) == device.user).map(|number| number.to_string()).collect();
    let all = (0..count).map(|number| number.to_string()).collect();
    BTreeMap::from([(format!("user-{}", device.user), own), (BROADCAST.to_owned(), all)])
}

/// The events of each channel in the order in which they lie on the log, each once: the order in which everybody is to be shown them.
async fn on_the_log(site: &Site) -> BTreeMap<String, Vec<String>> {
    let mut records = site.world.log.records(&site.world.own("notifications")).await;
    records.sort_by_key(|record| (record.partition, record.offset));
    let mut orders = BTreeMap::<String, Vec<String>>::new();
    for record in records.iter().map(|record| record.json()) {
        let order = orders.entry(record["channel"].as_str().unwrap().to_owned()).or_default();
        let event = record["notification"]["eventId"].as_str().unwrap().to_owned();
        if !order.contains(&event) {
            order.push(event);
        }
    }
    orders
}

/// A device was shown what it must have been, in the order of the log.
fn is_in_order(device: &Device, orders: &BTreeMap<String, Vec<String>>) {
    for (channel, shown) in &device.shown {
        assert_eq!(*shown, orders[channel], "{} in {channel}", device.user);
    }
}

/// What lies in one partition of the domain topic comes in its order; across partitions there is none.
fn sorted(shown: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let sort = |events: &Vec<String>| {
        let mut events = events.clone();
        events.sort_by_key(|event| event.parse::<usize>().unwrap());
        events
    };
    shown.iter().map(|(channel, events)| (channel.clone(), sort(events))).collect()
}

async fn everybody_is_sent_everything_once(nodes: usize, with: With) {
    const EVENTS: usize = 3 * DEVICES;
    let site = Site::of(nodes, with).await;
    let mut devices = site.devices().await;
    site.emit(0..EVENTS).await;
    for device in &mut devices {
        device.until(BROADCAST, EVENTS).await;
        device.until(&format!("user-{}", device.user), EVENTS / DEVICES).await;
        // What came twice came before this answer.
        device.client.send(json!({"type": "ping"})).await;
        loop {
            let Heard::Frame(frame) = device.client.hear().await else { panic!("the line broke") };
            if frame["type"] == "pong" {
                break;
            }
            device.hear(frame).await;
        }
        let doubles = (device.doubles, device.returns);
        assert_eq!(doubles, (0, 0), "{} nodes {with:?}", site.nodes.len());
        assert_eq!(sorted(&device.shown), expected(device, EVENTS), "{} nodes {with:?}", site.nodes.len());
    }
    let orders = on_the_log(&site).await;
    devices.iter().for_each(|device| is_in_order(device, &orders));
    site.others.stop().await;
}

#[tokio::test]
async fn a_broadcast_reaches_each_connection_of_two_nodes_once() {
    everybody_is_sent_everything_once(2, With::NoStore).await;
}

#[tokio::test]
async fn a_broadcast_reaches_each_connection_of_three_nodes_once() {
    everybody_is_sent_everything_once(3, With::Postgres).await;
}

async fn those_of_a_killed_node_go_on_elsewhere(nodes: usize, with: With) {
    const EVENTS: usize = 20 * DEVICES;
    let mut site = Site::of(nodes, with).await;
    let mut devices = site.devices().await;
    let doomed = site.nodes.remove(0);
    let listening = join_all(devices.iter_mut().map(async |device| {
        device.until(BROADCAST, EVENTS).await;
        device.until(&format!("user-{}", device.user), EVENTS / DEVICES).await;
    }));
    let emitting = async {
        site.emit(0..EVENTS / 3).await;
        let more = async {
            for number in EVENTS / 3..EVENTS {
                site.emit(number..number + 1).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // While more is on its way.
        let killing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            doomed.kill();
        };
        tokio::join!(more, killing);
    };
    tokio::join!(listening, emitting);
    let returns = devices.iter().map(|device| device.returns).sum::<usize>();
    assert!(returns >= DEVICES / nodes, "{returns} came back");
    let orders = on_the_log(&site).await;
    for device in &devices {
        assert_eq!(sorted(&device.shown), expected(device, EVENTS), "{nodes} nodes {with:?}");
        is_in_order(device, &orders);
    }
    let doubles = devices.iter().map(|device| device.doubles).sum::<usize>();
    println!("{returns} came back; {doubles} notifications came again and were dropped by their ids");
    site.others.stop().await;
}

#[tokio::test]
async fn devices_of_a_node_that_is_killed_go_on_at_another_one_from_its_memory() {
    those_of_a_killed_node_go_on_elsewhere(2, With::NoStore).await;
}

#[tokio::test]
async fn devices_of_a_node_that_is_killed_go_on_at_others_from_the_database() {
    those_of_a_killed_node_go_on_elsewhere(3, With::Postgres).await;
}
