//! One connection, from its first byte to its upgrade or end: PROXY header, TLS, HTTP/1.1.
//!
//! Owns: every limit of a connection that is no WebSocket yet, and the answers of those that reach no route. Neighbours: `guard`
//! judges each request, the routes answer it, the gateway takes upgraded sockets over.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::body::{Measured, Stage};
use super::places::{Place, Seat};
use super::unserved::Unserved;
use super::{Routes, Shared, proxied, tls};
use crate::config::ProxyProtocol;
use crate::gateway::{Caller, Page, Transport};
use crate::http::{guard, problem};

const HEADER_TIMEOUT: &str = "header_timeout";

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
    let opening = open(stream, address, place, (shared.clone(), routes));
    let opened = tokio::select! {
        () = stop.cancelled() => return,
        opened = opening => opened,
    };
    match opened {
        // The seat is given back with the upgrade, where this ends.
        Ok((transport, line, _seat)) => line.speak(transport, stop).await,
        Err((address, why)) => shared.turn_away(address, &why),
    }
}

/// A connection that HTTP can be spoken on, and its place among those of its address until it is upgraded; else who was turned away.
async fn open(
    mut stream: TcpStream,
    address: SocketAddr,
    place: Place,
    (shared, routes): (Arc<Shared>, Routes),
) -> Result<(Transport, Arc<Line>, Option<Seat>), (IpAddr, Unserved)> {
    let peer = address.ip().to_canonical();
    let named = announced(&shared, &mut stream, peer).await.map_err(|why| (peer, why))?;
    let (seat, http_seat) = seats(&shared, named).map_err(|why| (named, why))?;
    let transport = match &shared.certificates {
        None => Transport::plain(stream),
        Some(certificates) => {
            let shaking = tls::shake_hands(stream, certificates.current(), shared.handshake_timeout, &shared.meters);
            Transport::tls(shaking.await.map_err(|why| (named, why.into()))?)
        }
    };
    let place = Arc::new((place, seat));
    Ok((transport, Arc::new(Line { shared, routes, peer, named, place }), http_seat))
}

/// Places among those of an address: for as long as the connection is open, and until it is upgraded.
fn seats(shared: &Shared, address: IpAddr) -> Result<(Option<Seat>, Option<Seat>), Unserved> {
    if shared.trusts(address) {
        // The connections of a proxy are many clients': their requests are counted one by one.
        return Ok((None, None));
    }
    let seat = shared.places.seat(address).map_err(|_| Unserved::AddressFull)?;
    let http_seat = shared.places.http_seat(address).map_err(|_| Unserved::AddressFullOfHttp)?;
    Ok((seat, Some(http_seat)))
}

/// Who is at the other end, or whom the proxy there names.
async fn announced(shared: &Shared, stream: &mut TcpStream, peer: IpAddr) -> Result<IpAddr, Unserved> {
    if shared.http.proxy_protocol == ProxyProtocol::Off {
        return Ok(peer);
    }
    if !shared.trusts(peer) {
        return Err(Unserved::Stranger);
    }
    let read = timeout(shared.header_timeout, proxied::read(stream)).await;
    Ok(read.map_err(|_| Unserved::ProxyHeaderLate)??.map_or(peer, |client| client.to_canonical()))
}

impl Line {
    /// Speaks HTTP until the connection ends, is upgraded, or is asked to end behind the request that has begun.
    async fn speak(self: Arc<Self>, transport: Transport, stop: CancellationToken) {
        let (shared, named, talk) = (self.shared.clone(), self.named, transport.talk());
        let answering = talk.clone();
        let service = service_fn(move |request| {
            let (line, talk) = (self.clone(), answering.clone());
            async move {
                let answer = line.answer(request).await;
                match answer.status() {
                    StatusCode::SWITCHING_PROTOCOLS => talk.upgraded(),
                    _ => talk.answered(),
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.header_timeout)
            .max_buf_size(shared.http.header_bytes.get())
            .serve_connection(TokioIo::new(transport), service)
            .with_upgrades();
        let outcome = tokio::select! {
            outcome = &mut served => outcome,
            () = stop.cancelled() => {
                std::pin::Pin::new(&mut served).graceful_shutdown();
                (&mut served).await
            }
        };
        let Err(error) = outcome else { return };
        // Whoever was answered and has begun nothing since may leave it at that. What was begun hyper keeps, also if it came with what it
        // has answered.
        let has_begun = || served.into_parts().is_some_and(|parts| !parts.read_buf.is_empty());
        match reason(&error) {
            Some(HEADER_TIMEOUT) if talk.has_answered() && !has_begun() => drop(shared.meters.idle.inc()),
            Some(reason) => {
                shared.meters.request_refused(reason);
                shared.tell(named, reason, &error);
            }
            None => tracing::debug!(%error, "an HTTP connection ended badly"),
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
            Err(_) => {
                let refused = Refused::crowded();
                shared.tell(address, refused.reason, &refused.detail);
                Err(refused)
            }
        }
    }
}

/// Why hyper ended a connection, if it was for one of our limits.
fn reason(error: &hyper::Error) -> Option<&'static str> {
    let stalled = |source: &io::Error| source.kind() == io::ErrorKind::TimedOut;
    if error.is_timeout() {
        Some(HEADER_TIMEOUT)
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
