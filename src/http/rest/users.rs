//! `/v1/users/{id}/connections`: a user's connections, and their end.
//!
//! They are listed of all nodes. Who closes them counts this node's own: the others are told by a signal to close theirs, and do not
//! report back.

use std::net::IpAddr;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, DeviceId, NodeId, UserId};
use tidings_core::locale::Locale;
use tidings_core::record::encode;
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::signal::nodes::OpenConnection;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Endpoint, Outcome};
use super::{Rest, json, query};
use crate::gateway::Everywhere;
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text};
use crate::http::problem::Problem;
use crate::kafka::producer::{Outgoing, version_header};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Connections)]
struct Listed<'a> {
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
    #[schema(value_type = uuid::Uuid)]
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

impl<'a> Line<'a> {
    fn of((node, open): &'a (NodeId, OpenConnection)) -> Self {
        let OpenConnection { connection_id, device_id, address, since, locale, channels } = open;
        let locale = locale.as_ref();
        Self { node, connection_id: *connection_id, device_id, address: *address, since: *since, locale, channels }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Closed<'a> {
    /// The node that answers.
    #[schema(value_type = String)]
    node: &'a NodeId,
    /// Whose connections.
    #[schema(value_type = String)]
    user_id: &'a UserId,
    /// How many of this node's were closed.
    closed: usize,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let described = |method, summary| {
        Description::guarded(method, "/v1/users/{id}/connections", Needed::Admin, summary).segment("id", "The user.", text())
    };
    let list = described(Method::GET, "A user's connections to all nodes")
        .gives::<Listed<'_>>(StatusCode::OK, "The connections, the oldest first.");
    let close = described(Method::DELETE, "Closes a user's connections on every node")
        .telling("They are closed with 4500. Other nodes are told and do not report back, so `closed` counts those of this node.")
        .gives::<Closed<'_>>(StatusCode::OK, "They are closed.");
    vec![
        Endpoint::new(list, |rest, asked| Box::pin(async move { rest.list(asked.segment("id")).await })),
        Endpoint::new(close, |rest, asked| {
            Box::pin(async move { rest.disconnect(asked.segment("id"), &asked.caller.user).await })
        }),
    ]
}

impl Rest {
    async fn list(&self, user: &str) -> Outcome {
        let user = &query::user(user)?;
        let Everywhere { connections, extent } = self.desk.everywhere(user).await?;
        let connections = connections.iter().map(Line::of).collect();
        json(StatusCode::OK, &Listed { node: self.desk.node(), user_id: user, connections, partial: extent.is_partial() })
    }

    /// First the signal, so that a failure has closed nothing. This node leaves its own signal to this call, which counts.
    async fn disconnect(&self, user: &str, operator: &UserId) -> Outcome {
        let (user, node) = (&query::user(user)?, self.desk.node());
        let signal = SignalRecord::Disconnect { user_id: user.clone(), by: node.clone() };
        let value = encode(&signal).map_err(|error| {
            tracing::error!(%error, "a signal could not be written as JSON; this is a bug");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the signal could not be written")
        })?;
        let (topic, key) = (self.names.signals(), Channel::mailbox(user));
        let headers = [version_header::<SignalRecord>()];
        let key = Some(key.as_str().as_bytes());
        let outgoing = Outgoing { topic: &topic, partition: None, key, value: Some(&value), headers: &headers };
        self.writer.write(outgoing).await.map_err(|unwritten| unwritten.problem("ask again: closing twice does no harm"))?;
        let closed = self.desk.disconnect(user).await?;
        tracing::info!(%user, %operator, closed, "an operator closed a user's connections; other nodes are told");
        json(StatusCode::OK, &Closed { node, user_id: user, closed })
    }
}
