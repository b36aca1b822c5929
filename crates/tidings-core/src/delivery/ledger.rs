//! The ledger of one connection in one channel: what it was sent, and which offsets an acknowledgement covers.
//!
//! Owns: the mapping from positions and notification ids to stretches. Refuses acknowledgements of what was never sent.
//! Refuses to write anything down: the gateway merges its answers into the device's cursor.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::NotificationId;
use crate::stretch::{Stretch, Stretches};

/// The most redelivered notifications that can be named at a time; the oldest go first.
const AGAIN_LIMIT: usize = 1024;
/// The most stretches before the present one that can still be acknowledged; the oldest go first.
const EARLIER_LIMIT: usize = 32;

/// What one connection was sent of one channel. Small while nothing was.
#[derive(Debug, Clone)]
pub struct Ledger {
    from: i64,
    next: i64,
    handled: i64,
    /// Below this offset `names` may lack some.
    forgotten_below: i64,
    open: Option<Box<Open>>,
}

/// What can still be named in an acknowledgement.
#[derive(Debug, Clone, Default)]
struct Open {
    /// In ascending order of offsets.
    names: VecDeque<Name>,
    again: Vec<Again>,
    /// Behind what was sent when it was last probed.
    probe: Option<i64>,
    /// What was sent before the ledger was renewed, until all of it is acknowledged.
    earlier: Stretches,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    id: NotificationId,
    offset: i64,
    shown: bool,
}

/// A redelivered one.
#[derive(Debug, Clone, Copy)]
struct Again {
    id: NotificationId,
    offset: i64,
    /// Whether it was sent before the last probe.
    probed: bool,
}

/// An acknowledgement that covers what was never sent, or cannot be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The position lies beyond what the connection was sent.
    #[error("offset {offset} lies beyond {next}, the position behind the last notification sent")]
    Beyond {
        /// The offset that was acknowledged.
        offset: i64,
        /// The largest that could be.
        next: i64,
    },
    /// An exception that is not among the sent and unacknowledged ones below the position.
    #[error("{id} is not among what is unacknowledged before this position")]
    Unknown {
        /// The exception.
        id: NotificationId,
    },
}

impl Ledger {
    /// A ledger that begins at `from`, the next offset at the time of joining.
    #[must_use]
    pub const fn new(from: i64) -> Self {
        Self { from, next: from, handled: from, forgotten_below: from, open: None }
    }

    /// The offset it began at.
    #[must_use]
    pub fn from(&self) -> i64 {
        self.from
    }

    /// The offset behind the last one sent.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// What was sent without a gap.
    #[must_use]
    pub fn offered(&self) -> Stretch {
        Stretch { from: self.from, to: self.next }
    }

    /// Notes that `id` at `offset` was sent; at most `names` unacknowledged ones stay known by their id.
    pub fn sent(&mut self, id: NotificationId, offset: i64, names: usize) {
        self.note(Name { id, offset, shown: true }, names);
    }

    /// Notes that the record at `offset` repeats `id`, which the client was sent before, and was therefore not sent.
    pub fn repeated(&mut self, id: NotificationId, offset: i64, names: usize) {
        self.note(Name { id, offset, shown: false }, names);
    }

    fn note(&mut self, name: Name, limit: usize) {
        if name.offset < self.next {
            return;
        }
        self.next = name.offset.saturating_add(1);
        if limit == 0 {
            self.forgotten_below = self.next;
            return;
        }
        self.open.get_or_insert_default().names.push_back(name);
        while self.named() > limit {
            self.forget_oldest();
        }
    }

    /// Notes that the channel has nothing between what was sent and `offset`, so that this position can be acknowledged too.
    pub fn reached(&mut self, offset: i64) {
        if offset > self.next {
            if self.handled == self.next {
                self.handled = offset;
            }
            self.next = offset;
        }
    }

    /// Begins anew at `at`: what lies between was never sent. What was sent before can be acknowledged as before.
    pub fn renew(&mut self, at: i64) {
        let is_handled = self.handled == self.next && self.named() == 0;
        if !is_handled {
            let open = self.open.get_or_insert_default();
            open.earlier.insert(self.from, self.next.min(at));
            open.earlier.keep_newest(EARLIER_LIMIT);
            // What lies behind comes again.
            open.names.retain(|name| name.offset < at);
        }
        self.handled = if is_handled { at } else { self.handled.min(at) };
        (self.from, self.next) = (at, at);
        self.tidy();
    }

    /// Notes that `id` was sent once more, by redelivery. The position stays where it is.
    pub fn sent_again(&mut self, id: NotificationId, offset: i64) {
        let open = self.open.get_or_insert_default();
        // An answer to a probe behind the earlier time says that the client has it.
        let probed = open.again.iter().any(|again| again.id == id && again.probed);
        open.again.retain(|again| again.id != id);
        if open.again.len() >= AGAIN_LIMIT {
            open.again.remove(0);
        }
        open.again.push(Again { id, offset, probed });
    }

