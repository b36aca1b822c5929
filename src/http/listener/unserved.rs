//! Connections that end before a request of theirs is answered: why, counted, and one line of the log for each, though not for each of
//! a flood.
//!
//! Owns: their reasons, in metrics and in words. Refuses to call a connection refused that said nothing, as probes of ports do.
//! Neighbours: `line` and the accept loop turn away, telemetry's complaints bound the lines.

use std::fmt::Display;
use std::net::IpAddr;

use super::proxied::HeaderError;
use super::{Shared, tls};
use crate::telemetry::Said;

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unserved {
    #[error("`gateway.connections` are open")]
    Full,
    #[error("its address has `gateway.connections_per_address` open")]
    AddressFull,
    #[error("its address has `gateway.http_connections_per_address` open that are not upgraded")]
    AddressFullOfHttp,
    #[error("with the PROXY protocol only proxies of `http.trusted_proxies` may connect")]
    Stranger,
    #[error(transparent)]
    ProxyHeader(#[from] HeaderError),
    #[error("its PROXY header did not come within `gateway.header_timeout`")]
    ProxyHeaderLate,
    #[error(transparent)]
    Handshake(#[from] tls::Failure),
}

impl Unserved {
    fn reason(&self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::AddressFull => "connections_per_address",
            Self::AddressFullOfHttp => "http_connections_per_address",
            Self::Stranger => "untrusted_proxy",
            Self::ProxyHeader(_) => "proxy_header",
            Self::ProxyHeaderLate => "proxy_header_timeout",
            Self::Handshake(_) => "tls_handshake",
        }
    }
}

impl Shared {
    /// Says that a connection is closed unserved, and counts it. Handshakes are counted by their outcome where they are made.
    pub(super) fn turn_away(&self, address: IpAddr, why: &Unserved) {
        match why {
            Unserved::Handshake(tls::Failure::Silent) => return,
            Unserved::Handshake(_) => {}
            why => self.meters.refused(why.reason()),
        }
        if matches!(why, Unserved::Full) && self.complaints.how("full", "") != Said::Softly {
            tracing::warn!("every connection is refused: `gateway.connections` are open");
        }
        self.tell(address, why.reason(), why);
    }

    /// Says that a connection ends by one of our limits.
    pub(super) fn tell(&self, address: IpAddr, reason: &'static str, why: &dyn Display) {
        match self.complaints.how(reason, "") {
            Said::First => tracing::info!(
                %address, reason, %why, "connection refused; more for this reason are counted, and told of once a minute"
            ),
            Said::Again(more) => tracing::info!(%address, reason, %why, more, "connection refused, and `more` before it"),
            Said::Softly => tracing::debug!(%address, reason, %why, "connection refused"),
        }
    }
}
