//! Undelivered: what ended without success is looked at, and its ladder begun anew for who asks.
//!
//! Owns: reading `undelivered` and `audit` beside the courier's thread, in no group, and the transactions in which a ladder begins anew: the
//! word to the gateways, the first rung and the mark on `audit` that it did, so that a kill forks no ladder. One producer of all processes
//! does that at a time: who begins ends the one before. Refuses what has been delivered meanwhile, is withdrawn or has expired.
//! Neighbours: `attempt` makes the records, `http` asks. Long because one reading and one writing are told from their beginning to their end.

mod filter;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::message::Message as _;
use tidings_core::delivery::decide::Reach;
use tidings_core::delivery::ladder::Ladder;
use tidings_core::fate::Cause;
use tidings_core::ids::{NodeId, NotificationId, UserId};
use tidings_core::record::audit::{AuditRecord, Redriven, UndeliveredRedriven};
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::retry::UndeliveredRecord;
use tidings_core::record::{RecordError, VERSION_HEADER, decode};
use tidings_core::stretch::Stretches;
use tidings_core::time::Timestamp;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Hand, Made};
use super::rung::Rungs;
use crate::clock::Clock;
use crate::config::CourierConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::scan::{Scan, ScanError, Scanned};
use crate::kafka::transaction::{End, TransactionError, Transactions};
use crate::store::{Asked, Store, StoreError};
use crate::telemetry::{Complaints, Traces};

pub use filter::EndedFilter;
pub use told::{EndedGroup, EndedListing, EndedReport, EndedShown};

const WAIT: Duration = Duration::from_millis(200);
const BROKER_WAIT: Duration = Duration::from_secs(5);
/// How long the brokers may leave a transaction's end open.
const PATIENCE: Duration = Duration::from_secs(20);
/// Deliveries of one transaction.
const BATCH: usize = 500;

/// Where ladders that have ended are looked at. Its calls block, and end early when their caller's token is cancelled.
pub struct Undelivered {
    cluster: Cluster,
    transaction_timeout: Duration,
    rungs: Rungs,
    hand: Hand,
    clock: Clock,
}

/// Why ladders that ended could not be looked at or begun anew.
#[derive(Debug, thiserror::Error)]
pub enum UndeliveredError {
    /// A topic could not be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// No transaction is possible, or another process has begun to redrive.
    #[error("the redrive was ended by the brokers: does another one run? What was done by then stands on `audit`; ask again")]
    Transaction(#[from] TransactionError),
    /// The brokers do not take transactions now.
    #[error("the brokers do not take transactions; what was done by then stands on `audit`: ask again")]
    Brokers,
    /// The store does not say what was delivered meanwhile.
    #[error("the store does not say what was delivered meanwhile")]
    Store(#[from] StoreError),
    /// A record could not be encoded.
    #[error("a record could not be written as JSON; this is a bug")]
    Record(#[from] RecordError),
    /// The caller stopped it.
    #[error("stopped; what was done by then stands on `audit`")]
    Stopped,
}

impl UndeliveredError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Scan(error) => error.cause(),
            Self::Transaction(error) => error.cause(),
            Self::Store(error) => error.cause(),
            Self::Brokers => Cause::Dependency,
            Self::Record(_) => Cause::Bug,
            Self::Stopped => Cause::Refused,
        }
    }
}

/// A record of `undelivered`, and where it lies.
struct Ended {
    partition: i32,
    offset: i64,
    at: Timestamp,
    record: UndeliveredRecord,
}

/// Which records of `undelivered` were redriven, by partition.
type Marks = BTreeMap<i32, Stretches>;

impl Undelivered {
    /// Those of a cluster in an epoch.
    #[must_use]
    pub fn new(cluster: Cluster, config: &CourierConfig, (epoch, node): (EpochRecord, NodeId), clock: Clock) -> Self {
        let names = cluster.names().clone();
        let ladder = Ladder::new(config.ack_timeout.0, config.ladder.clone(), config.jitter_percent);
        let hand = Hand {
            node,
            signals: names.signals(),
            undelivered: names.undelivered(),
            dlq: names.dlq(),
            traces: Traces::default(),
            complaints: Complaints::new("undelivered", clock),
        };
        let rungs = Rungs::new(ladder, epoch, &names, Traces::default());
        Self { cluster, transaction_timeout: config.transaction_timeout.0, rungs, hand, clock }
    }

    /// Counts what ended, and names the newest of it.
    ///
    /// # Errors
    /// If the brokers do not answer, or the caller stopped it.
    pub fn list(&self, filter: &EndedFilter, newest: usize, stop: &CancellationToken) -> Result<EndedListing, UndeliveredError> {
        let marks = self.marks(stop)?;
        let mut listing = EndedListing::new(newest);
        self.read(stop, |ended| {
            if filter.holds(&ended.record, ended.at) {
                listing.add(&ended.record, ended.at, u64::from(is_marked(&marks, &ended)));
            }
            Ok(())
        })?;
        Ok(listing.sorted())
    }

