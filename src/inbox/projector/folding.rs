//! Folding: the store has one batch while the next is read.
//!
//! Owns: the batch that is with the store, and what its answer means. Refuses to give the store a second one: that begins where
//! the first ends. What the store did not take comes back, before what was read meanwhile.

use tidings_core::fate::Fate;
use tidings_core::time::Timestamp;
use tokio::task::{JoinError, JoinSet};

use super::{Batch, Projector};
use crate::inbox::InboxError;
use crate::kafka::consumer::Consumer;
use crate::store::{Conflict, Folded, Move, StoreError};
use crate::telemetry::Place;

/// A batch with what the store said to it.
struct Answer {
    batch: Batch,
    moves: Vec<Move>,
    folded: Result<Folded, StoreError>,
}

/// The batch that is with the store, if there is one.
#[derive(Default)]
pub(super) struct Underway {
    /// One at most.
    task: JoinSet<Answer>,
    oldest: Option<Timestamp>,
}

impl Underway {
    /// When the oldest record in it was appended.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }
}

impl Projector {
    /// Gives the store what was read, unless it still has what was read before and there is room to read on.
    pub(super) fn fold(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        self.folded_at = self.clock.elapsed();
        if self.batch.is_full(self.config.batch_records.get()) {
            self.await_answer()?;
        }
        if !self.underway.task.is_empty() || self.astray || !self.store_backoff.is_over() {
            return Ok(());
        }
        for (partition, next) in consumer.positions()? {
            self.progress.read_to(&partition, next);
        }
        let moves = self.progress.moves();
        if moves.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.underway.oldest = batch.oldest();
        batch.moves(&self.topics, moves.clone());
        let (store, epoch, retention) = (self.store.clone(), self.epoch, self.retention.clone());
        let folding = async move {
            let folded = store.fold(epoch, &retention, batch.fold()).await;
            Answer { batch, moves, folded }
        };
        self.underway.task.spawn_on(folding, &self.runtime);
        Ok(())
    }

    /// Folds all that was read, and waits until that is done.
    pub(super) fn fold_all(&mut self, consumer: &Consumer) -> Result<(), InboxError> {
        self.await_answer()?;
        self.fold(consumer)?;
        self.await_answer()
    }

    /// Takes the store's answer if it is there.
    pub(super) fn take_answer(&mut self) -> Result<(), InboxError> {
        let answered = self.underway.task.try_join_next();
        answered.map_or(Ok(()), |answer| self.answered(answer))
    }

    /// Waits until the store has nothing of ours.
    pub(super) fn await_answer(&mut self) -> Result<(), InboxError> {
        let answered = self.runtime.block_on(self.underway.task.join_next());
        answered.map_or(Ok(()), |answer| self.answered(answer))
    }

    fn answered(&mut self, answer: Result<Answer, JoinError>) -> Result<(), InboxError> {
        self.underway.oldest = None;
        let Answer { mut batch, moves, folded } = match answer {
            Ok(answer) => answer,
            // Nobody else ends it.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match folded {
            Ok(Folded::Committed { conflicts, crowded_out, lapsed }) => {
                self.store_answers();
                self.metrics.crowded_out.inc_by(crowded_out);
                self.metrics.lapsed.inc_by(lapsed);
                self.contradicted(&conflicts);
                self.progress.moved(&moves);
                self.metrics.batches.inc();
                self.metrics.notifications.inc_by(batch.notifications() as u64);
                self.metrics.cursors.inc_by(batch.cursors() as u64);
                self.metrics.receipts.inc_by(batch.receipts() as u64);
            }
            Ok(Folded::Moved) => {
                self.metrics.conflicts.inc();
                tracing::warn!("somebody else has folded what we were about to: partitions begin again where the store stands");
                self.astray = true;
            }
            Err(error) => {
                self.progress.not_moved(&moves);
                batch.append(std::mem::take(&mut self.batch));
                self.batch = batch;
                self.store_failed(error)?;
            }
        }
        Ok(())
    }

    /// Tells of notifications whose ids were known with other contents.
    fn contradicted(&self, conflicts: &[Conflict]) {
        self.metrics.identity_conflicts.inc_by(conflicts.len() as u64);
        for Conflict { partition, offset } in conflicts {
            let place = Place { topic: &self.topics.notifications, partition: *partition, offset: *offset };
            let what = "a notification has the id of an earlier one that said something else, which alone is kept";
            self.complaints.say(place, "identity_conflict", what);
        }
    }

    pub(super) fn store_failed(&mut self, error: StoreError) -> Result<(), InboxError> {
        self.metrics.fates.count(error.cause(), error.class(), self.batch.begin_waiting());
        if error.cause().fate() != Fate::RetryInPlace {
            return Err(error.into());
        }
        if self.store_backoff.failed() {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "the store does not take what was read; it is kept and tried again");
        }
        Ok(())
    }

    pub(super) fn store_answers(&mut self) {
        if self.store_backoff.succeeded() {
            tracing::info!("the store takes what is read again");
        }
    }
}
