//! CORS: what pages of other sites may ask and read (Fetch standard, section 3.3).
//!
//! Owns: preflights and the headers of answers. An allowed site is named back, never `*`. Credentials of the browser's own are
//! never allowed: bearers name themselves by a header.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};
use warp::reply::Response;

use crate::gateway::Page;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id, traceparent, tracestate");
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, location");
/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The answer to a preflight of an allowed page; none if the request is none.
pub(in crate::http) fn preflight(method: &Method, headers: &HeaderMap, page: Page) -> Option<Response> {
    if *method != Method::OPTIONS || page != Page::Allowed || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(response)
}

/// Lets a page of an allowed site read the answer. What depends on the page says so to caches.
pub(in crate::http) fn share(response: &mut Response, origin: Option<HeaderValue>, page: Page) {
    let answer = response.headers_mut();
    answer.append(VARY, HeaderValue::from_name(ORIGIN));
    if let (Page::Allowed, Some(origin)) = (page, origin) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
