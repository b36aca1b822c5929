//! Letters of `dlq`, one after the other.
//!
//! Owns: the scan, and what of it is no letter: that is handed on as such, and never ends the reading. Neighbours: core `record::letter`
//! reads them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::letter::{Letter, LetterError, LetterId, RawLetter};
use tidings_core::selection::LetterFilter;
use tidings_core::stretch::Stretch;
use tidings_core::time::Timestamp;

use super::part::{Part, PartEnd};
use super::{DeadLetters, ReplayError, Watch};
use crate::kafka::consumer::legible_end;
use crate::kafka::scan::{Scan, ScanError};

/// A record of `dlq`.
pub(super) struct FoundLetter {
    pub(super) id: LetterId,
    pub(super) buried_at: Timestamp,
    pub(super) letter: Result<Letter, LetterError>,
}

impl DeadLetters {
    /// A reading of `dlq`, of which nothing is read yet.
    pub(super) fn scan(&self) -> Result<Scan, ReplayError> {
        Ok(Scan::open(&self.site.cluster, &self.site.cluster.names().dlq(), self.site.clock)?)
    }
}

/// Where the letters that are meant lie, and others between. Letters that are named are looked up by that, others by their time where
/// the brokers know it; where they do not, all are read.
pub(super) fn spans(scan: &Scan, filter: &LetterFilter) -> Result<BTreeMap<i32, Stretch>, ScanError> {
    if !filter.ids.is_empty() {
        return Ok(places(&filter.ids));
    }
    scan.spans_since(filter.since)
}

/// Where the letters of `ids` lie, and others between.
pub(super) fn places<'a>(ids: impl IntoIterator<Item = &'a LetterId>) -> BTreeMap<i32, Stretch> {
    let mut spans = BTreeMap::<i32, Stretch>::new();
    for id in ids {
        let (from, to) = (id.offset, id.offset.saturating_add(1));
        let span = spans.entry(id.partition).or_insert(Stretch { from, to });
        *span = Stretch { from: span.from.min(from), to: span.to.max(to) };
    }
    spans
}

/// Hands each record of `spans` to `each`, in the order of its partition.
pub(super) fn read(
    scan: &mut Scan,
    spans: &BTreeMap<i32, Stretch>,
    who: (&mut Watch<'_>, &'static str),
    each: impl FnMut(FoundLetter),
) -> Result<(), ReplayError> {
    read_part(&Part::default(), (scan, spans.clone()), who, each).map(drop)
}

/// The same of a part. Gives where the next one begins, if this one did not come to the end.
pub(super) fn read_part(
    part: &Part,
    at: (&mut Scan, BTreeMap<i32, Stretch>),
    who: (&mut Watch<'_>, &'static str),
    mut each: impl FnMut(FoundLetter),
) -> Result<Option<PartEnd>, ReplayError> {
    read_until(part, at, who, |found| {
        each(found);
        ControlFlow::Continue(())
    })
}

/// The same until `each` has enough.
pub(super) fn read_until(
    part: &Part,
    at: (&mut Scan, BTreeMap<i32, Stretch>),
    who: (&mut Watch<'_>, &'static str),
    mut each: impl FnMut(FoundLetter) -> ControlFlow<()>,
) -> Result<Option<PartEnd>, ReplayError> {
    part.read(at, who, |record| Ok(each(found(record))))
}

fn found(record: &BorrowedMessage<'_>) -> FoundLetter {
    let id = LetterId { partition: record.partition(), offset: record.offset() };
    let appended_at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
    let (headers, unread_headers) = record.headers().map(legible_end).unwrap_or_default();
    let headers = headers.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>();
    let raw = RawLetter { id, appended_at, key: record.key(), value: record.payload(), headers: &headers, unread_headers };
    FoundLetter { id, buried_at: appended_at, letter: Letter::read(&raw) }
}
