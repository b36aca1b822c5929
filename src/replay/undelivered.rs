//! Undelivered: what ended without success, as it lies on the log.
//!
//! Owns: reading `undelivered`, with the marks on `audit` of what was begun anew since. Refuses to let a record that does not read end the
//! reading. Neighbours: core `selection` says which are meant, `anew` begins them anew.

mod told;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::retry::UndeliveredRecord;
use tidings_core::record::{VERSION_HEADER, decode};
use tidings_core::selection::{Marks, UndeliveredFilter};
use tidings_core::time::Timestamp;

use super::audit::{Done, acts};
use super::{Progress, ReplayError, Watch, going};
use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::scan::Scan;

pub use told::{UndeliveredGroup, UndeliveredListing, UndeliveredReport, UndeliveredShown};

/// Where ladders that have ended are looked at. Its calls block, and end early when their caller's token is cancelled.
pub struct Undelivered {
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
}

/// A record of `undelivered`.
pub(super) struct Found {
    /// Its partition and offset.
    pub(super) place: (i32, i64),
    /// When its ladder ended.
    pub(super) at: Timestamp,
    /// What it says.
    pub(super) record: UndeliveredRecord,
    /// Whether its ladder was begun anew.
    pub(super) is_redriven: bool,
}

impl Undelivered {
    /// Those of a cluster.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Clock) -> Self {
        Self { cluster, clock }
    }

    /// Counts what ended, and names the newest of it.
    ///
    /// # Errors
    /// If the brokers do not answer, or the caller stopped it.
    pub fn list(
        &self,
        filter: &UndeliveredFilter,
        newest: usize,
        watch: &mut Watch<'_>,
    ) -> Result<UndeliveredListing, ReplayError> {
        let mut listing = UndeliveredListing::new(newest);
        self.read(watch, |found| {
            if filter.holds(&found.record, found.at) {
                listing.add(&found);
            }
            Ok(())
        })?;
        Ok(listing.sorted())
    }

    /// What `audit` says was begun anew.
    fn marks(&self, watch: &Watch<'_>) -> Result<Marks, ReplayError> {
        let mut marks = Marks::default();
        acts((&self.cluster, self.clock), None, || going(watch.stop), |at, act| marks.note_undelivered(at, act))?;
        Ok(marks)
    }

    /// Hands each record to `each`, in the order of its partition. One that does not read was passed over by whoever folds it, too.
    pub(super) fn read(
        &self,
        watch: &mut Watch<'_>,
        mut each: impl FnMut(Found) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let mut done = Done::new(self.marks(watch)?);
        let mut scan = Scan::open(&self.cluster, &self.cluster.names().undelivered(), self.clock)?;
        let bounds = scan.bounds().clone();
        scan.begin(&bounds)?;
        let (all, stop) = (scan.left(), watch.stop);
        scan.read(
            || going(stop),
            |record, left| {
                (watch.progress)(Progress { what: "reading undelivered", done: all.saturating_sub(left), all });
                found(record, &mut done).map_or(Ok(()), &mut each)
            },
        )?;
        Ok(())
    }
}

fn found(record: &BorrowedMessage<'_>, done: &mut Done) -> Option<Found> {
    let place = (record.partition(), record.offset());
    let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
    let is_redriven = done.holds(place, at);
    match decode::<UndeliveredRecord>(header(record, VERSION_HEADER), record.payload().unwrap_or_default()) {
        Ok(record) => record.delivery.channel.is_mailbox().then_some(Found { place, at, record, is_redriven }),
        Err(error) => {
            let (partition, offset) = place;
            tracing::warn!(error = error.in_full(), partition, offset, "a record of undelivered is passed over");
            None
        }
    }
}
