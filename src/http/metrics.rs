//! `/metrics`: the registry in the OpenMetrics text format.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use tidings_core::time::Timestamp;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::openapi::Description;
use crate::clock::Clock;
use crate::telemetry::Metrics;

const MEDIA: &str = "application/openmetrics-text";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`.
pub(super) fn routes(metrics: Metrics, clock: Clock) -> BoxedFilter<(Response,)> {
    warp::path!("metrics").and(warp::get()).map(move || answer(&metrics, clock.now())).boxed()
}

/// What it says of itself.
pub(super) fn described() -> Description {
    Description::open(Method::GET, "/metrics", "All metrics of the process").gives_text(StatusCode::OK, "OpenMetrics.", MEDIA)
}

fn answer(metrics: &Metrics, now: Timestamp) -> Response {
    match metrics.encode(now) {
        Ok(text) => {
            let mut response = Response::new(text.into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(error) => {
            tracing::error!(%error, "a metric could not be written; this is a bug");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
