//! Proof: when what the store knows of a delivery counts.
//!
//! Owns: the order of proof. Where `cursors` and `receipts` end is asked after a delivery is due; only once the projection has passed those ends,
//! and the notification itself, does the store know all that was said of it in time. Refuses to decide. Neighbours: `round` asks, `line` keeps the
//! ends with what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::error::KafkaError;
use tidings_core::delivery::ladder::Rung;
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::Timestamp;

use super::attempt::Hand;
use super::line::{Held, Line, Pending, Work};
use super::member::BROKER_WAIT;
use super::rung::Rungs;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::reader::Reader;
use crate::store::Standing;

/// How far the projection is: the next offset to fold, by topic and partition.
pub(super) struct Passed(BTreeMap<(Arc<str>, i32), i64>);

impl Passed {
    /// As the store says.
    pub(super) fn of(standings: Vec<Standing>) -> Self {
        Self(standings.into_iter().map(|standing| ((standing.topic, standing.partition), standing.next)).collect())
    }

    fn next(&self, topic: &Arc<str>, partition: i32) -> Option<i64> {
        self.0.get(&(topic.clone(), partition)).copied()
    }
}

/// What must be folded before the store's evidence counts.
pub(super) struct Proof {
    /// Asks where topics end: on the connection that reads, a question waits for the fetch before it.
    asker: Reader,
    notifications: Arc<str>,
    /// The topics where something is said of deliveries: `cursors`, and `receipts` for what is withdrawn.
    said: [Arc<str>; 2],
    epoch: EpochRecord,
}

impl Proof {
    pub(super) fn new(cluster: &Cluster, rungs: &Rungs) -> Result<Self, KafkaError> {
        let names = cluster.names();
        Ok(Self {
            asker: Reader::new(cluster, "courier-ends")?,
            notifications: rungs.topic(Rung::FIRST).into(),
            said: [names.cursors().into(), names.receipts().into()],
            epoch: rungs.epoch.clone(),
        })
    }

    /// Notes for everything newly due where what is said of it ends now, and refuses retries of what lies behind the notifications' end.
    ///
    /// # Errors
    /// If the brokers do not say.
    pub(super) fn sample(&self, lines: &mut BTreeMap<Partition, Line>, hand: &Hand, now: Timestamp) -> Result<(), KafkaError> {
        let mut wanted = BTreeSet::new();
        for line in lines.values() {
            for pending in line.due(now).filter_map(Held::pending).filter(|pending| pending.said_ends.is_none()) {
                wanted.extend(self.said_of(pending));
                wanted.extend(self.claimed(line.rung, pending));
            }
        }
        let wanted = wanted.into_iter().collect::<Vec<_>>();
        let ends = if wanted.is_empty() { Vec::new() } else { self.asker.ends(&wanted, BROKER_WAIT)? };
        let ends = ends.into_iter().collect::<BTreeMap<_, _>>();
        for (partition, line) in lines {
            let rung = line.rung;
            for held in line.due_mut(now) {
                let Work::Decide(pending) = &mut held.work else { continue };
                if pending.said_ends.is_some() {
                    continue;
                }
                let end = self.claimed(rung, pending).and_then(|claimed| ends.get(&claimed));
                if end.is_some_and(|end| pending.delivery.offset >= *end) {
                    hand.refuse(held, partition);
                } else {
                    let [cursors, receipts] = self.said_of(pending).map(|said| ends.get(&said).copied());
                    pending.said_ends = cursors.zip(receipts).map(<[i64; 2]>::from);
                }
            }
        }
        Ok(())
    }

    /// Whether the store knows everything that was said of a delivery before it was due.
    pub(super) fn has_passed(&self, held: &Held, passed: &Passed) -> bool {
        let Some(pending) = held.pending() else {
            return true;
        };
        let number = self.owner(pending);
        let mut said = self.said.iter().map(|topic| passed.next(topic, number));
        let notified = passed.next(&self.notifications, pending.partition);
        // Nothing of an earlier epoch is folded any more.
        let past = pending.delivery.epoch != self.epoch.epoch;
        pending.said_ends.is_some_and(|ends| ends.iter().all(|end| said.next().flatten().is_some_and(|next| next >= *end)))
            && (past || notified.is_some_and(|next| next > pending.delivery.offset))
    }

    /// Where something is said of a mailbox: in its own partition.
    fn said_of(&self, pending: &Pending) -> [Partition; 2] {
        let number = self.owner(pending);
        self.said.each_ref().map(|topic| Partition { topic: topic.clone(), number })
    }

    /// Where a record on `rung` says that its notification lies. On the first rung a record is the notification itself, and nothing of an earlier
    /// epoch is waited for.
    fn claimed(&self, rung: Rung, pending: &Pending) -> Option<Partition> {
        let claims = rung != Rung::FIRST && pending.delivery.epoch == self.epoch.epoch;
        claims.then(|| Partition { topic: self.notifications.clone(), number: pending.partition })
    }

    fn owner(&self, pending: &Pending) -> i32 {
        pending.delivery.channel.partition(self.epoch.partitions)
    }
}