    /// What would become of those that are meant: which are redriven already, or are not worth it any more.
    ///
    /// # Errors
    /// If brokers or store do not answer, or the caller stopped it.
    pub fn try_redrive(
        &self,
        filter: &EndedFilter,
        (store, stop): (&Store, &CancellationToken),
    ) -> Result<EndedReport, UndeliveredError> {
        let marks = self.marks(stop)?;
        let mut report = EndedReport::default();
        self.batches((filter, &marks), stop, &mut report, |batch, report| {
            report.redriven += self.fit(batch, store, report)?.len() as u64;
            Ok(())
        })?;
        Ok(report)
    }

    /// Begins the ladders of those that are meant anew, each once, in the order in which they ended.
    ///
    /// # Errors
    /// If brokers or store do not answer, another process redrives, or the caller stopped it. What was done by then stands on `audit`.
    pub fn redrive(
        &self,
        (filter, who): (&EndedFilter, &UserId),
        (store, stop): (&Store, &CancellationToken),
    ) -> Result<EndedReport, UndeliveredError> {
        // Who redrove until now writes no more: from here on `audit` tells of all that was done.
        let mut transactions = self.transactions(stop)?;
        let marks = self.marks(stop)?;
        let (id, mut report) = (Uuid::new_v4(), EndedReport { executed: true, ..EndedReport::default() });
        let act = |redriven| {
            let (who, node) = (who.clone(), self.hand.node.clone());
            AuditRecord::Undelivered(UndeliveredRedriven { id, who, node, selection: filter.to_string(), redriven })
        };
        self.batches((filter, &marks), stop, &mut report, |batch, report| {
            let fit = self.fit(batch, store, report)?;
            self.begin_anew(&mut transactions, &fit, (who, &act), report)
        })?;
        Ok(report)
    }

    fn transactions(&self, stop: &CancellationToken) -> Result<Transactions, UndeliveredError> {
        let id = format!("{}-redrive", self.cluster.group("courier"));
        let transactions = Transactions::new(&self.cluster, &id, self.transaction_timeout)?;
        let until = self.clock.elapsed() + PATIENCE;
        while let Some(error) = transactions.begin_service(BROKER_WAIT)? {
            tracing::debug!(%error, "the brokers do not take transactions yet");
            self.expect_time(until, stop)?;
        }
        Ok(transactions)
    }

    fn expect_time(&self, until: Duration, stop: &CancellationToken) -> Result<(), UndeliveredError> {
        if stop.is_cancelled() {
            return Err(UndeliveredError::Stopped);
        }
        if self.clock.elapsed() >= until { Err(UndeliveredError::Brokers) } else { Ok(()) }
    }

    /// What `audit` says was redriven. What does not read is somebody else's.
    fn marks(&self, stop: &CancellationToken) -> Result<Marks, UndeliveredError> {
        let mut marks = Marks::new();
        let scan = match Scan::open(&self.cluster, &self.cluster.names().audit(), self.clock) {
            Err(ScanError::NoTopic { .. }) => return Ok(marks),
            scan => scan?,
        };
        scanned(scan, stop, |record| {
            let act = decode(header(record, VERSION_HEADER), record.payload().unwrap_or_default());
            if let Ok(AuditRecord::Undelivered(UndeliveredRedriven { redriven, .. })) = act {
                for Redriven { partition, offsets } in redriven {
                    marks.entry(partition).or_default().merge(&offsets);
                }
            }
            Ok(())
        })?;
        Ok(marks)
    }

