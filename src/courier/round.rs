//! A round: what is due is decided.
//!
//! Owns: what a round takes of each line, how a delivery stands by the store's evidence, and that nothing is decided before there is proof of it.
//! Refuses to write. Neighbours: `proof` says when evidence counts, `core::delivery::decide` rules, `attempt` makes the records, `carry` has them
//! written.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_core::delivery::decide::{Case, Standing, decide};
use tidings_core::delivery::ladder::Rung;
use tidings_core::fate::Cause;
use tidings_core::record::RecordError;
use tidings_core::time::Timestamp;

use super::CourierError;
use super::line::{Held, Line, Pending, Work};
use super::member::{BROKER_WAIT, Member};
use super::plan::{Decided, Heads, Ruled};
use super::proof::Passed;
use crate::kafka::consumer::{Consumer, Partition};
use crate::kafka::made::Made;
use crate::store::{Asked, Evidence, StoreError};

/// The most that one transaction decides, shared by all lines.
pub(super) const ROUND_RECORDS: usize = 2048;

/// The least time between two rounds: what is due meanwhile shares a transaction, and there is time to read.
pub(super) const ROUND_PAUSE: Duration = Duration::from_millis(10);

impl Member {
    /// Decides what is due and carries it out, or waits for the end of the round before.
    pub(super) fn round(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        if self.in_flight.is_some() {
            let end = self.transactions.settle(BROKER_WAIT);
            return self.ended(consumer, end).map(|_| ());
        }
        if !self.broker_backoff.is_over() || !self.store_backoff.is_over() {
            return Ok(());
        }
        self.pass_markers(consumer)?;
        let now = self.hour.now();
        if let Err(error) = self.proof.sample(&mut self.lines, &self.hand, now) {
            self.metrics.fates.count(Cause::Dependency, "brokers_unavailable", self.due_records(now));
            self.brokers_failed("the brokers do not say where cursors and receipts end", &error);
            return Ok(());
        }
        match self.heads(now) {
            Ok(heads) => {
                if self.store_backoff.succeeded() {
                    tracing::info!("the store answers the courier again");
                }
                self.carry_out(consumer, heads)
            }
            Err(CourierError::Store(error)) => self.store_failed(error),
            Err(error) => Err(error),
        }
    }

    /// Markers of transactions need nothing, and are committed too: else retention of an idle rung would look like a loss.
    fn pass_markers(&mut self, consumer: &Consumer) -> Result<(), CourierError> {
        for (partition, next) in consumer.positions()? {
            if let Some(line) = self.lines.get_mut(&partition).filter(|line| line.stuck.is_none()) {
                line.pass(next - 1);
            }
        }
        Ok(())
    }

    /// Tells for how long the oldest record has been due, also while brokers or store do not answer.
    pub(super) fn measure(&self) {
        let now = self.hour.now();
        let oldest = self.lines.values().filter_map(|line| line.due(now).next()).map(|held| held.due).min();
        self.metrics.lag.set(oldest);
    }

    pub(super) fn due_records(&self, now: Timestamp) -> usize {
        self.lines.values().map(|line| line.due(now).count()).sum()
    }

    /// Decides all that can be decided at `now`.
    fn heads(&mut self, now: Timestamp) -> Result<Heads, CourierError> {
        let due = self.due_records(now);
        let ready = if due == 0 {
            BTreeMap::new()
        } else {
            self.ready(now).inspect_err(|_| {
                self.metrics.due.set(i64::try_from(due).unwrap_or(i64::MAX));
            })?
        };
        let count = ready.values().sum::<usize>();
        self.metrics.due.set(i64::try_from(due - count).unwrap_or(i64::MAX));
        let could = self.lines.values().any(|line| !self.is_resting(line) && line.due(now).next().is_some());
        self.blocked_since = (could && count == 0).then(|| self.blocked_since.unwrap_or_else(|| self.clock.elapsed()));
        let taken = self.lines.iter().flat_map(|(partition, line)| {
            let count = ready.get(partition).copied().unwrap_or(0);
            line.due(now).take(count).map(move |held| (partition, line.rung, held))
        });
        let taken = taken.collect::<Vec<_>>();
        let asked = taken.iter().filter_map(|(_, _, held)| held.pending()).map(asked).collect::<Vec<_>>();
        let evidence = if asked.is_empty() { Vec::new() } else { self.runtime.block_on(self.store.evidence(&asked))? };
        let (mut heads, mut evidence) = (Heads::new(), evidence.into_iter());
        for (partition, rung, held) in taken {
            let (ruled, made) = self.decide((rung, held), &mut evidence, now)?;
            heads.entry(partition.clone()).or_default().push_back(Decided { offset: held.offset, made, ruled });
        }
        Ok(heads)
    }

