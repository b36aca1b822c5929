//! A line: what waits in one partition of a rung, in order.
//!
//! Owns: a bounded look ahead of the log, so that heads need not be fetched one by one, and the offset that may be committed.
//! Refuses more than its bound: the partition is paused then, and everything behind waits on the log.

use std::collections::VecDeque;

use tidings_core::delivery::ladder::{Rung, behind};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::{Delivery, UndeliveredRecord};
use tidings_core::record::trace::TraceContext;
use tidings_core::time::Timestamp;

use crate::kafka::remains::Remains;

/// The most records that a line holds.
pub(super) const LIMIT_RECORDS: usize = 512;

/// The most that all lines hold together, in bytes; each has its share, and always room for one record.
pub(super) const LIMIT_BYTES: usize = 32 * 1024 * 1024;

/// A record that waits.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Its offset in its partition.
    pub(super) offset: i64,
    /// What it takes: its value, and of what is buried all.
    pub(super) bytes: usize,
    /// When it is to be decided.
    pub(super) due: Timestamp,
    /// What is to be done then.
    pub(super) work: Work,
}

impl Held {
    /// The delivery to decide about, if it is one.
    pub(super) fn pending(&self) -> Option<&Pending> {
        match &self.work {
            Work::Decide(pending) => Some(pending),
            Work::Bury(..) => None,
        }
    }
}

/// What is to be done with a record when it is due.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Decide about a delivery.
    Decide(Box<Pending>),
    /// Bury it: it does not read, or no topic takes it. What ends with it is the delivery that it is.
    Bury(Box<Remains>, Option<Box<UndeliveredRecord>>),
}

/// A delivery that nobody has decided about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    /// The trace it belongs to.
    pub(super) trace: Option<TraceContext>,
    /// The delivery with its attempts so far.
    pub(super) delivery: Delivery,
    /// Where its notification lies.
    pub(super) partition: i32,
    /// The notification's record as it lies there, of what is to be carried over from there.
    pub(super) whole: Option<Box<NotificationRecord>>,
    /// When the record that asks for it was appended, if the broker said so.
    pub(super) appended: Option<Timestamp>,
    /// The ends of its partition of each topic where something is said of it, sampled after it was due.
    pub(super) said_ends: Option<[i64; 2]>,
}

/// What has become of the topic that a line was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It is not there. It may come back.
    Missing,
    /// Another one has its name, and its offsets would be taken for those of the first.
    Replaced,
}

/// What waits in one partition.
#[derive(Debug)]
pub(super) struct Line {
    /// The partition's rung.
    pub(super) rung: Rung,
    /// Whether the partition is paused.
    pub(super) paused: bool,
    /// Why nothing behind what is held is read, if so.
    pub(super) stuck: Option<String>,
    /// The topic because of which the record in front waits though it is due, if so.
    pub(super) refused_by: Option<String>,
    /// Why nothing can be committed of it, if so.
    pub(super) absence: Option<Absence>,
    /// How many of its records may travel together, and with nothing of other lines, since some of them were too large; none if it is not known
    /// that any is.
    pub(super) together: Option<usize>,
    /// The next offset to read, as the group has it committed.
    pub(super) committed: Option<i64>,
    /// What the group has committed of a topic of this name that is no more.
    pub(super) outdated: Option<i64>,
    held: VecDeque<Held>,
    bytes: usize,
    read: i64,
    last_due: Option<Timestamp>,
}

impl Line {
    /// A line that begins to read at `start`.
    pub(super) fn begin(rung: Rung, start: i64, committed: Option<i64>) -> Self {
        Self {
            rung,
            paused: false,
            stuck: None,
            refused_by: None,
            absence: None,
            together: None,
            committed,
            outdated: None,
            held: VecDeque::new(),
            bytes: 0,
            read: start,
            last_due: None,
        }
    }

    /// The next offset to read.
    pub(super) fn read(&self) -> i64 {
        self.read
    }

    /// A record was read and needs nothing.
    pub(super) fn pass(&mut self, offset: i64) {
        self.read = self.read.max(offset + 1);
    }

    /// A record was read and waits. It is never due before the one in front of it.
    pub(super) fn push(&mut self, mut held: Held) {
        held.due = behind(held.due, self.last_due);
        self.last_due = Some(held.due);
        self.bytes += held.bytes;
        self.pass(held.offset);
        self.held.push_back(held);
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing more may be read into it, given its share of [`LIMIT_BYTES`].
    pub(super) fn is_full(&self, share_bytes: usize) -> bool {
        self.held.len() >= LIMIT_RECORDS || self.bytes >= share_bytes
    }

    /// Whether it is worth fetching more.
    pub(super) fn is_low(&self, share_bytes: usize) -> bool {
        self.held.len() <= LIMIT_RECORDS / 2 && self.bytes <= share_bytes / 2
    }

    /// When the first that waits is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.held.front().map(|held| held.due)
    }

