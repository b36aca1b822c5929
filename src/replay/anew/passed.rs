//! Passed: the store is asked once it knows of every ladder that was begun anew by now.
//!
//! Owns: the proof. Where rungs and, of earlier epochs, `notifications` end is asked after whoever redrove before can write no more; only when
//! the projection has passed that does it count that the store knows nothing. Neighbours: the courier proves its evidence alike.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::position::Epoch;
use tokio::runtime::Handle;

use super::Anew;
use crate::clock::pace::nap;
use crate::kafka::scan::written;
use crate::replay::part::Part;
use crate::replay::undelivered::Undelivered;
use crate::replay::{ReplayError, Watch, going};
use crate::store::Store;

/// How long it is waited, where the caller has as much time.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST: Epoch = Epoch(1);

impl Anew {
    /// Waits until the store knows what was written.
    pub(super) fn await_store(&self, store: &Store, part: &Part, watch: &Watch<'_>) -> Result<(), ReplayError> {
        let Undelivered { cluster, clock } = &self.undelivered;
        let names = cluster.names();
        let rungs = self.ladder.rungs().map(|(_, delay)| names.retry(delay));
        // What ended in an earlier epoch is notified of once more.
        let notified = (self.epoch.epoch > FIRST).then(|| names.notifications());
        let ends = written(cluster, &rungs.chain(notified).collect::<Vec<_>>())?;
        let late = clock.elapsed() + PATIENCE;
        let until = part.until.map_or(late, |until| until.min(late));
        loop {
            let standings = Handle::current().block_on(store.positions(self.epoch.epoch))?;
            let passed = standings.into_iter().map(|standing| ((standing.topic, standing.partition), standing.next));
            let passed = passed.collect::<HashMap<(Arc<str>, i32), i64>>();
            let next = |topic: &Arc<str>, number| passed.get(&(topic.clone(), number)).copied().unwrap_or(0);
            let behind = ends.iter().find(|(partition, end)| next(&partition.topic, partition.number) < *end);
            let Some((partition, end)) = behind else { return Ok(()) };
            going(watch.stop)?;
            if !nap(*clock, until) {
                let (topic, partition) = (partition.topic.clone(), partition.number);
                let next = next(&topic, partition);
                return Err(ReplayError::Behind { topic: topic.to_string(), partition, next, end: *end });
            }
        }
    }
}
