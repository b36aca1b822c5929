//! Ends: what follows from how a transaction ended.
//!
//! Owns: whom an abort is laid to. Records that are too large end in `dlq`, a topic that refuses rests with what would go there, and all rest
//! only if nobody knows why. Whatever was aborted is still held and decided again. Neighbours: `carry` began the transaction,
//! `kafka::transaction` knows how it ended.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::KafkaError;
use tidings_core::delivery::decide::Decision;
use tidings_core::fate::Cause;
use tidings_core::record::retry::Outcome;

use super::CourierError;
use super::attempt::{Fit, TOO_LARGE};
use super::member::{BROKER_WAIT, Member};
use super::plan::{Plan, Ruled};
use super::round::{ROUND_PAUSE, ROUND_RECORDS};
use crate::kafka::consumer::{Consumer, Partition};
use crate::kafka::refusals::Reason;
use crate::kafka::transaction::{End, TransactionError};

impl Member {
    /// Draws the consequences of a transaction's end, and says whether it was committed. After an abort everything is still held and is decided
    /// again.
    pub(super) fn ended(&mut self, consumer: &Consumer, end: Result<End, TransactionError>) -> Result<bool, CourierError> {
        let is_committed = matches!(end, Ok(End::Committed));
        match end {
            Ok(End::Unknown) => {
                if self.broker_backoff.failed() {
                    tracing::warn!("the brokers do not say how a transaction ended; asking again");
                }
            }
            Ok(End::Committed) => self.committed(),
            Ok(End::Aborted { error, too_large, refusing }) => {
                self.metrics.aborted.inc();
                let plan = self.in_flight.take().unwrap_or_default();
                if too_large.is_empty() {
                    self.aborted(consumer, &error, (&plan, refusing));
                } else {
                    self.too_large(&plan, &too_large);
                }
            }
            Err(error) => self.replace_writer(error)?,
        }
        Ok(is_committed)
    }

    fn committed(&mut self) {
        self.brokers_answer();
        self.metrics.committed.inc();
        self.committed_at = self.clock.elapsed();
        self.pause = ROUND_PAUSE;
        self.round_records = (self.round_records * 2).min(ROUND_RECORDS);
        if let Some(appended) = self.transactions.appended() {
            self.hour.heard(appended);
        }
        let plan = self.in_flight.take().unwrap_or_default();
        for topic in plan.goals().into_keys() {
            self.refusals.over(&topic);
        }
        if let Some(line) = plan.alone.and_then(|partition| self.lines.get_mut(&partition)) {
            line.widen();
        }
        for (partition, next) in plan.done {
            if let Some(line) = self.lines.get_mut(&partition) {
                line.done_below(next);
            }
        }
        for (_, ruled) in plan.ruled {
            match ruled {
                Ruled::Delivery(decision) => self.metrics.count(&decision),
                Ruled::Burial(cause, class) => {
                    self.metrics.fates.count(cause, class, 1);
                    if class == TOO_LARGE {
                        self.metrics.count_end(class);
                    }
                }
            }
        }
    }

    /// A broker refuses all records that travelled together: which one is too large shows once it travels alone. Lines that had none among those go
    /// on as before.
    fn too_large(&mut self, plan: &Plan, too_large: &[usize]) {
        let suspects = too_large.iter().filter_map(|index| plan.origins.get(*index)).collect::<BTreeSet<_>>();
        if let Some(origin) = suspects.first().filter(|_| suspects.len() == 1) {
            if self.give_up(plan, origin) == Fit::Smaller {
                return;
            }
            // Not even its context fits, so nothing does: what would go there waits until more is allowed, and nothing else.
            let topics = too_large.iter().filter_map(|index| plan.made.get(*index)).map(|made| made.topic.as_str());
            for topic in topics.collect::<BTreeSet<_>>() {
                self.refused(topic, Reason::Size, plan);
            }
            return;
        }
        let mut travelled = BTreeMap::<_, BTreeSet<_>>::new();
        for (partition, offset) in &plan.origins {
            travelled.entry(partition).or_default().insert(*offset);
        }
        let is_alone = travelled.len() == 1;
        for partition in suspects.into_iter().map(|(partition, _)| partition).collect::<BTreeSet<_>>() {
            let count = travelled.get(partition).map_or(0, BTreeSet::len);
            if let Some(line) = self.lines.get_mut(partition) {
                line.narrow(if is_alone { count / 2 } else { count });
            }
        }
    }

    /// No topic takes what a record asked to be written: it asks for less now, if it can.
    fn give_up(&mut self, plan: &Plan, origin: &(Partition, i64)) -> Fit {
        let (partition, offset) = origin;
        let reason = match plan.ruled_of(origin) {
            Some(Ruled::Delivery(Decision::Attempt { outcome: reason, .. } | Decision::Undelivered { reason })) => reason,
            _ => Outcome::Offline,
        };
        let now = self.hour.now();
        let held = self.lines.get_mut(partition).and_then(|line| line.find_mut(*offset));
        held.map_or(Fit::Smaller, |held| self.hand.give_up(held, partition, (reason, now)))
    }

    /// Lays an abort to topics that refuse, if it is known that some do; else everything rests for a while.
    fn aborted(&mut self, consumer: &Consumer, error: &KafkaError, (plan, mut refusing): (&Plan, BTreeMap<String, Reason>)) {
        // The brokers answer, though what they say is no.
        // If it was only too much at once, less may do.
        if plan.ruled.len() > 1 {
            self.round_records = plan.ruled.len() / 2;
        }
        let missing = if refusing.is_empty() { self.missing(consumer, plan) } else { Vec::new() };
        refusing.extend(missing.iter().map(|topic| (topic.clone(), Reason::Missing)));
        if refusing.is_empty() {
            self.metrics.fates.count(Cause::Dependency, "transaction_aborted", plan.ruled.len());
            self.brokers_failed("a transaction was aborted", error);
            return;
        }
        self.brokers_answer();
        for (topic, why) in refusing {
            self.refused(&topic, why, plan);
        }
        for topic in missing {
            self.topic_is_gone(&topic);
        }
    }

    /// A topic has refused what `plan` was to write there.
    pub(super) fn refused(&mut self, topic: &str, why: Reason, plan: &Plan) {
        let mut goals = plan.goals();
        let asked = goals.remove(topic).unwrap_or_default();
        self.metrics.fates.count(Cause::Dependency, "topic_refused", plan.records_for(topic));
        if !asked.is_empty() {
            self.refusals.refused(topic, why);
        }
        for (partition, line) in &mut self.lines {
            if asked.contains(partition) {
                line.refused_by = Some(topic.to_owned());
            }
        }
    }

    /// Whether a topic is not there. Brokers that do not answer leave that open.
    pub(super) fn is_missing(&self, consumer: &Consumer, topic: &str) -> bool {
        consumer.missing(&[topic.to_owned()], BROKER_WAIT).is_ok_and(|missing| !missing.is_empty())
    }

    /// Those topics that a plan writes to or reads from and that are not there.
    fn missing(&self, consumer: &Consumer, plan: &Plan) -> Vec<String> {
        let mut topics = plan.goals().into_keys().collect::<Vec<_>>();
        topics.extend(plan.done.iter().map(|(partition, _)| partition.topic.to_string()));
        topics.sort_unstable();
        topics.dedup();
        consumer.missing(&topics, BROKER_WAIT).unwrap_or_default().into_iter().map(str::to_owned).collect()
    }
}
