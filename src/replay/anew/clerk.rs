//! The clerk: writes what begins ladders anew, and that it did.
//!
//! Owns: the transactions in which that is one: the word to the gateways, the first rung and the mark on `audit`, so that a kill forks no
//! ladder. One producer of all processes and epochs does that at a time: who begins ends the one before. Refuses to say which ladders: `anew`
//! does. Neighbours: `crier` says in front of them which are meant.

use std::num::NonZeroU32;
use std::time::Duration;

use tidings_core::delivery::ladder::{Ladder, Rung};
use tidings_core::ids::UserId;
use tidings_core::record::RecordError;
use tidings_core::record::retry::{Attempt, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Anew;
use super::crier::{Crier, marks};
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

/// What writes.
pub(super) struct Clerk {
    transactions: Transactions,
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
    pub(super) fn new(anew: &Anew, rate: NonZeroU32, stop: &CancellationToken) -> Result<Self, ReplayError> {
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
        Ok(Self { transactions, clock: *clock, pace: Pace::new(*clock, rate, 0) })
    }

    /// Takes so many ladders, and says until when to wait for that to be within the rate.
    pub(super) fn take(&mut self, ladders: u64) -> Duration {
        self.pace.take(ladders)
    }

    /// Begins the ladders of `batch`, and says so with the words of `crier`.
    pub(super) fn begin(&mut self, (anew, crier): (&Anew, &Crier), batch: &[FoundEnd]) -> Result<Written, ReplayError> {
        if batch.is_empty() {
            return Ok(Written::Committed);
        }
        let (now, who) = (self.clock.now(), crier.who());
        let made = batch.iter().map(|found| anew.begun(&found.record, who, now)).collect::<Result<Vec<_>, _>>();
        let mut made = made.map_err(ReplayError::Encode)?.into_iter().flatten().collect::<Vec<_>>();
        let act = crier.act((String::new(), marks(batch.iter().map(|found| found.place))));
        let audit = anew.undelivered.cluster.names().audit();
        made.push(Made::of(&audit, who.as_str(), &act, Vec::new()).map_err(ReplayError::Encode)?);
        self.commit(&made)
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
