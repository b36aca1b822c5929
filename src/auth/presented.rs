//! What a request presents of its sender, in each mode.
//!
//! Owns: where a token may stand (header, subprotocol, query), which headers of a proxy count, and when a client's own word
//! does. Refuses to trust a header of a peer that is not listed. The same for WebSocket and REST.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL, VIA};
use hyper::http::uri::Authority;
use tidings_core::fate::Cause;
use tidings_core::ids::UserId;
use tidings_core::protocol::bearer;

use super::claims::ROLES_LIMIT;
use super::{Identity, TokenError};
use crate::config::{AuthConfig, Network};

/// What a proxy adds to the requests that it passes on.
const OF_PROXIES: [HeaderName; 3] = [HeaderName::from_static("x-forwarded-for"), FORWARDED, VIA];

/// A request, as far as it says who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query, without the question mark.
    pub query: &'a str,
    /// Who is at the other end of the TCP connection: the last proxy, if there are any.
    pub peer: IpAddr,
}

/// Why a request's sender is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No token is presented.
    #[error("no credentials: send a token as `Authorization: Bearer`")]
    Missing,
    /// The token is not taken.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Only proxies may connect.
    #[error("clients are authenticated by a proxy, and this peer is not listed in `auth.proxies`")]
    Peer,
    /// The proxy's header makes no sense.
    #[error("the header `{name}` of the proxy is repeated or does not read")]
    Header {
        /// Which.
        name: HeaderName,
    },
    /// The proxy names no user.
    #[error("the proxy named no user: it must set the header `{name}`")]
    Unnamed {
        /// Which.
        name: HeaderName,
    },
    /// Nothing is said where the client's own word counts.
    #[error("no user: without authentication the parameter `userId` says who it is")]
    Unsaid,
    /// Through a proxy, so perhaps not from this machine.
    #[error("without authentication no request is taken that a proxy has passed on (`X-Forwarded-For`, `Forwarded`, `Via`)")]
    Proxied,
    /// Not from this machine after all.
    #[error("without authentication only requests to a loopback name such as `localhost` are taken")]
    Host,
    /// The user's name does not read.
    #[error("the parameter `userId` is no user's name")]
    User,
}

impl Unidentified {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Refused
    }
}

impl<'a> Presented<'a> {
    /// The token: `Authorization: Bearer`, else the subprotocol `bearer.…`, else the parameter `token`.
    pub(super) fn token(&self) -> Option<Cow<'a, str>> {
        let header = self.headers.get(AUTHORIZATION).and_then(|value| bearer::in_authorization(value.to_str().ok()?));
        let header = header.map(Cow::Borrowed);
        let token = header.or_else(|| self.subprotocol().map(Cow::Borrowed)).or_else(|| self.parameter("token"));
        token.filter(|token| !token.is_empty())
    }

    fn subprotocol(&self) -> Option<&'a str> {
        let mut values = self.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        values.find_map(|value| bearer::in_subprotocols(value.to_str().ok()?))
    }

    fn parameters(&self, name: &'static str) -> impl Iterator<Item = Cow<'a, str>> {
        form_urlencoded::parse(self.query.as_bytes()).filter(move |(found, _)| found == name).map(|(_, value)| value)
    }

    fn parameter(&self, name: &'static str) -> Option<Cow<'a, str>> {
        self.parameters(name).next()
    }

    /// The one value of a header that a proxy sets.
    fn one(&self, name: &HeaderName) -> Result<Option<&'a str>, Unidentified> {
        let wrong = || Unidentified::Header { name: name.clone() };
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().map_err(|_| wrong())).transpose()?;
        // A proxy that appends to what its client sent would let the client choose.
        if values.next().is_some() { Err(wrong()) } else { Ok(first.map(str::trim).filter(|value| !value.is_empty())) }
    }
}

/// A proxy that has authenticated its clients, and tells who they are.
pub(super) struct Proxy {
    peers: Vec<Network>,
    user: HeaderName,
    roles: HeaderName,
}

impl Proxy {
    pub(super) fn new(config: &AuthConfig) -> Self {
        let (user, roles) = (config.user_header.0.clone(), config.roles_header.0.clone());
        Self { peers: config.proxies.clone(), user, roles }
    }

    pub(super) fn identify(&self, presented: &Presented<'_>) -> Result<Identity, Unidentified> {
        if !self.peers.iter().any(|network| network.contains(presented.peer)) {
            return Err(Unidentified::Peer);
        }
        let user = presented.one(&self.user)?.ok_or_else(|| Unidentified::Unnamed { name: self.user.clone() })?;
        let user = user.parse().map_err(|_| Unidentified::Header { name: self.user.clone() })?;
        let roles = presented.one(&self.roles)?.unwrap_or_default();
        let roles = listed(roles).ok_or_else(|| Unidentified::Header { name: self.roles.clone() })?;
        Ok(Identity { user, roles, expiry: None })
    }
}

/// Roles as a proxy or a developer lists them, unless they are too many.
fn listed(roles: &str) -> Option<Vec<String>> {
    let roles = roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    (roles.len() <= ROLES_LIMIT).then_some(roles)
}

/// Takes the client's own word: the parameters `userId` and `roles`. The listener is on loopback; a page of another site that has
/// its own name point there (DNS rebinding) is told by the `Host` it names, a proxy on this machine by the headers that it adds.
pub(super) fn by_word(presented: &Presented<'_>) -> Result<Identity, Unidentified> {
    if OF_PROXIES.iter().any(|name| presented.headers.contains_key(name)) {
        return Err(Unidentified::Proxied);
    }
    let host = presented.headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Authority>().ok());
    if !host.is_some_and(|host| is_loopback(host.host())) || !presented.peer.to_canonical().is_loopback() {
        return Err(Unidentified::Host);
    }
    let user = presented.parameter("userId").ok_or(Unidentified::Unsaid)?.parse::<UserId>();
    let roles = presented.parameter("roles").unwrap_or_default();
    let roles = listed(&roles).ok_or(Unidentified::User)?;
    Ok(Identity { user: user.map_err(|_| Unidentified::User)?, roles, expiry: None })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}
