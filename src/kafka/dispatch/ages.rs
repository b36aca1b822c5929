//! Ages: since when the oldest record of a partition has been waiting, without a time for each record.
//!
//! Owns: some records' timestamps, at least a tenth of a second apart and at most 64. So what is told is at most as old as the
//! oldest record, and in a long queue a little older. Neighbours: `holdings` says what is done.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_core::time::Timestamp;

const LIMIT_MARKS: usize = 64;
const APART: Duration = Duration::from_millis(100);

/// The timestamps of some of the records that were handed out.
#[derive(Debug, Default)]
pub(super) struct Ages {
    marks: VecDeque<(i64, Timestamp)>,
}

impl Ages {
    /// A record was handed out.
    pub(super) fn note(&mut self, offset: i64, timestamp: Timestamp) {
        let far = self.marks.back().is_none_or(|(_, last)| timestamp.since(*last) >= APART);
        if far && self.marks.len() < LIMIT_MARKS {
            self.marks.push_back((offset, timestamp));
        }
    }

    /// About when the record at `done_to` was written; whatever lies before it is done.
    pub(super) fn oldest(&mut self, done_to: i64) -> Option<Timestamp> {
        while self.marks.get(1).is_some_and(|(offset, _)| *offset <= done_to) {
            self.marks.pop_front();
        }
        self.marks.front().map(|(_, timestamp)| *timestamp)
    }

    /// Everything is done.
    pub(super) fn clear(&mut self) -> Option<Timestamp> {
        self.marks.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_of_the_last_noted_record_before_what_is_not_done() {
        let mut ages = Ages::default();
        for offset in 0..10 {
            ages.note(offset, Timestamp::from_millis(1_000 + offset * 50));
        }
        assert_eq!(ages.oldest(0), Some(Timestamp::from_millis(1_000)));
        assert_eq!(ages.oldest(5), Some(Timestamp::from_millis(1_200)));
        assert_eq!(ages.oldest(9), Some(Timestamp::from_millis(1_400)));
        assert_eq!(ages.clear(), None);
        assert_eq!(ages.oldest(10), None);
    }

    #[test]
    fn a_long_queue_takes_no_more_room() {
        let mut ages = Ages::default();
        for offset in 0..10_000 {
            ages.note(offset, Timestamp::from_millis(offset * 200));
        }
        assert_eq!(ages.marks.len(), LIMIT_MARKS);
        assert_eq!(ages.oldest(9_999), Some(Timestamp::from_millis(63 * 200)), "never younger than it is");
    }
}
