//! Callers of REST: who asks, and whether the role that a route needs is theirs.
//!
//! Owns: the refusals, which never show what was presented. A page of a site that is not allowed is refused before anything else,
//! because a proxy that authenticates by cookies would vouch for it.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, WWW_AUTHENTICATE};
use warp::reject::Reject;

use super::super::listener::Meters;
use crate::auth::{Auth, Identity, Presented, Unidentified};
use crate::clock::Clock;
use crate::config::HttpConfig;
use crate::gateway::{Caller, Page};

/// Lets callers in. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

struct Shared {
    auth: Arc<Auth>,
    config: HttpConfig,
    clock: Clock,
    meters: Meters,
}

/// What a route asks of its caller. The roles are given one by one: an operator may not send, unless told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// To be known.
    User,
    /// The role of services that send notifications, `http.service_role`.
    Service,
    /// The role of operators, `http.admin_role`.
    Admin,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedCaller {
    /// Nobody knows who it is.
    #[error(transparent)]
    Unidentified(#[from] Unidentified),
    /// The role is missing.
    #[error("this needs the role `{role}`")]
    Role {
        /// Which.
        role: String,
    },
    /// A page of another site.
    #[error("the page's origin is neither this host nor one of `http.allowed_origins`")]
    Page,
    /// The request came past the listener.
    #[error("it is not known where the request comes from; this is a bug")]
    Unplaced,
}

impl Reject for RefusedCaller {}

impl RefusedCaller {
    /// The answer's status.
    pub(in crate::http) fn status(&self) -> StatusCode {
        match self {
            Self::Unidentified(_) => StatusCode::UNAUTHORIZED,
            Self::Role { .. } | Self::Page => StatusCode::FORBIDDEN,
            Self::Unplaced => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A header that belongs to the answer.
    pub(in crate::http) fn header(&self) -> Option<(HeaderName, &'static str)> {
        let by_token = matches!(self, Self::Unidentified(Unidentified::Missing | Unidentified::Token(_)));
        by_token.then_some((WWW_AUTHENTICATE, "Bearer"))
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unidentified(_) => "unidentified",
            Self::Role { .. } => "role",
            Self::Page => "origin",
            Self::Unplaced => "unplaced",
        }
    }
}

impl Guard {
    pub(in crate::http) fn new(auth: Arc<Auth>, config: HttpConfig, clock: Clock, meters: Meters) -> Self {
        Self { shared: Arc::new(Shared { auth, config, clock, meters }) }
    }

    /// Gives the caller of a route, if it is what the route needs. Everyone else is refused.
    pub(in crate::http) fn admit(
        &self,
        needed: Needed,
        headers: &HeaderMap,
        query: &str,
        caller: Option<Caller>,
    ) -> Result<Identity, RefusedCaller> {
        let judged = self.shared.judge(needed, headers, query, caller);
        judged.inspect_err(|refused| self.shared.meters.request_refused(refused.reason()))
    }
}

impl Shared {
    fn judge(&self, needed: Needed, headers: &HeaderMap, query: &str, caller: Option<Caller>) -> Result<Identity, RefusedCaller> {
        let Caller { peer, page, .. } = caller.ok_or(RefusedCaller::Unplaced)?;
        if page == Page::Foreign {
            return Err(RefusedCaller::Page);
        }
        let identity = self.auth.identify(&Presented { headers, query, peer }, self.clock.now())?;
        let role = match needed {
            Needed::User => return Ok(identity),
            Needed::Service => &self.config.service_role,
            Needed::Admin => &self.config.admin_role,
        };
        if identity.roles.contains(role) { Ok(identity) } else { Err(RefusedCaller::Role { role: role.clone() }) }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// What a caller with these roles and of this page is told.
    fn judged(needed: Needed, roles: &[&str], page: Page) -> Result<Identity, RefusedCaller> {
        let variables = [("TIDINGS_AUTH__SECRET".to_owned(), SECRET.to_owned())];
        let config = crate::config::load(None, &variables).unwrap();
        let clock = Clock::start();
        let roles = roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
        let lifetime = std::time::Duration::from_secs(60);
        let token = crate::auth::sign(&config.auth, &"alice".parse().unwrap(), &roles, (clock.now(), lifetime)).unwrap();
        let auth = Arc::new(Auth::new(&config.auth).unwrap());
        let guard = Guard::new(auth, config.http, clock, Meters::default());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        let address = [127, 0, 0, 1].into();
        let caller = Caller { peer: address, address, page, place: Arc::new(()) };
        guard.shared.judge(needed, &headers, "", Some(caller))
    }

    #[test]
    fn each_route_takes_the_role_it_needs_and_no_other() {
        let role = |role: &str| RefusedCaller::Role { role: role.into() };
        assert_eq!(judged(Needed::User, &[], Page::None).unwrap().user.as_str(), "alice");
        assert!(judged(Needed::Service, &["service"], Page::None).is_ok());
        assert!(judged(Needed::Admin, &["driver", "admin"], Page::None).is_ok());
        assert_eq!(judged(Needed::Service, &["admin"], Page::None), Err(role("service")));
        assert_eq!(judged(Needed::Admin, &["service"], Page::None), Err(role("admin")));
    }

    #[test]
    fn a_page_of_a_foreign_site_is_refused_whoever_it_speaks_for() {
        assert_eq!(judged(Needed::Admin, &["admin"], Page::Foreign), Err(RefusedCaller::Page));
        assert!(judged(Needed::Admin, &["admin"], Page::Allowed).is_ok());
        assert!(judged(Needed::Admin, &["admin"], Page::Own).is_ok());
    }

    #[test]
    fn who_is_not_known_is_told_how_to_be() {
        let refused = RefusedCaller::from(Unidentified::Missing);
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.header(), Some((WWW_AUTHENTICATE, "Bearer")));
        let untaken = RefusedCaller::from(Unidentified::Unsaid);
        assert_eq!((untaken.status(), untaken.header()), (StatusCode::UNAUTHORIZED, None), "no token would help");
    }
}
