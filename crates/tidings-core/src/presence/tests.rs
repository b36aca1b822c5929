//! Presence as a whole, without sockets: nodes that write and read a log at their own pace, records that are lost, nodes that are killed,
//! drain and start again. Whatever the order of all that, in the end every node knows what the others have, and nothing of the dead. Long because
//! the cluster around a node is in it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NODES: usize = 3;
const LEASE_MS: u64 = 1_200;
const PAUSE_MS: u64 = 50;
const GRACE_MS: u64 = 300;

fn settings() -> Settings {
    Settings { lease_ms: LEASE_MS, pause_ms: PAUSE_MS, grace_ms: GRACE_MS, record_devices: 2, nodes: 16, devices: 64 }
}

fn device(number: u8) -> UserDevice {
    // Several devices of a user, and a user on several nodes.
    UserDevice { user_id: format!("u{}", number / 2).parse().unwrap(), device_id: format!("d{number}").parse().unwrap() }
}

fn presence(name: usize, run: u128, settings: Settings, now_ms: u64) -> Presence {
    Presence::new(format!("n{name}").parse().unwrap(), Incarnation(Uuid::from_u128(run)), settings, now_ms)
}

fn announcement(run: u128, number: u64, came: Vec<UserDevice>) -> Announcement {
    let incarnation = Incarnation(Uuid::from_u128(run));
    let lease = Lease { node: format!("r{run}").parse().unwrap(), incarnation, number, lasts_ms: LEASE_MS };
    Announcement { lease, came, left: Vec::new(), ends: false }
}

