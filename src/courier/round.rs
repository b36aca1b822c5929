//! A round: what is due is decided, and a transaction carries it out; what a topic has refused is tried again in one of its own.
//!
//! Owns: the order of proof. The ends of `cursors` and `receipts` are sampled after a delivery is due; only once the projection has
//! passed them, and the notification itself, does the store's evidence count. Neighbours: `core::delivery::decide`, `attempt`; `plan` says what
//! goes together, `ends` what follows from how a transaction ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::delivery::decide::{Case, Standing, decide};
use tidings_core::delivery::ladder::Rung;
use tidings_core::fate::Cause;
use tidings_core::record::RecordError;
use tidings_core::time::Timestamp;

use super::CourierError;
use super::ends::NOT_THERE;
use super::line::{Held, Line, Pending, Work};
use super::member::{BROKER_WAIT, Member};
use super::plan::{Decided, Heads, Plan, Ruled, refusing};
use crate::kafka::consumer::{Consumer, Partition};
use crate::kafka::made::Made;
use crate::store::{Asked, Evidence, StoreError};

/// The most that one transaction decides, shared by all lines.
pub(super) const ROUND_RECORDS: usize = 2048;

/// The least time between two rounds: what is due meanwhile shares a transaction, and there is time to read.
pub(super) const ROUND_PAUSE: Duration = Duration::from_millis(10);

/// How often offsets are committed when nothing is due: of records that were passed over.
const PASSED_INTERVAL: Duration = Duration::from_secs(5);

