//! The ledger of one connection in one channel: what it was sent, and which offsets an acknowledgement covers.
//!
//! Owns: the mapping from positions and notification ids to stretches. Refuses acknowledgements of what was never sent.
//! Refuses to write anything down: the gateway merges its answers into the device's cursor. Long because half of it is
//! its tests.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::NotificationId;
use crate::stretch::{Stretch, Stretches};

/// The most redelivered notifications that can be named at a time; the oldest go first.
const AGAIN_LIMIT: usize = 1024;

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
        let mut delivered = Stretches::new();
        let mut start = self.from;
        for gap in gaps {
            delivered.insert(start, gap);
            start = gap.saturating_add(1);
        }
        delivered.insert(start, end);
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
        let mut delivered = Stretches::new();
        delivered.insert(self.from, probe);
        for again in open.again.extract_if(.., |again| again.probed) {
            delivered.insert(again.offset, again.offset.saturating_add(1));
        }
        open.names.retain(|name| name.offset >= probe);
        self.handled = self.handled.max(probe);
        self.tidy();
        delivered
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
        if self.open.as_ref().is_some_and(|open| open.names.is_empty() && open.again.is_empty() && open.probe.is_none()) {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const NAMES: usize = 8;
    /// Where the ledger of the property begins.
    const FROM: i64 = 5;

    fn id(number: i64) -> NotificationId {
        NotificationId(Uuid::from_u128(number.unsigned_abs().into()))
    }

    fn sent(offsets: &[i64]) -> Ledger {
        let mut ledger = Ledger::new(10);
        for offset in offsets {
            ledger.sent(id(*offset), *offset, NAMES);
        }
        ledger
    }

    /// The offsets that an acknowledgement of one id delivers, if it is known.
    fn acknowledge(ledger: &mut Ledger, id: NotificationId) -> Option<Stretches> {
        let (known, delivered) = ledger.acknowledge(&BTreeSet::from([id]));
        known.contains(&id).then_some(delivered)
    }

    fn pairs(stretches: &Stretches) -> Vec<(i64, i64)> {
        stretches.as_slice().iter().map(|stretch| (stretch.from, stretch.to)).collect()
    }

    #[test]
    fn everything_before_a_position_but_the_exceptions_is_acknowledged() {
        let mut ledger = sent(&[11, 14, 17]);
        assert_eq!(pairs(&ledger.acknowledge_below(18, &[id(14)]).unwrap()), [(10, 14), (15, 18)]);
        assert_eq!(pairs(&acknowledge(&mut ledger, id(14)).unwrap()), [(14, 15)]);
    }

    #[test]
    fn beyond_what_was_sent_nothing_is_acknowledged() {
        let mut ledger = sent(&[11]);
        assert_eq!(ledger.acknowledge_below(13, &[]), Err(AckError::Beyond { offset: 13, next: 12 }));
    }

    #[test]
    fn an_unknown_exception_refuses_the_whole_acknowledgement() {
        let mut ledger = sent(&[11, 14]);
        assert_eq!(ledger.acknowledge_below(12, &[id(14)]), Err(AckError::Unknown { id: id(14) }));
        assert!(acknowledge(&mut ledger, id(11)).is_some());
    }

    #[test]
    fn an_acknowledgement_that_goes_back_is_ignored() {
        let mut ledger = sent(&[11, 14]);
        ledger.acknowledge_below(15, &[]).unwrap();
        assert!(ledger.acknowledge_below(12, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_repeated_record_is_covered_by_the_acknowledgement_before_it() {
        let mut ledger = sent(&[11]);
        ledger.repeated(id(11), 13, NAMES);
        ledger.sent(id(16), 16, NAMES);
        assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 16)]);
    }

    #[test]
    fn a_repeated_record_behind_everything_sent_is_covered_too() {
        let mut ledger = sent(&[11]);
        ledger.repeated(id(11), 13, NAMES);
        assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 14)]);
    }

    #[test]
    fn a_redelivered_one_is_acknowledged_by_id_and_moves_no_position() {
        let mut ledger = sent(&[]);
        ledger.sent_again(id(3), 3);
        assert_eq!(ledger.next(), 10);
        assert_eq!(pairs(&acknowledge(&mut ledger, id(3)).unwrap()), [(3, 4)]);
        assert_eq!(acknowledge(&mut ledger, id(3)), None);
    }

    #[test]
    fn ids_are_acknowledged_together_and_unknown_ones_left_out() {
        let mut ledger = sent(&[11, 14, 17]);
        let (known, delivered) = ledger.acknowledge(&[17, 3, 11].map(id).into());
        assert_eq!(known, [11, 17].map(id).into());
        assert_eq!(pairs(&delivered), [(11, 12), (17, 18)]);
    }

    #[test]
    fn what_is_forgotten_can_be_acknowledged_by_its_position_only() {
        let mut ledger = sent(&[11, 14]);
        ledger.forget_oldest();
        assert_eq!(ledger.named(), 1);
        assert_eq!(acknowledge(&mut ledger, id(11)), None);
        assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 14)]);
    }

    #[test]
    fn an_answer_covers_what_was_sent_before_the_question_only() {
        let mut ledger = sent(&[11]);
        ledger.sent_again(id(3), 3);
        assert!(ledger.probe());
        ledger.sent(id(14), 14, NAMES);
        assert_eq!(pairs(&ledger.answered()), [(3, 4), (10, 12)]);
        assert!(ledger.answered().is_empty());
        assert!(ledger.probe());
    }

    #[test]
    fn an_answer_covers_no_redelivery_behind_the_question_whatever_was_acknowledged_meanwhile() {
        let mut ledger = sent(&[]);
        ledger.sent_again(id(3), 3);
        assert!(ledger.probe());
        assert!(acknowledge(&mut ledger, id(3)).is_some());
        ledger.sent_again(id(4), 4);
        assert!(!ledger.answered().contains(4));
        assert!(ledger.probe());
        assert_eq!(pairs(&ledger.answered()), [(4, 5)]);
    }

    #[test]
    fn nothing_is_kept_once_everything_is_acknowledged() {
        let mut ledger = sent(&[11, 14]);
        ledger.acknowledge_below(15, &[]).unwrap();
        assert!(ledger.open.is_none());
        assert!(!ledger.probe());
    }

    #[test]
    fn what_was_offered_reaches_from_joining_to_the_last_one_sent_whatever_comes_again() {
        let mut ledger = sent(&[11, 14]);
        ledger.sent(id(12), 12, NAMES);
        assert_eq!((ledger.from(), ledger.offered(), ledger.named()), (10, Stretch { from: 10, to: 15 }, 2));
    }

    #[test]
    fn as_many_as_allowed_are_known_by_their_ids_and_the_oldest_are_not() {
        let mut ledger = sent(&[11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(ledger.named(), NAMES);
        ledger.sent(id(19), 19, NAMES);
        assert_eq!((ledger.named(), acknowledge(&mut ledger, id(11))), (NAMES, None));
        (0..=1024).for_each(|number| ledger.sent_again(id(number + 100), number));
        assert_eq!(acknowledge(&mut ledger, id(100)), None);
        assert!(acknowledge(&mut ledger, id(101)).is_some());
    }

    #[test]
    fn the_same_position_again_acknowledges_what_was_excepted_before() {
        let mut ledger = sent(&[11, 14]);
        ledger.acknowledge_below(15, &[id(11)]).unwrap();
        assert!(ledger.acknowledge_below(15, &[]).unwrap().contains(11));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send(i64),
        Repeat(i64),
        Below {
            back: usize,
            except: usize,
        },
        ById(usize),
        /// Of what was sent before the connection.
        Again(i64),
        Probe,
        Answer,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..4_i64).prop_map(Step::Send),
            (1..4_i64).prop_map(Step::Repeat),
            (0..4_usize, 0..9_usize).prop_map(|(back, except)| Step::Below { back, except }),
            (0..9_usize).prop_map(Step::ById),
            (0..FROM).prop_map(Step::Again),
            Just(Step::Probe),
            Just(Step::Answer),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// What the client was shown is delivered exactly if the client said so.
        #[test]
        fn delivered_is_exactly_what_was_shown_and_acknowledged(steps in steps()) {
            let mut ledger = Ledger::new(FROM);
            let (mut shown, mut again) = (Vec::<i64>::new(), BTreeSet::<i64>::new());
            let (mut asked, mut said, mut delivered) = (None, BTreeSet::<i64>::new(), Stretches::new());
            for step in steps {
                match step {
                    Step::Send(gap) => {
                        let offset = ledger.next() + gap - 1;
                        ledger.sent(id(offset), offset, NAMES);
                        shown.push(offset);
                    }
                    Step::Repeat(gap) => {
                        let Some(first) = shown.last() else { continue };
                        ledger.repeated(id(*first), ledger.next() + gap - 1, NAMES);
                    }
                    Step::Below { back, except } => {
                        let Some(index) = shown.len().checked_sub(back + 1) else { continue };
                        let exception = shown.get(except).copied();
                        let except = exception.map(id).into_iter().collect::<Vec<_>>();
                        let position = shown[index] + 1;
                        let answer = ledger.acknowledge_below(position, &except);
                        if let Ok(stretches) = answer {
                            if !stretches.is_empty() {
                                said.extend(shown.iter().filter(|offset| **offset < position && Some(**offset) != exception));
                            }
                            delivered.merge(&stretches);
                        }
                    }
                    Step::ById(index) => {
                        let Some(offset) = again.iter().chain(&shown).nth(index).copied() else { continue };
                        if let Some(stretches) = acknowledge(&mut ledger, id(offset)) {
                            said.insert(offset);
                            delivered.merge(&stretches);
                        }
                    }
                    Step::Again(offset) => {
                        ledger.sent_again(id(offset), offset);
                        again.insert(offset);
                    }
                    Step::Probe => {
                        if ledger.probe() {
                            asked = Some(shown.iter().chain(&again).copied().collect::<Vec<_>>());
                        }
                    }
                    Step::Answer => {
                        said.extend(asked.take().into_iter().flatten());
                        delivered.merge(&ledger.answered());
                    }
                }
            }
            for offset in again.into_iter().chain(shown) {
                prop_assert_eq!(delivered.contains(offset), said.contains(&offset), "offset {}", offset);
            }
            prop_assert!(delivered.end().is_none_or(|end| end <= ledger.next()));
        }
    }
}
