//! `/health`: the process is alive, and what each role does. `/ready`: whether every role does its work.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::telemetry::health::{Health, State};

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
    let roles = health.states().into_iter().map(|(role, state)| {
        let mut shown = match state {
            State::Ready => json!({ "state": "ready" }),
            State::Waiting(why) => json!({ "state": "waiting", "why": why }),
        };
        let notes = health.notes(role);
        if !notes.is_empty() {
            shown["notes"] = json!(notes);
        }
        (role.to_owned(), shown)
    });
    let body = json!({ "status": status, "roles": roles.collect::<Map<String, Value>>() });
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
