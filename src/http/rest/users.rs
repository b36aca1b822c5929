//! `/v1/users/{id}/connections`: a user's connections, and their end.
//!
//! This node's own are listed and counted. Other nodes are told by a signal to close theirs, and do not report back.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, DeviceId, NodeId, UserId};
use tidings_core::locale::Locale;
use tidings_core::record::encode;
use tidings_core::record::signal::SignalRecord;
use tidings_core::time::Timestamp;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::{Rest, json, other_methods, query, query_text};
use crate::auth::Identity;
use crate::gateway::Present;
use crate::http::guard::Needed;
use crate::http::problem::Problem;
use crate::kafka::producer::{Outgoing, version_header};

const ROUTE: &str = "/v1/users/{id}/connections";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    node: &'a NodeId,
    user_id: &'a UserId,
    connections: Vec<Line<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    connection_id: ConnectionId,
    device_id: &'a DeviceId,
    address: IpAddr,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a Locale>,
    channels: &'a [Channel],
}

impl<'a> Line<'a> {
    fn of(present: &'a Present) -> Self {
        let Present { connection, device, address, since, locale, channels } = present;
        let locale = locale.as_ref();
        Self { connection_id: *connection, device_id: device, address: *address, since: *since, locale, channels }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Closed<'a> {
    node: &'a NodeId,
    user_id: &'a UserId,
    closed: usize,
}

pub(super) fn routes(rest: Arc<Rest>) -> BoxedFilter<(Response,)> {
    let (admin, other) =
        (rest.guard.caller(Needed::Admin), other_methods(ROUTE, &[Method::GET, Method::HEAD, Method::DELETE], rest.clone()));
    let (lists, closes) = (rest.clone(), rest);
    let list = move |user: String, _, query: String| {
        let rest = lists.clone();
        async move { rest.answer(ROUTE, rest.list(&user, &query).await) }
    };
    let disconnect = move |user: String, operator: Identity, query: String| {
        let rest = closes.clone();
        async move { rest.answer(ROUTE, rest.disconnect(&user, &query, &operator.user).await) }
    };
    let address = warp::path!("v1" / "users" / String / "connections");
    let get = address.and(warp::get()).and(admin.clone()).and(query_text()).then(list);
    let delete = address.and(warp::delete()).and(admin).and(query_text()).then(disconnect);
    let other = address.map(drop).untuple_one().and(other);
    get.or(delete).unify().or(other).unify().boxed()
}

impl Rest {
    async fn list(&self, user: &str, query: &str) -> Result<Response, Problem> {
        query::only(query, &[])?;
        let user = &query::user(user)?;
        let present = self.desk.connections(user).await?;
        let connections = present.iter().map(Line::of).collect();
        json(StatusCode::OK, &Listed { node: self.desk.node(), user_id: user, connections })
    }

    /// First the signal, so that a failure has closed nothing. This node leaves its own signal to this call, which counts.
    async fn disconnect(&self, user: &str, query: &str, operator: &UserId) -> Result<Response, Problem> {
        query::only(query, &[])?;
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
