//! Attempts, as services and operators are told them.

use serde::Serialize;
use tidings_core::delivery::history::{Came, Told, history};
use tidings_core::ids::{NodeId, UserId};
use tidings_core::record::retry::Sink;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use crate::store::TriedUntil;

/// An attempt to deliver, and what came of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
pub(super) struct AttemptTold {
    /// Its number; 0 is the first time that it was sent.
    number: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The process that saw to it; of the first time all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    node: Option<NodeId>,
    /// The operator who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    by: Option<UserId>,
    /// By which way: `websocket`.
    #[schema(value_type = String)]
    sink: Sink,
    /// What came of it: `offline` (no device of the user had been written to), `unacknowledged` (one was written to, and has not acknowledged
    /// in time), `acknowledged`, `waiting` (not known yet), `dropped` (nobody is to see it any more).
    #[schema(value_type = String)]
    outcome: &'static str,
    /// When that is looked at, if it is not known yet. What lies before it in its partition goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    next_at: Option<Timestamp>,
}

impl From<Told> for AttemptTold {
    fn from(Told { number, at, node, by, sink, came, next_at }: Told) -> Self {
        Self { number, at, node, by, sink, outcome: came.name(), next_at }
    }
}

/// The attempts of a notification that was appended then, the latest of which came to `last`.
pub(super) fn told(appended_at: Timestamp, tried: Option<&TriedUntil>, last: Came) -> Vec<AttemptTold> {
    let made = tried.map_or((0, &[][..]), |tried| (tried.made, &tried.attempts));
    history(appended_at, made, last).into_iter().map(AttemptTold::from).collect()
}