/// How far the projection is: the next offset to fold, by topic and partition.
type Passed = BTreeMap<(String, i32), i64>;

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
        if let Err(error) = self.sample_ends(now) {
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

    /// Notes for everything newly due where what is said of it ends now, and refuses retries of what lies behind the notifications' end.
    fn sample_ends(&mut self, now: Timestamp) -> Result<(), rdkafka::error::KafkaError> {
        let epoch = &self.rungs.epoch;
        let notifications: Arc<str> = self.rungs.topic(Rung::FIRST).into();
        let said = self.said.clone();
        let said_of = |pending: &Pending| {
            let number = owner(pending, epoch.partitions);
            said.each_ref().map(|topic| Partition { topic: topic.clone(), number })
        };
        // On the first rung a record is the notification itself. Nothing of an earlier epoch is waited for.
        let claimed = |rung: Rung, pending: &Pending| {
            let claims = rung != Rung::FIRST && pending.delivery.epoch == epoch.epoch;
            claims.then(|| Partition { topic: notifications.clone(), number: pending.partition })
        };
        let mut wanted = BTreeSet::new();
        for line in self.lines.values() {
            for pending in line.due(now).filter_map(pending).filter(|pending| pending.said_ends.is_none()) {
                wanted.extend(said_of(pending));
                wanted.extend(claimed(line.rung, pending));
            }
        }
        let wanted = wanted.into_iter().collect::<Vec<_>>();
        let ends = if wanted.is_empty() { Vec::new() } else { self.asker.ends(&wanted, BROKER_WAIT)? };
        let ends = ends.into_iter().collect::<BTreeMap<_, _>>();
        for (partition, line) in &mut self.lines {
            let rung = line.rung;
            for held in line.due_mut(now) {
                let Work::Decide(pending) = &mut held.work else { continue };
                if pending.said_ends.is_some() {
                    continue;
                }
                let end = claimed(rung, pending).and_then(|claimed| ends.get(&claimed));
                if end.is_some_and(|end| pending.delivery.offset >= *end) {
                    self.hand.refuse(held, partition);
                } else {
                    let [cursors, receipts] = said_of(pending).map(|said| ends.get(&said).copied());
                    pending.said_ends = cursors.zip(receipts).map(<[i64; 2]>::from);
                }
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
        let asked = taken.iter().filter_map(|(_, _, held)| pending(held)).map(asked).collect::<Vec<_>>();
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
        let passed: Passed =
            standings.into_iter().map(|standing| ((standing.topic.to_string(), standing.partition), standing.next)).collect();
        let is_due = |line: &&Line| line.next_due().is_some_and(|due| due <= now) && !self.is_resting(line);
        let lines = self.lines.values().filter(is_due).count();
        let share = (self.round_records / lines.max(1)).max(1);
        let mut left = self.round_records;
        let mut count = |line: &Line| {
            if self.is_resting(line) {
                return 0;
            }
            let records = line.due(now).take(share.min(left)).take_while(|held| self.has_passed(held, &passed)).count();
            left -= records;
            records
        };
        Ok(self.lines.iter().map(|(partition, line)| (partition.clone(), count(line))).collect())
    }

    /// Whether the store knows everything that was said of a delivery before it was due.
    fn has_passed(&self, held: &Held, passed: &Passed) -> bool {
        let Some(pending) = pending(held) else {
            return true;
        };
        let next = |topic: &str, partition: i32| passed.get(&(topic.to_owned(), partition)).copied();
        let number = owner(pending, self.rungs.epoch.partitions);
        let mut said = self.said.iter().map(|topic| next(topic, number));
        let notified = next(self.rungs.topic(Rung::FIRST), pending.partition);
        // Nothing of an earlier epoch is folded any more.
        let past = pending.delivery.epoch != self.rungs.epoch.epoch;
        pending.said_ends.is_some_and(|ends| ends.iter().all(|end| said.next().flatten().is_some_and(|next| next >= *end)))
            && (past || notified.is_some_and(|next| next > pending.delivery.offset))
    }

    /// Whether nothing of a line can go on for now: its topic is not there, or the one that its front goes to refuses and is left alone.
    fn is_resting(&self, line: &Line) -> bool {
        line.is_gone || line.refused_by.as_deref().is_some_and(|topic| self.refusals.is_resting(topic))
    }

    fn carry_out(&mut self, consumer: &Consumer, mut heads: Heads) -> Result<(), CourierError> {
        let open = Plan::open(&self.lines, &mut heads, &self.refusals);
        // Offsets of what was only passed over are committed now and then.
        let has_news = !open.ruled.is_empty() || self.clock.elapsed() >= self.committed_at + PASSED_INTERVAL;
        // What was taken out of the heads and not committed is decided again, before anything behind it.
        if has_news && !open.done.is_empty() && !self.transact(consumer, open)? {
            return Ok(());
        }
        for topic in self.refusals.due() {
            let trial = Plan::trying(&topic, &self.lines, &mut heads, &self.refusals);
            if trial.ruled.is_empty() {
                continue;
            }
            if self.is_missing(consumer, &topic) {
                self.refused(&topic, NOT_THERE, &trial);
                return Ok(());
            }
            if !self.transact(consumer, trial)? {
                return Ok(());
            }
        }
        self.note_refusals(&heads);
        Ok(())
    }

    /// Carries a plan out. Says whether it is on the log.
    fn transact(&mut self, consumer: &Consumer, plan: Plan) -> Result<bool, CourierError> {
        let Some(group) = consumer.group_metadata() else {
            return Ok(false);
        };
        let records = plan.made.iter().map(Made::outgoing).collect::<Vec<_>>();
        let end = self.transactions.run(&records, &plan.done, &group, BROKER_WAIT);
        self.in_flight = Some(plan);
        self.ended(consumer, end)
    }

    /// Notes which lines wait for which topic. Of what nothing waits for any more nobody knows whether it still refuses.
    fn note_refusals(&mut self, heads: &Heads) {
        for (partition, steps) in heads {
            if let (Some(line), Some(front)) = (self.lines.get_mut(partition), steps.front()) {
                line.refused_by = refusing(front, &self.refusals).map(str::to_owned);
            }
        }
        let fronts = || heads.values().filter_map(|steps| steps.front());
        let waits = |topic: &String| {
            self.lines.values().any(|line| line.refused_by.as_ref() == Some(topic))
                || fronts().any(|step| step.made.iter().any(|made| made.topic == *topic))
        };
        for topic in self.refusals.due().into_iter().filter(|topic| !waits(topic)) {
            self.refusals.over(&topic);
        }
    }
}

fn pending(held: &Held) -> Option<&Pending> {
    match &held.work {
        Work::Decide(pending) => Some(pending),
        Work::Bury(..) => None,
    }
}

/// The partition of `cursors` and `receipts` where something is said of a mailbox: the mailbox's own.
fn owner(pending: &Pending, partitions: i32) -> i32 {
    pending.delivery.channel.partition(partitions)
}

fn asked(pending: &Pending) -> Asked {
    Asked {
        channel: pending.delivery.channel.clone(),
        id: pending.delivery.notification.id,
        epoch: pending.delivery.epoch,
        offset: pending.delivery.offset,
    }
}
