//! The listener's numbers, all under `tidings_http_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::{Labels, Metrics};

/// What the listener counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Meters {
    connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) idle: Counter,
    refused: Family<WithReason, Counter>,
    requests_refused: Family<WithReason, Counter>,
    handshakes: Family<WithOutcome, Counter>,
    certificates: Family<WithOutcome, Counter>,
    pub(super) certificate_expiry: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithReason {
    reason: &'static str,
}

impl Labels for WithReason {
    const NAMES: &'static [&'static str] = &["reason"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithOutcome {
    outcome: &'static str,
}

impl Labels for WithOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
}

impl Meters {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("http", |shelf| {
            shelf.register(
                "open_connections",
                "TCP connections that are served, until they are upgraded",
                own.connections.clone(),
            );
            shelf.register("accepted_connections", "TCP connections that were accepted", own.accepted.clone());
            shelf.register(
                "idle_connections",
                "TCP connections that were closed as no further request came within `gateway.header_timeout`",
                own.idle.clone(),
            );
            shelf.register("refused_connections", "TCP connections that were closed unserved, by reason", own.refused.clone());
            shelf.register("refused_requests", "Requests that reached no route, by reason", own.requests_refused.clone());
            shelf.register("tls_handshakes", "TLS handshakes, by outcome", own.handshakes.clone());
            shelf.register("certificate_reloads", "Times the certificate was read again, by outcome", own.certificates.clone());
            shelf.register(
                "certificate_expiry_timestamp_seconds",
                "When the certificate in use expires, in seconds since 1970",
                own.certificate_expiry.clone(),
            );
        });
        own
    }

    /// Counts a connection as served for as long as the answer is kept.
    pub(super) fn serving(&self) -> Serving {
        self.connections.inc();
        Serving(self.connections.clone())
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&WithReason { reason }).inc();
    }

    pub(in crate::http) fn request_refused(&self, reason: &'static str) {
        self.requests_refused.get_or_create(&WithReason { reason }).inc();
    }

    pub(super) fn handshake(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&WithOutcome { outcome }).inc();
    }

    pub(super) fn certificate(&self, outcome: &'static str) {
        self.certificates.get_or_create(&WithOutcome { outcome }).inc();
    }
}

/// A connection that is served.
pub(super) struct Serving(Gauge);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.dec();
    }
}
