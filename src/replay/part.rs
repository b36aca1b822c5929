//! Parts: a reading that is asked for piece by piece, by who cannot wait for the whole.
//!
//! Owns: the reading of a topic up to its end, to a time, or to where its reader has enough; who is told how far it is; and where the next part
//! begins, as a text. That is opaque to callers and hostile until read: all that one can do is to say from where on a topic is read that its
//! owner may read as a whole. Neighbours: `groups` and `undelivered` say what the records are.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::message::BorrowedMessage;
use tidings_core::stretch::Stretch;

use super::{Progress, ReplayError, Watch, going};
use crate::clock::Clock;
use crate::kafka::scan::Scan;

/// More than any text of a topic with as many partitions as Kafka takes well.
const LIMIT_BYTES: usize = 64 * 1024;
/// Progress is told once in so many records.
const TOLD_EVERY: u64 = 1024;
/// What one digit of a text says something of.
const BITS: usize = 4;

/// Which part of a topic is read; without an end and a time the whole.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Behind the part before.
    pub behind: Option<PartEnd>,
    /// No longer than to this time of the monotonic clock; what there is by then is told.
    pub until: Option<Duration>,
}

/// Where a part ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartEnd {
    /// Which of those that were named have been met by then, by their numbers in order.
    pub(super) met: BTreeSet<usize>,
    /// The next offset of each partition.
    pub(super) next: BTreeMap<i32, i64>,
}

/// A text that is no end of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no page token: take `nextPageToken` of the answer before as it is, or leave it out to begin")]
pub struct PartEndError;

impl Part {
    /// Hands each record of `spans` behind the part before to `each`, in the order of its partition, until that has enough. Gives where the
    /// next part begins, if this one did not come to the end.
    pub(super) fn read(
        &self,
        (scan, mut spans): (&mut Scan, BTreeMap<i32, Stretch>),
        (watch, what): (&mut Watch<'_>, &'static str),
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<ControlFlow<()>, ReplayError>,
    ) -> Result<Option<PartEnd>, ReplayError> {
        for (partition, next) in self.behind.iter().flat_map(|behind| &behind.next) {
            spans.entry(*partition).and_modify(|span| span.from = span.from.max(*next));
        }
        scan.begin(&spans)?;
        let (all, clock, has_enough) = (scan.left(), scan.clock(), Cell::new(false));
        let (mut records, stop) = (0_u64, watch.stop);
        let go_on = || Ok(going(stop)? && !has_enough.get() && !self.is_over(clock));
        let is_all = scan.read(go_on, |record, left| {
            records += 1;
            if records.is_multiple_of(TOLD_EVERY) {
                (watch.progress)(Progress { what, done: all.saturating_sub(left), all });
            }
            has_enough.set(each(record)?.is_break());
            Ok::<_, ReplayError>(())
        })?;
        (watch.progress)(Progress { what, done: all.saturating_sub(scan.left()), all });
        // Who asked for the next part would ask for this one again.
        if !is_all && records == 0 && self.is_over(clock) && going(stop)? {
            return Err(ReplayError::Late);
        }
        let next = |(partition, span): (&i32, &Stretch)| (*partition, scan.next_of(*partition).unwrap_or(span.to));
        Ok((!is_all).then(|| PartEnd { met: BTreeSet::new(), next: scan.bounds().iter().map(next).collect() }))
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, clock: Clock) -> bool {
        self.until.is_some_and(|until| clock.elapsed() >= until)
    }

    /// That what must be read as a whole is read on, unless the caller stops it. A part that ends before that is none.
    pub(super) fn goes_on(&self, watch: &Watch<'_>, clock: Clock) -> Result<bool, ReplayError> {
        if self.is_over(clock) { Err(ReplayError::Late) } else { going(watch.stop) }
    }
}

impl fmt::Display for PartEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.met.last().map_or(1, |last| last / BITS + 1);
        for digit in (0..digits).rev() {
            let bits = (0..BITS).filter(|bit| self.met.contains(&(digit * BITS + bit)));
            write!(f, "{:x}", bits.map(|bit| 1_u8 << bit).sum::<u8>())?;
        }
        self.next.iter().try_for_each(|(partition, offset)| write!(f, ".{partition}-{offset}"))
    }
}

impl FromStr for PartEnd {
    type Err = PartEndError;

    fn from_str(text: &str) -> Result<Self, PartEndError> {
        let mut parts = Some(text).filter(|text| text.len() <= LIMIT_BYTES).ok_or(PartEndError)?.split('.');
        let digits = parts.next().filter(|digits| !digits.is_empty()).ok_or(PartEndError)?;
        let mut met = BTreeSet::new();
        for (digit, of) in digits.chars().rev().enumerate() {
            let bits = of.to_digit(16).ok_or(PartEndError)?;
            met.extend((0..BITS).filter(|bit| bits & (1 << bit) != 0).map(|bit| digit * BITS + bit));
        }
        let place = |part: &str| {
            let (partition, offset) = part.split_once('-')?;
            let place = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
            (place.0 >= 0 && place.1 >= 0).then_some(place)
        };
        let next = parts.map(|part| place(part).ok_or(PartEndError)).collect::<Result<_, _>>()?;
        Ok(Self { met, next })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_end_reads_back_as_written(
            met in prop::collection::btree_set(0..3_000_usize, 0..20),
            next in prop::collection::btree_map(0..i32::MAX, 0..i64::MAX, 0..20),
        ) {
            let end = PartEnd { met, next };
            prop_assert_eq!(end.to_string().parse::<PartEnd>(), Ok(end));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9a-f]{1,20}|[.-]|.){0,40}") {
            let _ = text.parse::<PartEnd>();
        }
    }

    #[test]
    fn what_is_no_end_is_refused() {
        let long = format!("0{}", ".0-0".repeat(LIMIT_BYTES / 4));
        for text in ["", "x", "-1", "1.", "1.2", "1.2-", "1.-2", "1.2--3", "1.0-9223372036854775808", &long] {
            assert_eq!(text.parse::<PartEnd>(), Err(PartEndError), "{}", text.len());
        }
    }

    #[test]
    fn a_text_is_short_and_says_which_were_met() {
        let end = PartEnd { met: [0, 5].into(), next: [(0, 7), (12, 0)].into() };
        assert_eq!(end.to_string(), "21.0-7.12-0");
        assert_eq!(PartEnd::default().to_string(), "0");
    }
}
