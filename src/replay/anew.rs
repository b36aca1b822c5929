//! Anew: ladders that ended without success begin once more, for who asks.
//!
//! Owns: which of those that are meant are worth it, each once: what has been delivered meanwhile, is withdrawn or has expired is left alone,
//! and so is another record of an end whose ladder was begun anew already. Who does so at the same time is ended only once there is something to
//! begin. Neighbours: `undelivered` reads what ended, `crier` says what is meant, `clerk` writes, `passed` waits for the store, `http` asks.

mod clerk;
mod crier;
mod passed;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::time::Duration;

use tidings_core::delivery::decide::Reach;
use tidings_core::delivery::ladder::Ladder;
use tidings_core::ids::{NodeId, NotificationId};
use tidings_core::record::meta::EpochRecord;
use tidings_core::selection::UndeliveredFilter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::clerk::{Clerk, Written};
use self::crier::Crier;
use super::part::{Part, PartEnd};
use super::undelivered::{Before, FoundEnd, Met, Undelivered, UndeliveredReport};
use super::{Mode, ReplayError, Watch, going};
use crate::clock::Clock;
use crate::clock::pace::nap;
use crate::config::CourierConfig;
use crate::kafka::cluster::Cluster;
use crate::store::{Asked, Store, StoreError};

/// Deliveries of one transaction.
const BATCH: usize = 500;
/// A part ends when it has begun so many ladders, or would have: it remembers which.
const REMEMBERED: usize = 100_000;

/// Where ladders that have ended begin anew. Its calls block, and end early when their caller's token is cancelled.
pub struct Anew {
    undelivered: Undelivered,
    ladder: Ladder,
    epoch: EpochRecord,
    node: NodeId,
    transaction_timeout: Duration,
    /// For how long the store knows, at least, that a ladder was begun anew.
    known_for: Duration,
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
    /// No longer than to this time of the monotonic clock is the store waited for; later than the part's own, or whoever reads up to that
    /// would never begin anything.
    pub store_until: Option<Duration>,
}

/// One part under way.
struct Beginning<'a> {
    anew: &'a Anew,
    wanted: &'a RedriveUndelivered,
    store: &'a Store,
    /// What was begun anew before, by whom ever; shared with who reads.
    before: &'a RefCell<Before>,
    /// There once something is said of them.
    crier: Option<Crier>,
    /// There once a ladder is begun.
    clerk: Option<Clerk>,
    batch: Vec<FoundEnd>,
    /// Whose ladders this part has begun, or would have. What parts before it have done the store knows.
    begun: HashSet<NotificationId>,
    /// Those that are named by their ids, and that there are, by their numbers in order.
    met: BTreeSet<usize>,
    stop: CancellationToken,
    report: UndeliveredReport,
}

/// What is to be done about an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Its ladder is to begin.
    Beginning,
    /// It is another record of one whose ladder has begun: that is said of it.
    Twin,
    /// Nothing, for this reason.
    Nothing(&'static str),
}

impl Anew {
    /// Those of a cluster in an epoch; what was tried is known for `known_for`.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        (config, known_for): (&CourierConfig, Duration),
        (epoch, node): (EpochRecord, NodeId),
        clock: Clock,
    ) -> Self {
        let ladder = Ladder::new(config.ack_timeout.0, config.ladder.clone(), config.jitter_percent);
        let undelivered = Undelivered::new(cluster, clock);
        Self { undelivered, ladder, epoch, node, transaction_timeout: config.transaction_timeout.0, known_for }
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
    /// If brokers or store do not answer, the store is behind, another process redrives, or the caller stopped it. What was done by then stands
    /// on `audit`.
    pub fn redrive(
        &self,
        wanted: &RedriveUndelivered,
        store: &Store,
        watch: &mut Watch<'_>,
    ) -> Result<UndeliveredReport, ReplayError> {
        let RedriveUndelivered { filter, part, mode, .. } = wanted;
        filter.check()?;
        let before = self.undelivered.before(filter.since, || part.goes_on(watch, self.undelivered.clock))?;
        let before = &RefCell::new(before);
        let report = UndeliveredReport { executed: *mode != Mode::Try, ..UndeliveredReport::default() };
        let (crier, clerk, batch, begun, stop) = (None, None, Vec::new(), HashSet::new(), watch.stop.clone());
        let met = part.behind.as_ref().map(|behind| behind.met.clone()).unwrap_or_default();
        let mut beginning = Beginning { anew: self, wanted, store, before, crier, clerk, batch, begun, met, stop, report };
        let next = self.undelivered.read((filter.since, part), (before, watch), |met| beginning.take(met))?;
        beginning.settle()?;
        Ok(beginning.ended(next))
    }
}

