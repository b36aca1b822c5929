//! Lanes: the bounded queue to each worker, and what happens when one is full.
//!
//! Owns: which worker has a partition's records, and the few that did not fit. A full queue: the record is stashed, and the
//! lane says that it has no room, so that its partitions are paused; nothing is dropped. Neighbour: `dispatch`.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crossbeam_channel::{Sender, TrySendError};

use super::{DispatchError, Task};
use crate::kafka::consumer::Partition;

/// What the records handed to one worker and not done may hold, in bytes, as [`Source::bytes`](super::Source::bytes) counts.
const LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// The way to one worker.
struct Lane<A> {
    queue: Sender<Task<A>>,
    /// Records that did not fit; its partitions are paused as long as there are any, so there are no more than a few.
    stash: VecDeque<Task<A>>,
    paused: bool,
    /// Held by records handed out and not done.
    bytes: usize,
}

/// The ways to all workers.
pub(super) struct Lanes<A> {
    lanes: Vec<Lane<A>>,
}

impl<A> Lanes<A> {
    /// One lane for each queue; there is at least one.
    pub(super) fn new(queues: Vec<Sender<Task<A>>>) -> Self {
        let lane = |queue| Lane { queue, stash: VecDeque::new(), paused: false, bytes: 0 };
        Self { lanes: queues.into_iter().map(lane).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The worker of a partition: always the same.
    pub(super) fn of(&self, partition: &Partition) -> usize {
        let mut hasher = DefaultHasher::new();
        partition.hash(&mut hasher);
        usize::try_from(hasher.finish() % self.lanes.len().max(1) as u64).unwrap_or(0)
    }

    /// Hands a task to a worker, or stashes it.
    pub(super) fn give(&mut self, lane: usize, task: Task<A>) -> Result<(), DispatchError> {
        let Some(lane) = self.lanes.get_mut(lane) else { return Err(DispatchError::WorkerGone) };
        if let Task::New(source) = &task {
            lane.bytes += source.bytes();
        }
        lane.stash.push_back(task);
        lane.flush()
    }

    /// Hands on what was stashed, as far as there is room.
    pub(super) fn flush(&mut self) -> Result<(), DispatchError> {
        self.lanes.iter_mut().try_for_each(Lane::flush)
    }

    /// A record of this many bytes is done.
    pub(super) fn done(&mut self, lane: usize, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.bytes = lane.bytes.saturating_sub(bytes);
        }
    }

    /// Whether a worker can take no more for now.
    pub(super) fn is_full(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| !lane.stash.is_empty() || lane.bytes > LIMIT_BYTES)
    }

    /// Whether a worker has so much room again that it is worth going on.
    pub(super) fn has_room(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| {
            let low = lane.queue.capacity().is_none_or(|capacity| lane.queue.len() <= capacity * 3 / 4);
            low && lane.stash.is_empty() && lane.bytes <= LIMIT_BYTES / 4 * 3
        })
    }

    pub(super) fn is_paused(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.paused)
    }

    pub(super) fn paused(&self) -> Vec<usize> {
        (0..self.count()).filter(|lane| self.is_paused(*lane)).collect()
    }

    pub(super) fn any_paused(&self) -> bool {
        self.lanes.iter().any(|lane| lane.paused)
    }

    pub(super) fn pause(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.paused = true;
        }
    }

    pub(super) fn resume(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.paused = false;
        }
    }
}

impl<A> Lane<A> {
    fn flush(&mut self) -> Result<(), DispatchError> {
        while let Some(task) = self.stash.pop_front() {
            match self.queue.try_send(task) {
                Ok(()) => {}
                Err(TrySendError::Full(task)) => {
                    self.stash.push_front(task);
                    return Ok(());
                }
                Err(TrySendError::Disconnected(_)) => return Err(DispatchError::WorkerGone),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(received: &crossbeam_channel::Receiver<Task<u32>>) -> Vec<u32> {
        let number = |task| match task {
            Task::Again(number) => number,
            Task::New(_) | Task::Lost(_) => panic!("only numbers were given"),
        };
        received.try_iter().map(number).collect()
    }

    #[test]
    fn what_does_not_fit_waits_in_its_order_and_nothing_is_dropped() {
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let mut lanes = Lanes::new(vec![sender]);
        for number in 0..5 {
            lanes.give(0, Task::Again(number)).unwrap();
        }
        assert!(lanes.is_full(0) && !lanes.has_room(0));
        let mut seen = Vec::new();
        while lanes.is_full(0) {
            seen.extend(numbers(&receiver));
            lanes.flush().unwrap();
        }
        seen.extend(numbers(&receiver));
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(lanes.has_room(0));
    }

    #[test]
    fn a_partition_always_has_the_same_worker() {
        let queues = (0..3).map(|_| crossbeam_channel::bounded::<Task<u32>>(1).0).collect();
        let lanes = Lanes::new(queues);
        for number in 0..50 {
            let partition = Partition { topic: "bookings".into(), number };
            assert!(lanes.of(&partition) < 3);
            assert_eq!(lanes.of(&partition), lanes.of(&partition.clone()));
        }
    }

    #[test]
    fn a_worker_that_is_gone_ends_the_dispatch() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut lanes = Lanes::new(vec![sender]);
        drop(receiver);
        assert!(matches!(lanes.give(0, Task::Again(1)), Err(DispatchError::WorkerGone)));
    }
}
