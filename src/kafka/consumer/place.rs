//! Where a reader stands and where the log ends.
//!
//! Owns: the offsets that tell whether everything written up to some moment has been read. Markers of transactions take
//! offsets too, so a reader stands behind its last record, not at it. Neighbours: the consumer above.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use tidings_core::record::trace::{PARENT_HEADER, STATE_HEADER, TraceContext};

use super::{Consumer, Partition};
use crate::kafka::lists;
use crate::telemetry::expected;

/// What a header takes beside its name and value.
const HEADER_BYTES: usize = 64;
/// What the headers of a record count if a name among them cannot be read, for nothing behind it can: as much as brokers let a record
/// have that nobody has configured otherwise.
const UNREADABLE_BYTES: usize = 1024 * 1024;

impl Consumer {
    /// The next offset of each partition that is read, behind everything polled so far and behind markers of transactions that
    /// follow. Partitions of which nothing was polled yet are left out.
    ///
    /// # Errors
    /// If librdkafka does not know.
    pub fn positions(&self) -> Result<Vec<(Partition, i64)>, KafkaError> {
        Ok(lists::known(&self.inner.position()?))
    }

    /// The offset behind the last committed record of each partition, as the brokers have it now. One question a broker. Lag is
    /// told by it, too, as long as the partition is paused.
    ///
    /// # Errors
    /// If the brokers did not answer for all of them within `wait`.
    pub fn ends(&self, wanted: &[Partition], wait: Duration) -> Result<Vec<(Partition, i64)>, KafkaError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let ends = lists::edges(&self.inner, wanted, Offset::End, wait)?;
        self.inner.context().gauges.learn(&ends);
        Ok(ends)
    }
}

/// What headers hold, in bytes, with what keeping them takes.
#[must_use]
pub fn size_of<H: Headers>(headers: &H) -> usize {
    let one = |index| headers.try_get(index).map_or(0, |header| header.key.len() + header.value.map_or(0, <[u8]>::len));
    let lengths = readable(|| (0..headers.count()).map(one).sum::<usize>());
    lengths.unwrap_or(UNREADABLE_BYTES) + headers.count() * HEADER_BYTES
}

/// The content of a record's last header of that name, which is the one that counts for Kafka's own clients: what is appended
/// stands behind what somebody else may have written. None also if a name behind it is not UTF-8.
#[must_use]
pub fn header<'a, M: Message>(record: &'a M, name: &str) -> Option<&'a [u8]> {
    content(record.headers()?, name)
}

/// The content of the last of the headers that has that name; none also if a name behind it is not UTF-8.
#[must_use]
pub fn content<'a, H: Headers>(headers: &'a H, name: &str) -> Option<&'a [u8]> {
    let mut backwards = (0..headers.count()).rev().filter_map(|index| headers.try_get(index));
    readable(|| backwards.find(|header| header.key == name))??.value
}

/// The trace that headers name, if they do.
#[must_use]
pub fn trace_of<H: Headers>(headers: &H) -> Option<TraceContext> {
    TraceContext::read(content(headers, PARENT_HEADER)?, content(headers, STATE_HEADER)).ok()
}

/// The headers in their order; none if a name is not UTF-8.
#[must_use]
pub fn legible(headers: &OwnedHeaders) -> Option<Vec<Header<'_, &[u8]>>> {
    readable(|| headers.iter().collect())
}

/// The last headers, in their order, up to one whose name is not UTF-8; and how many stand in front of those, that one among them.
#[must_use]
pub fn legible_end<H: Headers>(headers: &H) -> (Vec<Header<'_, &[u8]>>, usize) {
    let mut end = Vec::with_capacity(headers.count());
    let backwards = || end.extend((0..headers.count()).rev().map_while(|index| headers.try_get(index)));
    // What was read before a panic is kept.
    let _ = readable(backwards);
    end.reverse();
    let unread = headers.count() - end.len();
    (end, unread)
}

/// What `read` makes of headers. The binding panics at a name that is not UTF-8, which anybody who may write to a topic can
/// put there: that must not end the process, which would read the same record at its next start. One panic ends the reading, so
/// that a record with many such names costs no more than one with one.
fn readable<T>(read: impl FnOnce() -> T) -> Option<T> {
    expected(read)
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    #[test]
    fn of_several_headers_of_a_name_the_last_counts() {
        let value = |key, value| Header { key, value };
        let headers = OwnedHeaders::new().insert(value("a", Some("forged"))).insert(value("a", Some("ours")));
        let headers = headers.insert(value("b", None::<&str>));
        let record = OwnedMessage::new(None, None, "t".to_owned(), Timestamp::NotAvailable, 0, 0, Some(headers));
        assert_eq!(["a", "b", "c"].map(|name| header(&record, name)), [Some(&b"ours"[..]), None, None]);
    }
}
