//! Halts: topics that are not read because their breaker opened, and the trials that end that; partitions that a worker stopped.
//!
//! Owns: what an open breaker means for a topic's partitions. They stay ours and are polled over, records that workers had not
//! decided come back, and after the pause all are read again from the first of those. Refuses to judge: `gate` has the
//! breakers. Neighbours: `holdings` has the partitions, `standing` makes it visible.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::breaker::{Limits, Trip};
use tidings_core::offsets::Shown;
use tidings_core::record::RecordError;

use super::gate::Gate;
use super::handover::BACKOFF;
use super::holdings::{Holdings, Spot, Stay, Stop};
use super::meters::{OfTopic, Tripped};
use super::{Dispatch, DispatchError};
use crate::kafka::consumer::{Consumer, Partition};
use crate::telemetry::health::Halted;

/// How often the ends of partitions that are not read are asked for.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The same once the brokers did not say.
const WATCH_PAUSE: Duration = Duration::from_secs(20);

/// A topic of which we have had a partition.
struct Topic {
    name: Arc<str>,
    gate: Arc<Gate>,
    halt: Option<Halt>,
}

struct Halt {
    /// When it is begun with again.
    ends: Duration,
    paused: bool,
    then: Then,
}

/// How a halted topic is begun with again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Its next records are a trial.
    Trial,
    /// As if nothing had been buried: an operator says so.
    Reset,
}

/// All topics of which we have had a partition, by their number.
pub(super) struct Topics {
    /// When a topic's gate shuts, if ever.
    limits: Option<Limits>,
    numbers: HashMap<Arc<str>, usize>,
    topics: Vec<Topic>,
    halted: usize,
    watched_at: Duration,
}

impl Topics {
    pub(super) fn new(limits: Option<Limits>) -> Self {
        Self { limits, numbers: HashMap::new(), topics: Vec::new(), halted: 0, watched_at: Duration::ZERO }
    }

    /// What a stay of a partition of `topic` that begins now is told of it.
    pub(super) fn stay(&mut self, topic: &Arc<str>) -> Stay {
        if let Some((number, known)) = self.numbers.get(topic).and_then(|number| Some((*number, self.topics.get(*number)?))) {
            return Stay { topic: number, gate: Arc::clone(&known.gate) };
        }
        let (number, gate) = (self.topics.len(), Arc::new(Gate::new(Arc::clone(topic), self.limits)));
        self.numbers.insert(Arc::clone(topic), number);
        self.topics.push(Topic { name: Arc::clone(topic), gate: Arc::clone(&gate), halt: None });
        Stay { topic: number, gate }
    }

    /// Why a partition of `topic` is not to be read, if so.
    pub(super) fn stop(&self, topic: &Arc<str>) -> Option<Stop> {
        let number = self.numbers.get(topic)?;
        self.topics.get(*number)?.halt.as_ref().map(|_| Stop::Halted)
    }

    pub(super) fn any_halted(&self) -> bool {
        self.halted > 0
    }
}

/// The partitions of a topic that are not read because it is halted.
fn halted(holdings: &Holdings, topic: &str) -> Vec<Partition> {
    let mut partitions = holdings.stopped(Stop::Halted);
    partitions.retain(|partition| *partition.topic == *topic);
    partitions
}

impl<A> Dispatch<A> {
    /// A topic's gate shut: workers leave what they have of it, and nothing more is handed out. It shuts once until it is opened.
    pub(super) fn halt(&mut self, number: usize, trip: Trip) {
        let Some(topic) = self.topics.topics.get_mut(number) else { return };
        let pause = self.plan.breaker_pause;
        topic.halt = Some(Halt { ends: self.clock.elapsed() + pause, paused: false, then: Then::Trial });
        self.topics.halted += 1;
        let name = Arc::clone(&topic.name);
        for held in self.holdings.of_topic(&name) {
            held.halt();
        }
        let since = self.clock.now();
        tracing::error!(topic = %name, reason = %trip, "the breaker opened: the topic is not read until the pause is over");
        self.meters.trips.get_or_create(&Tripped { topic: name.to_string(), why: trip.name() }).inc();
        let reason = halt_text(&name, trip, pause);
        self.standing.halted(name.to_string(), Halted { reason, since });
        let of = OfTopic { topic: name.to_string() };
        self.meters.open.get_or_create(&of).set(1);
        self.meters.since.get_or_create(&of).set(since.as_millis() as f64 / 1000.0);
    }

