//! `GET /v1/channels/{c}/presence`: who listens to a channel, on all nodes.

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Answered, Endpoint};
use super::{Rest, json, query};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text, whole};

#[derive(Serialize, ToSchema)]
#[schema(as = ChannelPresence)]
struct Present<'a> {
    /// When it was answered.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The channel.
    #[schema(value_type = String)]
    channel: &'a Channel,
    /// How many users listen.
    count: u64,
    /// The first of them that follow `after`, in order.
    #[schema(value_type = Vec<String>)]
    users: &'a [UserId],
    /// The last of them, if more follow: the next `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    next: Option<&'a UserId>,
    /// There if a node did not answer in time, or not in full: somebody may be missing, or counted twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let described = Description::guarded(Method::GET, "/v1/channels/{c}/presence", Needed::Admin, "Who listens to a channel")
        .segment("c", "The channel.", text())
        .query("limit", "How many users are named; as many as `gateway.presence.page_users` says, unless said.", whole(0, 1_000))
        .query("after", "Users that follow this one: the `next` of the page before.", text())
        .gives::<Present<'_>>(StatusCode::OK, "The users of all nodes.");
    vec![Endpoint::new(described, |rest, asked| Box::pin(async move { rest.presence(asked.segment("c"), &asked.query).await }))]
}

impl Rest {
    async fn presence(&self, channel: &str, query: &str) -> Answered {
        let channel = query::channel(channel)?;
        let limit = query::parameter(query, "limit", "is a number from 0 to `gateway.presence.page_users`")?;
        let after = query::parameter(query, "after", "is the last user of the page before")?;
        let audience = self.desk.audience(channel.clone(), after, limit).await?;
        let next = audience.users.last().filter(|_| audience.more);
        let present = Present {
            timestamp: self.clock.now(),
            channel: &channel,
            count: audience.count,
            users: &audience.users,
            next,
            partial: audience.extent.is_partial(),
        };
        json(StatusCode::OK, &present)
    }
}
