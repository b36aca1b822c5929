//! Turns: who recovers, and who is next.
//!
//! Owns: the members that recover, what each waits for, and how long nobody needs a turn. Refuses to send anything: that is
//! `recover`'s. Neighbour: `pace` bounds what all turns together write.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::pace::Pace;
use crate::gateway::reads::Reply;

/// How long to wait before somebody is looked at again who waits for the socket or for an answer, and before a place among the reads
/// is looked for.
const AGAIN_MS: u64 = 10;
/// How long at most before somebody in the line is looked at, whether or not there is a place: a store that does not answer is given
/// up.
const LINE_MS: u64 = 250;
/// How long after the last recovery what was kept for it is given back.
const KEPT_MS: u64 = 60_000;

/// Who recovers. However many stand in the line or rest, a turn looks only at those for whom something can be done.
pub(super) struct Recoveries {
    /// Who may go on, in the order of their turns.
    pub(super) queue: VecDeque<u32>,
    /// Who waits for the socket or for an answer, and when to look again.
    resting: BTreeSet<(u64, u32)>,
    /// Who waits for a place among the reads, and when to look even if there is none. Who came first is first.
    line: BTreeSet<(u64, u32)>,
    /// All of these, each once however many of its channels recover, with the time at which it stands among those who wait.
    known: HashMap<u32, u64>,
    /// Members that wait for the store, with the numbers of their questions.
    pub(super) asking: HashMap<u32, u64>,
    /// Answers that have not had their turn; as many as there are places among the reads.
    pub(super) answers: VecDeque<Reply>,
    /// The number of the last question to the store.
    pub(super) questions: u64,
    pub(super) pace: Pace,
    line_ms: u64,
    /// When there last was somebody.
    used_ms: u64,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Something was done, and so many frames were written.
    On(usize),
    /// Nothing can be done now.
    Later,
    /// Nothing can be done without a place among the reads.
    Queued,
    /// There is nothing left to do.
    Out,
}

impl Recoveries {
    /// At most so many frames a second, with a store that has `patience_ms` for an answer.
    pub(super) fn new(frames_per_second: usize, patience_ms: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            resting: BTreeSet::new(),
            line: BTreeSet::new(),
            known: HashMap::new(),
            asking: HashMap::new(),
            answers: VecDeque::new(),
            questions: 0,
            pace: Pace::new(frames_per_second),
            line_ms: (patience_ms / 4).clamp(AGAIN_MS, LINE_MS),
            used_ms: 0,
        }
    }

    /// How long nobody needs a turn.
    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        if !self.queue.is_empty() {
            return 1;
        }
        let until = |at_ms: u64| at_ms.saturating_sub(now_ms).max(1);
        let rest_ms = self.resting.first().map_or(u64::MAX, |(at_ms, _)| until(*at_ms));
        let line_ms = self.line.first().map_or(u64::MAX, |(at_ms, _)| until(*at_ms).min(AGAIN_MS));
        rest_ms.min(line_ms)
    }

    /// Lets those go on for whom something may have changed: who has rested, and of the line as many as there are places.
    pub(super) fn look(&mut self, now_ms: u64, places: usize) {
        if !self.known.is_empty() {
            self.used_ms = now_ms;
        }
        self.queue.extend(first(&mut self.resting, now_ms, 0));
        self.queue.extend(first(&mut self.line, now_ms, places));
    }

    /// Lets a member go on that waits.
    pub(super) fn wake(&mut self, member: u32) {
        if self.no_longer_waits(member) {
            self.queue.push_back(member);
        }
    }

    /// Forgets what a member waits for that has left.
    pub(super) fn left(&mut self, member: u32) {
        self.asking.remove(&member);
        if self.no_longer_waits(member) {
            self.known.remove(&member);
        }
    }

    /// Takes a member out of where it waits. Says whether it did; else it stands in the queue, or nowhere.
    fn no_longer_waits(&mut self, member: u32) -> bool {
        let Some(at_ms) = self.known.get(&member) else { return false };
        let waiting = (*at_ms, member);
        self.resting.remove(&waiting) || self.line.remove(&waiting)
    }

    /// Whether nobody has recovered for so long that nobody's repeated notifications are on their way. Says so once.
    pub(super) fn is_over(&mut self, now_ms: u64) -> bool {
        let is_over = self.used_ms > 0 && self.known.is_empty() && now_ms.saturating_sub(self.used_ms) >= KEPT_MS;
        if is_over {
            self.used_ms = 0;
            (self.queue, self.known) = (VecDeque::new(), HashMap::new());
            self.asking.shrink_to_fit();
        }
        is_over
    }

    /// Puts a member that had its turn where it waits for the next one, unless there is nothing left to do for it.
    pub(super) fn turned(&mut self, member: u32, turned: Turned, now_ms: u64) {
        let at_ms = match turned {
            Turned::Out => {
                self.known.remove(&member);
                return;
            }
            Turned::On(_) => return self.queue.push_back(member),
            Turned::Later => now_ms + AGAIN_MS,
            Turned::Queued => now_ms + self.line_ms,
        };
        self.known.insert(member, at_ms);
        if turned == Turned::Queued { &mut self.line } else { &mut self.resting }.insert((at_ms, member));
    }

    pub(super) fn enter(&mut self, member: u32) {
        if self.known.contains_key(&member) {
            return self.wake(member);
        }
        self.known.insert(member, 0);
        self.queue.push_back(member);
    }
}

