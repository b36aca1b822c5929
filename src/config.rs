//! Configuration: one TOML file and the environment, checked before anything starts.
//!
//! Owns: every key, its default (`default.toml`, which is also the reference), its range, and the message that refuses a
//! wrong one with file and line. Refuses to guess. Neighbours: each room is given its own section, never the whole.

mod database;
pub mod folder;
mod header;
mod load;
mod look;
mod network;
mod node;
mod origin;
mod pattern;
mod ranges;
mod rules;
pub mod sections;
mod site;
mod topics;

use serde::{Deserialize, Serialize};

pub use database::Database;
pub use header::Header;
pub use load::{ConfigError, load};
pub use look::{LOOK_INTERVAL, Look};
pub use network::{Network, household};
pub use pattern::{INTERNAL, TopicPattern};
pub use rules::{Edition, RulesError, RulesSource};
pub use sections::{
    AuthConfig, AuthMode, BreakerConfig, CountsConfig, CourierConfig, GatewayConfig, GrantConfig, GroupProtocol, HttpConfig,
    InboxConfig, KafkaConfig, KeyAlgorithm, KeyConfig, LogConfig, LogFormat, LostRecords, NodeConfig, OtlpConfig, PipelineConfig,
    PresenceConfig, ProxyProtocol, RecoveryConfig, RegistryConfig, Scalar, ShutdownConfig, Start, StoreConfig, TelemetryConfig,
    TlsConfig, TopicConfig, TopicsConfig, registry_url,
};
pub use site::Site;
pub use topics::{Settings, Topics};

/// The commented default, which names every key.
pub const DEFAULT: &str = include_str!("config/default.toml");

/// All sections. Only the assembly sees it; it hands each room its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this process is.
    pub node: NodeConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The cluster and tidings' own topics.
    pub kafka: KafkaConfig,
    /// Events to notifications.
    pub pipeline: PipelineConfig,
    /// Schemas of what is read.
    pub registry: RegistryConfig,
    /// Connections.
    pub gateway: GatewayConfig,
    /// Requests, whatever they ask for.
    pub http: HttpConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// The database.
    pub store: StoreConfig,
    /// The projector.
    pub inbox: InboxConfig,
    /// The retry ladder.
    pub courier: CourierConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// Draining.
    pub shutdown: ShutdownConfig,
}

impl Config {
    /// The effective configuration as TOML, without its secrets.
    ///
    /// # Errors
    /// If a value cannot be written as TOML.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut shown = self.clone();
        shown.auth.hide();
        shown.store.hide();
        shown.kafka.hide();
        shown.registry.hide();
        toml::to_string_pretty(&shown)
    }
}
