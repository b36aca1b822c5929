//! The sections of the configuration, one struct each.
//!
//! Owns: names and types. `default.toml` beside this file says what each key means; defaults stand only there, ranges in `ranges`.
//! Long because every key of every section stands here, once.

mod gateway;
mod registry;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use serde::{Deserialize, Serialize};
use tidings_core::breaker::Limits;
use tidings_core::channel::{Channel, Pattern};
use tidings_core::event::{Envelope, IdPlace, Written};
use tidings_core::time::Delay;

pub use self::gateway::{CountsConfig, PresenceConfig, RecoveryConfig};
pub use self::registry::{RegistryConfig, registry_url};
use super::database::Database;
use super::header::Header;
use super::network::Network;
use super::pattern::TopicPattern;
use super::site::Site;

const HIDDEN: &str = "(hidden)";

/// `[node]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "default.toml is the reference of every key, and a test holds both together")]
pub struct NodeConfig {
    pub id: String,
}

/// `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[kafka]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct KafkaConfig {
    pub brokers: String,
    pub topic_prefix: String,
    pub group_prefix: String,
    pub group_protocol: GroupProtocol,
    pub static_membership: bool,
    pub refusal_pause: Delay,
    pub properties: BTreeMap<String, Scalar>,
    pub property_files: BTreeMap<String, String>,
    pub topics: TopicsConfig,
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig").field("brokers", &self.brokers).field("properties", &HIDDEN).finish_non_exhaustive()
    }
}

impl KafkaConfig {
    pub(super) fn hide(&mut self) {
        for (name, value) in &mut self.properties {
            if ["password", "secret", "key", "token", "oauthbearer.config"].iter().any(|word| name.contains(word)) {
                *value = Scalar::Text(HIDDEN.to_owned());
            }
        }
    }
}

/// How members of a consumer group agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// Among themselves, over one coordinator.
    Classic,
    /// The brokers decide (KIP-848).
    Consumer,
}

/// A librdkafka property's value, which TOML may write as text, number or truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a text, a whole number, or true or false")]
pub enum Scalar {
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truth(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// `[kafka.topics]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct TopicsConfig {
    pub partitions: i32,
    pub replication_factor: i32,
}

/// `[pipeline]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct PipelineConfig {
    pub topics: Vec<TopicPattern>,
    pub start: Start,
    pub lost_records: LostRecords,
    pub rules: String,
    pub workers: NonZeroUsize,
    pub queue_records: NonZeroUsize,
    pub commit_interval: Delay,
    pub output_bytes: NonZeroUsize,
    pub receivers_per_event: NonZeroUsize,
    pub max_age: Delay,
    pub breaker: BreakerConfig,
    pub per_topic: BTreeMap<TopicPattern, TopicConfig>,
}

/// `[pipeline.per_topic."…"]`: what is not said is as for every topic.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct TopicConfig {
    pub envelope: Envelope,
    pub format: Written,
    pub key_format: Written,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<IdPlace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Delay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// Where a topic is read from when it is seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Behind its last record.
    End,
    /// At its first record.
    Beginning,
}

/// `[pipeline.breaker]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct BreakerConfig {
    pub enabled: bool,
    pub buried_in_a_row: NonZeroU32,
    pub window_records: NonZeroU32,
    pub buried_percent: u8,
    pub pause: Delay,
    pub trial_records: NonZeroU32,
}

impl BreakerConfig {
    /// What is too much.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            in_a_row: self.buried_in_a_row,
            window: self.window_records,
            share_percent: self.buried_percent,
            trial: self.trial_records,
        }
    }
}

/// What becomes of a partition of which records are gone that were never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostRecords {
    /// It is not read until an operator decides.
    Stop,
    /// The range is recorded in `dlq`, and it is read on behind it.
    Skip,
}

/// `[gateway]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct GatewayConfig {
    pub host: String,
    pub port: u16,
    pub path: String,
    pub console: bool,
    pub shards: usize,
    pub queue_records: NonZeroUsize,
    pub open_channels: Vec<Channel>,
    pub channels: Vec<GrantConfig>,
    pub heartbeat_interval: Delay,
    pub idle_timeout: Delay,
    pub frame_bytes: NonZeroUsize,
    pub frame_timeout: Delay,
    pub frames_per_second: NonZeroUsize,
    pub frames_burst: NonZeroUsize,
    pub bad_frames: NonZeroUsize,
    pub bad_frame_interval: Delay,
    pub auth_timeout: Delay,
    pub auth_frame_bytes: NonZeroUsize,
    pub unauthenticated: NonZeroUsize,
    pub unauthenticated_per_address: NonZeroUsize,
    pub outbox_bytes: NonZeroUsize,
    pub write_timeout: Delay,
    pub send_buffer_bytes: NonZeroUsize,
    pub linger: Delay,
    pub channels_per_connection: NonZeroUsize,
    pub unacknowledged_per_connection: NonZeroUsize,
    pub connections_per_user: NonZeroUsize,
    pub devices_per_user: NonZeroUsize,
    pub connections: usize,
    pub connections_per_address: usize,
    pub http_connections_per_address: usize,
    pub header_timeout: Delay,
    pub mailbox_cursor_interval: Delay,
    pub other_cursor_interval: Delay,
    pub device_interval: Delay,
    pub receipt_timeout: Delay,
    pub lookup_reads: NonZeroUsize,
    pub once_per_user: NonZeroUsize,
    pub recovery: RecoveryConfig,
    pub presence: PresenceConfig,
    pub counts: CountsConfig,
    pub tls: TlsConfig,
}

