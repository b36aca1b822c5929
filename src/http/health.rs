//! `/health`: the process is alive, and what each role does. `/ready`: whether every role does its work.

use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::Problem;
use crate::telemetry::health::{Health, State};

/// `GET` and `HEAD` of `/health` and `/ready`; other methods are told so.
pub(super) fn routes(health: Health) -> BoxedFilter<(Response,)> {
    let alive = health.clone();
    let health_route = warp::path!("health").and(asked()).map(move || answer(StatusCode::OK, "alive", &alive));
    let ready_route = warp::path!("ready").and(asked()).map(move || {
        if health.is_ready() {
            answer(StatusCode::OK, "ready", &health)
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, "waiting", &health)
        }
    });
    let other = warp::path!("health").or(warp::path!("ready")).unify().map(|| {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address takes GET and HEAD");
        problem.with(ALLOW, HeaderValue::from_static("GET, HEAD")).answer()
    });
    health_route.or(ready_route).unify().or(other).unify().boxed()
}

fn asked() -> BoxedFilter<()> {
    warp::get().or(warp::head()).unify().boxed()
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
