//! Sites whose pages may talk to tidings, as the configuration writes them and as browsers name them (RFC 6454).
//!
//! Owns: what a pattern holds. Refuses one that would hold the sites of strangers, such as `*` and `https://*.com`. Neighbours:
//! `http` asks for each request.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A site such as `https://app.example.com`, or all sub-domains of one, `https://*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site {
    scheme: Scheme,
    /// Behind `*.` if `host` stands for its sub-domains.
    host: String,
    port: u16,
    below: Below,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Whether a pattern means the host or what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Itself,
    SubDomains,
}

/// A site that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no site: write `https://app.example.com`, `http://localhost:3000` or `https://*.example.com`, without a path")]
pub struct BadSite(String);

impl Site {
    /// The site of an `Origin` header; none for `null` and what is no site.
    #[must_use]
    pub fn of_origin(origin: &str) -> Option<Self> {
        origin.parse().ok().filter(|site: &Self| site.below == Below::Itself)
    }

    /// Whether `host`, as a request names it, is this site.
    #[must_use]
    pub fn is_host(&self, host: &str) -> bool {
        split_port(host)
            .is_some_and(|(name, port)| port.unwrap_or(self.scheme.port()) == self.port && name.eq_ignore_ascii_case(&self.host))
    }

    /// Whether a page's site is meant by this one.
    #[must_use]
    pub fn holds(&self, page: &Self) -> bool {
        let host = match self.below {
            Below::Itself => page.host == self.host,
            Below::SubDomains => page.host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        host && page.scheme == self.scheme && page.port == self.port
    }
}

impl FromStr for Site {
    type Err = BadSite;

    fn from_str(text: &str) -> Result<Self, BadSite> {
        read_site(text).ok_or_else(|| BadSite(text.to_owned()))
    }
}

impl TryFrom<String> for Site {
    type Error = BadSite;

    fn try_from(text: String) -> Result<Self, BadSite> {
        text.parse()
    }
}

impl From<Site> for String {
    fn from(site: Site) -> Self {
        let scheme = match site.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let below = if site.below == Below::SubDomains { "*." } else { "" };
        let port = if site.port == site.scheme.port() { Self::new() } else { format!(":{}", site.port) };
        format!("{scheme}://{below}{}{port}", site.host)
    }
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

fn read_site(text: &str) -> Option<Site> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (name, port) = split_port(rest)?;
    let (name, below) = name.strip_prefix("*.").map_or((name, Below::Itself), |name| (name, Below::SubDomains));
    // `*.com` would hold the sites of strangers.
    if below == Below::SubDomains && !name.contains('.') {
        return None;
    }
    let host = name.to_ascii_lowercase();
    Some(Site { scheme, host, port: port.unwrap_or(scheme.port()), below })
}

/// Name and port of `example.com:443`, `[::1]:3007` or one without a port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let at = match text.rfind(']') {
        Some(end) => text[end..].find(':').map(|colon| end + colon),
        None => text.find(':'),
    };
    let (name, port) = match at {
        Some(at) => (&text[..at], Some(text[at + 1..].parse().ok()?)),
        None => (text, None),
    };
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte));
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fine = bracketed.map_or_else(|| plain(name), |inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let starred = name.strip_prefix("*.").unwrap_or(name).contains('*');
    (!name.is_empty() && fine && !starred).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Site {
        text.parse().unwrap()
    }

    #[test]
    fn a_site_is_its_scheme_host_and_port() {
        assert!(site("https://app.example.com").holds(&site("https://APP.example.com:443")));
        for other in
            ["http://app.example.com", "https://app.example.com:8443", "https://example.com", "https://app.example.com.evil"]
        {
            assert!(!site("https://app.example.com").holds(&site(other)), "{other}");
        }
    }

    #[test]
    fn a_wildcard_holds_sub_domains_at_any_depth_and_nothing_else() {
        let all = site("https://*.example.com");
        for page in ["https://a.example.com", "https://a.b.example.com"] {
            assert!(all.holds(&site(page)), "{page}");
        }
        for page in ["https://example.com", "https://evilexample.com", "http://a.example.com", "https://.example.com"] {
            assert!(!page.parse::<Site>().is_ok_and(|page| all.holds(&page)), "{page}");
        }
    }

    #[test]
    fn what_is_no_site_is_refused() {
        for bad in [
            "*",
            "null",
            "example.com",
            "https://*",
            "https://*.com",
            "https://a.*.com",
            "ftp://a.b",
            "https://a.b/",
            "https://a:b",
        ] {
            assert!(bad.parse::<Site>().is_err(), "{bad}");
        }
        assert_eq!(Site::of_origin("https://*.example.com"), None, "no browser sends a pattern");
    }

    #[test]
    fn a_site_is_compared_with_the_host_of_a_request() {
        assert!(site("http://localhost:3007").is_host("localhost:3007"));
        assert!(site("https://example.com").is_host("example.com:443") && site("https://example.com").is_host("Example.com"));
        assert!(site("http://[::1]:3007").is_host("[::1]:3007"));
        assert!(!site("http://localhost").is_host("localhost:3007") && !site("http://a").is_host(""));
    }

    #[test]
    fn a_site_is_shown_as_it_is_written() {
        for text in ["https://*.example.com", "http://localhost:3000", "http://[::1]:3000"] {
            assert_eq!(String::from(site(text)), text);
        }
    }
}
