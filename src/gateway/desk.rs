//! The desk: what operators ask of this node's shards, and what they order.
//!
//! Owns: the questions, the time a shard has for its answer, and putting the answers of all shards together. Refuses to look into
//! a shard: it is asked like for anything else, and answers between two turns. Neighbours: `http` asks, `shard::count` answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tidings_core::channel::{Channel, Verdict};
use tidings_core::ids::{NodeId, UserId};
use tidings_core::presence::{Audience, Extent};
use tidings_core::record::signal::nodes::OpenConnection;
use tokio::sync::oneshot;

use super::inlet::{Control, Inlet};
use super::presence::{Muster, Wanted};
use super::{Phase, Shared};
use crate::auth::Identity;

/// How long a shard may take for its answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The most channels that one shard counts out; those with the fewest listeners are left out.
pub(super) const LIMIT_CHANNELS: usize = 10_000;

/// Asks the shards. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    pub(super) shared: Arc<Shared>,
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Open connections.
    pub connections: usize,
    /// Devices that have one.
    pub devices: usize,
    /// Users who have one.
    pub users: usize,
    /// Subscriptions in all, mailboxes too.
    pub subscriptions: usize,
    /// The channels that are no mailbox with their subscriptions, the most first.
    pub channels: Vec<(Channel, usize)>,
}

/// What one shard has.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: usize,
    pub(super) devices: usize,
    pub(super) users: usize,
    pub(super) subscriptions: usize,
    pub(super) channels: Vec<(Channel, usize)>,
}

/// A user's connections to all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Everywhere {
    /// Each with its node's name, the oldest first.
    pub connections: Vec<(NodeId, OpenConnection)>,
    /// Whether these are all.
    pub extent: Extent,
}

/// Nobody at the desk: the gateway has not begun, drains, or a shard is too busy to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway gives no answer: {0}")]
pub struct Absent(&'static str);

impl Absent {
    pub(super) const ENDS: Self = Self("it ends");
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The node that answers.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.shared.node
    }

    /// Whether somebody may subscribe to a channel.
    #[must_use]
    pub fn is_open(&self, identity: &Identity, channel: &Channel) -> bool {
        self.shared.access.judge(&identity.user, &identity.roles, channel) == Verdict::Allowed
    }

    /// Counts what this node has.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn census(&self) -> Result<Census, Absent> {
        let counts = try_join_all(self.shared.inlets.iter().map(|inlet| self.ask(inlet, Control::Count))).await?;
        let mut listeners = HashMap::<Channel, usize>::new();
        let mut census = Census { connections: 0, devices: 0, users: 0, subscriptions: 0, channels: Vec::new() };
        for counts in counts {
            census.connections += counts.connections;
            // All of a user's connections are in one shard.
            census.devices += counts.devices;
            census.users += counts.users;
            census.subscriptions += counts.subscriptions;
            counts.channels.into_iter().for_each(|(channel, count)| *listeners.entry(channel).or_default() += count);
        }
        census.channels = listeners.into_iter().collect();
        census.channels.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(census)
    }

    /// A user's connections to this node.
    ///
    /// # Errors
    /// If the shard does not answer in time.
    pub(super) async fn connections(&self, user: &UserId) -> Result<Vec<OpenConnection>, Absent> {
        self.ask(self.shared.inlet(user), |listed| Control::List { user: user.clone(), listed }).await
    }

    /// A user's connections to all nodes.
    ///
    /// # Errors
    /// If this node's shard does not answer in time. Other nodes that do not are left out.
    pub async fn everywhere(&self, user: &UserId) -> Result<Everywhere, Absent> {
        let (here, (elsewhere, extent)) =
            tokio::join!(self.connections(user), self.shared.roster.connections(&self.shared, user));
        let here = here?.into_iter().map(|connection| (self.shared.node.clone(), connection));
        let mut connections = here.chain(elsewhere).collect::<Vec<_>>();
        connections.sort_by_key(|(_, connection)| connection.since);
        Ok(Everywhere { connections, extent })
    }

    /// Whether a user has a device connected to some node, as far as this one has heard of it.
    ///
    /// # Errors
    /// If this node's shard does not answer in time.
    pub async fn is_connected(&self, user: &UserId) -> Result<bool, Absent> {
        Ok(!self.connections(user).await?.is_empty() || self.shared.roster.is_elsewhere(user))
    }

    /// The users who listen to a channel on this node, once for each of their connections.
    pub(super) async fn listeners(&self, channel: &Channel) -> Result<Vec<UserId>, Absent> {
        let ask = |inlet| self.ask(inlet, |named| Control::Listeners { channel: channel.clone(), named });
        Ok(match channel.mailbox_user() {
            Some(owner) => ask(self.shared.inlet(&owner)).await?,
            None => try_join_all(self.shared.inlets.iter().map(|inlet| ask(inlet))).await?.concat(),
        })
    }

    /// How many users listen to a channel on all nodes, and a page of them: those that follow `after`, at most `limit`, and never
    /// more than `gateway.presence.page_users`.
    ///
    /// # Errors
    /// If a shard of this node does not answer in time. Other nodes that do not are left out.
    pub async fn audience(&self, channel: Channel, after: Option<UserId>, limit: Option<u64>) -> Result<Arc<Audience>, Absent> {
        let most = self.shared.config.presence.page_users.get();
        let limit = limit.map_or(most, |limit| usize::try_from(limit).unwrap_or(usize::MAX).min(most));
        self.shared.roster.audience(&self.shared, Wanted { channel, after, limit }).await
    }

    /// Every node that this one knows to live, and what they have together.
    #[must_use]
    pub fn muster(&self) -> Muster {
        self.shared.roster.muster(&self.shared.node)
    }

    /// Closes a user's connections to this node. Gives how many.
    ///
    /// # Errors
    /// If the shard does not answer in time; it may do so later all the same.
    pub async fn disconnect(&self, user: &UserId) -> Result<usize, Absent> {
        self.ask(self.shared.inlet(user), |closed| Control::Disconnect { user: user.clone(), closed: Some(closed) }).await
    }

    async fn ask<T>(&self, inlet: &Inlet, question: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Absent> {
        if !self.shared.is(Phase::Open) {
            return Err(Absent("it has not begun, or drains"));
        }
        let (answer, answered) = oneshot::channel();
        let asking = async {
            inlet.say(question(answer)).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Absent::ENDS),
            Err(_) => Err(Absent("it is too busy")),
        }
    }
}
