//! Catching up: one connection in one channel, from where it begins to the live end.
//!
//! Owns: what to do next, and until when to wait for a projection. Holds an offset instead of records: while it catches up, what
//! comes is not sent to it but found in the ring later. Refuses to leave anything out without a word.

use super::{Loss, Truncated};

/// How long to wait before the store is asked again, in milliseconds.
const AGAIN_MS: u64 = 50;

/// How a connection catches up in a channel.
#[derive(Debug, Clone)]
pub struct CatchUp {
    /// Everything of the channel below is sent, or told to be missing.
    next: i64,
    turn: Turn,
    stuck: Option<Stuck>,
    truncated: Option<Truncated>,
    lost: Option<Loss>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Going,
    /// The store was asked.
    Asking {
        from: i64,
        until: i64,
    },
    /// It cannot go on from where it is.
    Losing(Loss),
}

/// Since when the store brings nothing new.
#[derive(Debug, Clone, Copy)]
struct Stuck {
    until_ms: u64,
    again_ms: u64,
}

/// How far what could be sent reaches at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// The next offset that live delivery has not begun with.
    pub live: i64,
    /// The ring holds everything from here up to `live`.
    pub ring: i64,
    /// What there is beside the ring.
    pub archive: Archive,
}

/// What there is beside the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// A store.
    Store,
    /// Nothing.
    None,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send a page of what the ring holds from here on up to the live end, then tell [`CatchUp::sent`].
    Ring {
        /// The first offset.
        from: i64,
    },
    /// Ask the store for a page, tell [`CatchUp::asked`], and the answer when it comes.
    Store {
        /// The first offset.
        from: i64,
        /// The first that the ring has.
        until: i64,
    },
    /// Wait for the store's answer, or until it is time to ask again.
    Wait,
    /// Tell that it is not recovered, then go on where the newest of the channel begin: [`CatchUp::restart`].
    Lose {
        /// Why.
        loss: Loss,
        /// Who is asked for where they begin.
        newest: Newest,
    },
    /// Nothing is missing up to the live end: hand over to live delivery.
    Level,
}

/// Who is asked where the newest notifications of a mailbox begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// The store, and the ring if it does not say.
    Store,
    /// The ring.
    Ring,
    /// Nobody: it was tried before.
    None,
}

/// A page that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The last offset that was sent.
    pub last: Option<i64>,
    /// Where its source ends, if there is nothing of the channel between the last one sent and there.
    pub whole_to: Option<i64>,
}

/// What the store said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A page, with what was sent of it.
    Page(Page),
    /// Nothing.
    Nothing,
}

impl Page {
    /// The first offset that the page does not cover, if it covers any.
    fn behind(self) -> Option<i64> {
        self.whole_to.max(self.last.map(|last| last.saturating_add(1)))
    }
}

impl CatchUp {
    /// From `next` on.
    #[must_use]
    pub const fn new(next: i64) -> Self {
        Self { next, turn: Turn::Going, stuck: None, truncated: None, lost: None }
    }

    /// From nowhere: where it begins cannot be told.
    #[must_use]
    pub const fn lost(loss: Loss) -> Self {
        Self { turn: Turn::Losing(loss), ..Self::new(0) }
    }

    /// The next offset to send.
    #[must_use]
    pub const fn next(&self) -> i64 {
        self.next
    }

    /// The hole in what was sent, if there is one: from the first offset that is missing to the last.
    #[must_use]
    pub const fn truncated(&self) -> Option<Truncated> {
        self.truncated
    }

    /// Why it began anew, if it did.
    #[must_use]
    pub const fn loss(&self) -> Option<Loss> {
        self.lost
    }

    /// What to do next. Asking changes nothing.
    #[must_use]
    pub fn step(&self, reach: Reach, now_ms: u64) -> Step {
        match self.turn {
            Turn::Asking { .. } => Step::Wait,
            Turn::Losing(loss) => self.lose(loss, reach.archive),
            Turn::Going if self.next >= reach.live => Step::Level,
            Turn::Going if self.next >= reach.ring => Step::Ring { from: self.next },
            Turn::Going if reach.archive == Archive::None => self.lose(Loss::Forgotten, reach.archive),
            Turn::Going if self.stuck.is_some_and(|stuck| now_ms < stuck.again_ms) => Step::Wait,
            Turn::Going => Step::Store { from: self.next, until: reach.ring },
        }
    }

