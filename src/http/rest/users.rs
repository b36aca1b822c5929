//! `DELETE /v1/users/{id}/connections`: an operator ends a user's connections.
//!
//! Other nodes are told by a signal to close theirs, and do not report back: they are asked which of those that were there still are.
//! Neighbours: `inbox::lines` lists them.

use std::collections::HashSet;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::{NodeId, UserId};
use tidings_core::record::signal::SignalRecord;
use utoipa::ToSchema;

use super::endpoint::{Answered, Endpoint};
use super::{Rest, json, query};
use crate::gateway::{Absent, Everywhere};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Closed<'a> {
    /// The node that answers.
    #[schema(value_type = String)]
    node: &'a NodeId,
    /// Whose connections.
    #[schema(value_type = String)]
    user_id: &'a UserId,
    /// How many were closed, on all nodes.
    closed: usize,
    /// There if a node did not answer in time: it has been told, and closes those that it has when it comes to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
}

/// How long other nodes may take to close theirs, and between two looks whether they have.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn endpoints() -> [Endpoint; 1] {
    let summary = "Closes a user's connections on every node";
    let close = Description::guarded(Method::DELETE, "/v1/users/{id}/connections", Needed::Admin, summary)
        .telling("They are closed with 4500, and counted on all nodes. `partial` says that a node did not answer in time; it has been told.")
        .segment("id", "The user.", text())
        .gives::<Closed<'_>>(StatusCode::OK, "They are closed.");
    [Endpoint::new(close, |rest, asked| Box::pin(async move { rest.disconnect(asked.segment("id"), &asked.caller.user).await }))]
}

impl Rest {
    /// First the signal, so that a failure has closed nothing. This node leaves its own signal to this call, which counts.
    async fn disconnect(&self, user: &str, operator: &UserId) -> Answered {
        let (user, node) = (&query::user(user)?, self.desk.node());
        let before = self.desk.everywhere(user).await?;
        let signal = SignalRecord::Disconnect { user_id: user.clone(), by: node.clone() };
        let (topic, key) = (self.names.signals(), Channel::mailbox(user));
        self.write_fact((&topic, None), key.as_str(), &signal).await?;
        let here = self.desk.disconnect(user).await?;
        let (elsewhere, is_whole) = self.closed_elsewhere(user, before).await?;
        let (closed, partial) = (here + elsewhere, !is_whole);
        tracing::info!(%user, %operator, closed, partial, "an operator closed a user's connections on all nodes");
        json(StatusCode::OK, &Closed { node, user_id: user, closed, partial })
    }

    /// How many of the connections to other nodes that were there before are no more, and whether these are all.
    async fn closed_elsewhere(&self, user: &UserId, before: Everywhere) -> Result<(usize, bool), Absent> {
        let elsewhere = before.connections.iter().filter(|(node, _)| node != self.desk.node());
        let told = elsewhere.map(|(_, line)| line.connection_id).collect::<HashSet<_>>();
        let until = self.clock.elapsed() + PATIENCE;
        let (mut left, mut is_whole) = (told.len(), !before.extent.is_partial());
        while left > 0 && self.clock.elapsed() < until {
            tokio::time::sleep(LOOK).await;
            let now = self.desk.everywhere(user).await?;
            left = now.connections.iter().filter(|(_, line)| told.contains(&line.connection_id)).count();
            is_whole &= !now.extent.is_partial();
        }
        Ok((told.len() - left, is_whole && left == 0))
    }
}
