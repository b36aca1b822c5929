//! Burial: records of our own topics that do not read go to `dlq`, with their bytes, and are folded over.
//!
//! Owns: the producer for that and the count of burials the brokers have not confirmed, for which the projection waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Message};
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::dead_letter::DeadLetter;
use tidings_core::time::Timestamp;

use super::batch::Unfit;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};

const ROOM_WAIT: Duration = Duration::from_secs(1);

/// A burial under way.
struct Burial {
    open: Arc<AtomicUsize>,
    place: String,
}

impl Ticket for Burial {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        if let Err(error) = outcome {
            // Not even `dlq` takes it. It stays where it lies until retention ends.
            tracing::error!(place = self.place, %error, cause = error.cause().name(), "a record that does not read was not buried");
        }
        self.open.fetch_sub(1, Ordering::Release);
    }
}

/// Where records that do not read go.
pub(super) struct Graveyard {
    producer: Producer<Burial>,
    dlq: String,
    node: NodeId,
    /// Shared with the producer's thread, which counts down.
    open: Arc<AtomicUsize>,
}

impl Graveyard {
    pub(super) fn new(cluster: &Cluster, node: NodeId) -> Result<Self, KafkaError> {
        Ok(Self { producer: Producer::new(cluster, "inbox")?, dlq: cluster.names().dlq(), node, open: Arc::default() })
    }

    /// Whether every burial is confirmed or given up.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Waits until it is quiet, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        if let Err(error) = self.producer.flush(limit) {
            tracing::warn!(%error, "burials are not confirmed yet");
        }
    }

    /// Buries a record. Returns once the producer has taken it.
    pub(super) fn bury(&self, record: &BorrowedMessage<'_>, why: &Unfit) {
        let message = why.in_full();
        let letter = DeadLetter {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().to_millis().map(Timestamp::from_millis),
            stage: "inbox",
            cause: Cause::Poison,
            class: why.class(),
            message: &message,
            node: &self.node,
        };
        let (carried, headers) = (record.headers().map(BorrowedHeaders::detach), letter.headers());
        let place = format!("{}[{}]@{}", record.topic(), record.partition(), record.offset());
        tracing::error!(place, error = message, dlq = self.dlq, "a record of our own is not folded; buried");
        let outgoing =
            Outgoing { topic: &self.dlq, partition: None, key: record.key(), value: record.payload(), headers: &headers };
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut ticket = Box::new(Burial { open: self.open.clone(), place });
        while let Err((error, returned)) = self.producer.send_carrying(outgoing, carried.as_ref(), ticket) {
            if !matches!(error, ProduceError::QueueFull) {
                returned.settled(Err(error));
                return;
            }
            ticket = returned;
            self.flush(ROOM_WAIT);
        }
    }
}
