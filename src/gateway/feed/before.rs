//! What was withdrawn before this node began, and is not folded yet.
//!
//! Owns: reading `receipts` back from where the store has folded them, before any connection is taken: a device that comes would else be
//! sent from the store what nobody is to see any more. Refuses to tell anybody of it, and to read further back than a shard remembers.

use std::collections::BTreeMap;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use tidings_core::ids::NotificationId;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::record::{self, VERSION_HEADER};

use super::{ANSWER, Feed, POLL};
use crate::gateway::GatewayError;
use crate::gateway::shard::WITHDRAWN;
use crate::kafka::consumer::{Partition, header};
use crate::kafka::reader::{Read, Reader};

impl Feed {
    /// The ids that were withdrawn before `starts`, as far as the brokers tell them in time.
    pub(super) fn withdrawn_before(
        &self,
        reader: &Reader,
        starts: &[(Partition, i64)],
    ) -> Result<Vec<NotificationId>, GatewayError> {
        let topic = self.cluster.names().receipts();
        let ends = starts.iter().filter(|(partition, _)| *partition.topic == *topic).cloned().collect::<BTreeMap<_, _>>();
        let froms = self.unfolded(reader, &ends).unwrap_or_else(|error| {
            tracing::warn!(%error, "the brokers do not say where receipts begin: those that are not folded yet are not known");
            Vec::new()
        });
        let mut left = froms.iter().map(|(partition, _)| partition.number).collect::<Vec<_>>();
        let mut withdrawn = Vec::new();
        if !left.is_empty() {
            reader.start(&froms)?;
        }
        let until = self.shared.clock.elapsed() + ANSWER;
        while !left.is_empty() && !self.stop.is_cancelled() && self.shared.clock.elapsed() < until {
            match reader.poll(POLL)? {
                Read::Record(message) => {
                    withdrawn.extend(of_withdrawal(&message));
                    let partition = Partition { topic: topic.as_str().into(), number: message.partition() };
                    if ends.get(&partition).is_none_or(|end| *end <= message.offset().saturating_add(1)) {
                        left.retain(|number| *number != partition.number);
                    }
                }
                Read::OutOfRange => break,
                Read::Nothing | Read::Trouble(_) => {}
            }
        }
        if !left.is_empty() && !self.stop.is_cancelled() {
            tracing::warn!(partitions = ?left, "not all receipts that wait to be folded were read back: who comes before they are may be sent what is withdrawn");
        }
        Ok(withdrawn)
    }

    /// From where on receipts are not folded, of each partition that has any; no further back than a shard remembers.
    fn unfolded(&self, reader: &Reader, ends: &BTreeMap<Partition, i64>) -> Result<Vec<(Partition, i64)>, GatewayError> {
        let topic = self.cluster.names().receipts();
        // Without a store nothing of before is ever sent.
        let Some(folded) = self.shared.reads.folded(&self.shared, &topic) else { return Ok(Vec::new()) };
        let partitions = ends.keys().cloned().collect::<Vec<_>>();
        let window = i64::try_from(WITHDRAWN).unwrap_or(i64::MAX);
        let from = |(partition, first): (Partition, i64)| {
            let end = ends.get(&partition).copied()?;
            let folded = folded.get(&partition.number).copied().unwrap_or(0);
            let from = first.max(folded).max(end.saturating_sub(window));
            (from < end).then_some((partition, from))
        };
        Ok(reader.beginnings(&partitions, ANSWER)?.into_iter().filter_map(from).collect())
    }
}

/// What does not read is told when the inbox buries it.
fn of_withdrawal(message: &BorrowedMessage<'_>) -> Option<NotificationId> {
    match record::decode(header(message, VERSION_HEADER), message.payload()?).ok()? {
        ReceiptRecord::Withdrawn { id, .. } => Some(id),
        ReceiptRecord::State { .. } | ReceiptRecord::UpTo { .. } => None,
    }
}