    fn decide(
        &self,
        (rung, held): (Rung, &Held),
        evidence: &mut impl Iterator<Item = Evidence>,
        now: Timestamp,
    ) -> Result<(Ruled, Vec<Made>), RecordError> {
        let pending = match &held.work {
            Work::Bury(remains, ended) => {
                let ruled = Ruled::Burial(remains.burial.cause, remains.burial.class);
                return Ok((ruled, self.hand.bury(&self.rungs, remains, ended.as_deref())?));
            }
            Work::Decide(pending) => pending,
        };
        let known = evidence.next().unwrap_or_default();
        let (own, made) = (pending.delivery.ladder.as_deref(), pending.delivery.made());
        let case = Case { rung, own, made, reach: known.reach(), standing: self.standing(rung, pending, &known, now) };
        let decision = decide(case, &self.rungs.ladder);
        Ok((Ruled::Delivery(decision), self.hand.carry_out(&self.rungs, pending, &decision, now)?))
    }

    fn standing(&self, rung: Rung, pending: &Pending, known: &Evidence, now: Timestamp) -> Standing {
        let earlier = known.first_offset.is_some_and(|first| first < pending.delivery.offset);
        if rung == Rung::FIRST && earlier {
            Standing::Duplicate
        } else if known.is_withdrawn {
            Standing::Withdrawn
        } else if pending.delivery.notification.is_expired(now) {
            Standing::Expired
        } else if self.rungs.onward.is_some() {
            Standing::Past
        } else if pending.delivery.appended_at.is_some_and(|at| now.since(at) >= self.give_up_after) {
            Standing::Old
        } else {
            Standing::Current
        }
    }

    /// How many of each line's due records can be decided: those in front, as far as the projection has passed them.
    fn ready(&self, now: Timestamp) -> Result<BTreeMap<Partition, usize>, StoreError> {
        let standings = self.runtime.block_on(self.store.positions(self.rungs.epoch.epoch))?;
        let passed = Passed::of(standings);
        let is_due = |line: &&Line| line.next_due().is_some_and(|due| due <= now) && !self.is_resting(line);
        let lines = self.lines.values().filter(is_due).count();
        let share = (self.round_records / lines.max(1)).max(1);
        let mut left = self.round_records;
        let mut count = |line: &Line| {
            if self.is_resting(line) {
                return 0;
            }
            let most = share.min(left).min(line.together.unwrap_or(share));
            let records = line.due(now).take(most).take_while(|held| self.proof.has_passed(held, &passed)).count();
            left -= records;
            records
        };
        Ok(self.lines.iter().map(|(partition, line)| (partition.clone(), count(line))).collect())
    }

    /// Whether nothing of a line can go on for now: its topic is not there, or the one that its front goes to refuses and is left alone.
    fn is_resting(&self, line: &Line) -> bool {
        line.absence.is_some() || line.refused_by.as_deref().is_some_and(|topic| self.refusals.is_resting(topic))
    }
}

fn asked(pending: &Pending) -> Asked {
    Asked {
        channel: pending.delivery.channel.clone(),
        id: pending.delivery.notification.id,
        epoch: pending.delivery.epoch,
        offset: pending.delivery.offset,
    }
}
