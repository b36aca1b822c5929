//! The listener: accepts TCP connections and has each served until it is upgraded or done.
//!
//! Owns: the sockets' options, the number of connections, and draining. warp's own server offers none of these, nor TLS. Refuses
//! to end because of a client or of a lack of files: it waits and goes on. Neighbours: `line` serves one connection.

mod body;
mod certificates;
mod line;
mod meters;
mod places;
mod proxied;
mod tls;
mod unserved;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::reply::Response;

pub use self::certificates::CertificateError;
use self::certificates::Certificates;
pub(super) use self::meters::Meters;
use self::places::Places;
use self::unserved::Unserved;
use super::guard::Guard;
use crate::auth::Auth;
use crate::clock::Clock;
use crate::config::{GatewayConfig, HttpConfig};
use crate::telemetry::{Complaints, Metrics};

/// How long to wait after the system gave no connection, for instance because no file is left.
const BACKOFF: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// Why nothing can be accepted.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("`gateway.host`, `gateway.port`: {address} cannot be listened on")]
    Bind {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("no TLS")]
    Certificate(#[from] CertificateError),
    /// The system does not say how many files may be open.
    #[error("the number of files this process may open is not known")]
    Limit(#[source] io::Error),
}

/// The routes; more may be mounted while the listener serves.
pub type Routes = watch::Receiver<BoxedFilter<(Response,)>>;

/// What a listener is made of.
pub struct ListenerParts<'a> {
    /// Address, port and limits of connections.
    pub gateway: &'a GatewayConfig,
    /// Limits of requests, and who is trusted.
    pub http: &'a HttpConfig,
    /// When certificates expire.
    pub clock: Clock,
    /// Where its metrics are registered.
    pub metrics: &'a Metrics,
}

/// A socket that listens, and how its connections are treated.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    send_buffer_bytes: usize,
    stall_timeout: Duration,
    shared: Arc<Shared>,
}

/// What all connections share. Immutable.
struct Shared {
    http: HttpConfig,
    header_timeout: Duration,
    handshake_timeout: Duration,
    places: Places,
    /// None: connections are plain.
    certificates: Option<Certificates>,
    meters: Meters,
    complaints: Complaints,
}

impl Listener {
    /// Listens, so that connections queue from now on; [`Listener::serve`] accepts them.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub fn bind(parts: &ListenerParts<'_>) -> Result<Self, ListenError> {
        let ListenerParts { gateway, http, clock, metrics } = parts;
        let refused = |source| ListenError::Bind { address: format!("{} port {}", gateway.host, gateway.port), source };
        let socket = listen(&gateway.host, gateway.port).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        let meters = Meters::register(metrics);
        let tls = Some(&gateway.tls).filter(|tls| !tls.certificate.is_empty());
        let shared = Shared {
            http: (*http).clone(),
            header_timeout: gateway.header_timeout.0,
            handshake_timeout: gateway.tls.handshake_timeout.0,
            places: Places::new(gateway)?,
            certificates: tls.map(|files| Certificates::load(files, *clock, meters.clone())).transpose()?,
            meters,
            complaints: Complaints::new("http", *clock),
        };
        Ok(Self {
            socket,
            address,
            send_buffer_bytes: gateway.send_buffer_bytes.get(),
            // A WebSocket that takes nothing is told so first, and may linger.
            stall_timeout: gateway.write_timeout.0 + 2 * gateway.linger.0,
            shared: Arc::new(shared),
        })
    }

    /// A guard for routes, which counts beside this listener.
    #[must_use]
    pub fn guard(&self, auth: Arc<Auth>, clock: Clock) -> Guard {
        Guard::new(auth, self.shared.http.clone(), clock, self.shared.meters.clone())
    }

    /// Whether clients must speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.shared.certificates.is_some()
    }

    /// Where it listens, with the port that was taken if the configured one is 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` is cancelled, then finishes the requests that have begun. Upgraded connections are not waited for.
    /// Each request is answered by the routes as they are at that moment. With each change of `reloads` the certificate is read
    /// again.
    pub async fn serve(self, routes: Routes, mut reloads: watch::Receiver<u64>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = reloads.changed() => {
                    self.reload().await;
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted; trying again");
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            };
            let Ok(place) = self.shared.places.take() else {
                self.shared.turn_away(address.ip().to_canonical(), &Unserved::Full);
                continue;
            };
            self.shared.meters.accepted.inc();
            self.prepare(&stream);
            let shared = (self.shared.clone(), routes.clone());
            tasks.spawn(line::serve((stream, address), place, shared, stop.clone()));
        }
        drop(self.socket);
        tasks.close();
        tasks.wait().await;
    }

    async fn reload(&self) {
        let shared = self.shared.clone();
        let reloading = tokio::task::spawn_blocking(move || shared.certificates.as_ref().map(Certificates::reload));
        if reloading.await.is_err() {
            tracing::error!("reading the certificate panicked; the one before it stays in use; this is a bug");
        }
    }

    fn prepare(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        let set = stream.set_nodelay(true).and(socket.set_send_buffer_size(self.send_buffer_bytes));
        // Whoever takes no byte for so long is given up by the system, whatever was being written.
        #[cfg(target_os = "linux")]
        let set = set.and(socket.set_tcp_user_timeout(Some(self.stall_timeout)));
        if let Err(error) = set {
            tracing::debug!(%error, "a socket's options could not be set");
        }
    }
}

impl Shared {
    /// Whether an address is that of a trusted proxy.
    fn trusts(&self, address: IpAddr) -> bool {
        self.http.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

/// A listening socket; `::` takes connections of IPv4 as well, whatever the system's default.
fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(host.parse().map_err(io::Error::other)?, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests;
