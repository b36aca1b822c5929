//! Endpoints: what is described is what is mounted, so no route is undocumented and no document without its route.
//!
//! Owns: finding the endpoint of a request, and holding the request to what is described before the endpoint sees it: method, caller,
//! parameters, the body's type. Neighbours: each route of REST is a list of endpoints, `openapi` shows their descriptions.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tidings_core::ids::UserId;
use tidings_core::record::request::Fault;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reject::Rejection;
use warp::reply::Response;

use super::{Rest, query, query_text};
use crate::auth::Identity;
use crate::gateway::Caller;
use crate::http::guard::Needed;
use crate::http::openapi::Description;
use crate::http::problem::Problem;

/// What an endpoint comes to.
pub(super) type Answered = Result<Response, Problem>;
pub(super) type Handler = fn(Arc<Rest>, Asked) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

/// One method of one address.
pub(super) struct Endpoint {
    pub(super) description: Description,
    handler: Handler,
}

/// A request that is as its endpoint's description says.
pub(super) struct Asked {
    pub(super) caller: Identity,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    /// What stands in the path where the description has names, as it was sent.
    segments: Vec<(&'static str, String)>,
    body: BoxStream<'static, Result<Bytes, warp::Error>>,
}

/// An address with all that may be asked of it.
struct Address {
    path: &'static str,
    endpoints: Vec<Endpoint>,
}

struct Router {
    rest: Arc<Rest>,
    /// Those with the fewest names first: a word that is meant goes before one that may be any.
    addresses: Vec<Address>,
}

/// A request before anybody looked at it.
struct Sent {
    path: FullPath,
    method: Method,
    headers: HeaderMap,
    query: String,
    caller: Option<Caller>,
}

impl Endpoint {
    pub(super) fn new(description: Description, handler: Handler) -> Self {
        Self { description, handler }
    }
}

/// Everything under `/v1`.
pub(super) fn mount(rest: Arc<Rest>, endpoints: Vec<Endpoint>) -> BoxedFilter<(Response,)> {
    let router = Arc::new(Router { rest, addresses: addresses(endpoints) });
    let sent = warp::path("v1").and(warp::path::full()).and(warp::method()).and(warp::header::headers_cloned());
    let sent = sent.and(query_text()).and(warp::ext::optional::<Caller>());
    let sent = sent.map(|path, method, headers, query, caller| Sent { path, method, headers, query, caller });
    sent.and(warp::body::stream()).and_then(move |sent, body| router.clone().answer(sent, whole(body))).boxed()
}

/// A body as a stream of pieces, whatever warp makes of them.
fn whole(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes, warp::Error>> {
    body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))).boxed()
}

fn addresses(endpoints: Vec<Endpoint>) -> Vec<Address> {
    let mut addresses = Vec::<Address>::new();
    for endpoint in endpoints {
        let path = endpoint.description.path;
        match addresses.iter_mut().find(|address| address.path == path) {
            Some(address) => address.endpoints.push(endpoint),
            None => addresses.push(Address { path, endpoints: vec![endpoint] }),
        }
    }
    addresses.sort_by_key(|address| address.path.matches('{').count());
    addresses
}

impl Router {
    async fn answer(
        self: Arc<Self>,
        mut sent: Sent,
        body: BoxStream<'static, Result<Bytes, warp::Error>>,
    ) -> Result<Response, Rejection> {
        let path = sent.path.as_str();
        let found = self.addresses.iter().find_map(|address| Some((address, matched(address.path, path)?)));
        let Some((address, segments)) = found else { return Err(warp::reject::not_found()) };
        let Some(endpoint) = address.endpoints.iter().find(|endpoint| endpoint.description.method == sent.method) else {
            return Ok(self.rest.answer(address.path, Err(address.other_method())));
        };
        let Description { needed, .. } = endpoint.description;
        // Only what is asked of callers who are known is an endpoint of REST.
        let needed = needed.ok_or_else(warp::reject::not_found)?;
        let caller = self.rest.guard.admit(needed, &sent.headers, &sent.query, sent.caller.take())?;
        let expected = self.rest.allow((needed, &sent.method), &caller.user).and_then(|()| endpoint.expect(&sent));
        let outcome = match expected {
            Ok(()) => {
                let asked = Asked { caller, query: sent.query, headers: sent.headers, segments, body };
                (endpoint.handler)(self.rest.clone(), asked).await
            }
            Err(problem) => Err(problem),
        };
        Ok(self.rest.answer(address.path, outcome))
    }
}

