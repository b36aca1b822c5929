//! What a redrive and a replay come to, or would.

use serde::Serialize;
use tidings_core::record::audit::{RedriveCounts, ReplayCounts};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Mode;
use super::tally::Tally;

/// What a redrive came to, or would come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RedriveReport)]
pub struct Report {
    /// Whether notifications were sent; if not, nothing was written at all.
    pub executed: bool,
    /// The version of the rules that decided.
    pub rules: String,
    /// How many letters are meant and have not been redriven before.
    pub letters: u64,
    /// How many of those that are meant were redriven before, and are left alone.
    pub redriven_before: u64,
    /// How many letters are of a record that another one is of, too.
    pub duplicates: u64,
    /// There if the time was over before all were decided on. What was sent by then is left alone by the next call.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub more: bool,
    /// What became of them.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What a replay came to, or would come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// By which it can be gone on with, if it was executed.
    pub id: Uuid,
    /// Whether notifications were sent; if not, nothing was written at all.
    pub executed: bool,
    /// The topic.
    pub topic: String,
    /// The version of the rules that decided.
    pub rules: String,
    /// How many records were read.
    pub read: u64,
    /// How many of those are meant.
    pub selected: u64,
    /// How many offsets retention has removed of those that are named.
    pub gone: u64,
    /// Events of which somebody may have been notified whose id is forgotten by now.
    pub too_old: u64,
    /// Notifications that nobody is to see any more, and that are not sent.
    pub expired: u64,
    /// What became of the records.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Report {
    /// The same for `audit`.
    #[must_use]
    pub fn counts(&self) -> RedriveCounts {
        RedriveCounts { letters: self.letters, decided: self.tally.decided() }
    }
}

impl ReplayReport {
    pub(super) fn new(id: Uuid, mode: &Mode, (topic, rules): (&str, &str)) -> Self {
        Self {
            id,
            executed: *mode != Mode::Try,
            topic: topic.to_owned(),
            rules: rules.to_owned(),
            read: 0,
            selected: 0,
            gone: 0,
            too_old: 0,
            expired: 0,
            tally: Tally::default(),
        }
    }

    /// The same for `audit`.
    #[must_use]
    pub fn counts(&self) -> ReplayCounts {
        ReplayCounts { read: self.read, selected: self.selected, decided: self.tally.decided() }
    }
}
