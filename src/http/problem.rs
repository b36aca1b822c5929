//! Errors as `application/problem+json` (RFC 9457).
//!
//! Owns: the only way an error of HTTP is answered. Says nothing of a request's query, which may hold a token.

use std::convert::Infallible;
use std::fmt;

use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use tidings_core::fate::Fate;
use tidings_core::record::request::Fault;
use utoipa::ToSchema;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::{LengthRequired, MethodNotAllowed, PayloadTooLarge, Rejection, UnsupportedMediaType};
use warp::reply::Response;

use super::guard::RefusedCaller;
use crate::gateway::{Absent, Caller, RefusedUpgrade, Unsettled, Unwritten};
use crate::store::StoreError;

/// The most faults that one answer lists.
const LIMIT_FAULTS: usize = 50;
/// What a fragment must not hold as it is (RFC 3986, section 3.5).
const NO_FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Why a request gets no other answer, in words for its author.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// What kind of problem, where the status does not say it all.
    kind: Option<&'static str>,
    detail: String,
    faults: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem that its status names.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, kind: None, detail: detail.into(), faults: Vec::new(), headers: Vec::new() }
    }

    /// A problem of a kind that a client may tell apart.
    pub(super) fn of(kind: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { kind: Some(kind), ..Self::new(status, detail) }
    }

    /// There is no store, or it does not answer.
    pub(super) fn store_away() -> Self {
        let detail = "the store is away or slow, so nobody knows what is in the inbox; ask again in a moment";
        let problem = Self::of("store-away", StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.with(RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// The brokers gave no answer in time.
    pub(super) fn brokers_away(detail: impl Into<String>) -> Self {
        let problem = Self::of("brokers-away", StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.with(RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// What is named may still come.
    pub(super) fn not_yet(detail: impl Into<String>) -> Self {
        let problem = Self::of("not-yet", StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// With a header of the answer.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With what is wrong in the request's body.
    pub(super) fn pointing(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    /// The answer.
    pub(super) fn answer(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }

    fn body(&self) -> Told {
        let title = self.kind.map(|kind| kind.replace('-', " "));
        let title = title.unwrap_or_else(|| self.status.canonical_reason().unwrap_or_default().to_owned());
        let kind = self.kind.map_or_else(|| "about:blank".to_owned(), |kind| format!("urn:tidings:problem:{kind}"));
        // A pointer stands as a fragment, as in RFC 9457, section 3; percent-encoded as in RFC 6901, section 6.
        let fault = |fault: &Fault| {
            let pointer = format!("#{}", utf8_percent_encode(&fault.pointer, NO_FRAGMENT));
            FaultTold { pointer, detail: fault.detail.clone() }
        };
        let errors = self.faults.iter().take(LIMIT_FAULTS).map(fault).collect();
        Told { kind, title, status: self.status.as_u16(), detail: self.detail.clone(), errors }
    }
}

/// A problem as it is answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Told {
    /// What kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What, where, and what to do.
    detail: String,
    /// What is wrong in the body, if something is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FaultTold>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fault)]
struct FaultTold {
    /// Where: a JSON pointer as a fragment.
    pointer: String,
    /// What is wrong, and what would be right.
    detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.cause().fate() == Fate::RetryInPlace {
            tracing::warn!(%error, "the store gave a REST caller no answer; the caller was told to come back");
            return Self::store_away();
        }
        tracing::error!(%error, "the store cannot answer a REST caller");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot answer; its operator finds why in the log")
    }
}

impl From<Absent> for Problem {
    fn from(absent: Absent) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{absent}; ask again in a moment"));
        problem.with(RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl From<Unwritten> for Problem {
    fn from(unwritten: Unwritten) -> Self {
        Self::brokers_away(format!("{unwritten}; twice does no harm"))
    }
}

impl From<Unsettled> for Problem {
    fn from(unsettled: Unsettled) -> Self {
        match unsettled {
            Unsettled::Store => Self::store_away(),
            Unsettled::Unwritten(unwritten) => unwritten.into(),
        }
    }
}

/// Answers what no route took.
pub(super) async fn answer(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(of_rejection(&rejection).answer())
}

fn of_rejection(rejection: &Rejection) -> Problem {
    if let Some(refused) = rejection.find::<RefusedUpgrade>() {
        let problem = Problem::new(refused.status(), refused.to_string());
        let headers = refused.headers().into_iter();
        return headers.fold(problem, |problem, (name, value)| problem.with(name, HeaderValue::from_static(value)));
    }
    if let Some(refused) = rejection.find::<RefusedCaller>() {
        let problem = Problem::new(refused.status(), refused.to_string());
        return refused
            .header()
            .into_iter()
            .fold(problem, |problem, (name, value)| problem.with(name, HeaderValue::from_static(value)));
    }
    if rejection.find::<MethodNotAllowed>().is_some() {
        // Addresses that know other methods answer themselves.
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address takes GET, HEAD");
        return problem.with(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let (status, detail) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "there is nothing at this address")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    } else if rejection.find::<UnsupportedMediaType>().is_some() {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body's type is not taken here")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "the body's length must be said")
    } else {
        (StatusCode::BAD_REQUEST, "the request makes no sense here")
    };
    Problem::new(status, detail)
}

/// The routes of a gateway that cannot be made yet: the WebSocket's path and REST.
pub(super) fn closed(path: &str) -> BoxedFilter<(Response,)> {
    let segment = path.trim_start_matches('/').to_owned();
    let rest = warp::path("v1").and(warp::path::tail()).map(drop).untuple_one();
    let door = warp::path(segment).and(warp::path::end()).and(warp::ext::optional::<Caller>());
    door.map(|caller: Option<Caller>| {
        let address = caller.map(|caller| tracing::field::display(caller.address));
        tracing::info!(address, code = StatusCode::SERVICE_UNAVAILABLE.as_u16(), reason = "not_open", "connection refused");
    })
    .untuple_one()
    .or(rest)
    .unify()
    .map(|| {
        let detail = "the gateway waits for the brokers; come back in a moment";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, HeaderValue::from_static("1")).answer()
    })
    .boxed()
}

/// A problem that its status names, answered.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    Problem::new(status, detail).answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lists_a_bounded_number_of_faults_with_pointers_that_are_fragments() {
        let fault = |number: usize| Fault { pointer: format!("/locales/é {number}%"), detail: "wrong".into() };
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no").pointing((0..1_000).map(fault).collect());
        let body = serde_json::to_value(problem.body()).unwrap();
        assert_eq!(body["errors"].as_array().unwrap().len(), LIMIT_FAULTS);
        assert_eq!(body["errors"][0]["pointer"], "#/locales/%C3%A9%200%25");
    }
}
