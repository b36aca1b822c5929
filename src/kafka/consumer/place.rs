//! Where a reader stands and where the log ends.
//!
//! Owns: the offsets that tell whether everything written up to some moment has been read. Markers of transactions take
//! offsets too, so a reader stands behind its last record, not at it. Neighbours: the consumer above.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tidings_core::record::dead_letter::Header;

use super::{Consumer, Partition};

impl Consumer {
    /// The next offset of each partition that is read, behind everything polled so far and behind markers of transactions that
    /// follow. Partitions of which nothing was polled yet are left out.
    ///
    /// # Errors
    /// If librdkafka does not know.
    pub fn positions(&self) -> Result<Vec<(Partition, i64)>, KafkaError> {
        Ok(known(&self.inner.position()?))
    }

    /// The offset behind the last committed record of each partition, as the brokers have it now. One question a broker.
    ///
    /// # Errors
    /// If the brokers did not answer for all of them within `wait`.
    pub fn ends(&self, wanted: &[Partition], wait: Duration) -> Result<Vec<(Partition, i64)>, KafkaError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for partition in wanted {
            list.add_partition_offset(&partition.topic, partition.number, Offset::End)?;
        }
        let answer = self.inner.offsets_for_times(list, wait)?;
        answer.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
        Ok(known(&answer))
    }
}

fn known(list: &TopicPartitionList) -> Vec<(Partition, i64)> {
    let elements = list.elements();
    let placed = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((Partition { topic: element.topic().into(), number: element.partition() }, offset)),
        _ => None,
    });
    placed.collect()
}

/// A record's headers in their order.
#[must_use]
pub fn headers_of(record: &BorrowedMessage<'_>) -> Vec<Header> {
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

/// The content of a record's header, if it has one of that name.
#[must_use]
pub fn header<'a>(record: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a [u8]> {
    record.headers()?.iter().find(|header| header.key == name)?.value
}
