//! The crier: says on `audit` what is meant, and which records there is nothing to be done about any more.
//!
//! Owns: that both are said by a producer that ends nobody: the first before a `clerk` does, so that what cannot be said is refused while
//! another one still redrives; the second of ends whose ladders somebody has begun, which is true whoever redrives. Marks of ladders that
//! begin are the clerk's, in his transactions.

use std::collections::BTreeMap;

use tidings_core::ids::{NodeId, UserId};
use tidings_core::record::audit::{AuditRecord, Redriven, UndeliveredRedriven};
use tidings_core::selection::UndeliveredFilter;
use tidings_core::stretch::Stretches;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Anew;
use crate::kafka::producer::ProduceError;
use crate::replay::ReplayError;
use crate::replay::scribe::Scribe;

/// What speaks, and in whose name.
pub(super) struct Crier {
    scribe: Scribe,
    id: Uuid,
    who: UserId,
    node: NodeId,
}

impl Crier {
    /// One that has said what is meant. Marks name it by its id.
    pub(super) fn new(
        anew: &Anew,
        (who, filter): (&UserId, &UndeliveredFilter),
        stop: &CancellationToken,
    ) -> Result<Self, ReplayError> {
        let scribe = Scribe::new(&anew.undelivered.cluster, stop)?;
        let mut crier = Self { scribe, id: Uuid::new_v4(), who: who.clone(), node: anew.node.clone() };
        let meant = crier.act((filter.to_string(), Vec::new()));
        crier.scribe.tell(&meant).map_err(|error| match error {
            ReplayError::Unwritten(ProduceError::TooLarge { .. }) => ReplayError::Wordy,
            error => error,
        })?;
        Ok(crier)
    }

    /// In whose name.
    pub(super) fn who(&self) -> &UserId {
        &self.who
    }

    /// Says of other records of those whose ladders have begun that nothing is to be done about them any more.
    pub(super) fn mark(&mut self, twins: &[(i32, i64)]) -> Result<(), ReplayError> {
        if twins.is_empty() {
            return Ok(());
        }
        let mark = self.act((String::new(), marks(twins.iter().copied())));
        match self.scribe.tell(&mark) {
            // Until `audit` takes more they are looked at again by each redrive, which leaves them alone.
            Err(ReplayError::Unwritten(ProduceError::TooLarge { .. })) => Ok(()),
            told => told,
        }
    }

    /// What is said on `audit`: what is meant, or what is done.
    pub(super) fn act(&self, (selection, redriven): (String, Vec<Redriven>)) -> AuditRecord {
        let (id, who, node) = (self.id, self.who.clone(), self.node.clone());
        AuditRecord::Undelivered(UndeliveredRedriven { id, who, node, selection, redriven })
    }
}

/// Places as they are said on `audit`.
pub(super) fn marks(places: impl Iterator<Item = (i32, i64)>) -> Vec<Redriven> {
    let mut marks = BTreeMap::<i32, Stretches>::new();
    for (partition, offset) in places {
        marks.entry(partition).or_default().insert(offset, offset.saturating_add(1));
    }
    marks.into_iter().map(|(partition, offsets)| Redriven { partition, offsets }).collect()
}
