//! The process's own numbers: memory, files, when it started, what was built.
//!
//! Owns: reading them from the system, when somebody asks for metrics and at no other time. Where the system has no `/proc`, memory
//! and files stay 0.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::{Labels, Shelf};
use crate::clock::Clock;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Labels for Build {
    const NAMES: &'static [&'static str] = &["version"];
}

/// What the process uses. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    resident: Gauge,
    files: Gauge,
    started: Gauge,
    build: Family<Build, Gauge>,
}

impl Process {
    pub(super) fn register(&self, shelf: &mut Shelf<'_>) {
        self.started.set(Clock::start().now().as_millis() / 1000);
        self.build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        shelf.register("resident_bytes", "Memory of the process that is in RAM", self.resident.clone());
        shelf.register("open_files", "Files and sockets that are open", self.files.clone());
        shelf.register("start_time_seconds", "When the process started, in seconds since 1970", self.started.clone());
        shelf.register("build_info", "Always 1; the label says which release this is", self.build.clone());
    }

    /// Reads memory and files anew.
    pub(super) fn look(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        if let Some(files) = open_files() {
            self.files.set(files);
        }
    }
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Since Linux 6.2 the folder's size says how many there are; before, each is listed.
fn open_files() -> Option<i64> {
    let folder = "/proc/self/fd";
    let size = std::fs::metadata(folder).ok()?.len();
    let count = if size > 0 { size } else { std::fs::read_dir(folder).ok()?.count() as u64 };
    i64::try_from(count).ok()
}
