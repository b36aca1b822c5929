//! A document that is the same for every process of a release: made once, when it is asked for the first time.
//!
//! Owns: how it is answered. Neighbours: `openapi` and `asyncapi` make theirs.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

use super::problem::Problem;

/// The text, or why there is none.
pub(super) type Made = Result<String, serde_json::Error>;

pub(super) fn answer(document: &'static Made) -> Response {
    match document {
        Ok(text) => {
            let mut response = Response::new(text.as_str().into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "a document could not be made; this is a bug");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the document could not be made").answer()
        }
    }
}
