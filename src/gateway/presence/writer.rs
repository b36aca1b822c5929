//! Writing what this node says of itself, and noting when the brokers have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record;
use tidings_core::record::signal::SignalRecord;

use crate::gateway::metrics::GatewayMetrics;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written, version_header};

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Kind {
    Announcement,
    Snapshot,
    Recount,
    Question,
    Answer,
}

impl Kind {
    pub(in crate::gateway) const ALL: [Self; 5] =
        [Self::Announcement, Self::Snapshot, Self::Recount, Self::Question, Self::Answer];

    /// The word for it in metrics.
    pub(in crate::gateway) fn name(self) -> &'static str {
        match self {
            Self::Announcement => "announcement",
            Self::Snapshot => "snapshot",
            Self::Recount => "recount",
            Self::Question => "question",
            Self::Answer => "answer",
        }
    }

    /// Whether the next of its kind waits until the brokers have this one.
    fn is_numbered(self) -> bool {
        matches!(self, Self::Announcement | Self::Snapshot)
    }
}

/// A record on its way.
struct SignalTicket {
    kind: Kind,
    busy: Arc<AtomicBool>,
    metrics: GatewayMetrics,
}

impl Ticket for SignalTicket {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        if self.kind.is_numbered() {
            self.busy.store(false, Ordering::Release);
        }
        match outcome {
            Ok(_) => self.metrics.signalled(self.kind),
            // The number of the next one tells that it is missing; who asks does not wait for ever.
            Err(error) => {
                self.metrics.fates.count(error.cause(), "signal_unwritten", 1);
                tracing::debug!(%error, kind = self.kind.name(), "other nodes were not told");
            }
        }
    }
}

/// Writes to `signals` under this node's name.
pub(super) struct Writer {
    producer: Producer<SignalTicket>,
    topic: String,
    key: String,
    /// Shared with tickets: whether a numbered record is on its way.
    busy: Arc<AtomicBool>,
    metrics: GatewayMetrics,
}

impl Writer {
    /// A writer of records that are worth nothing after `limit`.
    pub(super) fn new(cluster: &Cluster, limit: Duration, node: &NodeId, metrics: &GatewayMetrics) -> Result<Self, KafkaError> {
        let producer = Producer::within(cluster, "gateway-presence", limit)?;
        let (topic, key) = (cluster.names().signals(), node.to_string());
        Ok(Self { producer, topic, key, busy: Arc::default(), metrics: metrics.clone() })
    }

    /// Whether a numbered record is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Hands a record to the producer. Says whether it took it.
    pub(super) fn write(&self, kind: Kind, signal: &SignalRecord) -> bool {
        let value = match record::encode(signal) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%error, cause = Cause::Bug.name(), "a signal could not be written as JSON");
                return false;
            }
        };
        let headers = [version_header::<SignalRecord>()];
        let (topic, key) = (self.topic.as_str(), Some(self.key.as_bytes()));
        let outgoing = Outgoing { topic, partition: None, key, value: Some(&value), headers: &headers };
        if kind.is_numbered() {
            self.busy.store(true, Ordering::Release);
        }
        let ticket = Box::new(SignalTicket { kind, busy: self.busy.clone(), metrics: self.metrics.clone() });
        match self.producer.send(outgoing, ticket) {
            Ok(()) => true,
            Err((error, ticket)) => {
                ticket.settled(Err(error));
                false
            }
        }
    }

    /// Waits until everything is written, or `limit` has passed.
    pub(super) fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.producer.flush(limit)
    }
}
