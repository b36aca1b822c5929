//! One connection, from its first byte to its upgrade or end: PROXY header, TLS, HTTP/1.1.
//!
//! Owns: every limit of a connection that is no WebSocket yet, and the answers of those that reach no route. Neighbours: `guard`
//! judges each request, the routes answer it, the gateway takes upgraded sockets over.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::body::{Measured, Stage};
use super::places::{Place, Seat};
use super::{Routes, Shared, proxied, tls};
use crate::config::ProxyProtocol;
use crate::gateway::{Caller, Page};
use crate::http::{guard, problem};

/// A connection that is served.
pub(super) struct Line {
    shared: Arc<Shared>,
    routes: Routes,
    /// Who is at the other end of the TCP connection.
    peer: IpAddr,
    /// Whom the PROXY header names; else the peer.
    named: IpAddr,
    /// Its place among all, and among those of its address.
    place: Arc<(Place, Option<Seat>)>,
}

/// A socket that HTTP can be spoken on.
enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A request that reaches no route.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    detail: &'static str,
}

/// Serves a connection to its end or upgrade.
pub(super) async fn serve(
    (stream, address): (TcpStream, SocketAddr),
    place: Place,
    (shared, routes): (Arc<Shared>, Routes),
    stop: CancellationToken,
) {
    let _serving = shared.meters.serving();
    let opening = open(stream, address, place, (shared, routes));
    let opened = tokio::select! {
        () = stop.cancelled() => return,
        opened = opening => opened,
    };
    // The seat is given back with the upgrade, where this ends.
    let Some((opened, line, _seat)) = opened else { return };
    match opened {
        Opened::Plain(stream) => line.speak(stream, stop).await,
        Opened::Tls(stream) => line.speak(*stream, stop).await,
    }
}

async fn open(
    mut stream: TcpStream,
    address: SocketAddr,
    place: Place,
    (shared, routes): (Arc<Shared>, Routes),
) -> Option<(Opened, Arc<Line>, Option<Seat>)> {
    let peer = address.ip().to_canonical();
    let named = announced(&shared, &mut stream, peer).await?;
    let (seat, http_seat) = seats(&shared, named)
        .inspect_err(|limit| {
            shared.meters.refused(limit);
            tracing::debug!(address = %named, limit, "a connection is refused");
        })
        .ok()?;
    let stream = match &shared.certificates {
        None => Opened::Plain(stream),
        Some(certificates) => {
            let shaking = tls::shake_hands(stream, certificates.current(), shared.handshake_timeout, &shared.meters);
            Opened::Tls(Box::new(shaking.await?))
        }
    };
    let place = Arc::new((place, seat));
    Some((stream, Arc::new(Line { shared, routes, peer, named, place }), http_seat))
}

/// Places among those of an address: for as long as the connection is open, and until it is upgraded. Else the limit that is reached.
fn seats(shared: &Shared, address: IpAddr) -> Result<(Option<Seat>, Option<Seat>), &'static str> {
    if shared.trusts(address) {
        // The connections of a proxy are many clients': their requests are counted one by one.
        return Ok((None, None));
    }
    let seat = shared.places.seat(address).map_err(|_| "connections_per_address")?;
    let http_seat = shared.places.http_seat(address).map_err(|_| "http_connections_per_address")?;
    Ok((seat, Some(http_seat)))
}

/// Who is at the other end, or whom the proxy there names.
async fn announced(shared: &Shared, stream: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
    if shared.http.proxy_protocol == ProxyProtocol::Off {
        return Some(peer);
    }
    if !shared.trusts(peer) {
        shared.meters.refused("untrusted_proxy");
        tracing::debug!(address = %peer, "a connection is refused: only proxies of `http.trusted_proxies` may connect");
        return None;
    }
    match timeout(shared.header_timeout, proxied::read(stream)).await {
        Ok(Ok(client)) => Some(client.map_or(peer, |client| client.to_canonical())),
        Ok(Err(error)) => {
            shared.meters.refused("proxy_header");
            tracing::debug!(address = %peer, %error, "a connection is refused");
            None
        }
        Err(_) => {
            shared.meters.refused("proxy_header_timeout");
            None
        }
    }
}

