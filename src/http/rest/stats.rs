//! `GET /v1/stats`: what this node has.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::NodeId;
use tidings_core::time::Timestamp;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::{Rest, json, other_methods, query, query_text};
use crate::gateway::Census;
use crate::http::guard::Needed;
use crate::http::problem::Problem;

const ROUTE: &str = "/v1/stats";
/// Channels that are listed unless the query says how many, and at most.
const CHANNELS: usize = 100;
const LIMIT_CHANNELS: usize = 1_000;

#[derive(Serialize)]
struct Stats<'a> {
    timestamp: Timestamp,
    node: Node<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    id: &'a NodeId,
    connections: usize,
    devices: usize,
    users: usize,
    subscriptions: usize,
    channels: Vec<Listeners<'a>>,
    channels_left_out: usize,
}

#[derive(Serialize)]
struct Listeners<'a> {
    channel: &'a Channel,
    subscriptions: usize,
}

pub(super) fn routes(rest: Arc<Rest>) -> BoxedFilter<(Response,)> {
    let (admin, other) = (rest.guard.caller(Needed::Admin), other_methods(ROUTE, &[Method::GET, Method::HEAD], rest.clone()));
    let answer = move |_, query: String| {
        let rest = rest.clone();
        async move { rest.answer(ROUTE, rest.stats(&query).await) }
    };
    let address = warp::path!("v1" / "stats");
    let get = address.and(warp::get()).and(admin).and(query_text()).then(answer);
    get.or(address.and(other)).unify().boxed()
}

impl Rest {
    async fn stats(&self, query: &str) -> Result<Response, Problem> {
        query::only(query, &["channels"])?;
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
