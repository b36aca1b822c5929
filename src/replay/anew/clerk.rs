//! The clerk: writes what begins ladders anew, and that it did.
//!
//! Owns: the transactions in which that is one: the word to the gateways, the first rung and the mark on `audit`, so that a kill forks no
//! ladder; and once for each call, in front of them, which were meant. One producer of all processes and epochs does that at a time: who begins
//! ends the one before. Refuses to say which ladders: `anew` does.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tidings_core::delivery::ladder::{Ladder, Rung};
use tidings_core::ids::UserId;
use tidings_core::record::RecordError;
use tidings_core::record::audit::{AuditRecord, Redriven, UndeliveredRedriven};
use tidings_core::record::retry::{Attempt, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::selection::UndeliveredFilter;
use tidings_core::stretch::Stretches;
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Anew;
use crate::clock::Clock;
use crate::clock::pace::Pace;
use crate::kafka::cluster::Cluster;
use crate::kafka::made::Made;
use crate::kafka::topic::TopicNames;
use crate::kafka::transaction::{End, Transactions};
use crate::replay::undelivered::{FoundEnd, Undelivered};
use crate::replay::{ReplayError, going};

const BROKER_WAIT: Duration = Duration::from_secs(5);
/// How long the brokers may leave a transaction's end open.
const PATIENCE: Duration = Duration::from_secs(20);

/// What writes, and in whose name.
pub(super) struct Clerk {
    transactions: Transactions,
    id: Uuid,
    who: UserId,
    clock: Clock,
    pace: Pace,
}

/// How a transaction ended.
pub(super) enum Written {
    /// It is on the log.
    Committed,
    /// Something in it is larger than its topic takes; nothing of it is on the log.
    TooLarge,
}

impl Clerk {
    /// Whoever wrote before writes no more.
    pub(super) fn new(anew: &Anew, (who, rate): (&UserId, NonZeroU32), stop: &CancellationToken) -> Result<Self, ReplayError> {
        let Undelivered { cluster, clock } = &anew.undelivered;
        let id = transactional_id(cluster);
        let transactions = Transactions::new(cluster, &id, anew.transaction_timeout)?;
        let until = clock.elapsed() + PATIENCE;
        while let Some(error) = transactions.begin_service(BROKER_WAIT)? {
            tracing::debug!(%error, "the brokers do not take transactions yet");
            going(stop)?;
            if clock.elapsed() >= until {
                return Err(ReplayError::Brokers);
            }
        }
        let (id, who, pace) = (Uuid::new_v4(), who.clone(), Pace::new(*clock, rate, 0));
        Ok(Self { transactions, id, who, clock: *clock, pace })
    }

    /// Says what is meant, before anything is begun. Marks name it by its id.
    pub(super) fn announce(&mut self, anew: &Anew, filter: &UndeliveredFilter) -> Result<(), ReplayError> {
        let act = self.act(anew, (filter.to_string(), Vec::new()))?;
        match self.commit(&[act])? {
            Written::Committed => Ok(()),
            Written::TooLarge => Err(ReplayError::Wordy),
        }
    }

    /// Takes so many ladders, and says until when to wait for that to be within the rate.
    pub(super) fn take(&mut self, ladders: u64) -> Duration {
        self.pace.take(ladders)
    }

    /// Begins the ladders of `batch`, and says so.
    pub(super) fn begin(&mut self, anew: &Anew, batch: &[FoundEnd]) -> Result<Written, ReplayError> {
        let now = self.clock.now();
        let made = batch.iter().map(|found| anew.begun(&found.record, &self.who, now)).collect::<Result<Vec<_>, _>>();
        let made = made.map_err(ReplayError::Encode)?.into_iter().flatten().collect();
        self.write(anew, made, batch.iter().map(|found| found.place))
    }

    /// Says of other records of those whose ladders have begun that nothing is to be done about them any more.
    pub(super) fn mark(&mut self, anew: &Anew, twins: &[(i32, i64)]) -> Result<(), ReplayError> {
        self.write(anew, Vec::new(), twins.iter().copied()).map(drop)
    }

    /// Writes records together with the mark of those at `places`.
    fn write(
        &mut self,
        anew: &Anew,
        mut made: Vec<Made>,
        places: impl Iterator<Item = (i32, i64)>,
    ) -> Result<Written, ReplayError> {
        let mut marks = BTreeMap::<i32, Stretches>::new();
        for (partition, offset) in places {
            marks.entry(partition).or_default().insert(offset, offset.saturating_add(1));
        }
        if marks.is_empty() {
            return Ok(Written::Committed);
        }
        let redriven = marks.into_iter().map(|(partition, offsets)| Redriven { partition, offsets }).collect();
        made.push(self.act(anew, (String::new(), redriven))?);
        self.commit(&made)
    }

    /// What is said on `audit`: what is meant, or what is done.
    fn act(&self, anew: &Anew, (selection, redriven): (String, Vec<Redriven>)) -> Result<Made, ReplayError> {
        let (who, node) = (self.who.clone(), anew.node.clone());
        let act = AuditRecord::Undelivered(UndeliveredRedriven { id: self.id, who, node, selection, redriven });
        let audit = anew.undelivered.cluster.names().audit();
        Made::of(&audit, self.who.as_str(), &act, Vec::new()).map_err(ReplayError::Encode)
    }

    /// Writes records in one transaction, and waits for its end.
    fn commit(&mut self, made: &[Made]) -> Result<Written, ReplayError> {
        let until = self.clock.elapsed() + PATIENCE;
        let mut end = self.transactions.write(&made.iter().map(Made::outgoing).collect::<Vec<_>>(), BROKER_WAIT)?;
        while matches!(end, End::Unknown) && self.clock.elapsed() < until {
            end = self.transactions.settle(BROKER_WAIT)?;
        }
        match end {
            End::Committed => Ok(Written::Committed),
            End::Aborted { too_large, .. } if !too_large.is_empty() => Ok(Written::TooLarge),
            End::Aborted { .. } | End::Unknown => Err(ReplayError::Brokers),
        }
    }
}

impl Anew {
    /// The records that begin a ladder anew, as `who` asked: one of an earlier epoch is notified of once more.
    fn begun(&self, ended: &UndeliveredRecord, who: &UserId, now: Timestamp) -> Result<Vec<Made>, RecordError> {
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

/// By which brokers know that one who redrives takes the place of another, whichever epoch each is of.
fn transactional_id(cluster: &Cluster) -> String {
    format!("{}-redrive", cluster.of_all_epochs("courier"))
}

/// The topic of a rung.
fn topic(ladder: &Ladder, names: &TopicNames, rung: Rung) -> String {
    ladder.rungs().find(|(each, _)| *each == rung).map_or_else(String::new, |(_, delay)| names.retry(delay))
}
