//! Letters of `dlq`, one after the other.
//!
//! Owns: the scan, and what of it is no letter: that is handed on as such, and never ends the reading. Neighbours: core `record::letter`
//! reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::letter::{Letter, LetterError, LetterId, RawLetter};
use tidings_core::time::Timestamp;

use super::{DeadLetters, Progress, ReplayError, Watch};
use crate::kafka::consumer::legible_end;
use crate::kafka::scan::{Scan, Scanned, Span};

const WAIT: Duration = Duration::from_millis(200);
/// Progress is told once in so many records.
const TOLD_EVERY: u64 = 1024;

/// A record of `dlq`.
pub(super) struct Found {
    pub(super) id: LetterId,
    pub(super) buried_at: Timestamp,
    pub(super) letter: Result<Letter, LetterError>,
}

impl DeadLetters {
    /// A reading of `dlq`, of which nothing is read yet.
    pub(super) fn scan(&self) -> Result<Scan, ReplayError> {
        Ok(Scan::open(&self.cluster, &self.cluster.names().dlq(), self.clock)?)
    }
}

/// Where the letters of `ids` lie; everything if none is named.
pub(super) fn spans(scan: &Scan, ids: &BTreeSet<LetterId>) -> BTreeMap<i32, Span> {
    if ids.is_empty() {
        return scan.bounds().clone();
    }
    let mut spans = BTreeMap::<i32, Span>::new();
    for id in ids {
        let (from, to) = (id.offset, id.offset.saturating_add(1));
        let span = spans.entry(id.partition).or_insert(Span { from, to });
        *span = Span { from: span.from.min(from), to: span.to.max(to) };
    }
    spans
}

/// Hands each record of `spans` to `each`, in the order of its partition.
pub(super) fn read(
    scan: &mut Scan,
    spans: &BTreeMap<i32, Span>,
    (watch, what): (&mut Watch<'_>, &'static str),
    mut each: impl FnMut(Found),
) -> Result<(), ReplayError> {
    scan.begin(spans)?;
    let all = scan.left();
    let mut records = 0_u64;
    loop {
        if watch.stop.is_cancelled() {
            return Err(ReplayError::Stopped);
        }
        match scan.step(WAIT)? {
            Scanned::Record(record) => each(found(&record)),
            Scanned::Nothing => {}
            Scanned::End => break,
        }
        records += 1;
        if records.is_multiple_of(TOLD_EVERY) {
            (watch.progress)(Progress { what, done: all.saturating_sub(scan.left()), all });
        }
    }
    (watch.progress)(Progress { what, done: all, all });
    Ok(())
}

fn found(record: &BorrowedMessage<'_>) -> Found {
    let id = LetterId { partition: record.partition(), offset: record.offset() };
    let appended_at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
    let (headers, unread_headers) = record.headers().map(legible_end).unwrap_or_default();
    let headers = headers.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>();
    let raw = RawLetter { id, appended_at, key: record.key(), value: record.payload(), headers: &headers, unread_headers };
    Found { id, buried_at: appended_at, letter: Letter::read(&raw) }
}
