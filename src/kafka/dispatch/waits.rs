//! Waits: partitions whose next record needs something that is on its way, as a schema, or of which a record could not be written yet.
//!
//! Owns: leaving such a partition alone while others are read, and going on behind what is done once it is there. Refuses to know what it
//! is: whoever fetches or writes it says when it is there, and meanwhile what is wrong. Neighbours: `halts` does the same for whole topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::offsets::Shown;

use super::handover::BACKOFF;
use super::holdings::{Held, Lease, Spot, Stop};
use super::{Dispatch, DispatchError};
use crate::kafka::consumer::{Consumer, Partition};

/// How often it is looked whether what is waited for is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Something that is on its way. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Shared: set by who fetches it, looked at by who waits.
    over: AtomicBool,
    /// What keeps it from coming, if anything does. Shared likewise.
    trouble: Mutex<Option<String>>,
}

impl Awaited {
    /// It is there, or will not come: who waits is to look.
    pub fn settle(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    /// Something keeps it from coming. It is gone on with nevertheless.
    pub fn troubled(&self, why: String) {
        *self.0.trouble.lock() = Some(why);
    }

    /// Whether it is time to look.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// What keeps it from coming.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().clone()
    }
}

/// The partitions that wait.
#[derive(Default)]
pub(super) struct Waits {
    waiting: Vec<(Partition, Awaited)>,
    look_at: Duration,
}

impl Waits {
    pub(super) fn any(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<A> Dispatch<A> {
    /// A worker could not decide on a record yet: its partition is not read on until what it needs is there.
    pub(super) fn wait(&mut self, spot: Spot, awaited: Awaited) {
        if self.holdings.left(spot) == Shown::Ignored {
            return;
        }
        let Some(held) = self.holdings.at(spot) else { return };
        // Another reason counts more, and ends by itself or not at all.
        if held.stop.is_some() {
            return;
        }
        held.stop = Some(Stop::Waiting);
        let partition = held.lease.partition().clone();
        self.unpaused.push(partition.clone());
        self.waits.waiting.push((partition, awaited));
    }

    /// What follows from a record cannot be written yet: its partition is not read on until it is.
    pub(super) fn wait_behind(&mut self, lease: &Arc<Lease>, awaited: Awaited) {
        let partition = lease.partition();
        let held = self.holdings.find(&partition.topic, partition.number).filter(|held| Arc::ptr_eq(&held.lease, lease));
        // With another reason, or a record before this one, it is gone on with once all is done that was handed out.
        let Some(held) = held.filter(|held| held.stop.is_none()) else { return };
        held.stop = Some(Stop::Refused);
        self.unpaused.push(partition.clone());
        self.waits.waiting.push((partition.clone(), awaited));
    }

    /// Goes on with partitions whose wait is over and whose workers have given back what they had.
    pub(super) fn tend_waits(&mut self, consumer: &Consumer, now: Duration) -> Result<(), DispatchError> {
        if now < self.waits.look_at {
            return Ok(());
        }
        self.waits.look_at = now + LOOK_INTERVAL;
        let (mut over, mut left) = (Vec::new(), Vec::new());
        for (partition, awaited) in std::mem::take(&mut self.waits.waiting) {
            let waits = |held: &&mut Held| matches!(held.stop, Some(Stop::Waiting | Stop::Refused));
            let held = self.holdings.find(&partition.topic, partition.number).filter(waits);
            // Given back meanwhile, or given back and taken up again.
            let Some(held) = held else { continue };
            if awaited.is_over() && held.tracker.in_flight() == 0 {
                over.push((partition, held.tracker.first_undone()));
                continue;
            }
            if let Some(trouble) = awaited.trouble() {
                self.standing.stopped(partition.clone(), format!("{partition} waits: {trouble}"));
            }
            left.push((partition, awaited));
        }
        self.waits.waiting = left;
        if over.is_empty() { Ok(()) } else { self.go_on(consumer, over) }
    }

    fn go_on(&mut self, consumer: &Consumer, over: Vec<(Partition, i64)>) -> Result<(), DispatchError> {
        // What was done before the record that was waited with is committed before its tracker goes.
        self.commit(consumer);
        if let Err(error) = consumer.seek(&over, BACKOFF) {
            tracing::debug!(%error, "partitions are not back at the record that they waited with; trying again");
            let again = over.into_iter().map(|(partition, _)| {
                let awaited = Awaited::default();
                awaited.settle();
                (partition, awaited)
            });
            self.waits.waiting.extend(again);
            self.waits.look_at = self.clock.elapsed() + BACKOFF;
            return Ok(());
        }
        let mut read = Vec::new();
        for (partition, offset) in over {
            let lane = self.lanes.of(&partition);
            let stay = self.topics.stay(&partition.topic);
            let stop = self.topics.stop(&partition.topic);
            self.holdings.take_up(partition.clone(), lane, offset, stay).stop = stop;
            self.standing.no_longer_stopped(&partition);
            if self.is_read(&partition) {
                read.push(partition);
            }
        }
        Ok(consumer.resume(&read)?)
    }
}
