//! Presence on all nodes: what this node tells of its devices, and what it knows of the others'.
//!
//! Owns: the state that the core folds, the records that are due, and who is told that a device has come or gone. Refuses to decide
//! anything of that. Neighbours: shards say who comes and goes, the feed what the others say; `gather` beside asks them.

mod fresh;
mod gather;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tidings_core::ids::{Incarnation, NodeId, UserId};
use tidings_core::presence::{Change, Crossed, Extent, Presence, Settings, Totals};
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::signal::nodes::{Question, UserDevice};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::gather::Gather;
pub(super) use self::gather::Wanted;
pub(super) use self::writer::Kind;
use self::writer::Writer;
use super::inlet::Control;
use super::metrics::{GatewayMetrics, Limit};
use super::moment::millis;
use super::{Phase, Shared};
use crate::clock::Clock;
use crate::config::PresenceConfig;
use crate::kafka::cluster::Cluster;

/// Questions of other nodes that wait for their turn. One beyond that is not answered, and who asked says so to its client.
const QUESTIONS: usize = 256;
/// Devices that are counted at a time.
const COUNTED: usize = 4_096;
/// Questions that are answered at a time.
const ANSWERS: usize = 32;

/// Which devices are open where.
pub(super) struct Roster {
    /// Shared: shards note who comes and goes, the feed what others say, connections ask. Never held while waiting.
    state: Mutex<Presence>,
    writer: Writer,
    gather: Gather,
    metrics: GatewayMetrics,
    clock: Clock,
    pause: Duration,
    asked: mpsc::Sender<Question>,
    /// Taken by `run`.
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muster {
    /// Every node that lives, with how many devices it has told of.
    pub nodes: Vec<(NodeId, usize)>,
    /// Devices that are open somewhere.
    pub devices: usize,
    /// Users who have one.
    pub users: usize,
    /// Whether this is all: this node has not just begun, and has heard all that the others said.
    pub extent: Extent,
}

impl Roster {
    pub(super) fn new(
        cluster: &Cluster,
        config: &PresenceConfig,
        (node, clock): (&NodeId, Clock),
        metrics: &GatewayMetrics,
    ) -> Result<Self, KafkaError> {
        let incarnation = Incarnation(Uuid::new_v4());
        let (asked, questions) = mpsc::channel(QUESTIONS);
        Ok(Self {
            state: Mutex::new(Presence::new(node.clone(), incarnation, settings(config), millis(clock))),
            writer: Writer::new(cluster, config.lease.0, node, metrics)?,
            gather: Gather::new(config, incarnation, clock),
            metrics: metrics.clone(),
            clock,
            pause: config.pause.0,
            asked,
            questions: Mutex::new(Some(questions)),
        })
    }

    /// A device has its first connection here.
    pub(super) fn came(&self, device: UserDevice) {
        self.state.lock().came(device);
    }

    /// A device has lost its last connection here.
    pub(super) fn left(&self, device: UserDevice) {
        self.state.lock().left(device, millis(self.clock));
    }

