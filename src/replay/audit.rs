//! What `audit` says: which letters were redriven, and how far replays have come.

use std::time::Duration;

use rdkafka::message::Message as _;
use tidings_core::record::audit::AuditRecord;
use tidings_core::record::{VERSION_HEADER, decode};
use tidings_core::selection::Marks;
use tidings_core::time::Timestamp;

use super::{DeadLetters, ReplayError, Site, Watch};
use crate::kafka::consumer::header;
use crate::kafka::scan::{Scan, ScanError, Scanned};

const WAIT: Duration = Duration::from_millis(200);

impl DeadLetters {
    /// Which letters have been tried again.
    pub(super) fn marks(&self, watch: &Watch<'_>) -> Result<Marks, ReplayError> {
        let mut marks = Marks::default();
        self.site.acts(watch, |at, act| marks.note(at, act))?;
        Ok(marks)
    }
}

impl Site {
    /// Hands everything that operators did to `each`, in the order in which each of them did it. A record that does not read is somebody
    /// else's: it is passed over, and said in the log.
    pub(super) fn acts(&self, watch: &Watch<'_>, mut each: impl FnMut(Timestamp, AuditRecord)) -> Result<(), ReplayError> {
        let topic = self.cluster.names().audit();
        let mut scan = match Scan::open(&self.cluster, &topic, self.clock) {
            // Whoever has not made it yet has never done anything.
            Err(ScanError::NoTopic { .. }) => return Ok(()),
            scan => scan?,
        };
        let bounds = scan.bounds().clone();
        scan.begin(&bounds)?;
        loop {
            if watch.stop.is_cancelled() {
                return Err(ReplayError::Stopped);
            }
            match scan.step(WAIT)? {
                Scanned::Nothing => {}
                Scanned::End => return Ok(()),
                Scanned::Record(record) => {
                    let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
                    match decode::<AuditRecord>(header(&record, VERSION_HEADER), record.payload().unwrap_or_default()) {
                        Ok(act) => each(at, act),
                        Err(error) => {
                            let (partition, offset) = (record.partition(), record.offset());
                            tracing::warn!(error = error.in_full(), topic, partition, offset, "a record of audit is passed over");
                        }
                    }
                }
            }
        }
    }
}
