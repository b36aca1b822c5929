//! Turns: who recovers, and who is next.
//!
//! Owns: the queue of members that recover, what they wait for, and how long nobody needs a turn. Refuses to send anything: that is
//! `recover`'s. Neighbour: `pace` bounds what all turns together write.

use std::collections::{HashMap, HashSet, VecDeque};

use super::pace::Pace;
use crate::gateway::reads::Reply;

/// How long to wait before those are looked at again who waited for their sockets, for a place among the reads, or for an answer.
const AGAIN_MS: u64 = 10;
/// How long after the last recovery what was kept for it is given back.
const KEPT_MS: u64 = 60_000;

/// Who recovers, in the order of their turns.
pub(super) struct Recoveries {
    /// Each member once, however many of its channels recover.
    pub(super) queue: VecDeque<u32>,
    queued: HashSet<u32>,
    /// Members that wait for the store, with the numbers of their questions.
    pub(super) asking: HashMap<u32, u64>,
    /// Answers that have not had their turn; as many as there are places among the reads.
    pub(super) answers: VecDeque<Reply>,
    /// The number of the last question to the store.
    pub(super) questions: u64,
    /// How many were looked at in a row for whom nothing could be done.
    pub(super) in_vain: usize,
    pub(super) pace: Pace,
    /// When there last was somebody.
    pub(super) used_ms: u64,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Something was done, and so many frames were written.
    On(usize),
    /// Nothing can be done now.
    Later,
    /// There is nothing left to do.
    Out,
}

impl Recoveries {
    pub(super) fn new(frames_per_second: usize, shards: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: HashSet::new(),
            asking: HashMap::new(),
            answers: VecDeque::new(),
            questions: 0,
            in_vain: 0,
            pace: Pace::new(frames_per_second, shards),
            used_ms: 0,
        }
    }

    /// How long nobody needs a turn.
    pub(super) fn wait_ms(&self) -> u64 {
        match self.queue.len() {
            0 => u64::MAX,
            all if self.in_vain >= all => AGAIN_MS,
            _ => 1,
        }
    }

    /// Forgets what a member waits for that has left.
    pub(super) fn left(&mut self, member: u32) {
        self.asking.remove(&member);
    }

    /// Whether nobody has recovered for so long that nobody's repeated notifications are on their way. Says so once.
    pub(super) fn is_over(&mut self, now_ms: u64) -> bool {
        let is_over = self.used_ms > 0 && self.queue.is_empty() && now_ms.saturating_sub(self.used_ms) >= KEPT_MS;
        if is_over {
            self.used_ms = 0;
            (self.queue, self.queued) = (VecDeque::new(), HashSet::new());
            self.asking.shrink_to_fit();
        }
        is_over
    }

    /// Puts a member back into the queue that had its turn, unless there is nothing left to do for it.
    pub(super) fn turned(&mut self, member: u32, turned: Turned) {
        match turned {
            Turned::Out => {
                self.queued.remove(&member);
                return;
            }
            Turned::Later => self.in_vain += 1,
            Turned::On(_) => self.in_vain = 0,
        }
        self.queue.push_back(member);
    }

    pub(super) fn enter(&mut self, member: u32) {
        if self.queued.insert(member) {
            self.queue.push_back(member);
            self.in_vain = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_stands_in_the_queue_once_however_often_it_begins_anew() {
        let mut recoveries = Recoveries::new(1, 1);
        assert_eq!(recoveries.wait_ms(), u64::MAX);
        (0..3).for_each(|_| recoveries.enter(7));
        recoveries.enter(8);
        assert_eq!(recoveries.queue, [7, 8]);
        for member in [7, 8] {
            assert_eq!((recoveries.wait_ms(), recoveries.queue.pop_front()), (1, Some(member)));
            recoveries.turned(member, Turned::Later);
        }
        assert_eq!(recoveries.wait_ms(), AGAIN_MS, "nothing can be done for anybody");
        let member = recoveries.queue.pop_front().unwrap();
        recoveries.turned(member, Turned::Out);
        recoveries.enter(member);
        assert_eq!((recoveries.queue.clone(), recoveries.wait_ms()), ([8, 7].into(), 1));
    }
}
