//! What is not tried again: what was already, and letters of which no record can be made.

use std::fmt;
use std::time::Duration;

use crate::record::audit::{AuditRecord, Redrive, RedriveStep, Redriven, UndeliveredRedriven};
use crate::record::letter::Letter;
use crate::stretch::Stretches;
use crate::time::Timestamp;

/// By how much the clocks of the brokers of `audit` and `undelivered` may differ: a mark may seem older than what it is about.
pub const SKEW: Duration = Duration::from_secs(60);

/// Which records of one topic, `dlq` or `undelivered`, `audit` says have been tried again.
#[derive(Debug, Default)]
pub struct Marks(Vec<(Timestamp, Vec<Redriven>)>);

impl Marks {
    /// Takes in what a record of `audit` that was appended at `at` says of letters.
    pub fn note_letters(&mut self, at: Timestamp, record: AuditRecord) {
        if let AuditRecord::Redrive(Redrive { step: RedriveStep::Progress { redriven }, .. }) = record {
            self.0.push((at, redriven));
        }
    }

    /// The same of records of `undelivered`, of which one may be redriven in the moment in which it is written.
    pub fn note_undelivered(&mut self, at: Timestamp, record: AuditRecord) {
        if let AuditRecord::Undelivered(UndeliveredRedriven { redriven, .. }) = record {
            self.0.push((at.plus(SKEW), redriven));
        }
    }

    /// Takes in what was said later, too.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The offsets of a partition that have been, if the first record looked at there was appended at `first`. What was said before that
    /// time is about records in front of it, or about a topic that is no more.
    #[must_use]
    pub fn of(&self, partition: i32, first: Timestamp) -> Stretches {
        let mut all = Stretches::new();
        let later = self.0.iter().filter(|(at, _)| *at >= first).flat_map(|(_, redriven)| redriven);
        for redriven in later.filter(|redriven| redriven.partition == partition) {
            all.merge(&redriven.offsets);
        }
        all
    }
}

/// Why a letter cannot be decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// It stands for records that retention took unread.
    Lost,
    /// Only the beginning of its value is there.
    Stub,
    /// It lay on a topic that the pipeline does not read: a topic of our own, or one that a forged header names.
    NoSource,
}

impl Unfit {
    /// A short name that does not change between releases.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Lost => "records_lost",
            Self::Stub => "stub",
            Self::NoSource => "no_source",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "retention took the records before they were read; nobody has their bytes",
            Self::Stub => "only its beginning lies in dlq, for its size; produce the event again from its source",
            Self::NoSource => "the topic it lay on is none of `pipeline.topics`, so rules do not decide on it",
        })
    }
}

/// Why a letter cannot be decided on, if it cannot. `is_source` says whether the pipeline reads a topic.
pub fn unfit(letter: &Letter, is_source: impl FnOnce(&str) -> bool) -> Option<Unfit> {
    if letter.stands_for_lost() {
        Some(Unfit::Lost)
    } else if letter.truncated.is_some() {
        Some(Unfit::Stub)
    } else if is_source(&letter.original.topic) {
        None
    } else {
        Some(Unfit::NoSource)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::filter::tests::letter;
    use super::*;
    use crate::record::letter::Truncated;
    use crate::stretch::Stretch;

    fn progress(partition: i32, from: i64, to: i64) -> AuditRecord {
        let redriven = vec![Redriven { partition, offsets: [Stretch { from, to }].into_iter().collect() }];
        let (who, node) = ("ops".parse().unwrap(), "node-a".parse().unwrap());
        AuditRecord::Redrive(Redrive { id: Uuid::nil(), who, node, step: RedriveStep::Progress { redriven } })
    }

    #[test]
    fn what_was_tried_again_is_known_by_partition_and_offset() {
        let mut marks = Marks::default();
        let at = Timestamp::from_millis;
        marks.note_letters(at(10), progress(0, 1, 3));
        marks.note_letters(at(11), progress(1, 5, 6));
        marks.note_letters(at(12), progress(0, 3, 4));
        marks.note_letters(at(13), AuditRecord::Unknown);
        let all = marks.of(0, at(5));
        assert_eq!([0, 1, 3, 4].map(|offset| all.contains(offset)), [false, true, true, false]);
        assert!(marks.of(2, at(5)).is_empty());

        let undelivered = |record: AuditRecord| {
            let AuditRecord::Redrive(Redrive { id, who, node, step: RedriveStep::Progress { redriven } }) = record else {
                panic!("no progress")
            };
            AuditRecord::Undelivered(UndeliveredRedriven { id, who, node, selection: String::new(), redriven })
        };
        marks.note_letters(at(14), undelivered(progress(0, 7, 8)));
        assert!(!marks.of(0, at(5)).contains(7), "that is another topic");
        let mut marks = Marks::default();
        assert!(marks.of(0, at(5)).is_empty());
        marks.note_undelivered(at(14), undelivered(progress(0, 7, 8)));
        assert!(marks.of(0, at(1_014)).contains(7), "by the clock of another broker");
        marks.note_undelivered(at(14), progress(0, 9, 10));
        assert_eq!([7, 9].map(|offset| marks.of(0, at(5)).contains(offset)), [true, false]);
    }

    #[test]
    fn what_was_said_of_a_topic_that_is_no_more_says_nothing_of_the_one_that_took_its_place() {
        let mut marks = Marks::default();
        marks.note_letters(Timestamp::from_millis(10), progress(0, 1, 3));
        assert!(marks.of(0, Timestamp::from_millis(11)).is_empty());
    }

    #[test]
    fn a_letter_without_its_bytes_or_of_a_topic_that_is_not_read_is_not_decided_on() {
        let is_source = |topic: &str| topic == "payments";
        let sound = letter(1, 10, "not_json", None);
        assert_eq!(unfit(&sound, is_source), None);
        assert_eq!(unfit(&sound, |_| false), Some(Unfit::NoSource));
        let stub = Letter { truncated: Some(Truncated { bytes: None, sha256: None }), ..sound.clone() };
        assert_eq!(unfit(&stub, is_source), Some(Unfit::Stub));
        let mut lost = letter(1, 10, "records_lost", None);
        assert_eq!(unfit(&lost, is_source), None, "a class alone is not enough");
        lost.diagnosis.stage = "read".into();
        assert_eq!(unfit(&lost, is_source), Some(Unfit::Lost));
    }
}