fn statuses(changes: &[Change]) -> Vec<(&str, Status)> {
    changes.iter().map(|change| (change.device.device_id.as_str(), change.status)).collect()
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    Come(usize, u8),
    Leave(usize, u8),
    Pass(u64),
    /// A node writes what is due.
    Turn(usize),
    /// The same, but the record is lost.
    Lose(usize),
    /// A device goes, and what is said of it once its grace period is over is lost.
    Slip(usize, u8),
    /// A node reads the next records that another one wrote.
    Read(usize, usize, usize),
    Kill(usize),
    Drain(usize),
    Start(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (node, device) = (|| 0..NODES, || 0..8_u8);
    prop_oneof![
        6 => (node(), device()).prop_map(|(node, device)| Op::Come(node, device)),
        4 => (node(), device()).prop_map(|(node, device)| Op::Leave(node, device)),
        6 => (1..LEASE_MS).prop_map(Op::Pass),
        8 => node().prop_map(Op::Turn),
        2 => node().prop_map(Op::Lose),
        2 => (node(), device()).prop_map(|(node, device)| Op::Slip(node, device)),
        8 => (node(), node(), 1..6_usize).prop_map(|(reader, writer, records)| Op::Read(reader, writer, records)),
        1 => node().prop_map(Op::Kill),
        1 => node().prop_map(Op::Drain),
        2 => node().prop_map(Op::Start),
    ]
}

struct Process {
    presence: Presence,
    has: BTreeSet<UserDevice>,
    /// How far it has read each node's partition.
    read: [usize; NODES],
    /// What it has told of each device last.
    told: BTreeMap<UserDevice, Status>,
}

#[derive(Default)]
struct World {
    now_ms: u64,
    runs: u128,
    /// One partition for each node, as the node's name is the key.
    log: [Vec<SignalRecord>; NODES],
    nodes: [Option<Process>; NODES],
}

impl Process {
    fn note(&mut self, changes: Vec<Change>) {
        for Change { device, status } in changes {
            self.told.insert(device, status);
        }
    }

    fn hear(&mut self, record: &SignalRecord, now_ms: u64) {
        let changes = match record.clone() {
            SignalRecord::Announcement(announcement) => self.presence.announced(announcement, now_ms),
            SignalRecord::Snapshot(page) => self.presence.snapshot(page, now_ms),
            SignalRecord::Recount(wish) => {
                self.presence.recount(&wish);
                Vec::new()
            }
            other => panic!("{other:?}"),
        };
        self.note(changes);
    }
}

impl World {
    fn start(&mut self, node: usize) {
        if self.nodes[node].is_none() {
            self.runs += 1;
            let read = std::array::from_fn(|partition| self.log[partition].len());
            let presence = presence(node, self.runs, settings(), self.now_ms);
            self.nodes[node] = Some(Process { presence, has: BTreeSet::new(), read, told: BTreeMap::new() });
        }
    }

    /// What a node has to write.
    fn turn(&mut self, node: usize) -> Vec<SignalRecord> {
        let now_ms = self.now_ms;
        let Some(process) = &mut self.nodes[node] else { return Vec::new() };
        let changes = process.presence.expire(now_ms);
        process.note(changes);
        let (said, changes) = process.presence.say(now_ms);
        process.note(changes);
        let wishes = process.presence.wishes(now_ms).into_iter().map(SignalRecord::Recount);
        said.into_iter().chain(wishes).collect()
    }

    fn read(&mut self, reader: usize, writer: usize, records: usize) {
        let now_ms = self.now_ms;
        let Some(process) = &mut self.nodes[reader] else { return };
        let from = process.read[writer];
        for record in self.log[writer].iter().skip(from).take(records) {
            process.read[writer] += 1;
            process.hear(record, now_ms);
        }
    }

    fn carry_out(&mut self, op: &Op) {
        match *op {
            Op::Come(node, number) => {
                if let Some(process) = &mut self.nodes[node] {
                    process.has.insert(device(number));
                    process.presence.came(device(number));
                }
            }
            Op::Leave(node, number) => {
                let now_ms = self.now_ms;
                if let Some(process) = &mut self.nodes[node]
                    && process.has.remove(&device(number))
                {
                    process.presence.left(device(number), now_ms);
                }
            }
            Op::Pass(ms) => self.now_ms += ms,
            Op::Turn(node) => {
                let written = self.turn(node);
                self.log[node].extend(written);
            }
            Op::Lose(node) => drop(self.turn(node)),
            Op::Slip(node, device) => {
                self.carry_out(&Op::Leave(node, device));
                self.now_ms += GRACE_MS;
                self.carry_out(&Op::Lose(node));
            }
            Op::Read(reader, writer, records) => self.read(reader, writer, records),
            Op::Kill(node) => self.nodes[node] = None,
            Op::Drain(node) => {
                if let Some(mut process) = self.nodes[node].take() {
                    self.log[node].push(process.presence.farewell());
                }
            }
            Op::Start(node) => self.start(node),
        }
    }

    /// Nothing more happens, and nothing is lost, for as long as everything takes.
    fn settle(&mut self) {
        for _ in 0..4 * (LEASE_MS + GRACE_MS) / PAUSE_MS {
            self.now_ms += PAUSE_MS;
            for node in 0..NODES {
                self.carry_out(&Op::Turn(node));
            }
            for reader in 0..NODES {
                for writer in 0..NODES {
                    self.read(reader, writer, usize::MAX);
                }
            }
        }
    }

    fn living(&self) -> BTreeMap<Incarnation, &BTreeSet<UserDevice>> {
        self.nodes.iter().flatten().map(|process| (process.presence.incarnation(), &process.has)).collect()
    }
}

/// Counted two at a time.
fn totals(presence: &Presence) -> (usize, usize) {
    let mut totals = Totals::default();
    while presence.count_on(&mut totals, 2) {}
    (totals.devices, totals.users)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_lost_or_late_every_node_knows_in_the_end_what_the_living_have_and_nothing_of_the_dead(
        started in 1..=NODES,
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut world = World::default();
        (0..started).for_each(|node| world.start(node));
        ops.iter().for_each(|op| world.carry_out(op));
        world.settle();
        let living = world.living();
        let everywhere = living.values().copied().flatten().cloned().collect::<BTreeSet<_>>();
        for process in world.nodes.iter().flatten() {
            let own = process.presence.incarnation();
            let known = process.presence.others().map(|other| {
                prop_assert!(other.is_whole);
                Ok(other.incarnation)
            });
            let known = known.collect::<Result<BTreeSet<_>, _>>()?;
            prop_assert_eq!(known, living.keys().copied().filter(|run| *run != own).collect::<BTreeSet<_>>());
            let devices = everywhere.len();
            let users = everywhere.iter().map(|device| &device.user_id).collect::<BTreeSet<_>>().len();
            prop_assert_eq!(totals(&process.presence), (devices, users));
            for (device, status) in &process.told {
                prop_assert_eq!(*status == Status::Online, everywhere.contains(device), "{:?}", device);
            }
            for user in everywhere.iter().map(|device| &device.user_id) {
                let elsewhere = living.iter().any(|(run, has)| *run != own && has.iter().any(|device| device.user_id == *user));
                prop_assert_eq!(process.presence.is_elsewhere(user), elsewhere);
            }
        }
    }

    #[test]
    fn no_device_of_a_node_that_is_silent_is_shown_after_its_lease(
        came in prop::collection::btree_set(0..8_u8, 1..8),
        late_ms in 0..LEASE_MS,
    ) {
        let mut reader = presence(0, 1, settings(), 0);
        let mut now_ms = 0;
        reader.announced(announcement(2, 1, came.iter().copied().map(device).collect()), late_ms);
        let until_ms = late_ms + LEASE_MS + LEASE_MS / BEATS + PAUSE_MS;
        while now_ms <= until_ms {
            if let (Some(SignalRecord::Announcement(own)), _) = reader.say(now_ms) {
                reader.announced(own, now_ms);
            }
            reader.expire(now_ms);
            now_ms += PAUSE_MS;
        }
        prop_assert_eq!((reader.others().count(), totals(&reader)), (0, (0, 0)));
    }

    #[test]
    fn however_much_others_say_no_more_is_kept_than_may_be(
        words in prop::collection::vec((0..40_u128, 1..5_u64, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let mut reader = presence(0, 100, settings(), 0);
        for (run, number, came) in words {
            reader.announced(announcement(run, number, came.into_iter().map(device).collect()), 0);
            prop_assert!(reader.others().count() <= settings().nodes);
            prop_assert!(reader.others().map(|other| other.devices).sum::<usize>() <= settings().devices);
        }
    }
}

/// What a node says while time passes, with the moment of each.
fn said(node: &mut Presence, moments: impl Iterator<Item = u64>) -> Vec<(u64, SignalRecord)> {
    moments.filter_map(|now_ms| Some((now_ms, node.say(now_ms).0?))).collect()
}

fn changes(said: &[(u64, SignalRecord)]) -> Vec<(usize, usize)> {
    let counted = said.iter().filter_map(|(_, record)| match record {
        SignalRecord::Announcement(Announcement { came, left, .. }) => Some((came.len(), left.len())),
        _ => None,
    });
    counted.filter(|counted| *counted != (0, 0)).collect()
}

#[test]
fn five_thousand_devices_that_come_make_few_records_and_none_is_larger_than_it_may_be() {
    let settings = Settings { record_devices: 1_000, ..settings() };
    let mut node = presence(0, 1, settings, 0);
    for number in 0..5_000 {
        node.came(UserDevice { user_id: format!("u{number}").parse().unwrap(), device_id: "d".parse().unwrap() });
    }
    let records = said(&mut node, 0..1_000);
    assert_eq!(changes(&records), [(1_000, 0); 5]);
    assert!(records.windows(2).all(|pair| pair[1].0 - pair[0].0 >= PAUSE_MS));
}

#[test]
fn who_comes_back_within_the_grace_period_or_goes_before_anybody_was_told_makes_no_record() {
    let mut node = presence(0, 1, settings(), 0);
    node.came(device(1));
    node.left(device(1), 0);
    assert_eq!(changes(&said(&mut node, 0..100)), []);
    node.came(device(1));
    assert_eq!(changes(&said(&mut node, 100..200)), [(1, 0)]);
    node.left(device(1), 200);
    assert_eq!(changes(&said(&mut node, 200..200 + GRACE_MS)), []);
    node.came(device(1));
    assert_eq!(changes(&said(&mut node, 600..1_600)), []);
    node.left(device(1), 1_600);
    assert_eq!(changes(&said(&mut node, 1_600..1_700 + GRACE_MS)), [(0, 1)]);
}

#[test]
fn a_device_is_online_once_on_however_many_nodes_it_is() {
    let mut reader = presence(0, 1, settings(), 0);
    assert_eq!(statuses(&reader.announced(announcement(2, 1, vec![device(1)]), 0)), [("d1", Status::Online)]);
    assert_eq!(reader.announced(announcement(3, 1, vec![device(1)]), 0), []);
    reader.came(device(1));
    assert_eq!(reader.say(0).1, []);
    let leaves = |run, number| Announcement { left: vec![device(1)], ..announcement(run, number, Vec::new()) };
    assert_eq!(reader.announced(leaves(2, 2), 10), []);
    assert_eq!(reader.announced(leaves(3, 2), 10), []);
    reader.left(device(1), 20);
    assert_eq!(statuses(&reader.say(20 + GRACE_MS).1), [("d1", Status::Offline)]);
}

#[test]
fn what_was_missed_is_wished_for_and_told_once_it_is_known() {
    let page = |run, number| {
        let Announcement { lease, .. } = announcement(run, number, Vec::new());
        SnapshotPage { lease, after: None, to: None, present: vec![device(1), device(3)] }
    };
    let mut joining = presence(0, 1, settings(), 0);
    joining.announced(announcement(2, 7, Vec::new()), 0);
    assert_eq!(joining.wishes(0).iter().map(|wish| wish.of).collect::<Vec<_>>(), [None]);
    assert_eq!(joining.wishes(0).iter().map(|wish| wish.of).collect::<Vec<_>>(), [Some(Incarnation(Uuid::from_u128(2)))]);
    assert_eq!(joining.wishes(0), [], "it was just asked");
    assert_eq!(statuses(&joining.snapshot(page(2, 8), 0)), [("d1", Status::Online), ("d3", Status::Online)]);
    assert_eq!(joining.wishes(LEASE_MS), []);
    let leaves = Announcement { left: vec![device(3)], ..announcement(2, 9, Vec::new()) };
    assert_eq!(statuses(&joining.announced(leaves, 0)), [("d3", Status::Offline)]);
    // The tenth is lost; by it, it came back.
    assert_eq!(joining.announced(announcement(2, 11, Vec::new()), 10), []);
    assert_eq!(joining.wishes(10).len(), 1);
    assert_eq!(statuses(&joining.snapshot(page(2, 12), 20)), [("d3", Status::Online)]);
    // By what is lost then, it went: a page that does not name it says so, within its ends only.
    let (first, last) = (Some(device(1)), Some(device(2)));
    let beside = SnapshotPage { after: first, to: last, present: Vec::new(), ..page(2, 14) };
    assert_eq!(joining.snapshot(beside, 30), []);
    let without = SnapshotPage { present: vec![device(1)], ..page(2, 15) };
    assert_eq!(statuses(&joining.snapshot(without, 40)), [("d3", Status::Offline)]);
    assert_eq!(joining.wishes(2 * LEASE_MS), [], "nothing is lacking any more");
}

#[test]
fn while_the_log_is_silent_nobody_is_taken_for_dead() {
    let mut reader = presence(0, 1, settings(), 0);
    reader.announced(announcement(2, 1, vec![device(1)]), 0);
    // Nothing is heard, not even of this node itself.
    assert_eq!(reader.expire(100 * LEASE_MS), []);
    let (Some(SignalRecord::Announcement(own)), _) = reader.say(100 * LEASE_MS) else { panic!() };
    reader.announced(own, 100 * LEASE_MS);
    assert_eq!(reader.expire(100 * LEASE_MS), []);
}

#[test]
fn who_starts_again_under_its_name_has_ended_before() {
    let mut reader = presence(0, 1, settings(), 0);
    reader.announced(announcement(2, 1, vec![device(1), device(3)]), 0);
    let mut again = announcement(3, 1, vec![device(1)]);
    again.lease.node = "r2".parse().unwrap();
    reader.announced(again, 100);
    assert_eq!(reader.askable(), [Incarnation(Uuid::from_u128(3))]);
    assert_eq!(statuses(&reader.expire(100 + GRACE_MS)), [("d3", Status::Offline)]);
}
