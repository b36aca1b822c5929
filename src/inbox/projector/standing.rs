//! How the projector stands: its lag, and what its role says of it.
//!
//! Owns: the question how far the log reaches, and the offsets that are committed for monitoring alone. Refuses to end anything:
//! brokers that do not answer are told of by their own role. Neighbours: `progress` has the numbers.

use std::time::Duration;

use rdkafka::consumer::CommitMode;

use super::{BROKER_WAIT, Projector};
use crate::kafka::consumer::Consumer;

const HEALTH_INTERVAL: Duration = Duration::from_millis(250);
/// How often lag is measured and the group's offsets are committed, for monitoring and for who asks whether an epoch is done with.
const LAG_INTERVAL: Duration = Duration::from_secs(2);
/// The same once the brokers did not say how far the log reaches.
const LAG_PAUSE: Duration = Duration::from_secs(10);
/// The most partitions that are named with a reason; `held` has more.
const REASONS: usize = 8;

impl Projector {
    /// Learns how far the log reaches, and tells the group how far it is folded.
    pub(super) fn measure(&mut self, consumer: &Consumer) {
        let now = self.clock.elapsed();
        if now < self.lag_at || self.progress.iter().next().is_none() {
            return;
        }
        self.lag_at = now + LAG_INTERVAL;
        // Brokers that do not answer are told of by `kafka`'s own role; commits would only pile up.
        let there = self.progress.iter().filter(|(_, place)| place.away.is_none());
        let there = there.map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        let Ok(ends) = consumer.ends(&there, BROKER_WAIT) else {
            // One broker that is silent holds up what others send for as long as it is asked.
            self.lag_at = self.clock.elapsed() + LAG_PAUSE;
            return;
        };
        let mut lag = 0;
        for (partition, end) in ends {
            if let Some(place) = self.progress.get_mut(&partition) {
                place.goal.get_or_insert(end);
                lag += (end - place.stored).max(0);
            }
        }
        self.metrics.lag.set(lag);
        let done = self
            .progress
            .iter()
            .filter(|(_, place)| place.away.is_none())
            .map(|(partition, place)| (partition.clone(), place.stored))
            .collect::<Vec<_>>();
        if let Err(error) = consumer.commit(&done, CommitMode::Async) {
            tracing::debug!(%error, "offsets for monitoring were not committed");
        }
    }

    /// Says in `/ready` and in metrics what it is doing.
    pub(super) fn tell(&mut self) {
        if self.clock.elapsed() < self.health_at {
            return;
        }
        self.health_at = self.clock.elapsed() + HEALTH_INTERVAL;
        self.metrics.age.set(self.underway.oldest().or(self.batch.oldest()));
        self.metrics.held.set(i64::try_from(self.progress.held().count()).unwrap_or(i64::MAX));
        let held = self.progress.held().map(|(partition, why)| (partition.to_string(), why.to_owned()));
        let unburied = self.progress.burying().filter_map(|(partition, offset)| {
            let refusal = self.graveyard.refusal()?;
            Some((partition.to_string(), format!("the record at offset {offset} does not read and cannot be buried: {refusal}")))
        });
        self.role.holds(held.chain(unburied));
        if self.progress.held().next().is_some() {
            let reasons = self.progress.held().take(REASONS).map(|(_, reason)| reason).collect::<Vec<_>>();
            self.role.waiting(reasons.join("; "));
        } else if self.store_backoff.is_failing() {
            self.role.waiting("the database does not answer or has no room");
        } else if let Some(refusal) = self.graveyard.refusal() {
            self.role.waiting(refusal);
        } else if !self.joined {
            self.role.waiting("joining its group");
        } else if self.unanswered.is_some() || self.astray {
            self.role.waiting("finding out where its partitions begin");
        } else {
            match self.progress.missing() {
                None => self.role.waiting("finding out how far the log reaches"),
                Some(0) => self.role.ready(),
                Some(missing) => self.role.waiting(format!("catching up, {missing} offsets behind")),
            }
        }
    }
}
