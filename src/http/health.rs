//! `/health`: the process is alive, and what each role does. `/ready`: whether every role does its work.

use std::collections::BTreeMap;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::telemetry::health::{Entry, Health, State};

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

fn answer(code: StatusCode, status: &str, health: &Health) -> Response {
    let roles = health.entries().into_iter().map(|(role, entry)| (role, told(&entry))).collect::<BTreeMap<_, _>>();
    let body = json!({ "status": status, "roles": roles });
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One role, without what there is nothing to say about.
fn told(entry: &Entry) -> Value {
    let Entry { state, since, held, notes } = entry;
    let mut told = match state {
        State::Ready => json!({ "state": "ready", "since": since }),
        State::Waiting(reason) => json!({ "state": "waiting", "since": since, "reason": reason }),
    };
    if !held.is_empty() {
        told["held"] = held.iter().map(|(place, reason)| json!({ "partition": place, "reason": reason })).collect();
    }
    if !notes.is_empty() {
        told["notes"] = json!(notes);
    }
    told
}
