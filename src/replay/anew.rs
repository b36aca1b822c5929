//! Anew: ladders that ended without success begin once more, for who asks.
//!
//! Owns: the transactions in which they do: the word to the gateways, the first rung and the mark on `audit` that it did, so that a kill
//! forks no ladder. One producer of all processes does that at a time: who begins ends the one before. Refuses what has been delivered
//! meanwhile, is withdrawn or has expired. Neighbours: `undelivered` reads what ended, `http` asks.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use rdkafka::message::OwnedHeaders;
use tidings_core::delivery::decide::Reach;
use tidings_core::delivery::ladder::{Ladder, Rung};
use tidings_core::ids::{NodeId, NotificationId, UserId};
use tidings_core::record::RecordError;
use tidings_core::record::audit::{AuditRecord, Redriven, UndeliveredRedriven};
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::retry::{Attempt, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::selection::UndeliveredFilter;
use tidings_core::stretch::Stretches;
use tidings_core::time::Timestamp;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::undelivered::{Found, Met, Part, PartEnd, Undelivered, UndeliveredReport};
use super::{Mode, ReplayError, Watch, going};
use crate::clock::Clock;
use crate::clock::rate::{Allowance, Rate};
use crate::config::CourierConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::made::Made;
use crate::kafka::producer::Outgoing;
use crate::kafka::topic::TopicNames;
use crate::kafka::transaction::{End, Transactions};
use crate::store::{Asked, Store, StoreError};

const BROKER_WAIT: Duration = Duration::from_secs(5);
/// How long the brokers may leave a transaction's end open.
const PATIENCE: Duration = Duration::from_secs(20);
/// Deliveries of one transaction.
const BATCH: usize = 500;
/// While the rate is waited for, it is looked so often whether it is to stop.
const NAP: Duration = Duration::from_millis(50);

/// Where ladders that have ended begin anew. Its calls block, and end early when their caller's token is cancelled.
pub struct Anew {
    undelivered: Undelivered,
    ladder: Ladder,
    epoch: EpochRecord,
    node: NodeId,
    transaction_timeout: Duration,
}

/// What is to be begun anew, how.
#[derive(Debug, Clone)]
pub struct RedriveUndelivered {
    /// Which deliveries.
    pub filter: UndeliveredFilter,
    /// Which part of the topic.
    pub part: Part,
    /// Whether anything is written.
    pub mode: Mode,
    /// The most deliveries a second.
    pub rate: NonZeroU32,
}

/// One redrive under way.
struct Run<'a> {
    anew: &'a Anew,
    wanted: &'a RedriveUndelivered,
    store: &'a Store,
    /// There if something is written.
    clerk: Option<Clerk>,
    batch: Vec<Found>,
    seen: BTreeSet<NotificationId>,
    /// Those that are named by their ids, and that there are.
    named: BTreeSet<NotificationId>,
    stop: CancellationToken,
    report: UndeliveredReport,
}

/// What writes, and in whose name.
struct Clerk {
    transactions: Transactions,
    id: Uuid,
    who: UserId,
    /// Which are meant, in the words of the command line.
    selection: String,
    clock: Clock,
    allowance: Allowance,
    rate: Rate,
}

impl Anew {
    /// Those of a cluster in an epoch.
    #[must_use]
    pub fn new(cluster: Cluster, config: &CourierConfig, (epoch, node): (EpochRecord, NodeId), clock: Clock) -> Self {
        let ladder = Ladder::new(config.ack_timeout.0, config.ladder.clone(), config.jitter_percent);
        let undelivered = Undelivered::new(cluster, clock);
        Self { undelivered, ladder, epoch, node, transaction_timeout: config.transaction_timeout.0 }
    }

    /// What ended, to be looked at.
    #[must_use]
    pub fn undelivered(&self) -> &Undelivered {
        &self.undelivered
    }

    /// Begins the ladders of those that are meant anew, each once, in the order in which those of a partition ended; or counts what would
    /// become of them.
    ///
    /// # Errors
    /// If brokers or store do not answer, another process redrives, or the caller stopped it. What was done by then stands on `audit`.
    pub fn redrive(
        &self,
        wanted: &RedriveUndelivered,
        store: &Store,
        watch: &mut Watch<'_>,
    ) -> Result<UndeliveredReport, ReplayError> {
        let RedriveUndelivered { filter, part, mode, .. } = wanted;
        filter.check()?;
        // Who redrove until now writes no more: from here on `audit` tells of all that was done.
        let clerk = match mode {
            Mode::Try => None,
            Mode::Execute { who } => Some(self.clerk((who, wanted), watch.stop)?),
        };
        let report = UndeliveredReport { executed: clerk.is_some(), ..UndeliveredReport::default() };
        let (seen, named, stop) = (BTreeSet::new(), BTreeSet::new(), watch.stop.clone());
        let mut run = Run { anew: self, wanted, store, clerk, batch: Vec::new(), seen, named, stop, report };
        let next = self.undelivered.read((filter.since, part), watch, |met| run.take(met))?;
        run.settle()?;
        Ok(run.ended(next))
    }

