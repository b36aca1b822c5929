//! The value of `requests`: a notification that somebody asks for in words of their own, or an event for the rules.
//!
//! Owns: the JSON that services write, over HTTP or straight to the topic, and everything that can be wrong with it, each with
//! its place. Refuses to guess; fields it does not know are ignored. Neighbours: `read` beside reads it, `rules` decides on it,
//! `http` answers with its faults.

mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Record;
use crate::channel::Channel;
use crate::ids::{EventId, UserId, uuid_v5};
use crate::locale::Locale;
use crate::notification::{Priority, Texts};
use crate::time::Timestamp;

pub use read::read;

/// The most users that one request names.
pub const LIMIT_USERS: usize = 1_000;
/// The longest title, message or action url, in bytes.
pub const LIMIT_TEXT_BYTES: usize = 16 * 1024;
/// The most locales that one request has texts for.
pub const LIMIT_LOCALES: usize = 100;
/// The most that is shown of a request's own words in one locale, as JSON, in bytes: a connection's outbox takes it whole.
pub const LIMIT_WORDS_BYTES: usize = 48 * 1024;
/// What a notification is about if its request does not say.
pub const DEFAULT_TYPE: &str = "notification";

/// The namespace of request ids; fixed for ever, since a client that asks again must get the same id.
const REQUEST_NAMESPACE: Uuid = Uuid::from_u128(0x7469_6469_6e67_735f_7265_7175_6573_7473);

/// A notification that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRecord {
    /// What makes it the same request when it is made again; without one, its coordinates do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// Who is not told, whoever else is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<UserId>,
    /// What is asked for.
    #[serde(flatten)]
    pub asked: Asked,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Asked {
    /// That these words are shown.
    Words(Box<Words>),
    /// That the rules decide on an event as if it had come from a domain topic.
    Event {
        /// The event.
        event: AskedEvent,
    },
}

/// A notification in the request's own words.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the fields of a notification, which says what they mean")]
pub struct Words {
    /// Whom it is for.
    pub to: Audience,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    pub priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub locales: BTreeMap<Locale, Texts>,
}

/// Whom a request is for. A role and everyone are channels like any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// These, each once; at least one, at most [`LIMIT_USERS`].
    Users(Vec<UserId>),
    /// Whoever listens.
    Channel(Channel),
}

/// An event that a request carries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskedEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    pub data: Map<String, Value>,
    /// Its own id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// When it happened, if that is not when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)); empty for the whole.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.detail),
            pointer => write!(f, "{pointer} {}", self.detail),
        }
    }
}

/// Why bytes are no request. They are at fault, always.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The bytes are no JSON, or nest too deep. The source's text names line and column.
    #[error("the request is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON, and not what a request is; each thing that is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Fault>),
}

impl RequestError {
    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::Invalid(_) => "request_invalid",
        }
    }
}

impl RequestRecord {
    /// The key it is written with: requests for the same audience stay in their order.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match &self.asked {
            Asked::Words(words) => match &words.to {
                Audience::Channel(channel) => Some(channel.to_string()),
                Audience::Users(users) => users.first().map(|user| Channel::mailbox(user).to_string()),
            },
            Asked::Event { .. } => self.id.as_ref().map(ToString::to_string),
        }
    }

    /// How many notifications follow from it, at least: one for each user who is not left out; of an event the rules know.
    #[must_use]
    pub fn least(&self) -> usize {
        let Asked::Words(words) = &self.asked else { return 1 };
        let Audience::Users(users) = &words.to else { return 1 };
        users.iter().filter(|user| !self.exclude.contains(user)).count()
    }
}

/// The id of what `caller` asks for under a key of its own choice: always the same, and another for every other caller or key.
#[must_use]
pub fn request_id(caller: &UserId, key: &str) -> Uuid {
    let mut name = Vec::with_capacity(caller.as_str().len() + key.len() + 8);
    name.extend_from_slice(&(caller.as_str().len() as u64).to_be_bytes());
    name.extend_from_slice(caller.as_str().as_bytes());
    name.extend_from_slice(key.as_bytes());
    uuid_v5(REQUEST_NAMESPACE, &name)
}

impl<'de> Deserialize<'de> for RequestRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        read::from_json(value).map_err(|faults| serde::de::Error::custom(RequestError::Invalid(faults)))
    }
}

impl Record for RequestRecord {
    const NAME: &'static str = "request";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests;
