//! Telemetry: log lines, the registry of metrics, and each role's health.
//!
//! Owns: how lines are written and where metrics are collected. Refuses to know any metric: each service registers its own
//! under its own prefix. Neighbours: every service above; `http` encodes the registry.

pub mod health;

use std::io::IsTerminal as _;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::config::{LogConfig, LogFormat};

/// The process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Shared: services register at start, `http` encodes at any time.
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry; every metric's name will begin with `tidings_`.
    #[must_use]
    pub fn new() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("tidings"))) }
    }

    /// Lets a service register its metrics; names then begin with `tidings_{service}_`.
    pub fn register(&self, service: &str, register: impl FnOnce(&mut Registry)) {
        register(self.registry.lock().sub_registry_with_prefix(service));
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// If a metric cannot be written, which only a broken implementation of a metric could cause.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts writing log lines to standard error. A second call changes nothing.
pub fn start_logging(config: &LogConfig) {
    let filter = tracing_subscriber::EnvFilter::new(&config.level);
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A second subscriber is refused; the first goes on.
    let _ = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
