//! `/health`: the process is alive, and what each role does. `/ready`: whether every role does its work.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::openapi::Description;
use super::problem::Problem;
use super::rest;
use crate::telemetry::health::{Entry, Halted, Health, State};

/// `GET` of `/health` and `/ready`.
pub(super) fn routes(health: Health) -> BoxedFilter<(Response,)> {
    let alive = health.clone();
    let health_route = warp::path!("health").and(warp::get()).map(move || answer(StatusCode::OK, "alive", &alive));
    let ready_route = warp::path!("ready").and(warp::get()).map(move || {
        if health.is_ready() {
            answer(StatusCode::OK, "ready", &health)
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, "waiting", &health)
        }
    });
    health_route.or(ready_route).unify().boxed()
}

/// What both say of themselves.
pub(super) fn described() -> [Description; 2] {
    let told = "What each role of the process does, and what it waits for.";
    [
        Description::open(Method::GET, "/health", "Whether the process lives").gives::<Told>(StatusCode::OK, told),
        Description::open(Method::GET, "/ready", "Whether every role does its work")
            .gives::<Told>(StatusCode::OK, told)
            .gives::<Told>(StatusCode::SERVICE_UNAVAILABLE, told),
    ]
}

#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
struct Told {
    /// `alive`, `ready` or `waiting`.
    status: &'static str,
    /// By name.
    #[schema(value_type = BTreeMap<String, RoleTold>)]
    roles: BTreeMap<&'static str, RoleTold>,
}

/// One role, without what there is nothing to say about.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleTold {
    /// `ready` or `waiting`.
    state: &'static str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Partitions that it does not read on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    held: Vec<Held>,
    /// Topics that it does not read because their breaker is open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    halted: Vec<HaltedTold>,
    /// What an operator should know though it does its work, by subject.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    notes: BTreeMap<&'static str, String>,
}

#[derive(Serialize, ToSchema)]
struct Held {
    /// Topic, partition and offset.
    partition: String,
    /// Why.
    reason: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Halted)]
struct HaltedTold {
    /// Its name.
    topic: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Why, and what to do.
    reason: String,
}

fn answer(code: StatusCode, status: &'static str, health: &Health) -> Response {
    let roles = health.entries().into_iter().map(|(role, entry)| (role, RoleTold::of(entry))).collect();
    rest::json(code, &Told { status, roles }).unwrap_or_else(Problem::answer)
}

impl RoleTold {
    fn of(entry: Entry) -> Self {
        let Entry { state, since, held, halts, notes } = entry;
        let (state, reason) = match state {
            State::Ready => ("ready", None),
            State::Waiting(reason) => ("waiting", Some(reason)),
        };
        let held = held.into_iter().map(|(partition, reason)| Held { partition, reason }).collect();
        let told = |(topic, Halted { reason, since })| HaltedTold { topic, since, reason };
        let halted = halts.into_iter().map(told).collect();
        Self { state, since, reason, held, halted, notes }
    }
}
