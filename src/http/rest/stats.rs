//! `GET /v1/stats`: what this node has, and what it knows of all nodes.

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::NodeId;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Answered, Endpoint};
use super::{Rest, json, query};
use crate::gateway::{Census, Muster};
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
    cluster: Cluster<'a>,
}

#[derive(Serialize, ToSchema)]
struct Cluster<'a> {
    /// Every node that is known to live.
    nodes: Vec<Living<'a>>,
    /// Devices that are open on any of them.
    devices: usize,
    /// Users who have one.
    users: usize,
    /// There if the node that answers has just begun, or has missed something that another one said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
}

#[derive(Serialize, ToSchema)]
struct Living<'a> {
    /// Its name.
    #[schema(value_type = String)]
    id: &'a NodeId,
    /// Devices that it has told of.
    devices: usize,
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
    let described = Description::guarded(Method::GET, "/v1/stats", Needed::Admin, "What this node has, and all nodes together")
        .query("channels", "How many channels are listed, those with the most subscriptions; 100 unless said.", whole(0, 1_000))
        .gives::<Stats<'_>>(
            StatusCode::OK,
            "Connections, devices, users and subscriptions of the node that answers, and the devices of all.",
        );
    vec![Endpoint::new(described, |rest, asked| Box::pin(async move { rest.stats(&asked.query).await }))]
}

impl Rest {
    async fn stats(&self, query: &str) -> Answered {
        let shown = query::parameter(query, "channels", "is a number from 0 to 1000")?.unwrap_or(CHANNELS);
        let census = self.desk.census().await?;
        let muster = self.desk.muster();
        json(StatusCode::OK, &self.told((&census, &muster), shown.min(LIMIT_CHANNELS)))
    }

    fn told<'a>(&'a self, (census, muster): (&'a Census, &'a Muster), shown: usize) -> Stats<'a> {
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
            cluster: Cluster {
                nodes: muster.nodes.iter().map(|(id, devices)| Living { id, devices: *devices }).collect(),
                devices: muster.devices,
                users: muster.users,
                partial: muster.extent.is_partial(),
            },
        }
    }
}
