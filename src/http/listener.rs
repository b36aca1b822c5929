//! The listener: accepts TCP connections and serves HTTP/1.1 on each until it is upgraded or done.
//!
//! Owns: the number of connections in all, the time a request's header may take, and draining. warp's own server offers none of
//! these. Refuses to end because of a client or of a lack of files: it waits and goes on.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::config::GatewayConfig;
use crate::gateway::Caller;

/// How long to wait after the system gave no connection, for instance because no file is left.
const BACKOFF: Duration = Duration::from_millis(100);

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
    /// The system does not say how many files may be open.
    #[error("the number of files this process may open is not known")]
    Limit(#[source] io::Error),
}

/// The routes; more may be mounted while the listener serves.
pub type Routes = tokio::sync::watch::Receiver<BoxedFilter<(Response,)>>;

/// A socket that listens, and how its connections are treated.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
    header_timeout: Duration,
    send_buffer_bytes: usize,
}

impl Listener {
    /// Listens, so that connections queue from now on; [`Listener::serve`] accepts them.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(config: &GatewayConfig) -> Result<Self, ListenError> {
        let host = config.host.as_str();
        let refused = |source| ListenError::Bind { address: format!("{host} port {}", config.port), source };
        let socket = TcpListener::bind((host, config.port)).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self {
            socket,
            address,
            places: Arc::new(Semaphore::new(places(config.connections)?)),
            header_timeout: config.header_timeout.0,
            send_buffer_bytes: config.send_buffer_bytes.get(),
        })
    }

    /// Where it listens, with the port that was taken if the configured one is 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` is cancelled, then finishes the requests that have begun. Upgraded connections are not waited for.
    /// Each request is answered by the routes as they are at that moment.
    pub async fn serve(self, routes: Routes, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => match self.places.clone().try_acquire_owned() {
                    Ok(place) => {
                        full = false;
                        let caller = Caller { address, place: Arc::new(place) };
                        self.prepare(&stream);
                        tasks.spawn(connection(stream, caller, routes.clone(), (self.header_timeout, stop.clone())));
                    }
                    Err(_) if full => {}
                    Err(_) => {
                        full = true;
                        tracing::warn!(%address, "connections are refused: `gateway.connections` are open");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted; trying again");
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
        drop(self.socket);
        tasks.close();
        tasks.wait().await;
    }

    fn prepare(&self, stream: &TcpStream) {
        let nodelay = stream.set_nodelay(true);
        let buffer = SockRef::from(stream).set_send_buffer_size(self.send_buffer_bytes);
        if let Err(error) = nodelay.and(buffer) {
            tracing::debug!(%error, "a socket's options could not be set");
        }
    }
}

/// Connections in all: as configured, or three quarters of the files that may be open.
fn places(configured: usize) -> Result<usize, ListenError> {
    if configured > 0 {
        return Ok(configured.min(Semaphore::MAX_PERMITS));
    }
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| ListenError::Limit(errno.into()))?;
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    Ok((files / 4).saturating_mul(3).clamp(1, Semaphore::MAX_PERMITS))
}

async fn connection(stream: TcpStream, caller: Caller, routes: Routes, (header_timeout, stop): (Duration, CancellationToken)) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        TowerToHyperService::new(warp::service(routes.borrow().clone())).call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
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
        tracing::debug!(%error, "an HTTP connection ended badly");
    }
}
