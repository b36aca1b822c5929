//! The value of `meta`: the epoch.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::position::Epoch;
use crate::time::Timestamp;

/// The key of the epoch's record on `meta`.
pub const EPOCH_KEY: &str = "epoch";

/// The generation of tidings' own topics. Written when they are created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// The generation's number; a later one is larger.
    pub epoch: Epoch,
    /// How many partitions `notifications`, `cursors` and `receipts` have for as long as the epoch lasts.
    pub partitions: i32,
    /// When the topics were made.
    pub created_at: Timestamp,
}

impl Record for EpochRecord {
    const NAME: &'static str = "epoch";
    const VERSION: u32 = 1;
}
