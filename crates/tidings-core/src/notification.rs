//! The notification: what a device shows.
//!
//! Owns: the fields a client sees, named as on the wire. Refuses nothing: whoever makes one has checked it. Neighbours:
//! `rules` makes them, `record` carries them, `protocol` frames them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{EventId, NotificationId};
use crate::time::Timestamp;

/// What a device shows; as JSON, camelCase, with absent fields left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The same for the same event, rule and channel.
    pub id: NotificationId,
    /// The event it was made from.
    pub event_id: EventId,
    /// What it is about, for instance `booking_confirmation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the event was said.
    pub created_at: Timestamp,
    /// One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a frontend needs to act on it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    /// How much it matters.
    #[serde(default)]
    pub priority: Priority,
    /// Where a click leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_url: Option<String>,
    /// Who said the event: the topic it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A grouping of the application's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// After this instant it is no longer worth showing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Notification {
    /// Whether it is no longer worth showing at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// How much a notification matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Should be seen soon.
    High,
    /// Must be seen now.
    Urgent,
}