impl Beginning<'_> {
    /// Takes one in, if it is meant.
    fn take(&mut self, met: Met) -> Result<ControlFlow<()>, ReplayError> {
        let filter = &self.wanted.filter;
        let found = match met {
            Met::Ended(found) => found,
            Met::Unreadable(at) => {
                self.report.skip_some("unreadable", u64::from(filter.may_hold(at)));
                return Ok(ControlFlow::Continue(()));
            }
        };
        let id = found.record.delivery.notification.id;
        if filter.ids.contains(&id) {
            self.met.extend(filter.ids.iter().position(|named| *named == id));
        }
        if !filter.holds(&found.record, found.at) {
            return Ok(ControlFlow::Continue(()));
        }
        self.report.selected += 1;
        if found.is_redriven {
            self.report.skip("redriven_before");
        } else if found.record.refused.is_some() {
            // What it said lies in `dlq`, as far as that took it.
            self.report.skip("too_large");
        } else {
            self.batch.push(*found);
        }
        if self.batch.len() >= self.batch_limit() {
            self.settle()?;
        }
        let is_full = self.begun.len() >= REMEMBERED;
        Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// No more go out at once than the rate has in a second.
    fn batch_limit(&self) -> usize {
        usize::try_from(self.wanted.rate.get()).map_or(BATCH, |rate| rate.min(BATCH))
    }

    /// Does what was taken in, and waits until that is within the rate.
    fn settle(&mut self) -> Result<(), ReplayError> {
        let (mut fit, mut twins) = (Vec::new(), Vec::new());
        for (found, worth) in self.judged()? {
            match worth {
                Worth::Nothing(why) => self.report.skip(why),
                Worth::Twin => {
                    self.report.skip("duplicate");
                    twins.push(found.place);
                }
                Worth::Beginning => {
                    self.begun.insert(found.record.delivery.notification.id);
                    fit.push(found);
                }
            }
        }
        let Some(mut crier) = self.crier.take() else {
            self.count(&fit);
            return Ok(());
        };
        let begun = match self.clerk.take() {
            Some(mut clerk) => {
                let begun = self.begin((&mut clerk, &crier), &fit);
                let until = clerk.take(fit.len() as u64);
                let until = self.wanted.part.until.map_or(until, |late| late.min(until));
                while !self.stop.is_cancelled() && nap(self.anew.undelivered.clock, until) {}
                self.clerk = Some(clerk);
                begun
            }
            None => Ok(()),
        };
        let begun = begun.and_then(|()| crier.mark(&twins));
        self.crier = Some(crier);
        begun
    }

    /// What was taken in, with what is to be done about each. Whatever that needs is there: what would be refused is refused first, what is
    /// meant is said next, and whoever wrote until now is ended last, and only for a ladder.
    fn judged(&mut self) -> Result<Vec<(FoundEnd, Worth)>, ReplayError> {
        let mut batch = std::mem::take(&mut self.batch);
        let mut worth = self.worth(&batch)?;
        if let Mode::Execute { who } = &self.wanted.mode {
            if self.needs_crier(&worth) || self.needs_clerk(&worth) {
                batch = self.heard_on(batch)?;
                worth = self.worth(&batch)?;
            }
            if self.needs_crier(&worth) {
                self.crier = Some(Crier::new(self.anew, (who, &self.wanted.filter), &self.stop)?);
            }
            if self.needs_clerk(&worth) {
                self.clerk = Some(Clerk::new(self.anew, self.wanted.rate, &self.stop)?);
                // From here on `audit` tells of all that was done, and the store once it has come so far.
                batch = self.heard_on(batch)?;
                worth = self.worth(&batch)?;
            }
        }
        Ok(batch.into_iter().zip(worth).collect())
    }

    fn needs_crier(&self, worth: &[Worth]) -> bool {
        self.crier.is_none() && worth.iter().any(|worth| !matches!(worth, Worth::Nothing(_)))
    }

    fn needs_clerk(&self, worth: &[Worth]) -> bool {
        self.clerk.is_none() && worth.contains(&Worth::Beginning)
    }

    /// A batch without those whose ladders were begun since they were read, once the store knows as much as `audit`.
    fn heard_on(&mut self, batch: Vec<FoundEnd>) -> Result<Vec<FoundEnd>, ReplayError> {
        let Self { anew, wanted, store, stop, .. } = self;
        anew.await_store(store, wanted.store_until, stop)?;
        anew.undelivered.hear_on(&mut self.before.borrow_mut(), || going(stop))?;
        Ok(self.still_open(batch))
    }

    /// Without those whose ladders were begun since they were read.
    fn still_open(&mut self, batch: Vec<FoundEnd>) -> Vec<FoundEnd> {
        let mut before = self.before.borrow_mut();
        let (redriven, open) = batch.into_iter().partition::<Vec<_>, _>(|found| before.holds(found));
        self.report.skip_some("redriven_before", redriven.len() as u64);
        open
    }

    /// The report, once there is nothing more to read, or not now.
    fn ended(mut self, next: Option<PartEnd>) -> UndeliveredReport {
        match next {
            Some(next) => self.report.next_page_token = Some(PartEnd { met: self.met, ..next }.to_string()),
            None => self.report.skip_some("gone", self.wanted.filter.ids.len().saturating_sub(self.met.len()) as u64),
        }
        self.report
    }

    /// What is to be done about each of a batch.
    fn worth(&self, batch: &[FoundEnd]) -> Result<Vec<Worth>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let asked = |found: &FoundEnd| {
            let delivery = &found.record.delivery;
            let (channel, id) = (delivery.channel.clone(), delivery.notification.id);
            Asked { channel, id, epoch: delivery.epoch, offset: delivery.offset }
        };
        let asked = batch.iter().map(asked).collect::<Vec<_>>();
        let ended = asked.iter().cloned().zip(batch.iter().map(|found| found.record.delivery.made())).collect::<Vec<_>>();
        let again = Handle::current().block_on(self.store.are_tried_again(&ended))?;
        let evidence = Handle::current().block_on(self.store.evidence(&asked))?;
        let (now, mut fit) = (self.anew.undelivered.clock.now(), HashSet::new());
        let worth = batch.iter().zip(evidence.into_iter().zip(again)).map(|(found, (known, is_tried_again))| {
            let notification = &found.record.delivery.notification;
            if is_tried_again || self.begun.contains(&notification.id) || fit.contains(&notification.id) {
                Worth::Twin
            } else if known.is_withdrawn {
                Worth::Nothing("withdrawn")
            } else if known.reach() == Reach::Delivered {
                Worth::Nothing("delivered")
            } else if notification.is_expired(now) {
                Worth::Nothing("expired")
            } else {
                fit.insert(notification.id);
                Worth::Beginning
            }
        });
        Ok(worth.collect())
    }

    /// Counts those whose ladders were begun, or would be.
    fn count(&mut self, begun: &[FoundEnd]) {
        let known_from = self.anew.undelivered.clock.now().minus(self.anew.known_for);
        let is_older = |found: &&FoundEnd| found.record.ended_at.min(found.at) < known_from;
        self.report.unproven += begun.iter().filter(is_older).count() as u64;
        self.report.redriven += begun.len() as u64;
    }

    /// Begins ladders anew in one transaction, or in smaller ones if something in it is too large.
    fn begin(&mut self, (clerk, crier): (&mut Clerk, &Crier), batch: &[FoundEnd]) -> Result<(), ReplayError> {
        match clerk.begin((self.anew, crier), batch)? {
            Written::Committed => self.count(batch),
            // All that travel with one that is too large are refused with it.
            Written::TooLarge => match batch.split_at(batch.len() / 2) {
                ([], _) => self.report.skip("too_large"),
                (one, other) => {
                    self.begin((clerk, crier), one)?;
                    self.begin((clerk, crier), other)?;
                }
            },
        }
        Ok(())
    }
}
