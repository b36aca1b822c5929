//! Undelivered: what ended without success, as it lies on the log.
//!
//! Owns: reading `undelivered`, with the marks on `audit` of what was begun anew since, as a whole or a part at a time. Refuses to let a
//! record that does not read end the reading: it is counted. Neighbours: core `selection` says which are meant, `anew` begins them anew.

mod part;
mod told;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::retry::UndeliveredRecord;
use tidings_core::record::{VERSION_HEADER, decode};
use tidings_core::selection::{Marks, SKEW, UndeliveredFilter};
use tidings_core::stretch::Stretch;
use tidings_core::time::Timestamp;

use super::audit::{Done, acts};
use super::{Progress, ReplayError, Watch, going};
use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::scan::Scan;

pub use part::{Part, PartEnd, PartEndError};
pub use told::{UndeliveredGroup, UndeliveredListing, UndeliveredReport, UndeliveredShown};

/// Where ladders that have ended are looked at. Its calls block, and end early when their caller's token is cancelled.
pub struct Undelivered {
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
}

/// Progress is told once in so many offsets.
const TOLD_EVERY: u64 = 1024;

/// What is asked of `undelivered`.
#[derive(Debug, Clone, Default)]
pub struct UndeliveredWanted {
    /// Which deliveries.
    pub filter: UndeliveredFilter,
    /// Which part of the topic.
    pub part: Part,
    /// How many single ones are named, the newest.
    pub newest: usize,
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

/// What a step of the reading brought.
pub(super) enum Met {
    /// The end of a ladder.
    Ended(Box<Found>),
    /// Something that was appended then and tells of none.
    Unreadable(Timestamp),
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
    /// If the brokers do not answer, the time is too short even to learn what was redriven, or the caller stopped it.
    pub fn list(&self, wanted: &UndeliveredWanted, watch: &mut Watch<'_>) -> Result<UndeliveredListing, ReplayError> {
        let UndeliveredWanted { filter, part, newest } = wanted;
        filter.check()?;
        let mut listing = UndeliveredListing::new(*newest);
        let next = self.read((filter.since, part), watch, |met| {
            match met {
                Met::Ended(found) if filter.holds(&found.record, found.at) => listing.add(&found),
                Met::Unreadable(at) if filter.may_hold(at) => listing.unreadable += 1,
                Met::Ended(_) | Met::Unreadable(_) => {}
            }
            Ok(())
        })?;
        Ok(listing.sorted(next))
    }

    /// What `audit` says was begun anew of what ended at `since` or later.
    fn marks(&self, since: Option<Timestamp>, go_on: impl Fn() -> Result<bool, ReplayError>) -> Result<Marks, ReplayError> {
        let mut marks = Marks::default();
        let since = since.map(|since| since.minus(SKEW));
        let go_on = || if go_on()? { Ok(true) } else { Err(ReplayError::Late) };
        acts((&self.cluster, self.clock), since, go_on, |at, act| marks.note_undelivered(at, act))?;
        Ok(marks)
    }

    /// Hands each record of a part that is of `since` or later to `each`, in the order of its partition. Gives where the next part begins, if
    /// this one did not come to the end.
    pub(super) fn read(
        &self,
        (since, part): (Option<Timestamp>, &Part),
        watch: &mut Watch<'_>,
        mut each: impl FnMut(Met) -> Result<(), ReplayError>,
    ) -> Result<Option<PartEnd>, ReplayError> {
        let stop = watch.stop;
        let go_on = || Ok(going(stop)? && part.until.is_none_or(|until| self.clock.elapsed() < until));
        let mut done = Done::new(self.marks(since, go_on)?);
        let mut scan = Scan::open(&self.cluster, &self.cluster.names().undelivered(), self.clock)?;
        let mut spans = scan.spans_since(since)?;
        for (partition, next) in part.behind.iter().flat_map(|behind| &behind.next) {
            spans.entry(*partition).and_modify(|span| span.from = span.from.max(*next));
        }
        scan.begin(&spans)?;
        let (all, mut told) = (scan.left(), false);
        let is_all = scan.read(go_on, |record, left| {
            if left.is_multiple_of(TOLD_EVERY) {
                (watch.progress)(Progress { what: "reading undelivered", done: all.saturating_sub(left), all });
            }
            each(met(record, &mut done, &mut told))
        })?;
        (watch.progress)(Progress { what: "reading undelivered", done: all.saturating_sub(scan.left()), all });
        let next = |(partition, span): (&i32, &Stretch)| (*partition, scan.next_of(*partition).unwrap_or(span.to));
        Ok((!is_all).then(|| PartEnd { met: 0, next: scan.bounds().iter().map(next).collect() }))
    }
}

/// What a record is. Of those that do not read the first is logged.
fn met(record: &BorrowedMessage<'_>, done: &mut Done, told: &mut bool) -> Met {
    let place = (record.partition(), record.offset());
    let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
    let is_redriven = done.holds(place, at);
    let error = match decode::<UndeliveredRecord>(header(record, VERSION_HEADER), record.payload().unwrap_or_default()) {
        Ok(record) if record.delivery.channel.is_mailbox() => {
            return Met::Ended(Box::new(Found { place, at, record, is_redriven }));
        }
        Ok(record) => format!("{} is no mailbox", record.delivery.channel),
        Err(error) => error.in_full(),
    };
    if !std::mem::replace(told, true) {
        let (partition, offset) = place;
        tracing::warn!(error, partition, offset, "a record of undelivered does not read; those behind it are only counted");
    }
    Met::Unreadable(at)
}
