//! `GET /v1/stats`: what this node has.

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::NodeId;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Endpoint, Outcome};
use super::{Rest, json, query};
use crate::gateway::Census;
use crate::http::guard::Needed;
use crate::http::openapi::{Description, whole};

/// Channels that are listed unless the query says how many, and at most.
const CHANNELS: usize = 100;
const LIMIT_CHANNELS: usize = 1_000;

#[derive(Serialize, ToSchema)]
struct Stats<'a> {
    /// When it was counted.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    node: Node<'a>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    /// The node that counted.
    #[schema(value_type = String)]
    id: &'a NodeId,
    /// Open connections.
    connections: usize,
    /// Devices that have one.
    devices: usize,
    /// Users who have one.
    users: usize,
    /// Subscriptions in all, mailboxes too.
    subscriptions: usize,
    /// Channels that are no mailbox, those with the most subscriptions first.
    channels: Vec<Listeners<'a>>,
    /// How many channels are not listed.
    channels_left_out: usize,
}

#[derive(Serialize, ToSchema)]
struct Listeners<'a> {
    /// Its name.
    #[schema(value_type = String)]
    channel: &'a Channel,
    /// Connections that listen to it.
    subscriptions: usize,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let described = Description::guarded(Method::GET, "/v1/stats", Needed::Admin, "What this node has")
        .query("channels", "How many channels are listed, those with the most subscriptions; 100 unless said.", whole(0, 1_000))
        .gives::<Stats<'_>>(StatusCode::OK, "Connections, devices, users and subscriptions of the node that answers.");
    vec![Endpoint::new(described, |rest, asked| Box::pin(async move { rest.stats(&asked.query).await }))]
}

impl Rest {
    async fn stats(&self, query: &str) -> Outcome {
        let shown = query::parameter(query, "channels", "is a number from 0 to 1000")?.unwrap_or(CHANNELS);
        let census = self.desk.census().await?;
        json(StatusCode::OK, &self.told(&census, shown.min(LIMIT_CHANNELS)))
    }

    fn told<'a>(&'a self, census: &'a Census, shown: usize) -> Stats<'a> {
        let listeners = |(channel, count): &'a (Channel, usize)| Listeners { channel, subscriptions: *count };
        Stats {
            timestamp: self.clock.now(),
            node: Node {
                id: self.desk.node(),
                connections: census.connections,
                devices: census.devices,
                users: census.users,
                subscriptions: census.subscriptions,
                channels: census.channels.iter().take(shown).map(listeners).collect(),
                channels_left_out: census.channels.len().saturating_sub(shown),
            },
        }
    }
}
