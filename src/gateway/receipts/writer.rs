//! Writing receipts to the log: of whoever waits for an answer, and of what one device has acknowledged.
//!
//! Owns: the one producer of receipts. What the brokers have not taken in time is given up and not written later: who waits is told, a
//! shard tries again. A connection waits for its receipt before it reads on, and so does a request over HTTP, so no more wait here than
//! there are of both.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tidings_core::channel::Channel;
use tidings_core::fate::Cause;
use tidings_core::ids::{ConnectionId, NotificationId};
use tidings_core::position::Position;
use tidings_core::record;
use tidings_core::record::receipt::{ReceiptRecord, Source};
use tidings_core::record::signal::nodes::UserDevice;
use tidings_core::time::Delay;
use tokio::sync::oneshot;

use super::once;
use crate::gateway::Shared;
use crate::gateway::inlet::{Control, NamedBy};
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written, version_header};

/// Writes receipts.
pub(in crate::gateway) struct ReceiptWriter {
    producer: Producer<ReceiptTicket>,
    topic: String,
    limit: Duration,
}

/// A receipt that is perhaps not on the log, and will not be written later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the brokers did not confirm it within {limit}: send it again")]
pub struct Unwritten {
    limit: Delay,
}

/// A notification that one device has acknowledged for all of its user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Withdrawal {
    pub(in crate::gateway) by: UserDevice,
    pub(in crate::gateway) named_by: NamedBy,
    pub(in crate::gateway) connection: ConnectionId,
    pub(in crate::gateway) id: NotificationId,
    pub(in crate::gateway) offset: i64,
}

/// Who is told what became of a receipt.
enum ReceiptTicket {
    Client(oneshot::Sender<Result<Written, ProduceError>>),
    Shard(Box<Withdrawal>, Arc<Shared>),
}

impl Ticket for ReceiptTicket {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        match *self {
            // The client may have left.
            Self::Client(asker) => drop(asker.send(outcome)),
            Self::Shard(withdrawal, shared) => settled(withdrawal, &shared, outcome),
        }
    }
}

fn settled(withdrawal: Box<Withdrawal>, shared: &Shared, outcome: Result<Written, ProduceError>) {
    let (control, follows) = match outcome {
        Ok(_) => {
            shared.metrics.receipts.inc();
            (Control::Withdrawn(withdrawal.clone()), "is written, and the log tells of it")
        }
        Err(error) => {
            shared.metrics.fates.count(error.cause(), "receipt_unwritten", 1);
            tracing::warn!(%error, user = %withdrawal.by.user_id, id = %withdrawal.id, "a withdrawal was not written; trying again");
            (Control::Unwithdrawn(withdrawal.clone()), "is lost: its notification will be delivered again")
        }
    };
    if shared.inlet(&withdrawal.by.user_id).try_say(control).is_err() {
        tracing::error!(user = %withdrawal.by.user_id, id = %withdrawal.id, "a shard was not told of a withdrawal, which {follows}");
    }
}

impl ReceiptWriter {
    pub(in crate::gateway) fn new(cluster: &Cluster, limit: Duration) -> Result<Self, KafkaError> {
        let producer = Producer::within(cluster, "gateway-receipts", limit)?;
        Ok(Self { producer, topic: cluster.names().receipts(), limit })
    }

    /// Returns once the brokers have a receipt.
    pub(in crate::gateway) async fn write(&self, shared: &Shared, record: &ReceiptRecord) -> Result<(), Unwritten> {
        let (tell, told) = oneshot::channel();
        self.send(shared, record, ReceiptTicket::Client(tell));
        let Err(error) = told.await.map_err(|_| None).and_then(|outcome| outcome.map_err(Some)) else {
            shared.metrics.receipts.inc();
            return Ok(());
        };
        let cause = error.as_ref().map_or(Cause::Bug, ProduceError::cause);
        shared.metrics.fates.count(cause, "receipt_unwritten", 1);
        let why = error.as_ref().map(tracing::field::display);
        tracing::debug!(why, "a receipt was not written; its author was told to send it again");
        Err(Unwritten { limit: Delay(self.limit) })
    }

    /// Writes that a notification is withdrawn. The user's shard is told what became of it.
    pub(in crate::gateway) fn withdraw(&self, shared: &Arc<Shared>, withdrawal: Withdrawal) {
        let place = (withdrawal.id, Position::after(shared.epoch, withdrawal.offset));
        let source = Source { device_id: withdrawal.by.device_id.clone(), connection_id: withdrawal.connection };
        let record = once::withdrawal(Channel::mailbox(&withdrawal.by.user_id), place, Some(source));
        self.send(shared, &record, ReceiptTicket::Shard(Box::new(withdrawal), shared.clone()));
    }

    /// Hands a record to the producer; whatever becomes of it, its ticket is settled.
    fn send(&self, shared: &Shared, record: &ReceiptRecord, ticket: ReceiptTicket) {
        let value = match record::encode(record) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%error, cause = Cause::Bug.name(), "a receipt could not be written as JSON");
                return;
            }
        };
        let home = record.home();
        let headers = [version_header::<ReceiptRecord>()];
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: Some(home.partition(shared.partitions)),
            key: Some(home.as_str().as_bytes()),
            value: Some(&value),
            headers: &headers,
        };
        if let Err((error, ticket)) = self.producer.send(outgoing, Box::new(ticket)) {
            ticket.settled(Err(error));
        }
    }

    /// The topic's name.
    pub(in crate::gateway) fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits until everything taken is written or given up.
    pub(in crate::gateway) fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.producer.flush(limit)
    }
}
