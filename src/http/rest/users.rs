//! `DELETE /v1/users/{id}/connections`: an operator ends a user's connections.
//!
//! This node's are counted. Other nodes are told by a signal to close theirs, and do not report back. Neighbours: `inbox::lines` lists them.

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::ids::{NodeId, UserId};
use tidings_core::record::signal::SignalRecord;
use utoipa::ToSchema;

use super::endpoint::{Endpoint, Outcome};
use super::{Rest, json, query};
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
    /// How many of this node's were closed.
    closed: usize,
}

pub(super) fn endpoints() -> [Endpoint; 1] {
    let summary = "Closes a user's connections on every node";
    let close = Description::guarded(Method::DELETE, "/v1/users/{id}/connections", Needed::Admin, summary)
        .telling("They are closed with 4500. Other nodes are told and do not report back, so `closed` counts those of this node.")
        .segment("id", "The user.", text())
        .gives::<Closed<'_>>(StatusCode::OK, "They are closed.");
    [Endpoint::new(close, |rest, asked| Box::pin(async move { rest.disconnect(asked.segment("id"), &asked.caller.user).await }))]
}

impl Rest {
    /// First the signal, so that a failure has closed nothing. This node leaves its own signal to this call, which counts.
    async fn disconnect(&self, user: &str, operator: &UserId) -> Outcome {
        let (user, node) = (&query::user(user)?, self.desk.node());
        let signal = SignalRecord::Disconnect { user_id: user.clone(), by: node.clone() };
        let (topic, key) = (self.names.signals(), Channel::mailbox(user));
        self.write_fact((&topic, None), key.as_str(), &signal).await?;
        let closed = self.desk.disconnect(user).await?;
        tracing::info!(%user, %operator, closed, "an operator closed a user's connections; other nodes are told");
        json(StatusCode::OK, &Closed { node, user_id: user, closed })
    }
}