    fn clerk(&self, (who, wanted): (&UserId, &RedriveUndelivered), stop: &CancellationToken) -> Result<Clerk, ReplayError> {
        let Undelivered { cluster, clock } = &self.undelivered;
        let id = format!("{}-redrive", cluster.group("courier"));
        let transactions = Transactions::new(cluster, &id, self.transaction_timeout)?;
        let until = clock.elapsed() + PATIENCE;
        while let Some(error) = transactions.begin_service(BROKER_WAIT)? {
            tracing::debug!(%error, "the brokers do not take transactions yet");
            going(stop)?;
            if clock.elapsed() >= until {
                return Err(ReplayError::Brokers);
            }
        }
        let (id, who, selection) = (Uuid::new_v4(), who.clone(), wanted.filter.to_string());
        let allowance = Allowance::new(Duration::from_secs(1) / wanted.rate.get(), 0);
        Ok(Clerk { transactions, id, who, selection, clock: *clock, allowance, rate: Rate::default() })
    }

    /// The records that begin a ladder anew, as `who` asked: one of an earlier epoch is notified of once more.
    fn records(&self, ended: &UndeliveredRecord, who: &UserId, now: Timestamp) -> Result<Vec<Made>, RecordError> {
        let names = self.undelivered.cluster.names();
        let UndeliveredRecord { mut delivery, reason, .. } = ended.clone();
        let (channel, notifications) = (delivery.channel.clone(), names.notifications());
        let notified = (notifications.as_str(), channel.partition(self.epoch.partitions));
        let is_past = delivery.epoch != self.epoch.epoch;
        // What is written to `notifications` is sent by every gateway, and waits there first.
        let first = || self.ladder.next(Rung::FIRST, delivery.ladder.as_deref()).unwrap_or(Rung(1));
        let next = if is_past { Rung::FIRST } else { first() };
        let next_at = Some(self.ladder.due(next, now, delivery.notification.id));
        let (node, by) = (self.node.clone(), Some(who.clone()));
        delivery.tell(Attempt { at: now, node, sink: Sink::Websocket, outcome: reason, next_at, by });
        if is_past {
            return Ok(vec![Made::of(&notifications, channel.as_str(), &delivery.notified(notified), Vec::new())?]);
        }
        let context = delivery.context(notified, reason, None, &self.node).headers();
        let signal = SignalRecord::Redeliver { redelivery: delivery.made(), delivery: Box::new(delivery.clone()) };
        Ok(vec![
            Made::of(&names.signals(), channel.as_str(), &signal, Vec::new())?,
            Made::of(&topic(&self.ladder, names, next), channel.as_str(), &RetryRecord(delivery), context)?,
        ])
    }
}