    fn lose(&self, loss: Loss, archive: Archive) -> Step {
        let newest = match loss {
            _ if self.lost.is_some() => Newest::None,
            Loss::Epoch | Loss::Beyond if archive == Archive::Store => Newest::Store,
            _ => Newest::Ring,
        };
        Step::Lose { loss, newest }
    }

    /// The store was asked for what lies below `until`, or where the newest begin.
    pub fn asked(&mut self, until: i64) {
        self.turn = Turn::Asking { from: self.next, until };
    }

    /// What the store was asked for.
    fn asked_for(&self) -> (i64, i64) {
        if let Turn::Asking { from, until } = self.turn { (from, until) } else { (self.next, i64::MAX) }
    }

    /// Notes that the store no longer has what lies below `trimmed`. Gives the hole if it lies before what is sent next, and not in
    /// what the ring has; to be told before anything behind it is sent.
    pub fn cut(&mut self, trimmed: i64) -> Option<Truncated> {
        let (_, until) = self.asked_for();
        let to = trimmed.min(until);
        if self.next >= to {
            return None;
        }
        let hole = Truncated { from: self.next, to };
        self.next = to;
        self.truncated = Some(Truncated { from: self.truncated.map_or(hole.from, |before| before.from), to });
        Some(hole)
    }

    /// Notes what was sent from the ring.
    pub fn sent(&mut self, page: Page) {
        self.next = page.behind().map_or(self.next, |behind| self.next.max(behind));
    }

    /// Takes the store's answer, and what was sent of it. Without anything new for `patience_ms`, it is lost.
    pub fn answered(&mut self, answer: Answer, now_ms: u64, patience_ms: u64) {
        let (from, until) = self.asked_for();
        self.turn = Turn::Going;
        let (page, loss) = match answer {
            Answer::Page(page) => (Page { whole_to: page.whole_to.map(|to| to.min(until)), ..page }, Loss::Behind),
            Answer::Nothing => (Page { last: None, whole_to: None }, Loss::Unanswered),
        };
        self.sent(page);
        if self.next > from {
            self.stuck = None;
            return;
        }
        let until_ms = self.stuck.map_or(now_ms.saturating_add(patience_ms), |stuck| stuck.until_ms);
        if now_ms >= until_ms {
            self.turn = Turn::Losing(loss);
        }
        self.stuck = Some(Stuck { until_ms, again_ms: now_ms.saturating_add(AGAIN_MS) });
    }

