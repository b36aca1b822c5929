//! HTTP: the listener, and every route of the process.
//!
//! Owns: accepting connections, health, metrics, the console, and how errors are answered. Refuses to know what a WebSocket says:
//! it mounts the gateway's route as it is. Neighbours: `gateway` below, the assembly above.

mod console;
mod health;
mod listener;
mod metrics;
mod problem;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

pub use self::listener::{ListenError, Listener};
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// What the routes need.
pub struct Parts {
    /// The roles' states.
    pub health: Health,
    /// The registry.
    pub metrics: Metrics,
    /// The gateway's route, if the process has this role.
    pub gateway: Option<BoxedFilter<(Response,)>>,
    /// The path of the WebSocket, for the console; none serves no console.
    pub console: Option<String>,
}

/// All routes. Every error is answered as `application/problem+json`.
#[must_use]
pub fn routes(parts: Parts) -> BoxedFilter<(Response,)> {
    let mut routes = health::routes(parts.health).or(metrics::routes(parts.metrics)).unify().boxed();
    if let Some(gateway) = parts.gateway {
        routes = routes.or(gateway).unify().boxed();
    }
    if let Some(path) = parts.console {
        routes = routes.or(console::routes(&path)).unify().boxed();
    }
    routes.recover(problem::answer).map(|reply| Reply::into_response(reply)).boxed()
}
