//! Errors as `application/problem+json` (RFC 9457).
//!
//! Owns: the only way an error of HTTP is answered. Says nothing of a request's query, which may hold a token.

use std::convert::Infallible;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::json;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;
use warp::reply::Response;

use super::guard::RefusedCaller;
use crate::gateway::RefusedUpgrade;

/// Answers what no route took.
pub(super) async fn answer(rejection: Rejection) -> Result<Response, Infallible> {
    if let Some(refused) = rejection.find::<RefusedUpgrade>() {
        let mut response = problem(refused.status(), &refused.to_string());
        for (name, value) in refused.headers() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        return Ok(response);
    }
    if let Some(refused) = rejection.find::<RefusedCaller>() {
        let mut response = problem(refused.status(), &refused.to_string());
        if let Some((name, value)) = refused.header() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        return Ok(response);
    }
    if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        return Ok(problem(StatusCode::METHOD_NOT_ALLOWED, "the address knows no such method"));
    }
    if rejection.is_not_found() {
        return Ok(problem(StatusCode::NOT_FOUND, "there is nothing at this address"));
    }
    Ok(problem(StatusCode::BAD_REQUEST, "the request makes no sense here"))
}

/// The route of a gateway that cannot be made yet.
pub(super) fn closed(path: &str) -> BoxedFilter<(Response,)> {
    let segment = path.trim_start_matches('/').to_owned();
    warp::path(segment)
        .and(warp::path::end())
        .map(|| problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway waits for the brokers; come back in a moment"))
        .boxed()
}

/// A problem in words for the client's author.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