    /// Goes on at `at`, after it was told that what lies before is lost.
    pub fn restart(&mut self, at: i64, loss: Loss) {
        *self = Self { lost: Some(loss), ..Self::new(at) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_MS: u64 = 1_000;

    fn reach(ring: i64, live: i64) -> Reach {
        Reach { live, ring, archive: Archive::Store }
    }

    /// Everything up to `to`, of which `last` was the last.
    fn page(last: Option<i64>, whole_to: Option<i64>) -> Page {
        Page { last, whole_to }
    }

    #[test]
    fn the_ring_is_taken_as_far_back_as_it_reaches_and_the_store_before_it() {
        let mut catch_up = CatchUp::new(5);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Store { from: 5, until: 10 });
        catch_up.asked(10);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Wait);
        catch_up.answered(Answer::Page(page(Some(8), Some(12))), 0, PATIENCE_MS);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Ring { from: 10 });
        catch_up.sent(page(Some(15), None));
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Ring { from: 16 });
        catch_up.sent(page(None, Some(20)));
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Level);
        assert_eq!(catch_up.step(reach(10, 21), 0), Step::Ring { from: 20 }, "live delivery went on meanwhile");
    }

    #[test]
    fn a_position_past_the_live_end_of_this_node_is_level_at_once() {
        assert_eq!(CatchUp::new(25).step(reach(10, 20), 0), Step::Level);
    }

    #[test]
    fn what_the_ring_loses_meanwhile_comes_from_the_store() {
        let mut catch_up = CatchUp::new(12);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Ring { from: 12 });
        assert_eq!(catch_up.step(reach(13, 30), 0), Step::Store { from: 12, until: 13 });
        let without = Reach { archive: Archive::None, ..reach(13, 30) };
        assert_eq!(catch_up.step(without, 0), Step::Lose { loss: Loss::Forgotten, newest: Newest::Ring });
        catch_up.restart(30, Loss::Forgotten);
        assert_eq!(catch_up.step(Reach { live: 30, ..without }, 0), Step::Level);
    }

    #[test]
    fn a_projection_that_lags_is_waited_for_and_then_given_up() {
        let mut catch_up = CatchUp::new(5);
        catch_up.answered(Answer::Page(page(None, Some(5))), 100, PATIENCE_MS);
        assert_eq!(catch_up.step(reach(10, 20), 100 + AGAIN_MS - 1), Step::Wait);
        assert_eq!(catch_up.step(reach(10, 20), 100 + AGAIN_MS), Step::Store { from: 5, until: 10 });
        catch_up.answered(Answer::Page(page(None, Some(3))), 1_099, PATIENCE_MS);
        assert_eq!(catch_up.step(reach(10, 20), 1_200), Step::Store { from: 5, until: 10 });
        catch_up.answered(Answer::Page(page(None, None)), 1_100, PATIENCE_MS);
        assert_eq!(catch_up.step(reach(10, 20), 1_100), Step::Lose { loss: Loss::Behind, newest: Newest::Ring });
    }

    #[test]
    fn a_projection_that_comes_on_is_given_its_time_anew() {
        let mut catch_up = CatchUp::new(5);
        catch_up.answered(Answer::Nothing, 0, PATIENCE_MS);
        catch_up.answered(Answer::Page(page(None, Some(6))), 900, PATIENCE_MS);
        catch_up.answered(Answer::Nothing, 1_000, PATIENCE_MS);
        catch_up.answered(Answer::Nothing, 1_999, PATIENCE_MS);
        assert!(matches!(catch_up.step(reach(10, 20), 2_100), Step::Store { from: 6, .. }));
        catch_up.answered(Answer::Nothing, 2_000, PATIENCE_MS);
        assert!(matches!(catch_up.step(reach(10, 20), 2_100), Step::Lose { loss: Loss::Unanswered, .. }));
    }

    #[test]
    fn holes_are_told_one_by_one_and_together_at_the_end() {
        let mut catch_up = CatchUp::new(5);
        assert_eq!(catch_up.cut(5), None, "what begins at the edge misses nothing");
        assert_eq!(catch_up.cut(8), Some(Truncated { from: 5, to: 8 }));
        catch_up.answered(Answer::Page(page(Some(9), None)), 0, PATIENCE_MS);
        assert_eq!(catch_up.cut(12), Some(Truncated { from: 10, to: 12 }));
        assert_eq!((catch_up.next(), catch_up.truncated()), (12, Some(Truncated { from: 5, to: 12 })));
    }

    #[test]
    fn what_the_store_has_trimmed_is_no_hole_where_the_ring_has_it() {
        let mut catch_up = CatchUp::new(5);
        catch_up.asked(10);
        let hole = catch_up.cut(15);
        assert_eq!(hole.map(|hole| hole.to), Some(10));
        catch_up.answered(Answer::Page(page(None, Some(18))), 0, PATIENCE_MS);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Ring { from: 10 });
    }

    #[test]
    fn the_store_is_asked_for_the_newest_only_if_it_is_not_what_failed_and_nobody_a_second_time() {
        let newest = |loss| match CatchUp::lost(loss).step(reach(0, 0), 0) {
            Step::Lose { newest, .. } => newest,
            other => panic!("{other:?}"),
        };
        assert_eq!([Loss::Epoch, Loss::Beyond].map(newest), [Newest::Store; 2]);
        assert_eq!([Loss::Forgotten, Loss::Behind, Loss::Unanswered].map(newest), [Newest::Ring; 3]);
        let mut catch_up = CatchUp::lost(Loss::Epoch);
        catch_up.restart(4, Loss::Epoch);
        assert_eq!((catch_up.next(), catch_up.loss()), (4, Some(Loss::Epoch)));
        catch_up.answered(Answer::Nothing, 0, 0);
        assert_eq!(catch_up.step(reach(10, 20), 0), Step::Lose { loss: Loss::Unanswered, newest: Newest::None });
    }
}
