//! What `audit` says: what was redriven, and how far replays have come.

use std::collections::{BTreeMap, HashMap};

use rdkafka::message::Message as _;
use tidings_core::record::audit::AuditRecord;
use tidings_core::record::{VERSION_HEADER, decode};
use tidings_core::selection::{Marks, SKEW};
use tidings_core::stretch::{Stretch, Stretches};
use tidings_core::time::Timestamp;

use super::{DeadLetters, ReplayError, Site, Watch, going};
use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::scan::{Scan, ScanError};

/// What was redriven of the partitions looked at.
pub(super) struct Done {
    marks: Marks,
    known: HashMap<i32, Stretches>,
}

impl Done {
    pub(super) fn new(marks: Marks) -> Self {
        Self { marks, known: HashMap::new() }
    }

    /// What was redriven since, too. It is of the topic as it is now.
    pub(super) fn extend(&mut self, since: Marks) {
        for (partition, known) in &mut self.known {
            known.merge(&since.of(*partition, Timestamp::from_millis(i64::MIN)));
        }
        self.marks.extend(since);
    }

    /// Whether the record of `at` in this place was redriven. The first that is asked about of each partition must be the first that is
    /// looked at.
    pub(super) fn holds(&mut self, (partition, offset): (i32, i64), at: Timestamp) -> bool {
        let of = || self.marks.of(partition, at);
        self.known.entry(partition).or_insert_with(of).contains(offset)
    }
}

impl DeadLetters {
    /// Which letters have been tried again, of those that were buried at `since` or later.
    pub(super) fn marks(
        &self,
        since: Option<Timestamp>,
        go_on: impl FnMut() -> Result<bool, ReplayError>,
    ) -> Result<Marks, ReplayError> {
        let mut marks = Marks::default();
        let reader = (&self.site.cluster, self.site.clock);
        acts(reader, Begin::At(since.map(|since| since.minus(SKEW))), go_on, |at, act| marks.note_letters(at, act))?;
        Ok(marks)
    }
}

impl Site {
    /// Hands everything that operators did to `each`, in the order in which each of them did it.
    pub(super) fn acts(&self, watch: &Watch<'_>, each: impl FnMut(Timestamp, AuditRecord)) -> Result<(), ReplayError> {
        acts((&self.cluster, self.clock), Begin::At(None), || going(watch.stop), each).map(drop)
    }
}

/// Where `audit` is read from.
pub(super) enum Begin<'a> {
    /// What was done then or later; without a time all.
    At(Option<Timestamp>),
    /// Behind what was read before.
    Behind(&'a Ends),
}

/// Up to which offsets `audit` was read.
pub(super) type Ends = BTreeMap<i32, i64>;

/// The same of what they did behind a place, as long as `go_on` says so. A record that does not read is somebody else's: it is passed
/// over, and said in the log.
pub(super) fn acts(
    (cluster, clock): (&Cluster, Clock),
    begin: Begin<'_>,
    go_on: impl FnMut() -> Result<bool, ReplayError>,
    mut each: impl FnMut(Timestamp, AuditRecord),
) -> Result<Ends, ReplayError> {
    let topic = cluster.names().audit();
    let mut scan = match Scan::open(cluster, &topic, clock) {
        // Whoever has not made it yet has never done anything.
        Err(ScanError::NoTopic { .. }) => return Ok(Ends::new()),
        scan => scan?,
    };
    let spans = match begin {
        Begin::At(since) => scan.spans_since(since)?,
        Begin::Behind(ends) => {
            let behind = |(number, span): (&i32, &Stretch)| {
                let from = ends.get(number).copied().unwrap_or(span.from);
                (*number, Stretch { from, ..*span })
            };
            scan.bounds().iter().map(behind).collect()
        }
    };
    let ends = scan.bounds().iter().map(|(number, span)| (*number, span.to)).collect();
    scan.begin(&spans)?;
    let read = scan.read(go_on, |record, _| {
        let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
        match decode::<AuditRecord>(header(record, VERSION_HEADER), record.payload().unwrap_or_default()) {
            Ok(act) => each(at, act),
            Err(error) => {
                let (partition, offset) = (record.partition(), record.offset());
                tracing::warn!(error = error.in_full(), topic, partition, offset, "a record of audit is passed over");
            }
        }
        Ok(())
    });
    read.map(|_| ends)
}