/// `[gateway.tls]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct TlsConfig {
    pub certificate: String,
    pub key: String,
    pub handshake_timeout: Delay,
}

/// `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct HttpConfig {
    pub header_bytes: NonZeroUsize,
    pub body_bytes: NonZeroUsize,
    pub request_timeout: Delay,
    pub broker_timeout: Delay,
    pub idempotency_keys: NonZeroUsize,
    pub page_notifications: NonZeroUsize,
    pub wait_limit: Delay,
    pub waiting_requests: NonZeroUsize,
    pub writes_per_second: NonZeroUsize,
    pub retries_per_second: NonZeroUsize,
    pub redrive_letters: NonZeroUsize,
    pub writes_burst: NonZeroUsize,
    pub trusted_proxies: Vec<Network>,
    pub proxy_protocol: ProxyProtocol,
    pub allowed_origins: Vec<Site>,
    pub service_role: String,
    pub admin_role: String,
}

/// Whether connections begin with a header that names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// They do not.
    Off,
    /// Every one does, and comes from a trusted proxy.
    Required,
}

/// One of `[[gateway.channels]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct GrantConfig {
    pub pattern: Pattern,
    #[serde(default)]
    pub roles: Vec<String>,
}

/// `[auth]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct AuthConfig {
    pub mode: AuthMode,
    pub secret: String,
    pub secret_file: String,
    pub keys: Vec<KeyConfig>,
    pub audiences: Vec<String>,
    pub issuers: Vec<String>,
    pub user_claim: String,
    pub roles_claim: String,
    pub leeway: Delay,
    pub proxies: Vec<Network>,
    pub user_header: Header,
    pub roles_header: Header,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("mode", &self.mode).field("secret", &HIDDEN).finish_non_exhaustive()
    }
}

impl AuthConfig {
    pub(super) fn hide(&mut self) {
        let secrets = std::iter::once(&mut self.secret).chain(self.keys.iter_mut().map(|key| &mut key.secret));
        secrets.filter(|secret| !secret.is_empty()).for_each(|secret| HIDDEN.clone_into(secret));
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// By a token.
    Jwt,
    /// By headers of a proxy that has authenticated them.
    Proxy,
    /// Not at all.
    None,
}

/// One of `[[auth.keys]]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct KeyConfig {
    #[serde(default)]
    pub kid: String,
    pub algorithm: KeyAlgorithm,
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub secret: String,
}

/// What a key is used for, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// RSA with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
}

impl KeyAlgorithm {
    /// The name as it stands in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

/// `[store]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct StoreConfig {
    pub url: Database,
    pub password: String,
    pub password_file: String,
    pub migrate: bool,
    pub readers: NonZeroU32,
    pub cache_bytes: NonZeroUsize,
    pub busy_timeout: Delay,
    pub answer_timeout: Delay,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig").field("url", &self.url).field("password", &HIDDEN).finish_non_exhaustive()
    }
}

impl StoreConfig {
    pub(super) fn hide(&mut self) {
        if !self.password.is_empty() {
            HIDDEN.clone_into(&mut self.password);
        }
    }
}

/// `[inbox]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct InboxConfig {
    pub batch_records: NonZeroUsize,
    pub batch_interval: Delay,
    pub retention: Delay,
    pub mailbox_rows: NonZeroUsize,
    pub channel_rows: NonZeroUsize,
    pub device_retention: Delay,
    pub receipt_retention: Delay,
    pub states_per_user: NonZeroUsize,
    pub devices_per_user: NonZeroUsize,
    pub channels_per_device: NonZeroUsize,
}

/// `[courier]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct CourierConfig {
    pub ack_timeout: Delay,
    pub ladder: Vec<Delay>,
    pub give_up_after: Delay,
    pub jitter_percent: u8,
    pub poll_interval: Delay,
    pub transaction_timeout: Delay,
}

/// `[telemetry]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct TelemetryConfig {
    pub otlp: OtlpConfig,
}

/// `[telemetry.otlp]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct OtlpConfig {
    pub endpoint: String,
    pub ratio: f64,
    pub queue_spans: NonZeroUsize,
    pub interval: Delay,
    pub timeout: Delay,
}

/// `[shutdown]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see default.toml")]
pub struct ShutdownConfig {
    pub drain_timeout: Delay,
    pub reconnect_spread: Delay,
}
