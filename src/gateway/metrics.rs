//! The gateway's metrics, all under `tidings_gateway_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Metrics;

/// What the gateway counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct GatewayMetrics {
    pub(super) connections: Gauge,
    pub(super) opened: Counter,
    pub(super) refused: Family<RefusedLabels, Counter>,
    pub(super) closed: Family<ClosedLabels, Counter>,
    pub(super) frames_sent: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) frames_received: Counter,
    pub(super) duplicates: Counter,
    pub(super) redeliveries: Counter,
    pub(super) overflows: Counter,
    pub(super) unreadable: Counter,
    pub(super) cursor_records: Counter,
    pub(super) feed_records: Counter,
    pub(super) feed_delay_ms: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusedLabels {
    pub(super) reason: &'static str,
}

impl GatewayMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("gateway", |registry| {
            registry.register("connections", "Open connections", own.connections.clone());
            registry.register("connections_opened", "Connections that were admitted", own.opened.clone());
            registry.register("upgrades_refused", "Upgrades that were refused, by reason", own.refused.clone());
            registry.register("connections_closed", "Connections that ended, by close code", own.closed.clone());
            registry.register("frames_sent", "Frames handed to connections", own.frames_sent.clone());
            registry.register("bytes_sent", "Bytes handed to connections", own.bytes_sent.clone());
            registry.register("frames_received", "Text frames of clients", own.frames_received.clone());
            registry.register("duplicates", "Records not sent, as their notification was sent before", own.duplicates.clone());
            registry.register("redeliveries", "Redelivered notifications handed to connections", own.redeliveries.clone());
            registry.register("outbox_overflows", "Connections whose outbox was full", own.overflows.clone());
            registry.register("unreadable_records", "Records of own topics that do not read", own.unreadable.clone());
            registry.register("cursor_records", "Cursor records the brokers have taken", own.cursor_records.clone());
            registry.register("feed_records", "Records the feed has read", own.feed_records.clone());
            registry.register("feed_delay_ms", "Age of the record read last, when it was read", own.feed_delay_ms.clone());
        });
        own
    }
}