    /// Hands each record of `undelivered` over. One that does not read was passed over by whoever folds it, too.
    fn read(
        &self,
        stop: &CancellationToken,
        mut each: impl FnMut(Ended) -> Result<(), UndeliveredError>,
    ) -> Result<(), UndeliveredError> {
        let scan = Scan::open(&self.cluster, &self.cluster.names().undelivered(), self.clock)?;
        scanned(scan, stop, |record| {
            let (partition, offset) = (record.partition(), record.offset());
            let at = Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0));
            match decode::<UndeliveredRecord>(header(record, VERSION_HEADER), record.payload().unwrap_or_default()) {
                Ok(record) if record.delivery.channel.is_mailbox() => each(Ended { partition, offset, at, record }),
                Ok(_) => Ok(()),
                Err(error) => {
                    let error = error.in_full();
                    tracing::warn!(error, partition, offset, "a record of undelivered is passed over");
                    Ok(())
                }
            }
        })
    }

    /// Gathers those that are meant and were not redriven, so many at a time.
    fn batches(
        &self,
        (filter, marks): (&EndedFilter, &Marks),
        stop: &CancellationToken,
        report: &mut EndedReport,
        mut each: impl FnMut(Vec<Ended>, &mut EndedReport) -> Result<(), UndeliveredError>,
    ) -> Result<(), UndeliveredError> {
        let (mut batch, mut seen) = (Vec::new(), BTreeSet::<NotificationId>::new());
        self.read(stop, |ended| {
            if !filter.holds(&ended.record, ended.at) {
                return Ok(());
            }
            report.selected += 1;
            if is_marked(marks, &ended) {
                report.skip("redriven_before");
            } else if !seen.insert(ended.record.delivery.notification.id) {
                report.skip("duplicate");
            } else {
                batch.push(ended);
            }
            if batch.len() < BATCH { Ok(()) } else { each(std::mem::take(&mut batch), report) }
        })?;
        each(batch, report)
    }

    /// Those that are still worth it.
    fn fit(&self, batch: Vec<Ended>, store: &Store, report: &mut EndedReport) -> Result<Vec<Ended>, UndeliveredError> {
        let asked = |ended: &Ended| {
            let delivery = &ended.record.delivery;
            let (channel, id) = (delivery.channel.clone(), delivery.notification.id);
            Asked { channel, id, epoch: delivery.epoch, offset: delivery.offset }
        };
        let asked = batch.iter().map(asked).collect::<Vec<_>>();
        let evidence = if asked.is_empty() { Vec::new() } else { Handle::current().block_on(store.evidence(&asked))? };
        let (now, mut fit) = (self.clock.now(), Vec::with_capacity(batch.len()));
        for (ended, known) in batch.into_iter().zip(evidence) {
            if known.is_withdrawn {
                report.skip("withdrawn");
            } else if known.reach() == Reach::Delivered {
                report.skip("delivered");
            } else if ended.record.delivery.notification.is_expired(now) {
                report.skip("expired");
            } else {
                fit.push(ended);
            }
        }
        Ok(fit)
    }

    fn begin_anew(
        &self,
        transactions: &mut Transactions,
        batch: &[Ended],
        (who, act): (&UserId, &impl Fn(Vec<Redriven>) -> AuditRecord),
        report: &mut EndedReport,
    ) -> Result<(), UndeliveredError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (now, mut made, mut marks) = (self.clock.now(), Vec::new(), Marks::new());
        for ended in batch {
            let what = (ended.record.delivery.clone(), ended.record.reason);
            made.extend(self.hand.begin_anew(&self.rungs, what, who, now)?);
            marks.entry(ended.partition).or_default().insert(ended.offset, ended.offset.saturating_add(1));
        }
        let redriven = marks.into_iter().map(|(partition, offsets)| Redriven { partition, offsets }).collect();
        made.push(Made::keyed(&self.cluster.names().audit(), who.as_str(), &act(redriven), Vec::new())?);
        let records = made.iter().map(Made::outgoing).collect::<Vec<_>>();
        match self.written(transactions, &records)? {
            End::Committed => report.redriven += batch.len() as u64,
            // All that travel with one that is too large are refused with it.
            End::Aborted { refused, .. } if !refused.is_empty() => match batch.split_at(batch.len() / 2) {
                ([], _) => report.skip("too_large"),
                (one, other) => {
                    self.begin_anew(transactions, one, (who, act), report)?;
                    self.begin_anew(transactions, other, (who, act), report)?;
                }
            },
            End::Aborted { .. } | End::Unknown => return Err(UndeliveredError::Brokers),
        }
        Ok(())
    }

    fn written(
        &self,
        transactions: &mut Transactions,
        records: &[(crate::kafka::producer::Outgoing<'_>, Option<&rdkafka::message::OwnedHeaders>)],
    ) -> Result<End, UndeliveredError> {
        let until = self.clock.elapsed() + PATIENCE;
        let mut end = transactions.write(records, BROKER_WAIT)?;
        while matches!(end, End::Unknown) && self.clock.elapsed() < until {
            end = transactions.settle(BROKER_WAIT)?;
        }
        Ok(end)
    }
}

fn is_marked(marks: &Marks, ended: &Ended) -> bool {
    marks.get(&ended.partition).is_some_and(|offsets| offsets.contains(ended.offset))
}

fn scanned(
    mut scan: Scan,
    stop: &CancellationToken,
    mut each: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> Result<(), UndeliveredError>,
) -> Result<(), UndeliveredError> {
    let bounds = scan.bounds().clone();
    scan.begin(&bounds)?;
    loop {
        if stop.is_cancelled() {
            return Err(UndeliveredError::Stopped);
        }
        match scan.step(WAIT)? {
            Scanned::Record(record) => each(&record)?,
            Scanned::Nothing => {}
            Scanned::End => return Ok(()),
        }
    }
}
