//! Writing cursors to the log, and learning whether the brokers took them.

use std::sync::Arc;

use tidings_core::fate::Cause;
use tidings_core::record;
use tidings_core::record::cursor::CursorRecord;

use super::Shared;
use super::inlet::Control;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written, version_header};

/// A cursor on its way to the log.
pub(super) struct CursorTicket {
    record: CursorRecord,
    shared: Arc<Shared>,
}

impl Ticket for CursorTicket {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        let Err(error) = outcome else {
            self.shared.metrics.cursor_records.inc();
            return;
        };
        self.shared.metrics.fates.count(error.cause(), "cursor_unwritten", 1);
        tracing::warn!(%error, user = %self.record.user_id, device = %self.record.device_id, "a cursor was not written; trying again");
        let Self { record, shared } = *self;
        let inlet = shared.inlet(&record.user_id);
        if inlet.try_say(Control::Unwritten(Box::new(record))).is_err() {
            tracing::error!("a cursor was lost; what it acknowledges will be delivered again");
        }
    }
}

/// Writes cursors.
pub(super) struct CursorWriter {
    producer: Arc<Producer<CursorTicket>>,
    shared: Arc<Shared>,
    topic: String,
}

impl CursorWriter {
    pub(super) fn new(producer: Arc<Producer<CursorTicket>>, shared: Arc<Shared>, topic: String) -> Self {
        Self { producer, shared, topic }
    }

    /// Hands a cursor to the producer.
    ///
    /// # Errors
    /// If the producer did not take it; the cursor stays due.
    pub(super) fn write(&self, record: CursorRecord) -> Result<(), ProduceError> {
        let value = match record::encode(&record) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%error, cause = Cause::Bug.name(), "a cursor could not be written as JSON");
                return Ok(());
            }
        };
        let key = record.key();
        let partition = record.partition(self.shared.partitions);
        let headers = [version_header::<CursorRecord>()];
        let outgoing = Outgoing {
            topic: &self.topic,
            partition: Some(partition),
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: &headers,
        };
        let ticket = Box::new(CursorTicket { record, shared: self.shared.clone() });
        self.producer.send(outgoing, ticket).map_err(|(error, _)| error)
    }
}
