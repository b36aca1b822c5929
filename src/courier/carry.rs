//! Carrying out: what was decided in a round is written, and committed with it.
//!
//! Owns: the order of a round's transactions: what goes to topics that take it, then each line of which something was too large, alone, then what
//! topics that have refused are tried with. What is not committed is decided again, before anything behind it. Neighbours: `round` decides, `plan`
//! says what goes together, `ends` what follows from how a transaction ended.

use std::time::Duration;

use super::CourierError;
use super::member::{BROKER_WAIT, Member};
use super::plan::{Heads, Plan, refusing};
use crate::kafka::consumer::Consumer;
use crate::kafka::made::Made;
use crate::kafka::refusals::Reason;

/// How often offsets are committed when nothing is due: of records that were passed over.
const PASSED_INTERVAL: Duration = Duration::from_secs(5);

impl Member {
    /// Carries out what was decided.
    pub(super) fn carry_out(&mut self, consumer: &Consumer, mut heads: Heads) -> Result<(), CourierError> {
        let open = Plan::open(&self.lines, &mut heads, &self.refusals);
        // Offsets of what was only passed over are committed now and then.
        let has_news = !open.ruled.is_empty() || self.clock.elapsed() >= self.committed_at + PASSED_INTERVAL;
        if has_news && !open.done.is_empty() && !self.transact(consumer, open)? {
            return Ok(());
        }
        if !self.carry_narrow(consumer, &mut heads)? {
            return Ok(());
        }
        for topic in self.refusals.due() {
            let trial = Plan::trying(&topic, &self.lines, &mut heads, &self.refusals);
            if trial.ruled.is_empty() {
                continue;
            }
            if self.is_missing(consumer, &topic) {
                self.refused(&topic, Reason::Missing, &trial);
                self.topic_is_gone(&topic);
                return Ok(());
            }
            if !self.transact(consumer, trial)? {
                return Ok(());
            }
        }
        self.note_refusals(&heads);
        Ok(())
    }

    /// Carries out what was decided of lines of which something was too large. Says whether it is on the log.
    fn carry_narrow(&mut self, consumer: &Consumer, heads: &mut Heads) -> Result<bool, CourierError> {
        let narrow = self.lines.iter().filter(|(_, line)| line.together.is_some() && line.absence.is_none());
        for partition in narrow.map(|(partition, _)| partition.clone()).collect::<Vec<_>>() {
            let Some(line) = self.lines.get(&partition) else { continue };
            let alone = Plan::alone((&partition, line), heads, &self.refusals);
            if !alone.ruled.is_empty() && !self.transact(consumer, alone)? {
                return Ok(false);
            }
        }
        Ok(true)
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
