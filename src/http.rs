//! HTTP: the listener, and every route of the process.
//!
//! Owns: accepting connections, judging requests, health, metrics, the console, the document of all that, and how errors are answered. Refuses to know what
//! a WebSocket says: it mounts the gateway's route as it is. Neighbours: `gateway` below, the assembly above.

mod asyncapi;
mod console;
mod document;
mod guard;
mod health;
mod listener;
mod metrics;
mod openapi;
mod problem;
mod rest;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

pub use self::guard::{Guard, Needed, RefusedCaller};
pub use self::listener::{CertificateError, ListenError, Listener, ListenerParts, Routes};
pub use self::rest::{RestParts, rest};
use crate::clock::Clock;
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// What the routes need.
pub struct Parts {
    /// The roles' states.
    pub health: Health,
    /// The registry.
    pub metrics: Metrics,
    /// When it is asked.
    pub clock: Clock,
    /// What answers at the WebSocket's path.
    pub door: Door,
    /// The path of the WebSocket, for the console; none serves no console.
    pub console: Option<String>,
}

/// What answers at the WebSocket's path.
pub enum Door {
    /// Nothing: the process does not have this role.
    Absent,
    /// The gateway cannot be made yet; clients are asked to come back.
    Closed {
        /// The WebSocket's path.
        path: String,
    },
    /// The gateway's own route, and REST.
    Open(BoxedFilter<(Response,)>),
}

/// All routes. Every error is answered as `application/problem+json`.
#[must_use]
pub fn routes(parts: Parts) -> BoxedFilter<(Response,)> {
    let own = health::routes(parts.health).or(metrics::routes(parts.metrics, parts.clock)).unify();
    let mut routes = own.or(openapi::routes()).unify().or(asyncapi::routes()).unify().boxed();
    match parts.door {
        Door::Absent => {}
        Door::Closed { path } => routes = routes.or(problem::closed(&path)).unify().boxed(),
        Door::Open(gateway) => routes = routes.or(gateway).unify().boxed(),
    }
    if let Some(path) = parts.console {
        routes = routes.or(console::routes(&path)).unify().boxed();
    }
    routes.recover(problem::answer).map(Reply::into_response).boxed()
}
