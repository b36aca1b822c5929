//! The gateway's metrics, all under `tidings_gateway_`. Long because each is named and described here.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tidings_core::presence::Extent;
use tidings_core::protocol::server::ErrorCode;
use tidings_core::recovery::Loss;

use super::presence::Kind;
use crate::telemetry::{Age, Durations, Fates, Labels, Metrics};

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
    refused_frames: Family<CodeLabels, Counter>,
    pub(super) duplicates: Counter,
    pub(super) redeliveries: Counter,
    limits: Family<LimitLabels, Counter>,
    pub(super) fates: Fates,
    pub(super) cursor_records: Counter,
    pub(super) receipts: Counter,
    pub(super) feed_records: Counter,
    pub(super) held: Gauge,
    pub(super) lag: Age,
    pub(super) event_to_socket: Durations,
    pub(super) recovering: Gauge,
    recoveries: Family<OutcomeLabels, Counter>,
    pub(super) records_from_ring: Counter,
    pub(super) records_from_store: Counter,
    pub(super) failed_reads: Counter,
    pub(super) ignored_positions: Counter,
    pub(super) end_reads: Counter,
    pub(super) paced: Counter,
    pub(super) ring_records: Gauge,
    pub(super) ring_bytes: Gauge,
    pub(super) ring_evicted: Counter,
    pub(super) other_nodes: Gauge,
    pub(super) other_devices: Gauge,
    signals: Family<KindLabels, Counter>,
    pub(super) unknown_signals: Counter,
    pub(super) unanswered_questions: Counter,
    gathered: Family<OutcomeLabels, Counter>,
    looked_up: Family<PlaceLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusedLabels {
    pub(super) reason: &'static str,
}

impl Labels for ClosedLabels {
    const NAMES: &'static [&'static str] = &["code"];
}

impl Labels for RefusedLabels {
    const NAMES: &'static [&'static str] = &["reason"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

impl Labels for CodeLabels {
    const NAMES: &'static [&'static str] = &["code"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Labels for OutcomeLabels {
    const NAMES: &'static [&'static str] = &["outcome"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl Labels for KindLabels {
    const NAMES: &'static [&'static str] = &["kind"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    place: &'static str,
}

impl Labels for PlaceLabels {
    const NAMES: &'static [&'static str] = &["place"];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

impl Labels for LimitLabels {
    const NAMES: &'static [&'static str] = &["limit"];
}

/// A limit of `[gateway]`, whose label is its key there, or of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    AuthFrameBytes,
    AuthTimeout,
    BadFrames,
    ChannelsPerConnection,
    ConnectionsPerUser,
    CountsUsers,
    DevicesPerUser,
    FrameBytes,
    /// The protocol's own: channels or ids that one frame may name.
    FrameNames,
    FramesPerSecond,
    FrameTimeout,
    HeartbeatInterval,
    IdleTimeout,
    OncePerUser,
    OutboxBytes,
    PresenceDevices,
    PresenceNodes,
    PresenceQuestions,
    UnacknowledgedPerConnection,
    Unauthenticated,
    UnauthenticatedPerAddress,
    WriteTimeout,
}

impl Limit {
    const ALL: [Self; 22] = [
        Self::AuthFrameBytes,
        Self::AuthTimeout,
        Self::BadFrames,
        Self::ChannelsPerConnection,
        Self::ConnectionsPerUser,
        Self::CountsUsers,
        Self::DevicesPerUser,
        Self::FrameBytes,
        Self::FrameNames,
        Self::FramesPerSecond,
        Self::FrameTimeout,
        Self::HeartbeatInterval,
        Self::IdleTimeout,
        Self::OncePerUser,
        Self::OutboxBytes,
        Self::PresenceDevices,
        Self::PresenceNodes,
        Self::PresenceQuestions,
        Self::UnacknowledgedPerConnection,
        Self::Unauthenticated,
        Self::UnauthenticatedPerAddress,
        Self::WriteTimeout,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AuthFrameBytes => "auth_frame_bytes",
            Self::AuthTimeout => "auth_timeout",
            Self::BadFrames => "bad_frames",
            Self::ChannelsPerConnection => "channels_per_connection",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::CountsUsers => "counts.users",
            Self::DevicesPerUser => "devices_per_user",
            Self::FrameBytes => "frame_bytes",
            Self::FrameNames => "frame_names",
            Self::FramesPerSecond => "frames_per_second",
            Self::FrameTimeout => "frame_timeout",
            Self::HeartbeatInterval => "heartbeat_interval",
            Self::IdleTimeout => "idle_timeout",
            Self::OncePerUser => "once_per_user",
            Self::OutboxBytes => "outbox_bytes",
            Self::PresenceDevices => "presence.devices",
            Self::PresenceNodes => "presence.nodes",
            Self::PresenceQuestions => "presence.questions_per_second",
            Self::UnacknowledgedPerConnection => "unacknowledged_per_connection",
            Self::Unauthenticated => "unauthenticated",
            Self::UnauthenticatedPerAddress => "unauthenticated_per_address",
            Self::WriteTimeout => "write_timeout",
        }
    }
}

