//! The upgrade: from a GET request to a WebSocket connection (RFC 6455, section 4.2).
//!
//! Owns: which requests are upgraded, their parameters, and who may come in. A wrong request is refused before the upgrade, for
//! `http` to answer; a wrong credential is upgraded and then closed, because a browser sees nothing else. Refuses to log tokens.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidings_core::ids::DeviceId;
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::since::Since;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Reject;
use warp::reply::Response;

use super::inlet::{AckMode, NamedBy};
use super::line::{Admitted, Arrival, Line, Wish};
use super::metrics::RefusedLabels;
use super::outbox::Wire;
use super::transport::Transport;
use super::unproven::{Full, Place};
use super::{Phase, Shared};
use crate::auth::{Presented, Unidentified};

const KEY_BYTES: usize = 24;
const SUBPROTOCOL: &str = "tidings.v1";

/// Who sent a request; `http` adds it to each.
#[derive(Clone)]
pub struct Caller {
    /// Who is at the other end of the TCP connection: the last proxy, if there are any, whomever its PROXY header names.
    pub peer: IpAddr,
    /// The client's address, as far as trusted proxies tell it: for logs and limits.
    pub address: IpAddr,
    /// Whose page it comes from.
    pub page: Page,
    /// Its place among the connections that are allowed, kept for as long as the socket is open.
    pub place: Arc<dyn Any + Send + Sync>,
}

/// Whose page a browser sends a request for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// No browser, or no page.
    None,
    /// Of this host.
    Own,
    /// Of a site that is allowed.
    Allowed,
    /// Of any other site.
    Foreign,
}

/// A request that is not upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedUpgrade {
    /// No WebSocket handshake.
    #[error("this address speaks WebSocket: send an upgrade request")]
    NotWebSocket,
    /// Another version of the protocol.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
    /// A handshake without its key.
    #[error("`Sec-WebSocket-Key` must be 24 bytes of base64")]
    Key,
    /// A parameter that makes no sense.
    #[error("the parameter `{name}` {allowed}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What it must be.
        allowed: &'static str,
    },
    /// A page of another site.
    #[error("the page's origin is neither this host nor one of `http.allowed_origins`")]
    Origin,
    /// Too many that have not proved who they are.
    #[error("too many clients have not proved who they are yet; come back in a moment")]
    Unproven,
    /// The feed has not started, or the process drains.
    #[error("not open for connections: {why}; come back in a moment")]
    NotOpen {
        /// Why not.
        why: &'static str,
    },
}

impl Reject for RefusedUpgrade {}

