//! What nodes tell each other of themselves: their devices, that they live, and answers to questions that need all of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::channel::Channel;
use crate::ids::{ConnectionId, DeviceId, Incarnation, NodeId, UserId};
use crate::locale::Locale;
use crate::time::Timestamp;

/// A device with its user. In the order of users, then of devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserDevice {
    /// Whose it is.
    pub user_id: UserId,
    /// Which of the user's.
    pub device_id: DeviceId,
}

/// Who speaks, and how long that holds. Announcements and snapshots of an incarnation share one row of numbers: each is one more
/// than the one before it, so that who missed one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
    /// The number of this word of the run, from 1.
    pub number: u64,
    /// A node of which nothing is heard for so many milliseconds is gone.
    pub lasts_ms: u64,
}

/// What has changed since the word before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Who says so.
    pub lease: Lease,
    /// Devices that have their first connection to the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<UserDevice>,
    /// Devices whose last connection to the node is gone for the grace period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<UserDevice>,
    /// Whether it is the last word of the run: the node drains, and when the lease ends its devices are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
}

/// All devices of a node between two of them, as of this word's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPage {
    /// Who says so.
    pub lease: Lease,
    /// They follow this one; from the first one on, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserDevice>,
    /// They reach up to this one; to the last, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UserDevice>,
    /// The devices, in order.
    pub present: Vec<UserDevice>,
}

/// A wish for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recount {
    /// Who wishes it.
    pub by: Incarnation,
    /// Whose; everybody's, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Incarnation>,
}

/// What a node wants to know of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Repeated by the answers.
    pub id: Uuid,
    /// Who asks.
    pub by: Incarnation,
    /// Who is asked.
    pub to: Vec<Incarnation>,
    /// What.
    pub about: About,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum About {
    /// Who listens to a channel.
    Members {
        /// Which.
        channel: Channel,
        /// Users that follow this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<UserId>,
        /// So many users at most.
        limit: u64,
    },
    /// A user's connections.
    Connections {
        /// Whose.
        user_id: UserId,
    },
    /// A kind of a later release, which is not answered.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What one node says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's.
    pub id: Uuid,
    /// Who asked.
    pub to: Incarnation,
    /// Who answers.
    pub by: Incarnation,
    /// Its name.
    pub node: NodeId,
    /// The answer.
    pub found: Found,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Found {
    /// To [`About::Members`].
    Members(Members),
    /// To [`About::Connections`].
    Connections {
        /// The oldest first.
        connections: Vec<OpenConnection>,
    },
    /// A kind of a later release.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Who listens to a channel on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Members {
    /// How many users that have devices on this node only, as far as it knows.
    pub alone: u64,
    /// Users that have devices elsewhere too, each as a number that is the same on every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<u64>,
    /// Whether there are more of those, which are counted in `alone`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clipped: bool,
    /// The first users of those that were asked for, in order.
    pub users: Vec<UserId>,
    /// Whether more follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A connection that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenConnection {
    /// Its id.
    pub connection_id: ConnectionId,
    /// Its device.
    pub device_id: DeviceId,
    /// The server drew the device's id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drawn: bool,
    /// Where it comes from.
    pub address: IpAddr,
    /// Since when it is open.
    pub since: Timestamp,
    /// What it reads, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// What it is subscribed to, in the order it was.
    pub channels: Vec<Channel>,
}