    /// Tells the others what is due and answers their questions, until it is told to stop; then says that this node goes.
    pub(super) async fn run(&self, shared: &Arc<Shared>, stop: &CancellationToken) {
        let Some(mut questions) = self.questions.lock().take() else { return };
        let mut turns = tokio::time::interval(self.pause);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut answering = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = turns.tick() => self.turn(shared).await,
                Some(question) = questions.recv(), if answering.len() < ANSWERS => {
                    answering.push(self.gather.answer(shared, &self.writer, question));
                }
                Some(()) = answering.next() => {}
            }
        }
        let farewell = self.state.lock().farewell();
        self.writer.write(Kind::Announcement, &farewell);
    }

    /// Waits until everything is written, or `limit` has passed.
    pub(super) fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.writer.flush(limit)
    }

    async fn turn(&self, shared: &Arc<Shared>) {
        // Before this node reads, it would not hear what others answer.
        if !shared.is(Phase::Open) {
            return;
        }
        let now_ms = millis(self.clock);
        let (said, changes, wishes) = {
            let mut state = self.state.lock();
            let mut changes = state.expire(now_ms);
            // With one record on its way, what changes meanwhile gathers.
            let (said, own) = if self.writer.is_busy() { (None, Vec::new()) } else { state.say(now_ms) };
            changes.extend(own);
            let wishes = state.wishes(now_ms);
            self.measure(&mut state);
            (said, changes, wishes)
        };
        if let Some(said) = said {
            let kind = if matches!(said, SignalRecord::Snapshot(_)) { Kind::Snapshot } else { Kind::Announcement };
            self.writer.write(kind, &said);
        }
        for wish in wishes {
            self.writer.write(Kind::Recount, &SignalRecord::Recount(wish));
        }
        self.gather.forget(now_ms);
        for (inlet, changes) in shared.inlets.iter().zip(by_shard(shared, changes)).filter(|(_, changes)| !changes.is_empty()) {
            // A shard that has ended has nobody to tell.
            let _ = inlet.say(Control::Statuses(changes)).await;
        }
    }

    fn measure(&self, state: &mut Presence) {
        let (nodes, devices) = state.others().fold((0_i64, 0), |(nodes, devices), other| (nodes + 1, devices + other.devices));
        self.metrics.other_nodes.set(nodes);
        self.metrics.other_devices.set(i64::try_from(devices).unwrap_or(i64::MAX));
        let Crossed { nodes, devices } = state.crossed();
        self.metrics.crossed_by(Limit::PresenceNodes, nodes);
        self.metrics.crossed_by(Limit::PresenceDevices, devices);
    }

    /// What nodes say of themselves, from the feed's thread.
    pub(super) fn hear(&self, shared: &Arc<Shared>, signal: SignalRecord) {
        let now_ms = millis(self.clock);
        let changes = match signal {
            SignalRecord::Announcement(announcement) => self.state.lock().announced(announcement, now_ms),
            SignalRecord::Snapshot(page) => self.state.lock().snapshot(page, now_ms),
            SignalRecord::Recount(wish) => {
                self.state.lock().recount(&wish);
                Vec::new()
            }
            SignalRecord::Question(question) => {
                if self.gather.is_asked(&question) && self.asked.try_send(question).is_err() {
                    self.metrics.unanswered_questions.inc();
                }
                Vec::new()
            }
            SignalRecord::Answer(answer) => {
                self.gather.answered(*answer);
                Vec::new()
            }
            SignalRecord::Redeliver { .. }
            | SignalRecord::Disconnect { .. }
            | SignalRecord::ResetBreaker(_)
            | SignalRecord::Unknown => Vec::new(),
        };
        for (inlet, changes) in shared.inlets.iter().zip(by_shard(shared, changes)).filter(|(_, changes)| !changes.is_empty()) {
            inlet.say_blocking(Control::Statuses(changes));
        }
    }

    /// What is known of the cluster.
    pub(super) fn muster(&self, own: &NodeId) -> Muster {
        let mut totals = Totals::default();
        // Shards and the feed have their turns in between.
        while self.state.lock().count_on(&mut totals, COUNTED) {}
        let state = self.state.lock();
        let others = state.others().filter(|other| !other.ends);
        let own = (own.clone(), state.told());
        let mut nodes = others.map(|other| (other.node.clone(), other.devices)).chain([own]).collect::<Vec<_>>();
        nodes.sort();
        let Totals { devices, users, .. } = totals;
        let is_whole = state.is_settled(millis(self.clock)) && state.others().all(|other| other.is_whole);
        Muster { nodes, devices, users, extent: if is_whole { Extent::Whole } else { Extent::Partial } }
    }

    /// Whether another node has told of a device of the user.
    pub(super) fn is_elsewhere(&self, user: &UserId) -> bool {
        self.state.lock().is_elsewhere(user)
    }
}

fn settings(config: &PresenceConfig) -> Settings {
    let millis = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Settings {
        lease_ms: millis(config.lease.0),
        pause_ms: millis(config.pause.0),
        grace_ms: millis(config.grace.0),
        record_devices: config.record_devices.get(),
        nodes: config.nodes.get(),
        devices: config.devices.get(),
    }
}

/// Each shard's own of what has changed.
fn by_shard(shared: &Shared, changes: Vec<Change>) -> Vec<Vec<Change>> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut by_shard = vec![Vec::new(); shared.inlets.len()];
    for change in changes {
        if let Some(own) = by_shard.get_mut(shared.shard(&change.device.user_id)) {
            own.push(change);
        }
    }
    by_shard
}
