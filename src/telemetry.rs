//! Telemetry: log lines, the registry of metrics, and each role's health.
//!
//! Owns: how lines are written, also of panics and of many bad records, and where metrics are collected. Refuses to know any metric but the process's own: each service
//! registers its own under its own prefix. Neighbours: every service above; `http` encodes the registry.

mod age;
mod complaints;
mod durations;
mod fates;
pub mod health;
mod metrics;
mod panics;
mod process;
mod traces;

use std::io::IsTerminal as _;

pub use self::age::Age;
pub use self::complaints::{Complaints, Place, Said};
pub use self::durations::Durations;
pub use self::fates::Fates;
pub use self::metrics::{Described, Labels, Metrics, Shelf};
pub use self::panics::expected;
pub use self::traces::{Doing, Exporting, Span, Traces, TracesError};

use crate::config::{LogConfig, LogFormat};

/// Starts writing log lines to standard error, also of panics. A second call changes nothing.
pub fn start_logging(config: &LogConfig) {
    let filter = tracing_subscriber::EnvFilter::new(&config.level);
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A second subscriber is refused; the first goes on.
    let _ = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    panics::start();
}