impl RefusedUpgrade {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotWebSocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Unproven => StatusCode::TOO_MANY_REQUESTS,
            Self::NotOpen { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Headers that belong to the answer.
    #[must_use]
    pub fn headers(&self) -> Vec<(HeaderName, &'static str)> {
        match self {
            Self::NotWebSocket | Self::Version => {
                vec![(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13")]
            }
            Self::NotOpen { .. } | Self::Unproven => vec![(hyper::header::RETRY_AFTER, "1")],
            _ => Vec::new(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotWebSocket => "not_websocket",
            Self::Version => "version",
            Self::Key => "key",
            Self::Parameter { .. } => "parameter",
            Self::Origin => "origin",
            Self::Unproven => "unproven",
            Self::NotOpen { .. } => "not_open",
        }
    }
}

/// The gateway's route.
pub(super) fn routes(shared: Arc<Shared>) -> BoxedFilter<(Response,)> {
    let path = shared.config.path.trim_start_matches('/').to_owned();
    // warp's own query filter writes what it cannot read into its log.
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::path(path)
        .and(warp::path::end())
        .and(warp::get())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Caller>())
        .and_then(move |query: String, headers: HeaderMap, upgrade: Option<OnUpgrade>, caller: Option<Caller>| {
            let address = caller.as_ref().map(|caller| caller.address);
            let outcome = accept(&shared, &query, &headers, upgrade.zip(caller));
            std::future::ready(outcome.map_err(|refused| {
                shared.metrics.refused.get_or_create(&RefusedLabels { reason: refused.reason() }).inc();
                let code = refused.status().as_u16();
                tracing::info!(
                    address = address.map(tracing::field::display),
                    code,
                    reason = refused.reason(),
                    "connection refused"
                );
                warp::reject::custom(refused)
            }))
        })
        .boxed()
}

fn accept(
    shared: &Arc<Shared>,
    query: &str,
    headers: &HeaderMap,
    socket: Option<(OnUpgrade, Caller)>,
) -> Result<Response, RefusedUpgrade> {
    let key = handshake(headers)?;
    if socket.as_ref().is_some_and(|(_, caller)| caller.page == Page::Foreign) {
        return Err(RefusedUpgrade::Origin);
    }
    let wish = wish(query)?;
    if shared.is(Phase::Starting) {
        return Err(RefusedUpgrade::NotOpen { why: "the feed has not started" });
    }
    if shared.is(Phase::Draining) {
        return Err(RefusedUpgrade::NotOpen { why: "the process is draining" });
    }
    let (upgrade, caller) = socket.ok_or(RefusedUpgrade::NotWebSocket)?;
    let arrival = arrive(shared, wish, (&Presented { headers, query, peer: caller.peer }, caller.address))?;
    let line = shared.clone();
    // What happens once is boxed, so that an idle connection's task holds only what it needs while idle.
    shared.connections.spawn(async move {
        let Some((wire, answer, early)) = Box::pin(take_over(upgrade)).await else { return };
        Line::new(line, caller, wire, answer).run(arrival, early).await;
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&key).map_err(|_| RefusedUpgrade::Key)?);
    // Another subprotocol that a browser lists, such as the one that holds its token, is not for echoing.
    if lists(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// The answer to a well-formed handshake's key.
fn handshake(headers: &HeaderMap) -> Result<String, RefusedUpgrade> {
    if !lists(headers, &CONNECTION, "upgrade") || !lists(headers, &UPGRADE, "websocket") {
        return Err(RefusedUpgrade::NotWebSocket);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(RefusedUpgrade::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_BYTES).ok_or(RefusedUpgrade::Key)?;
    Ok(derive_accept_key(key.as_bytes()))
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// What the query asks for. Unknown parameters are ignored.
fn wish(query: &str) -> Result<Wish, RefusedUpgrade> {
    let (mut user, mut device, mut mode, mut locale, mut since) = (None, None, AckMode::Written, None, Since::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "userId" => user = Some(value.into_owned()),
            "deviceId" => {
                let refused = RefusedUpgrade::Parameter { name: "deviceId", allowed: "must be 1 to 64 bytes of printable text" };
                device = Some(value.parse().map_err(|_| refused)?);
            }
            // Browsers name more kinds of locales than these; who names another reads the default.
            "locale" => locale = value.parse().ok(),
            "since" => {
                let allowed = "must be an object with a position for each channel, as in `{\"user-42\": \"1:17\"}`, at most 128";
                since = value.parse().map_err(|_| RefusedUpgrade::Parameter { name: "since", allowed })?;
            }
            "ack" => {
                mode = match &*value {
                    "client" => AckMode::Client,
                    "written" => AckMode::Written,
                    _ => return Err(RefusedUpgrade::Parameter { name: "ack", allowed: "must be `client` or `written`" }),
                };
            }
            _ => {}
        }
    }
    let named_by = if device.is_some() { NamedBy::Client } else { NamedBy::Server };
    Ok(Wish { user, device: device.unwrap_or_else(|| DeviceId::drawn(Uuid::new_v4())), named_by, mode, locale, since })
}

/// What the request's credentials are worth. Whoever is not known by them takes a place among the unproven.
fn arrive(shared: &Shared, wish: Wish, (presented, address): (&Presented<'_>, IpAddr)) -> Result<Arrival, RefusedUpgrade> {
    let code = match shared.auth.identify(presented, shared.clock.now()) {
        Ok(identity) => match Admitted::new(identity, wish, None) {
            Ok(admitted) => return Ok(Arrival::Known(admitted)),
            Err(code) => code,
        },
        Err(Unidentified::Missing) if shared.auth.takes_tokens() => {
            return Ok(Arrival::Unknown(Box::new(wish), unproven(shared, address)?));
        }
        Err(Unidentified::Token(_) | Unidentified::Header { .. } | Unidentified::User) => CloseCode::InvalidToken,
        Err(_) => CloseCode::MissingCredentials,
    };
    Ok(Arrival::Refused(code, unproven(shared, address)?))
}

fn unproven(shared: &Shared, address: IpAddr) -> Result<Place, RefusedUpgrade> {
    shared.unproven.enter(address).map_err(|Full(limit)| {
        shared.metrics.crossed(limit);
        RefusedUpgrade::Unproven
    })
}

/// The bare socket with its TLS session if it has one, the answer that was held back, and what hyper had read beyond the request.
/// Hyper's own buffers are given back at once.
async fn take_over(upgrade: OnUpgrade) -> Option<(Wire, Vec<u8>, Box<[u8]>)> {
    let upgraded = upgrade.await.inspect_err(|error| tracing::debug!(%error, "a client left during the upgrade")).ok()?;
    let Ok(parts) = upgraded.downcast::<TokioIo<Transport>>() else {
        tracing::error!("an upgraded connection was not one of the listener's; this is a bug");
        return None;
    };
    let (wire, answer) = parts.io.into_inner().into_wire();
    Some((wire, answer, Box::from(&*parts.read_buf)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_handshake_is_answered_as_the_specification_does() {
        let sample = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(handshake(&sample).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_told_what_is_missing() {
        assert_eq!(handshake(&headers(&[])), Err(RefusedUpgrade::NotWebSocket));
        let old = headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "8")]);
        assert_eq!(handshake(&old), Err(RefusedUpgrade::Version));
        let keyless = headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]);
        assert_eq!(handshake(&keyless), Err(RefusedUpgrade::Key));
    }

    #[test]
    fn parameters_are_decoded_and_unknown_ones_ignored() {
        let asked = wish("token=a.b&deviceId=my%20phone&ack=client&locale=fr-ca&x=1").unwrap();
        assert_eq!(asked.locale.unwrap().as_str(), "fr-CA");
        assert_eq!(wish("locale=en-US-u-ca-buddhist").unwrap().locale, None);
        assert_eq!((asked.device.as_str(), asked.mode), ("my phone", AckMode::Client));
        assert_ne!(wish("").unwrap().device, wish("").unwrap().device, "a device without a name is another each time");
        assert!(matches!(wish("ack=maybe"), Err(RefusedUpgrade::Parameter { name: "ack", .. })));
        let stopped = wish("since=%7B%22user-42%22%3A%221%3A17%22%7D").unwrap().since.of(&"user-42".parse().unwrap());
        assert_eq!(stopped.unwrap().to_string(), "1:17");
        for text in ["", "1:17", "%7B%22user-42%22%3A%221%3A-17%22%7D"] {
            let refused = wish(&format!("since={text}"));
            assert!(matches!(refused, Err(RefusedUpgrade::Parameter { name: "since", .. })), "{text}");
        }
        assert!(matches!(wish("deviceId="), Err(RefusedUpgrade::Parameter { name: "deviceId", .. })));
    }
}
