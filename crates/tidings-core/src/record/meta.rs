//! The value of `meta`: the epoch.
//!
//! Owns: what one epoch says of itself and of the one before it, and how the next follows. Refuses to name topics whole: their prefix is
//! configured. Neighbours: `kafka::topics` writes and reads it.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::position::Epoch;
use crate::time::Timestamp;

/// The key of the epoch's record on `meta`.
pub const EPOCH_KEY: &str = "epoch";

/// The generation of tidings' own topics. Written once they are there, and from then on it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// The generation's number; a later one is larger.
    pub epoch: Epoch,
    /// How many partitions `notifications`, `cursors`, `receipts` and the retry topics have for as long as the epoch lasts.
    pub partitions: i32,
    /// When the topics were made.
    pub created_at: Timestamp,
    /// What the names of those topics end with. Every epoch has topics of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// The epoch before, whose topics still hold what was not delivered. Says nothing of epochs before itself: those are finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Box<EpochRecord>>,
}

impl EpochRecord {
    /// The first epoch of a cluster.
    #[must_use]
    pub fn first(partitions: i32, created_at: Timestamp) -> Self {
        Self::numbered(Epoch(1), partitions, created_at)
    }

    /// An epoch of which nothing is known but its number and the size of its topics.
    #[must_use]
    pub fn numbered(epoch: Epoch, partitions: i32, created_at: Timestamp) -> Self {
        let suffix = if epoch <= Epoch(1) { String::new() } else { format!(".e{epoch}") };
        Self { epoch, partitions, created_at, suffix, earlier: None }
    }

    /// The epoch behind this one.
    #[must_use]
    pub fn next(&self, partitions: i32, created_at: Timestamp) -> Self {
        let epoch = Epoch(self.epoch.0.saturating_add(1));
        let earlier = Self { earlier: None, ..self.clone() };
        Self { earlier: Some(Box::new(earlier)), ..Self::numbered(epoch, partitions, created_at) }
    }
}

impl Record for EpochRecord {
    const NAME: &'static str = "epoch";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_names_of_its_own_and_remembers_only_the_one_before_it() {
        let at = Timestamp::from_millis(0);
        let second = EpochRecord::first(4, at).next(8, at);
        assert_eq!((second.epoch, second.partitions, second.suffix.as_str()), (Epoch(2), 8, ".e2"));
        let third = second.next(16, at);
        let before = third.earlier.as_deref().map(|earlier| (earlier.epoch, earlier.suffix.as_str(), earlier.earlier.is_none()));
        assert_eq!(before, Some((Epoch(2), ".e2", true)));
    }
}