impl Run<'_> {
    /// Takes one in, if it is meant.
    fn take(&mut self, met: Met) -> Result<(), ReplayError> {
        let filter = &self.wanted.filter;
        let found = match met {
            Met::Ended(found) => found,
            Met::Unreadable(at) => {
                self.report.skip_some("unreadable", u64::from(filter.may_hold(at)));
                return Ok(());
            }
        };
        let id = found.record.delivery.notification.id;
        if filter.ids.contains(&id) {
            self.named.insert(id);
        }
        if !filter.holds(&found.record, found.at) {
            return Ok(());
        }
        self.report.selected += 1;
        if found.is_redriven {
            self.report.skip("redriven_before");
        } else if !self.seen.insert(id) {
            self.report.skip("duplicate");
        } else {
            self.batch.push(*found);
        }
        if self.batch.len() < self.batch_limit() { Ok(()) } else { self.settle() }
    }

    /// No more go out at once than the rate has in a second.
    fn batch_limit(&self) -> usize {
        usize::try_from(self.wanted.rate.get()).map_or(BATCH, |rate| rate.min(BATCH))
    }

    /// Does what was taken in, and waits until that is within the rate.
    fn settle(&mut self) -> Result<(), ReplayError> {
        let fit = self.fit()?;
        let Some(mut clerk) = self.clerk.take() else {
            self.report.redriven += fit.len() as u64;
            return Ok(());
        };
        let begun = self.begin(&mut clerk, &fit);
        let now = clerk.clock.elapsed();
        let until = now + clerk.rate.take_and_wait(fit.len() as u64, clerk.allowance, now);
        let until = self.wanted.part.until.map_or(until, |late| late.min(until));
        while clerk.clock.elapsed() < until && !self.stop.is_cancelled() {
            std::thread::sleep(until.saturating_sub(clerk.clock.elapsed()).min(NAP));
        }
        self.clerk = Some(clerk);
        begun
    }

    /// The report, once there is nothing more to read, or not now.
    fn ended(mut self, next: Option<PartEnd>) -> UndeliveredReport {
        let before = self.wanted.part.behind.as_ref().map_or(0, |behind| behind.met);
        let met = before.saturating_add(self.named.len() as u64);
        match next {
            Some(next) => self.report.next_page_token = Some(PartEnd { met, ..next }.to_string()),
            None => self.report.skip_some("gone", (self.wanted.filter.ids.len() as u64).saturating_sub(met)),
        }
        self.report
    }

    /// Those of what was taken in that are still worth it.
    fn fit(&mut self) -> Result<Vec<Found>, StoreError> {
        let batch = std::mem::take(&mut self.batch);
        let asked = |found: &Found| {
            let delivery = &found.record.delivery;
            let (channel, id) = (delivery.channel.clone(), delivery.notification.id);
            Asked { channel, id, epoch: delivery.epoch, offset: delivery.offset }
        };
        let asked = batch.iter().map(asked).collect::<Vec<_>>();
        let evidence = if asked.is_empty() { Vec::new() } else { Handle::current().block_on(self.store.evidence(&asked))? };
        let (now, mut fit) = (self.anew.undelivered.clock.now(), Vec::with_capacity(batch.len()));
        for (found, known) in batch.into_iter().zip(evidence) {
            if known.is_withdrawn {
                self.report.skip("withdrawn");
            } else if known.reach() == Reach::Delivered {
                self.report.skip("delivered");
            } else if found.record.delivery.notification.is_expired(now) {
                self.report.skip("expired");
            } else {
                fit.push(found);
            }
        }
        Ok(fit)
    }

    /// Begins ladders anew in one transaction, or in smaller ones if something in it is too large.
    fn begin(&mut self, clerk: &mut Clerk, batch: &[Found]) -> Result<(), ReplayError> {
        if batch.is_empty() {
            return Ok(());
        }
        let made = self.anew.made(clerk, batch).map_err(ReplayError::Encode)?;
        match clerk.write(&made.iter().map(Made::outgoing).collect::<Vec<_>>())? {
            End::Committed => self.report.redriven += batch.len() as u64,
            // All that travel with one that is too large are refused with it.
            End::Aborted { refused, .. } if !refused.is_empty() => match batch.split_at(batch.len() / 2) {
                ([], _) => self.report.skip("too_large"),
                (one, other) => {
                    self.begin(clerk, one)?;
                    self.begin(clerk, other)?;
                }
            },
            End::Aborted { .. } | End::Unknown => return Err(ReplayError::Brokers),
        }
        Ok(())
    }
}

impl Anew {
    /// All records of one transaction: ladders, and the mark that they were begun anew.
    fn made(&self, clerk: &Clerk, batch: &[Found]) -> Result<Vec<Made>, RecordError> {
        let Clerk { id, who, clock, .. } = clerk;
        let (now, mut made, mut marks) = (clock.now(), Vec::new(), BTreeMap::<i32, Stretches>::new());
        for Found { place: (partition, offset), record, .. } in batch {
            made.extend(self.records(record, who, now)?);
            marks.entry(*partition).or_default().insert(*offset, offset.saturating_add(1));
        }
        let redriven = marks.into_iter().map(|(partition, offsets)| Redriven { partition, offsets }).collect();
        let (node, selection) = (self.node.clone(), clerk.selection.clone());
        let act = AuditRecord::Undelivered(UndeliveredRedriven { id: *id, who: who.clone(), node, selection, redriven });
        made.push(Made::of(&self.undelivered.cluster.names().audit(), who.as_str(), &act, Vec::new())?);
        Ok(made)
    }
}

impl Clerk {
    fn write(&mut self, records: &[(Outgoing<'_>, Option<&OwnedHeaders>)]) -> Result<End, ReplayError> {
        let until = self.clock.elapsed() + PATIENCE;
        let mut end = self.transactions.write(records, BROKER_WAIT)?;
        while matches!(end, End::Unknown) && self.clock.elapsed() < until {
            end = self.transactions.settle(BROKER_WAIT)?;
        }
        Ok(end)
    }
}

/// The topic of a rung.
fn topic(ladder: &Ladder, names: &TopicNames, rung: Rung) -> String {
    ladder.rungs().find(|(each, _)| *each == rung).map_or_else(String::new, |(_, delay)| names.retry(delay))
}