    /// Acknowledges everything before `offset` but for `except`. Gives the offsets that are delivered by this; none if a
    /// later position was acknowledged before.
    ///
    /// # Errors
    /// If the position lies beyond what was sent, or an exception is not known; then nothing is acknowledged.
    pub fn acknowledge_below(&mut self, offset: i64, except: &[NotificationId]) -> Result<Stretches, AckError> {
        if offset > self.next {
            return Err(AckError::Beyond { offset, next: self.next });
        }
        let excepted = except.iter().map(|id| self.offset_below(*id, offset).ok_or(AckError::Unknown { id: *id }));
        let mut gaps = excepted.collect::<Result<Vec<_>, _>>()?;
        if offset < self.handled {
            return Ok(Stretches::new());
        }
        gaps.sort_unstable();
        self.handled = offset;
        let end = self.extended(offset);
        let delivered = self.covered(end, &gaps);
        if let Some(open) = &mut self.open {
            open.names.retain(|name| name.offset >= end || !delivered.contains(name.offset));
            open.again.retain(|again| !delivered.contains(again.offset));
        }
        self.tidy();
        Ok(delivered)
    }

    /// Acknowledges notifications by their ids, in one pass whatever their number. Gives those that are among what was sent and
    /// unacknowledged, and their offsets.
    pub fn acknowledge(&mut self, wanted: &BTreeSet<NotificationId>) -> (BTreeSet<NotificationId>, Stretches) {
        let (mut known, mut delivered) = (BTreeSet::new(), Stretches::new());
        let Some(open) = self.open.as_mut() else { return (known, delivered) };
        let named = open.names.iter().filter(|name| name.shown).map(|name| name.id);
        known.extend(named.chain(open.again.iter().map(|again| again.id)).filter(|id| wanted.contains(id)));
        if known.is_empty() {
            return (known, delivered);
        }
        let mut keep = |id: NotificationId, offset: i64| {
            let kept = !known.contains(&id);
            if !kept {
                delivered.insert(offset, offset.saturating_add(1));
            }
            kept
        };
        open.names.retain(|name| keep(name.id, name.offset));
        open.again.retain(|again| keep(again.id, again.offset));
        self.tidy();
        (known, delivered)
    }

    /// How many can be named in an acknowledgement, redelivered ones apart.
    #[must_use]
    pub fn named(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.names.len())
    }

    /// Makes room: the oldest that can be named no longer can.
    pub fn forget_oldest(&mut self) {
        if let Some(gone) = self.open.as_mut().and_then(|open| open.names.pop_front()) {
            self.forgotten_below = gone.offset.saturating_add(1);
        }
        self.tidy();
    }

    /// Remembers what was sent up to now: [`Ledger::answered`] acknowledges it. Says whether anything waits for an answer.
    pub fn probe(&mut self) -> bool {
        if self.next == self.handled && self.open.as_ref().is_none_or(|open| open.again.is_empty()) {
            return false;
        }
        let next = self.next;
        let open = self.open.get_or_insert_default();
        open.probe = Some(next);
        open.again.iter_mut().for_each(|again| again.probed = true);
        true
    }

    /// Acknowledges what had been sent when it was last probed.
    pub fn answered(&mut self) -> Stretches {
        let Some(open) = &mut self.open else { return Stretches::new() };
        let Some(probe) = open.probe.take() else { return Stretches::new() };
        let mut delivered = self.covered(probe, &[]);
        let Some(open) = &mut self.open else { return delivered };
        for again in open.again.extract_if(.., |again| again.probed) {
            delivered.insert(again.offset, again.offset.saturating_add(1));
        }
        open.names.retain(|name| name.offset >= probe);
        self.handled = self.handled.max(probe);
        self.tidy();
        delivered
    }

    /// What was sent below `end`, in ascending order, but for the `gaps`.
    fn covered(&self, end: i64, gaps: &[i64]) -> Stretches {
        let earlier = self.open.as_ref().map(|open| open.earlier.as_slice()).unwrap_or_default();
        let mut covered = Stretches::new();
        for sent in earlier.iter().chain([&Stretch { from: self.from, to: end }]) {
            let (mut start, to) = (sent.from, sent.to.min(end));
            for gap in gaps.iter().filter(|gap| (start..to).contains(gap)).copied().collect::<Vec<_>>() {
                covered.insert(start, gap);
                start = gap.saturating_add(1);
            }
            covered.insert(start, to);
        }
        covered
    }

    fn offset_below(&self, id: NotificationId, offset: i64) -> Option<i64> {
        let names = &self.open.as_ref()?.names;
        names.iter().find(|name| name.id == id && name.shown && name.offset < offset).map(|name| name.offset)
    }

    /// The end of what an acknowledgement of `offset` covers: repeated records behind it were never shown, so nobody can name
    /// them.
    fn extended(&self, offset: i64) -> i64 {
        let Some(open) = &self.open else { return offset };
        if offset < self.forgotten_below {
            return offset;
        }
        open.names.iter().find(|name| name.offset >= offset && name.shown).map_or(self.next, |name| name.offset)
    }

    /// Gives the memory back once everything is acknowledged.
    fn tidy(&mut self) {
        let handled = self.handled;
        if let Some(open) = &mut self.open
            && open.names.is_empty()
            && open.earlier.end().is_some_and(|end| end <= handled)
        {
            open.earlier = Stretches::new();
        }
        if self.open.as_ref().is_none_or(|open| open.earlier.is_empty()) {
            self.handled = self.handled.max(self.from);
        }
        if self.open.as_ref().is_some_and(|open| open.is_empty()) {
            self.open = None;
        }
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.again.is_empty() && self.probe.is_none() && self.earlier.is_empty()
    }
}

#[cfg(test)]
mod tests;
