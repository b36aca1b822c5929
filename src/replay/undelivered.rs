//! Undelivered: what ended without success, as it lies on the log.
//!
//! Owns: reading `undelivered`, with the marks on `audit` of what was begun anew since, as a whole or a part at a time. Refuses to let a
//! record that does not read end the reading: it is counted. Neighbours: core `selection` says which are meant, `anew` begins them anew.

mod told;

use std::cell::RefCell;
use std::ops::ControlFlow;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::retry::UndeliveredRecord;
use tidings_core::record::{VERSION_HEADER, decode};
use tidings_core::selection::{Marks, SKEW, UndeliveredFilter};
use tidings_core::time::Timestamp;

use super::audit::{Begin, Done, Ends, acts};
use super::part::{Part, PartEnd};
use super::{ReplayError, Watch};
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

impl Before {
    /// Whether the ladder of an end was begun anew.
    pub(super) fn holds(&mut self, end: &FoundEnd) -> bool {
        self.done.holds(end.place, end.at)
    }
}

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
pub(super) struct FoundEnd {
    /// Its partition and offset.
    pub(super) place: (i32, i64),
    /// When its ladder ended.
    pub(super) at: Timestamp,
    /// What it says.
    pub(super) record: UndeliveredRecord,
    /// Whether its ladder was begun anew.
    pub(super) is_redriven: bool,
}

/// What was begun anew before.
pub(super) struct Before {
    done: Done,
    /// As far as `audit` tells that was written by then.
    heard: Ends,
}

/// What a step of the reading brought.
pub(super) enum Met {
    /// The end of a ladder.
    Ended(Box<FoundEnd>),
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
        let before = RefCell::new(self.before(filter.since, || part.goes_on(watch, self.clock))?);
        let next = self.read((filter.since, part), (&before, watch), |met| {
            match met {
                Met::Ended(found) if filter.holds(&found.record, found.at) => listing.add(&found),
                Met::Unreadable(at) if filter.may_hold(at) => listing.unreadable += 1,
                Met::Ended(_) | Met::Unreadable(_) => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(listing.sorted(next))
    }

    /// What was begun anew by now of what ended at `since` or later.
    pub(super) fn before(
        &self,
        since: Option<Timestamp>,
        go_on: impl FnMut() -> Result<bool, ReplayError>,
    ) -> Result<Before, ReplayError> {
        let (mut marks, begin) = (Marks::default(), Begin::At(since.map(|since| since.minus(SKEW))));
        let heard = acts((&self.cluster, self.clock), begin, go_on, |at, act| marks.note_undelivered(at, act))?;
        Ok(Before { done: Done::new(marks), heard })
    }

    /// The same of what was begun since.
    pub(super) fn hear_on(
        &self,
        before: &mut Before,
        go_on: impl FnMut() -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        let (mut marks, begin) = (Marks::default(), Begin::Behind(&before.heard));
        before.heard = acts((&self.cluster, self.clock), begin, go_on, |at, act| marks.note_undelivered(at, act))?;
        before.done.extend(marks);
        Ok(())
    }

    /// Hands each record of a part that is of `since` or later to `each`, in the order of its partition, until that has enough. Gives where the
    /// next part begins, if this one did not come to the end.
    pub(super) fn read(
        &self,
        (since, part): (Option<Timestamp>, &Part),
        (before, watch): (&RefCell<Before>, &mut Watch<'_>),
        mut each: impl FnMut(Met) -> Result<ControlFlow<()>, ReplayError>,
    ) -> Result<Option<PartEnd>, ReplayError> {
        let mut told = false;
        let mut scan = Scan::open(&self.cluster, &self.cluster.names().undelivered(), self.clock)?;
        let spans = scan.spans_since(since)?;
        part.read((&mut scan, spans), (watch, "reading undelivered"), |record| {
            // Who is handed it may hear on.
            let met = met(record, &mut before.borrow_mut(), &mut told);
            each(met)
        })
    }
}

/// What a record is. Of those that do not read the first is logged.
fn met(record: &BorrowedMessage<'_>, before: &mut Before, told: &mut bool) -> Met {
    let place = (record.partition(), record.offset());
    let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
    let is_redriven = before.done.holds(place, at);
    let error = match decode::<UndeliveredRecord>(header(record, VERSION_HEADER), record.payload().unwrap_or_default()) {
        Ok(record) if record.delivery.channel.is_mailbox() => {
            return Met::Ended(Box::new(FoundEnd { place, at, record, is_redriven }));
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