    /// What is due at `now`, in order.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Held> {
        self.held.iter().take_while(move |held| held.due <= now)
    }

    /// What is due at `now`, in order.
    pub(super) fn due_mut(&mut self, now: Timestamp) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut().take_while(move |held| held.due <= now)
    }

    /// What waits at `offset`.
    pub(super) fn find_mut(&mut self, offset: i64) -> Option<&mut Held> {
        let index = self.held.binary_search_by_key(&offset, |held| held.offset).ok()?;
        self.held.get_mut(index)
    }

    /// The next offset to read for whoever comes next, once the first `count` are done.
    pub(super) fn next_after(&self, count: usize) -> i64 {
        self.held.get(count).map_or(self.read, |held| held.offset)
    }

    /// The group has `next` committed: whatever lies before it is done.
    pub(super) fn done_below(&mut self, next: i64) {
        self.committed = self.committed.max(Some(next));
        self.refused_by = None;
        while self.held.front().is_some_and(|held| held.offset < next) {
            self.bytes -= self.held.pop_front().map_or(0, |held| held.bytes);
        }
    }

    /// Some of what travelled was too large: from now on so many travel together, and alone.
    pub(super) fn narrow(&mut self, count: usize) {
        self.together = Some(count.max(1));
    }

    /// What travelled alone has arrived: twice as many may, until it is as if nothing had been too large.
    pub(super) fn widen(&mut self) {
        self.together = self.together.map(|count| count * 2).filter(|count| *count < LIMIT_RECORDS);
    }

    /// Its topic is not there: nothing is read of it or committed, for this reason.
    pub(super) fn miss(&mut self, why: String) {
        if self.absence.is_none() {
            self.absence = Some(Absence::Missing);
            self.stuck.get_or_insert(why);
        }
    }

    /// Its topic is there, as it was.
    pub(super) fn find(&mut self) {
        if self.absence.take().is_some() {
            self.stuck = None;
        }
        self.paused = false;
    }

    /// The log no longer has what comes next: reading goes on at `start`. What is held is still decided.
    pub(super) fn restart(&mut self, start: i64) {
        self.read = start;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use tidings_core::fate::Cause;
    use tidings_core::record::dead_letter::Extent;
    use tidings_core::rules::Burial;

    use super::*;

    /// A record that does not read.
    pub(in crate::courier) fn remains(offset: i64) -> Remains {
        Remains {
            topic: "retry".into(),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: None,
            carried: None,
            trace: None,
            attempt: None,
            burial: Burial::new("courier", Cause::Poison, "malformed", String::new()),
            extent: Extent::Whole,
        }
    }

    fn held(offset: i64, due_ms: i64) -> Held {
        Held { offset, bytes: 10, due: Timestamp::from_millis(due_ms), work: Work::Bury(Box::new(remains(offset)), None) }
    }

    #[test]
    fn what_was_passed_over_is_committed_with_what_lies_before_it() {
        let mut line = Line::begin(Rung::FIRST, 3, None);
        assert_eq!(line.next_after(0), 3);
        line.pass(3);
        assert_eq!(line.next_after(0), 4, "nothing waits");
        line.push(held(5, 0));
        line.pass(6);
        line.push(held(8, 0));
        line.pass(9);
        assert_eq!((line.next_after(0), line.next_after(1), line.next_after(2)), (5, 8, 10));
    }

    #[test]
    fn a_record_is_not_due_before_the_one_in_front_of_it() {
        let mut line = Line::begin(Rung(1), 0, None);
        line.push(held(0, 100));
        line.push(held(1, 50));
        assert_eq!(line.due(Timestamp::from_millis(99)).count(), 0);
        assert_eq!(line.due(Timestamp::from_millis(100)).count(), 2);
    }

    #[test]
    fn a_line_is_full_by_records_and_by_bytes_and_has_room_for_one() {
        let mut line = Line::begin(Rung(1), 0, None);
        assert!(!line.is_full(5));
        line.push(held(0, 0));
        assert!(line.is_full(5));
        assert!(!line.is_full(LIMIT_BYTES));
        (1..LIMIT_RECORDS as i64).for_each(|offset| line.push(held(offset, 0)));
        assert!(line.is_full(LIMIT_BYTES));
        line.done_below(LIMIT_RECORDS as i64 / 2);
        assert!(line.is_low(LIMIT_BYTES));
    }

    #[test]
    fn a_line_with_something_too_large_is_as_others_are_once_enough_of_it_has_travelled_alone() {
        let mut line = Line::begin(Rung(1), 0, None);
        line.narrow(0);
        assert_eq!(line.together, Some(1));
        let widened = (0..9).map_while(|_| {
            line.widen();
            line.together
        });
        assert!(widened.eq((1..).map(|step| 1 << step).take_while(|count| *count < LIMIT_RECORDS)));
        assert_eq!(line.together, None);
    }

    proptest! {
        #[test]
        fn the_committed_offset_never_covers_what_still_waits(
            gaps in prop::collection::vec((1..4_i64, any::<bool>()), 1..40),
            done in 0..50_usize,
        ) {
            let mut line = Line::begin(Rung::FIRST, 0, None);
            let (mut offset, mut waiting) = (0, Vec::new());
            for (gap, waits) in gaps {
                offset += gap;
                if waits {
                    line.push(held(offset, 0));
                    waiting.push(offset);
                } else {
                    line.pass(offset);
                }
            }
            let done = done.min(waiting.len());
            let next = line.next_after(done);
            prop_assert!(waiting[done..].iter().all(|offset| *offset >= next));
            prop_assert!(waiting[..done].iter().all(|offset| *offset < next));
            line.done_below(next);
            prop_assert_eq!(line.len(), waiting.len() - done);
            prop_assert_eq!(line.bytes, 10 * line.len());
        }
    }
}
