//! How the courier stands: what `/ready` and the metrics say of it.
//!
//! Owns: which of several troubles is told first, the one that an operator must see to. Refuses to change anything. Neighbours: `member`, whose
//! state this is.

use std::time::Duration;

use super::Member;
use super::writer::Writer;
use crate::courier::line::Line;

/// How long the projection may lag behind what is due before it shows in `/ready`.
const BLOCKED_LIMIT: Duration = Duration::from_secs(5);

impl Member {
    /// Says in `/ready` and in metrics what it is doing.
    pub(super) fn tell(&self) {
        self.metrics.held.set(self.lines.values().map(|line| i64::try_from(line.len()).unwrap_or(i64::MAX)).sum());
        let stuck = self.lines.values().filter(|line| line.stuck.is_some()).count();
        self.metrics.stuck.set(i64::try_from(stuck).unwrap_or(i64::MAX));
        let waits = |line: &Line| self.refusals.told_of(line.refused_by.as_deref()?);
        let held = self.lines.iter().filter_map(|(partition, line)| {
            let why = line.stuck.clone().or_else(|| waits(line))?;
            Some((partition.to_string(), why))
        });
        self.role.holds(held);
        let blocked = self.blocked_since.is_some_and(|since| self.clock.elapsed() - since > BLOCKED_LIMIT);
        if let Some(reason) = self.lines.values().find_map(|line| line.stuck.as_deref()) {
            self.role.waiting(reason);
        } else if self.store_backoff.is_failing() {
            self.role.waiting("the store does not answer");
        } else if !self.joined {
            self.role.waiting("joining its group");
        } else if !self.refusals.is_empty() {
            self.role.waiting(self.refusals.told());
        } else if self.writer != Writer::Ready || self.broker_backoff.is_failing() {
            self.role.waiting("the brokers do not take transactions");
        } else if self.unanswered.is_some() || !self.unplaced.is_empty() {
            self.role.waiting("finding out where its partitions begin");
        } else if blocked {
            self.role.waiting("what is due waits until the projection has passed");
        } else {
            self.role.ready();
        }
    }
}
