//! The guard: what is known of a request before any route sees it, and who may ask.
//!
//! Owns: the client's address, the page that a browser asks for, cross-origin answers, and the roles that REST asks for. WebSocket
//! and REST are judged alike. Refuses to know what a route does. Neighbours: `listener` calls it for each request, REST's routes take
//! [`Guard::admit`].

mod caller;
mod cors;
mod forwarded;

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

pub use self::caller::{Guard, Needed, RefusedCaller};
pub(super) use self::cors::{preflight, share};
use crate::config::{HttpConfig, Site};
use crate::gateway::Page;

/// The client's address: the peer's, or what trusted proxies say of it.
pub(super) fn client(config: &HttpConfig, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    forwarded::client(&config.trusted_proxies, peer, headers)
}

/// Whose page the request comes from, as far as a browser says.
pub(super) fn page(config: &HttpConfig, headers: &HeaderMap) -> Page {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Page::None };
    if origins.next().is_some() {
        return Page::Foreign;
    }
    let Some(site) = origin.to_str().ok().and_then(Site::of_origin) else { return Page::Foreign };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| site.is_host(host));
    if own {
        Page::Own
    } else if config.allowed_origins.iter().any(|allowed| allowed.holds(&site)) {
        Page::Allowed
    } else {
        Page::Foreign
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn page_of(allowed: &[&str], origin: &'static str, host: &'static str) -> Page {
        let mut config = crate::config::load(None, &[]).unwrap().http;
        config.allowed_origins = allowed.iter().map(|site| site.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(HOST, HeaderValue::from_static(host));
        page(&config, &headers)
    }

    #[test]
    fn a_page_of_the_same_host_is_own_and_of_another_foreign() {
        assert_eq!(page_of(&[], "http://localhost:3007", "localhost:3007"), Page::Own);
        assert_eq!(page_of(&[], "https://Example.com", "example.com:443"), Page::Own);
        assert_eq!(page_of(&[], "https://example.com", "example.com"), Page::Own);
        for origin in ["http://evil.example", "http://localhost:3008", "null", "http://localhost", "garbage"] {
            assert_eq!(page_of(&[], origin, "localhost:3007"), Page::Foreign, "{origin}");
        }
    }

    #[test]
    fn pages_of_allowed_sites_are_told_apart_from_foreign_ones() {
        let allowed = ["https://app.example.com", "https://*.example.org"];
        assert_eq!(page_of(&allowed, "https://app.example.com", "api.example.com"), Page::Allowed);
        assert_eq!(page_of(&allowed, "https://a.b.example.org", "api.example.com"), Page::Allowed);
        assert_eq!(page_of(&allowed, "https://www.example.com", "api.example.com"), Page::Foreign);
        assert_eq!(page_of(&allowed, "http://app.example.com", "api.example.com"), Page::Foreign);
    }

    #[test]
    fn a_client_without_a_page_says_no_origin_and_two_are_foreign() {
        let config = crate::config::load(None, &[]).unwrap().http;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("a"));
        assert_eq!(page(&config, &headers), Page::None);
        headers.append(ORIGIN, HeaderValue::from_static("http://a"));
        assert_eq!(page(&config, &headers), Page::Own);
        headers.append(ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert_eq!(page(&config, &headers), Page::Foreign);
    }
}