/// Where notifications were found that somebody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Ring,
    Store,
    /// It cannot be said yet.
    Unseen,
    Nowhere,
}

impl Found {
    const ALL: [Self; 4] = [Self::Ring, Self::Store, Self::Unseen, Self::Nowhere];

    fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Store => "store",
            Self::Unseen => "unseen",
            Self::Nowhere => "nowhere",
        }
    }
}

/// How a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Truncated,
    Lost(Loss),
}

impl Outcome {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Complete, Self::Truncated].into_iter().chain(Loss::ALL.map(Self::Lost))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::Lost(loss) => loss.name(),
        }
    }
}

impl GatewayMetrics {
    fn register_recovery(&self, metrics: &Metrics) {
        metrics.register("gateway", |shelf| {
            shelf.register(
                "recovering_subscriptions",
                "Subscriptions that are sent what their devices missed",
                self.recovering.clone(),
            );
            shelf.register(
                "ended_recoveries",
                "Recoveries that ended, by outcome: complete, truncated, or why they were lost",
                self.recoveries.clone(),
            );
            shelf.register("ring_recovered_frames", "Missed notifications sent from the ring", self.records_from_ring.clone());
            shelf.register("store_recovered_frames", "Missed notifications sent from the store", self.records_from_store.clone());
            shelf.register("failed_reads", "Reads of the store that brought no answer in time", self.failed_reads.clone());
            shelf.register(
                "ignored_positions",
                "Positions of clients that are of no use: in channels that they did not ask for, or acknowledged before",
                self.ignored_positions.clone(),
            );
            shelf.register(
                "paced_recoveries",
                "Times that missed notifications had to wait, as so many had left within the second",
                self.paced.clone(),
            );
            shelf.register(
                "end_reads",
                "Questions to the brokers where the log ends, for positions ahead of what this node has read and for devices that nothing is known of",
                self.end_reads.clone(),
            );
            shelf.register("ring_records", "Records in the ring", self.ring_records.clone());
            shelf.register("ring_bytes", "Bytes of the ring, about", self.ring_bytes.clone());
            shelf.register("ring_evicted_records", "Records that the ring gave up for newer ones", self.ring_evicted.clone());
        });
    }

    fn register_presence(&self, metrics: &Metrics) {
        for kind in Kind::ALL {
            drop(self.signals.get_or_create(&KindLabels { kind: kind.name() }));
        }
        for extent in Extent::ALL {
            drop(self.gathered.get_or_create(&OutcomeLabels { outcome: extent.name() }));
        }
        metrics.register("gateway", |shelf| {
            shelf.register("other_nodes", "Other nodes that are known to live", self.other_nodes.clone());
            shelf.register("other_devices", "Devices that other nodes are known to have", self.other_devices.clone());
            shelf.register("written_signals", "Words to other nodes that the brokers have taken, by kind", self.signals.clone());
            shelf.register(
                "unknown_signals",
                "Words of other nodes that were passed over: only a later release knows their kind",
                self.unknown_signals.clone(),
            );
            shelf.register(
                "unanswered_questions",
                "Questions of other nodes that were not answered, as too many waited",
                self.unanswered_questions.clone(),
            );
            shelf.register(
                "gathered_answers",
                "Answers that took all nodes, by outcome: whole, or partial for want of a node's answer",
                self.gathered.clone(),
            );
        });
    }

    fn register_receipts(&self, metrics: &Metrics) {
        for found in Found::ALL {
            drop(self.looked_up.get_or_create(&PlaceLabels { place: found.name() }));
        }
        metrics.register("gateway", |shelf| {
            shelf.register("written_receipts", "Receipts the brokers have taken", self.receipts.clone());
            shelf.register(
                "looked_up_notifications",
                "Notifications that somebody named, by where they were found: ring, store, nowhere, or unseen as that cannot be said yet",
                self.looked_up.clone(),
            );
        });
    }

