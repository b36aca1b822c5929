//! Passed: the store is asked once it knows of every ladder that was begun anew by now.
//!
//! Owns: the proof. Where rungs end, also those of the epoch before, and `notifications` for what ended in that, is asked after whoever redrove
//! before can write no more; only when the projection has passed that does it count that the store knows nothing. Refuses it to a process whose
//! epoch is over: what is begun since lies on topics that it does not know. Neighbours: the courier proves its evidence alike.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::position::Epoch;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Anew;
use crate::clock::pace::nap;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::scan::{ScanError, written};
use crate::kafka::topic::TopicNames;
use crate::kafka::topics;
use crate::replay::undelivered::Undelivered;
use crate::replay::{ReplayError, going};
use crate::store::Store;

/// How long it is waited, where the caller has as much time.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST: Epoch = Epoch(1);

impl Anew {
    /// Waits until the store knows what was written, no longer than to `until`.
    pub(super) fn await_store(
        &self,
        store: &Store,
        until: Option<Duration>,
        stop: &CancellationToken,
    ) -> Result<(), ReplayError> {
        let Undelivered { clock, .. } = &self.undelivered;
        self.expect_epoch()?;
        let ends = self.written()?;
        let late = clock.elapsed() + PATIENCE;
        let until = until.map_or(late, |until| until.min(late));
        loop {
            let passed = self.passed(store)?;
            let next = |topic: &Arc<str>, number| passed.get(&(topic.clone(), number)).copied().unwrap_or(0);
            let behind = ends.iter().find(|(partition, end)| next(&partition.topic, partition.number) < *end);
            let Some((partition, end)) = behind else { return Ok(()) };
            going(stop)?;
            if !nap(*clock, until) {
                let (topic, partition) = (partition.topic.clone(), partition.number);
                let next = next(&topic, partition);
                return Err(ReplayError::Behind { topic: topic.to_string(), partition, next, end: *end });
            }
        }
    }

    /// Refuses what is asked of a process whose epoch is over.
    fn expect_epoch(&self) -> Result<(), ReplayError> {
        let in_force = Handle::current().block_on(topics::in_force(&self.undelivered.cluster)).map_err(ReplayError::Epoch)?;
        match in_force {
            Some(now) if now.epoch > self.epoch.epoch => Err(ReplayError::Over { ours: self.epoch.epoch, now: now.epoch }),
            _ => Ok(()),
        }
    }

    /// Where everything ends on which a ladder may have been begun anew.
    fn written(&self) -> Result<Vec<(Partition, i64)>, ReplayError> {
        let cluster = &self.undelivered.cluster;
        let rungs = |names: &TopicNames| self.ladder.rungs().map(|(_, delay)| names.retry(delay)).collect::<Vec<_>>();
        let mut ours = rungs(cluster.names());
        // What ended in an earlier epoch is notified of once more.
        ours.extend((self.epoch.epoch > FIRST).then(|| cluster.names().notifications()));
        let mut ends = written(cluster, &ours)?;
        if let Some(earlier) = &self.epoch.earlier {
            let names = cluster.names().of_epoch(earlier);
            let is_there = Handle::current().block_on(topics::is_there(cluster, &names.notifications()));
            // Nobody folds one of which that is gone.
            if is_there.map_err(ReplayError::Epoch)? {
                ends.extend(there(cluster, rungs(&names))?);
            }
        }
        Ok(ends)
    }

    /// Up to where the projection has come on these.
    fn passed(&self, store: &Store) -> Result<HashMap<(Arc<str>, i32), i64>, ReplayError> {
        let mut passed = HashMap::new();
        for epoch in [Some(self.epoch.epoch), self.epoch.earlier.as_ref().map(|earlier| earlier.epoch)].into_iter().flatten() {
            let standings = Handle::current().block_on(store.positions(epoch))?;
            passed.extend(standings.into_iter().map(|standing| ((standing.topic, standing.partition), standing.next)));
        }
        Ok(passed)
    }
}

/// Where those of `topics` end that are there: an earlier epoch need not have the same rungs.
fn there(cluster: &Cluster, topics: Vec<String>) -> Result<Vec<(Partition, i64)>, ScanError> {
    let mut ends = Vec::new();
    for topic in topics {
        match written(cluster, &[topic]) {
            Ok(of_topic) => ends.extend(of_topic),
            Err(ScanError::NoTopic { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ends)
}