/// Takes out those whose time has come, and the first `more` of the others.
fn first(waiting: &mut BTreeSet<(u64, u32)>, now_ms: u64, more: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while let Some((at_ms, member)) = waiting.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms || taken.len() < more) {
        waiting.remove(&(at_ms, member));
        taken.push(member);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(recoveries: &mut Recoveries, turned: Turned, now_ms: u64) {
        let member = recoveries.queue.pop_front().unwrap();
        recoveries.turned(member, turned, now_ms);
    }

    #[test]
    fn a_member_stands_in_the_queue_once_however_often_it_begins_anew() {
        let mut recoveries = Recoveries::new(1, 5_000);
        assert_eq!(recoveries.wait_ms(0), u64::MAX);
        (0..3).for_each(|_| recoveries.enter(7));
        recoveries.enter(8);
        assert_eq!((recoveries.queue.clone(), recoveries.wait_ms(0)), ([7, 8].into(), 1));
        turn(&mut recoveries, Turned::Later, 100);
        turn(&mut recoveries, Turned::Out, 100);
        assert_eq!(recoveries.wait_ms(101), AGAIN_MS - 1, "nothing can be done for anybody");
        recoveries.enter(8);
        recoveries.enter(7);
        assert_eq!((recoveries.queue.clone(), recoveries.wait_ms(101)), ([8, 7].into(), 1), "who begins anew rests no more");
    }

    #[test]
    fn who_waits_for_the_socket_is_looked_at_again_after_a_rest_or_when_woken() {
        let mut recoveries = Recoveries::new(1, 5_000);
        (1..=3).for_each(|member| recoveries.enter(member));
        (0..3).for_each(|_| turn(&mut recoveries, Turned::Later, 100));
        recoveries.look(100 + AGAIN_MS - 1, 9);
        assert!(recoveries.queue.is_empty());
        recoveries.wake(2);
        recoveries.wake(2);
        recoveries.left(3);
        assert_eq!(recoveries.queue, [2]);
        recoveries.look(100 + AGAIN_MS, 0);
        assert_eq!(recoveries.queue, [2, 1]);
    }

    #[test]
    fn of_the_line_as_many_go_on_as_there_are_places_and_all_in_time() {
        let mut recoveries = Recoveries::new(1, 5_000);
        (1..=4).for_each(|member| recoveries.enter(member));
        (100..104).for_each(|now_ms| turn(&mut recoveries, Turned::Queued, now_ms));
        assert_eq!(recoveries.wait_ms(104), AGAIN_MS);
        recoveries.look(104, 2);
        assert_eq!(recoveries.queue, [1, 2]);
        recoveries.left(3);
        recoveries.look(103 + LINE_MS, 0);
        assert_eq!(recoveries.queue, [1, 2, 4]);
        assert_eq!(Recoveries::new(1, 100).line_ms, 25, "a store that is given less time is given up in time");
    }
}
