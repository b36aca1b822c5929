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
    /// Where live delivery stood when it joined. What came since it can ask for, whatever else is lost.
    joined: i64,
    turn: Turn,
    waiting: Option<Waiting>,
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

/// The store has to bring something, and has not yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// When it is given up. Time without a place among those who ask counts too.
    until_ms: u64,
    /// When it may be asked again.
    again_ms: u64,
    /// What was lost then.
    loss: Loss,
    /// Whether it was answered, if only with nothing new.
    answered: bool,
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
    /// Ask the store for a page, tell [`CatchUp::asked`], and the answer when it comes, or at [`CatchUp::deadline_ms`] that there is
    /// none.
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
    /// From `next` on, where live delivery has come to `live`.
    #[must_use]
    pub const fn new(next: i64, live: i64) -> Self {
        Self { next, joined: live, turn: Turn::Going, waiting: None, truncated: None, lost: None }
    }

    /// From nowhere: where it begins cannot be told.
    #[must_use]
    pub const fn lost(loss: Loss, live: i64) -> Self {
        Self { turn: Turn::Losing(loss), ..Self::new(0, live) }
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

    /// Until when the store's answer is waited for, if it is needed.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.waiting.map(|waiting| waiting.until_ms)
    }

    /// What to do next. A store that is needed has `patience_ms` from the first time on to bring something, whatever keeps it.
    pub fn step(&mut self, reach: Reach, now_ms: u64, patience_ms: u64) -> Step {
        match self.turn {
            Turn::Asking { .. } => Step::Wait,
            Turn::Losing(loss) => self.lose(loss, reach.archive, now_ms, patience_ms),
            Turn::Going if self.next >= reach.live => Step::Level,
            Turn::Going if self.next >= reach.ring => Step::Ring { from: self.next },
            Turn::Going if reach.archive == Archive::None => Step::Lose { loss: Loss::Forgotten, newest: Newest::Ring },
            Turn::Going => {
                let waiting = self.wait(now_ms, patience_ms);
                if now_ms >= waiting.until_ms {
                    Step::Lose { loss: waiting.loss, newest: Newest::Ring }
                } else if now_ms < waiting.again_ms {
                    Step::Wait
                } else {
                    Step::Store { from: self.next, until: reach.ring }
                }
            }
        }
    }

    fn wait(&mut self, now_ms: u64, patience_ms: u64) -> Waiting {
        let until_ms = now_ms.saturating_add(patience_ms);
        *self.waiting.get_or_insert(Waiting { until_ms, again_ms: now_ms, loss: Loss::Unanswered, answered: false })
    }

    /// The newest are worth a question if it is not the store that failed.
    fn lose(&mut self, loss: Loss, archive: Archive, now_ms: u64, patience_ms: u64) -> Step {
        let waiting = self.wait(now_ms, patience_ms);
        let is_worth_it = matches!(loss, Loss::Epoch | Loss::Beyond) && archive == Archive::Store;
        let newest = if is_worth_it && now_ms < waiting.until_ms { Newest::Store } else { Newest::Ring };
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
        let next = page.behind().map_or(self.next, |behind| self.next.max(behind));
        if next > self.next {
            self.next = next;
            self.waiting = None;
        }
    }

    /// Takes the store's answer to what it was asked for, and what was sent of it.
    pub fn answered(&mut self, answer: Answer, now_ms: u64) {
        let (from, until) = self.asked_for();
        self.turn = Turn::Going;
        let (page, loss) = match answer {
            Answer::Page(page) => (Page { whole_to: page.whole_to.map(|to| to.min(until)), ..page }, Loss::Behind),
            Answer::Nothing => (Page { last: None, whole_to: None }, Loss::Unanswered),
        };
        self.sent(page);
        if self.next > from {
            self.waiting = None;
        } else if let Some(waiting) = &mut self.waiting {
            waiting.loss = loss;
            waiting.answered = true;
            waiting.again_ms = now_ms.saturating_add(AGAIN_MS);
        }
    }

    /// There was no place to ask the store, which last answered somebody at `answered_ms`. Who waits in a line that moves has its
    /// whole time from then on: the store is busy, not away.
    pub fn queued(&mut self, answered_ms: u64, patience_ms: u64) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.answered) {
            waiting.until_ms = waiting.until_ms.max(answered_ms.saturating_add(patience_ms));
        }
    }

    /// The store has answered, but there was no room to send it: it will be asked once more, and is not to blame.
    pub fn postponed(&mut self) {
        self.turn = Turn::Going;
        self.waiting = None;
    }

    /// Goes on behind what is lost: where the newest begin, if that is known, and not behind where it joined, as far as the ring
    /// has that; a second time at the live end. Gives the offset.
    pub fn restart(&mut self, newest: Option<i64>, reach: Reach, loss: Loss) -> i64 {
        let since_joined =
            if self.lost.is_some() { reach.live } else { self.joined.clamp(reach.ring.min(reach.live), reach.live) };
        let at = newest.filter(|_| self.lost.is_none()).map_or(since_joined, |newest| newest.min(since_joined));
        *self = Self { lost: Some(loss), ..Self::new(at.max(self.next), self.joined) };
        self.next
    }
}

#[cfg(test)]
mod tests;