impl Line {
    /// Speaks HTTP until the connection ends, is upgraded, or is asked to end behind the request that has begun.
    async fn speak(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, stop: CancellationToken) {
        let shared = self.shared.clone();
        let service = service_fn(move |request| {
            let line = self.clone();
            async move { Ok::<_, Infallible>(line.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.header_timeout)
            .max_buf_size(shared.http.header_bytes.get())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        let outcome = tokio::select! {
            outcome = served.as_mut() => outcome,
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = outcome {
            if let Some(reason) = reason(&error) {
                shared.meters.request_refused(reason);
            }
            tracing::debug!(%error, "an HTTP connection ended badly");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response {
        let http = &self.shared.http;
        let page = guard::page(http, request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let answered = match guard::preflight(request.method(), request.headers(), page) {
            Some(response) => Ok(response),
            None => self.route(request, page).await,
        };
        let mut response = answered.unwrap_or_else(|refused| refused.answer(&self.shared));
        if !http.allowed_origins.is_empty() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            guard::share(&mut response, origin, page);
        }
        response
    }

    /// Lets the routes answer, as they are at this moment.
    async fn route(&self, request: Request<Incoming>, page: Page) -> Result<Response, Refused> {
        let caller = self.caller(&request, page)?;
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::HEAD {
            // GET, but for the answer's body, which hyper leaves out (RFC 9110, section 9.3.2); and nothing to upgrade.
            parts.method = Method::GET;
            parts.extensions.remove::<OnUpgrade>();
        }
        parts.extensions.insert(caller);
        let body = Measured::new(body, self.shared.http.body_bytes.get()).map_err(|_| Refused::too_large())?;
        let progress = body.progress();
        let routes = warp::service(self.routes.borrow().clone());
        let answering = TowerToHyperService::new(routes).call(Request::from_parts(parts, body));
        let answered = timeout(self.shared.http.request_timeout.0, answering).await;
        match answered {
            Ok(_) if progress.is(Stage::TooLarge) => Err(Refused::too_large()),
            Ok(Ok(response)) => Ok(response),
            Err(_) if progress.is(Stage::Reading) => Err(Refused::late()),
            Err(_) => Err(Refused::unanswered()),
        }
    }

    fn caller(&self, request: &Request<Incoming>, page: Page) -> Result<Caller, Refused> {
        let (shared, named) = (&self.shared, self.named);
        let address = guard::client(&shared.http, named, request.headers());
        let caller = |place| Caller { peer: self.peer, address, page, place };
        if !shared.trusts(named) || shared.trusts(address) {
            return Ok(caller(self.place.clone()));
        }
        match shared.places.seat(address) {
            Ok(None) => Ok(caller(self.place.clone())),
            Ok(Some(seat)) => Ok(caller(Arc::new((self.place.clone(), seat)))),
            Err(_) => Err(Refused::crowded()),
        }
    }
}

/// Why hyper ended a connection, if it was for one of our limits.
fn reason(error: &hyper::Error) -> Option<&'static str> {
    let stalled = |source: &io::Error| source.kind() == io::ErrorKind::TimedOut;
    if error.is_timeout() {
        Some("header_timeout")
    } else if error.is_parse_too_large() {
        Some("header_bytes")
    } else if error.is_parse() {
        Some("malformed")
    } else if error.source().and_then(|source| source.downcast_ref()).is_some_and(stalled) {
        Some("write_timeout")
    } else {
        None
    }
}

impl Refused {
    fn too_large() -> Self {
        let detail = "the body is larger than `http.body_bytes`";
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "body_bytes", detail }
    }

    fn late() -> Self {
        let detail = "the request did not come whole within `http.request_timeout`";
        Self { status: StatusCode::REQUEST_TIMEOUT, reason: "body_timeout", detail }
    }

    fn unanswered() -> Self {
        let detail = "there was no answer within `http.request_timeout`; ask again in a moment";
        Self { status: StatusCode::SERVICE_UNAVAILABLE, reason: "answer_timeout", detail }
    }

    fn crowded() -> Self {
        let detail = "too many connections of this address; close one, or come back later";
        Self { status: StatusCode::TOO_MANY_REQUESTS, reason: "connections_per_address", detail }
    }

    /// The connection ends behind it, because its body may still be on its way.
    fn answer(&self, shared: &Shared) -> Response {
        shared.meters.request_refused(self.reason);
        let mut response = problem::problem(self.status, self.detail);
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