impl Rest {
    /// Holds users to the rate of what they write for themselves.
    fn allow(&self, (needed, method): (Needed, &Method), user: &UserId) -> Result<(), Problem> {
        if needed != Needed::User || method.is_safe() { Ok(()) } else { self.rates.take(user, self.clock.elapsed()) }
    }
}

impl Endpoint {
    fn expect(&self, sent: &Sent) -> Result<(), Problem> {
        query::only(&sent.query, &self.description.queries().collect::<Vec<_>>())?;
        if self.description.takes_body() { expect_json(&sent.headers) } else { Ok(()) }
    }
}

impl Address {
    /// The answer to a method that is not taken (RFC 9110, section 15.5.6).
    fn other_method(&self) -> Problem {
        let mut taken = Vec::new();
        for endpoint in &self.endpoints {
            taken.push(endpoint.description.method.as_str());
            if endpoint.description.method == Method::GET {
                taken.push("HEAD");
            }
        }
        let allowed = taken.join(", ");
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this address takes {allowed}"));
        HeaderValue::from_str(&allowed).into_iter().fold(problem, |problem, value| problem.with(ALLOW, value))
    }
}

impl Asked {
    /// What stands in the path at a name of the description.
    pub(super) fn segment(&self, name: &str) -> &str {
        self.segments.iter().find(|(known, _)| *known == name).map_or("", |(_, segment)| segment.as_str())
    }

    /// Reads the body to its end; the listener bounds it in size and time.
    pub(super) async fn bytes(&mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Reads the body as what the endpoint takes. Fields that it does not know are ignored.
    pub(super) async fn body<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        let bytes = self.bytes().await?;
        let value = serde_json::from_slice::<serde_json::Value>(&bytes)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
        serde_path_to_error::deserialize(value).map_err(|error| {
            let pointer = error.path().iter().map(|segment| format!("/{segment}")).collect::<String>();
            let pointer = if pointer == "/." { String::new() } else { pointer };
            invalid(Fault { pointer, detail: error.into_inner().to_string() })
        })
    }
}

/// A body that is JSON and makes no sense.
pub(super) fn invalid(fault: Fault) -> Problem {
    let problem = Problem::of("invalid-request", StatusCode::UNPROCESSABLE_ENTITY, "the body is not what this address takes");
    problem.pointing(vec![fault])
}

/// The segments of `path` at the names of `template`, if it is one of its addresses.
fn matched(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (mut names, mut segments) = (template.split('/'), path.split('/'));
    let mut found = Vec::new();
    loop {
        match (names.next(), segments.next()) {
            (None, None) => return Some(found),
            (Some(name), Some(segment)) => match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(_) if segment.is_empty() => return None,
                Some(name) => found.push((name, segment.to_owned())),
                None if name == segment => {}
                None => return None,
            },
            _ => return None,
        }
    }
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be JSON, with `Content-Type: application/json`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_segment_by_segment_and_names_take_any() {
        let template = "/v1/users/{id}/notifications/{notification}/read";
        let found = matched(template, "/v1/users/a%2Fb/notifications/7/read/").unwrap();
        assert_eq!(found, [("id", "a%2Fb".to_owned()), ("notification", "7".to_owned())]);
        for other in [
            "/v1/users//notifications/7/read",
            "/v1/users/a/notifications/7",
            "/v1/users/a/notifications/7/read/x",
            "/v1/users",
            "/",
            "",
        ] {
            assert!(matched(template, other).is_none(), "{other}");
        }
        assert_eq!(matched("/v1/stats", "/v1/stats").unwrap(), []);
    }
}