    /// Counts a word to other nodes that the brokers have taken.
    pub(super) fn signalled(&self, kind: Kind) {
        self.signals.get_or_create(&KindLabels { kind: kind.name() }).inc();
    }

    /// Counts an answer that took all nodes.
    pub(super) fn gathered(&self, extent: Extent) {
        self.gathered.get_or_create(&OutcomeLabels { outcome: extent.name() }).inc();
    }

    /// Counts notifications that somebody named.
    pub(super) fn looked_up(&self, found: Found, count: usize) {
        self.looked_up.get_or_create(&PlaceLabels { place: found.name() }).inc_by(count as u64);
    }

    /// Counts that a limit was crossed.
    pub(super) fn crossed(&self, limit: Limit) {
        self.crossed_by(limit, 1);
    }

    /// Counts how often a limit was crossed.
    pub(super) fn crossed_by(&self, limit: Limit, times: u64) {
        self.limits.get_or_create(&LimitLabels { limit: limit.name() }).inc_by(times);
    }

    /// Counts an answer that says what is wrong with what a client said.
    pub(super) fn refused(&self, code: ErrorCode) {
        self.refused_frames.get_or_create(&CodeLabels { code: code.name() }).inc();
    }

    /// Counts the end of a recovery: why it was lost, or whether it was complete.
    pub(super) fn recovered(&self, outcome: Outcome) {
        self.recoveries.get_or_create(&OutcomeLabels { outcome: outcome.name() }).inc();
    }

    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        // Each limit has its line from the start: a counter that appears with its first crossing hides it from a rate.
        for limit in Limit::ALL {
            drop(own.limits.get_or_create(&LimitLabels { limit: limit.name() }));
        }
        for outcome in Outcome::all() {
            drop(own.recoveries.get_or_create(&OutcomeLabels { outcome: outcome.name() }));
        }
        for code in ErrorCode::ALL {
            drop(own.refused_frames.get_or_create(&CodeLabels { code: code.name() }));
        }
        own.register_recovery(metrics);
        own.register_presence(metrics);
        own.register_receipts(metrics);
        metrics.register("gateway", |shelf| {
            shelf.register("open_connections", "Connections that are open", own.connections.clone());
            shelf.register("opened_connections", "Connections that were admitted", own.opened.clone());
            shelf.register(
                "held_partitions",
                "Partitions not read on until this process is upgraded: a later release wrote what comes next",
                own.held.clone(),
            );
            shelf.register("refused_upgrades", "Upgrades that were refused, by reason", own.refused.clone());
            shelf.register("closed_connections", "Connections that ended, by close code", own.closed.clone());
            shelf.register("sent_frames", "Frames handed to connections", own.frames_sent.clone());
            shelf.register("sent_bytes", "Bytes of notifications handed to connections", own.bytes_sent.clone());
            shelf.register("received_frames", "Text frames of clients", own.frames_received.clone());
            shelf.register(
                "refused_frames",
                "Frames of clients, or names in them, that were answered with an error, by its code",
                own.refused_frames.clone(),
            );
            shelf.register("duplicate_frames", "Frames not sent, as their notification was sent before", own.duplicates.clone());
            shelf.register("redelivered_frames", "Frames of notifications that were tried again", own.redeliveries.clone());
            shelf.register("crossed_limits", "Times that a limit of a connection was crossed, by its name", own.limits.clone());
            own.fates.register(shelf);
            shelf.register("written_cursors", "Cursor records the brokers have taken", own.cursor_records.clone());
            shelf.register("read_records", "Records the feed has read", own.feed_records.clone());
            shelf.register(
                "event_to_socket_seconds",
                "From an event's timestamp on Kafka to its last frame handed to a socket, once for each shard that wrote some",
                own.event_to_socket.clone(),
            );
            shelf.register_age("lag_seconds", "Age of the record that is handed to the shards, 0 while nothing waits", &own.lag);
        });
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limits_label_is_its_key_in_the_configuration() {
        let default = crate::config::DEFAULT.parse::<toml::Table>().unwrap();
        for limit in Limit::ALL.into_iter().filter(|limit| *limit != Limit::FrameNames) {
            let mut keys = limit.name().split('.');
            let found = keys.try_fold(&default["gateway"], |section, key| section.get(key));
            assert!(found.is_some(), "{}", limit.name());
        }
    }
}