    /// A worker met a record that a later release wrote: its partition is not read on until this process is upgraded.
    pub(super) fn stop(&mut self, spot: Spot, offset: i64, why: &RecordError) {
        if self.holdings.left(spot) == Shown::Ignored {
            return;
        }
        let Some(held) = self.holdings.at(spot) else { return };
        // Counts more than a halt, which ends by itself.
        held.stop = Some(Stop::Newer);
        let partition = held.lease.partition().clone();
        let why = format!("{partition} at offset {offset}: {why}");
        tracing::error!(topic = %partition.topic, partition = partition.number, offset, "a partition is not read any further: {why}");
        self.standing.stopped(partition.clone(), why);
        self.unpaused.push(partition);
        self.measure();
    }

    /// Pauses halted topics, and begins with them again when it is time and workers have given back what they had.
    pub(super) fn tend_halts(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        for number in 0..self.topics.topics.len() {
            let Some(Topic { name, halt: Some(halt), .. }) = self.topics.topics.get_mut(number) else { continue };
            let (name, is_over) = (Arc::clone(name), now >= halt.ends);
            if !std::mem::replace(&mut halt.paused, true) {
                consumer.pause(&halted(&self.holdings, &name))?;
            }
            if is_over && self.holdings.of_topic(&name).all(|held| held.tracker.in_flight() == 0) {
                self.end_halt(consumer, number, &name)?;
            }
        }
        Ok(())
    }

    /// Learns how much waits in partitions that are not read: of those that are paused librdkafka asks nothing. It shows as lag.
    pub(super) fn watch_stopped(&mut self, consumer: &Consumer, now: Duration) {
        if now < self.topics.watched_at {
            return;
        }
        self.topics.watched_at = now + WATCH_INTERVAL;
        let unread = [Stop::Halted, Stop::Newer, Stop::Gone, Stop::Waiting, Stop::Refused];
        let stopped = unread.map(|stop| self.holdings.stopped(stop)).concat();
        if let Err(error) = consumer.ends(&stopped, BACKOFF) {
            tracing::debug!(%error, "the brokers do not say where partitions that are not read end");
            // The polling thread has waited for it, and has better to do.
            self.topics.watched_at = now + WATCH_PAUSE;
        }
    }

    fn end_halt(&mut self, consumer: &Consumer, number: usize, name: &Arc<str>) -> Result<(), DispatchError> {
        // What was done before the first record that was left is committed before its tracker goes.
        self.commit(consumer);
        let partitions = halted(&self.holdings, name);
        let place = |partition: &Partition| {
            let held = self.holdings.find(&partition.topic, partition.number)?;
            Some((partition.clone(), held.tracker.first_undone()))
        };
        let targets = partitions.iter().filter_map(place).collect::<Vec<_>>();
        let Some(topic) = self.topics.topics.get_mut(number) else { return Ok(()) };
        let then = topic.halt.as_ref().map_or(Then::Trial, |halt| halt.then);
        if !targets.is_empty()
            && let Err(error) = consumer.seek(&targets, BACKOFF)
        {
            tracing::warn!(topic = %name, %error, "the topic is not back at the records that were left; trying again");
            topic.halt = Some(Halt { ends: self.clock.elapsed() + BACKOFF, paused: true, then });
            return Ok(());
        }
        topic.halt = None;
        match then {
            Then::Trial => topic.gate.try_again(),
            Then::Reset => topic.gate.reset(),
        }
        self.topics.halted -= 1;
        for (partition, offset) in targets {
            let lane = self.lanes.of(&partition);
            self.holdings.take_up(partition.clone(), lane, offset, self.topics.stay(&partition.topic));
            if self.is_read(&partition) {
                consumer.resume(&[partition])?;
            }
        }
        match then {
            Then::Trial => tracing::info!(topic = %name, "the topic is read again: its next records are a trial"),
            Then::Reset => tracing::info!(topic = %name, "the topic is read again: an operator reset its breaker"),
        }
        self.standing.no_longer_halted(name);
        self.meters.open.get_or_create(&OfTopic { topic: name.to_string() }).set(0);
        self.meters.since.remove(&OfTopic { topic: name.to_string() });
        Ok(())
    }

    /// Has halted topics end their halts now where an operator wants it: the one that is named, or all.
    pub(super) fn hear_resets(&mut self) {
        let Ok(wanted) = self.resets.try_recv() else { return };
        let now = self.clock.elapsed();
        for Topic { name, halt, .. } in &mut self.topics.topics {
            if let Some(halt) = halt.as_mut().filter(|_| wanted.as_deref().is_none_or(|wanted| *wanted == **name)) {
                tracing::info!(topic = %name, "an operator resets the breaker");
                (halt.ends, halt.then) = (now, Then::Reset);
            }
        }
    }
}

fn halt_text(topic: &str, trip: Trip, pause: Duration) -> String {
    let pause = tidings_core::time::Delay(pause);
    format!(
        "the breaker of topic {topic} is open: {trip}; they are in dlq. The topic is tried again every {pause}, or at once by `tidings \
         breaker reset {topic}`"
    )
}
