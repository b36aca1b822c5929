//! A user's connections and devices.
//!
//! Owns: how they are told. Connections are those to all nodes, as their gateways say; devices are those that the store knows by their
//! cursors, also if they are away, and those that are connected. One that nobody named is no device of the user's. Neighbours: `users` closes connections.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, DeviceId, NodeId, UserId};
use tidings_core::locale::Locale;
use tidings_core::record::signal::nodes::OpenConnection;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::super::endpoint::{Answered, Asked, Endpoint};
use super::super::owner::{Owner, owned};
use super::super::{Rest, json};
use crate::gateway::Everywhere;
use crate::http::openapi::Description;
use crate::store::Device;

pub(super) fn endpoints() -> impl Iterator<Item = Endpoint> {
    let connections =
        |described: Description| described.gives::<Connections<'_>>(StatusCode::OK, "The connections, the oldest first.");
    let devices = |described: Description| {
        described
            .telling("Those that are connected, or were within `inbox.device_retention`. A connection without `deviceId` is none of them.")
            .gives::<Devices<'_>>(StatusCode::OK, "The devices, the one used last first.")
    };
    let connections =
        owned!("/connections").endpoints(Method::GET, "A user's connections to all nodes", connections, |rest, asked| {
            Box::pin(async move { rest.connections(asked).await })
        });
    let devices = owned!("/devices")
        .endpoints(Method::GET, "A user's devices", devices, |rest, asked| Box::pin(async move { rest.devices(asked).await }));
    connections.into_iter().chain(devices)
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Connections<'a> {
    /// The node that answers.
    #[schema(value_type = String)]
    node: &'a NodeId,
    /// Whose connections.
    #[schema(value_type = String)]
    user_id: &'a UserId,
    /// The oldest first.
    connections: Vec<Line<'a>>,
    /// There if another node did not answer in time: some may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Connection)]
struct Line<'a> {
    /// Its node.
    #[schema(value_type = String)]
    node: &'a NodeId,
    /// Its id.
    #[schema(value_type = Uuid)]
    connection_id: ConnectionId,
    /// Its device.
    #[schema(value_type = String)]
    device_id: &'a DeviceId,
    /// Where it comes from.
    #[schema(value_type = String)]
    address: IpAddr,
    /// Since when it is open.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// What it reads, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    locale: Option<&'a Locale>,
    /// What it is subscribed to, in the order it was.
    #[schema(value_type = Vec<String>)]
    channels: &'a [Channel],
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Devices<'a> {
    /// The node that answers.
    #[schema(value_type = String)]
    node: &'a NodeId,
    /// Whose devices.
    #[schema(value_type = String)]
    user_id: &'a UserId,
    /// The one used last first.
    devices: Vec<Known<'a>>,
    /// There if another node did not answer in time: some connections may not be counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Device)]
struct Known<'a> {
    /// Its id.
    #[schema(value_type = String)]
    device_id: &'a DeviceId,
    /// When it was heard of last: when its last cursor was written, or its last connection was opened.
    #[schema(value_type = String, format = DateTime)]
    used_at: Timestamp,
    /// Its connections to all nodes.
    connections: usize,
}

impl<'a> Line<'a> {
    fn of((node, open): &'a (NodeId, OpenConnection)) -> Self {
        let OpenConnection { connection_id, device_id, address, since, locale, channels, .. } = open;
        let locale = locale.as_ref();
        Self { node, connection_id: *connection_id, device_id, address: *address, since: *since, locale, channels }
    }
}

impl Rest {
    async fn connections(&self, asked: Asked) -> Answered {
        let Owner { user, .. } = Owner::of(&asked)?;
        let Everywhere { connections, extent } = self.desk.everywhere(&user).await?;
        let connections = connections.iter().map(Line::of).collect();
        json(StatusCode::OK, &Connections { node: self.desk.node(), user_id: &user, connections, partial: extent.is_partial() })
    }

    async fn devices(&self, asked: Asked) -> Answered {
        let Owner { user, .. } = Owner::of(&asked)?;
        let known = self.store()?.devices_of(&user).await?;
        let Everywhere { connections, extent } = self.desk.everywhere(&user).await?;
        let stored = known.iter().map(|Device { id, used_at }| (id, *used_at, 0));
        let open = connections.iter().filter(|(_, line)| !line.drawn).map(|(_, line)| (&line.device_id, line.since, 1));
        let mut devices = BTreeMap::new();
        for (device_id, used_at, connections) in stored.chain(open) {
            let known = devices.entry(device_id).or_insert(Known { device_id, used_at, connections: 0 });
            *known = Known { device_id, used_at: known.used_at.max(used_at), connections: known.connections + connections };
        }
        let mut devices = devices.into_values().collect::<Vec<_>>();
        devices.sort_by_key(|device| Reverse(device.used_at));
        let (node, partial) = (self.desk.node(), extent.is_partial());
        json(StatusCode::OK, &Devices { node, user_id: &user, devices, partial })
    }
}
