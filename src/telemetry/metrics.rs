//! The registry: where every room's metrics are collected, and what each is called.
//!
//! Owns: the one scheme of names, `tidings_<room>_<what>_<unit>`, and the catalog that documents, dashboards and tests are held
//! against. Refuses to know any metric but the process's own: each room registers its own. Neighbours: `http` encodes.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use tidings_core::time::Timestamp;

use super::age::Age;
use super::durations::Durations;
use super::process::Process;

/// Every name begins with this.
const PREFIX: &str = "tidings";

/// The process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Shared: services register at start, `http` encodes at any time.
    inner: Arc<Mutex<Inner>>,
    /// What stands in front of a room's name, if it is there twice.
    within: &'static str,
}

struct Inner {
    registry: Registry,
    catalog: Vec<Described>,
    ages: Vec<Age>,
    process: Process,
}

/// A registered metric, whether it has a sample yet or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Described {
    /// The whole name, as it is asked for: of a counter with `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What is counted or measured, also the last word of the name; none for what is only there for its labels.
    pub unit: Option<String>,
    /// The labels' names.
    pub labels: Vec<&'static str>,
    /// What it says, without a full stop.
    pub help: String,
}

/// The names of a family's labels.
pub trait Labels: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static {
    /// In the order in which they are written.
    const NAMES: &'static [&'static str];
}

/// A metric whose labels are known before it has a sample.
pub trait Registrable: Metric + TypedMetric {
    /// The labels' names.
    fn labels() -> &'static [&'static str];
}

impl Registrable for Counter {
    fn labels() -> &'static [&'static str] {
        &[]
    }
}

impl<N, A> Registrable for Gauge<N, A>
where
    Self: Metric + TypedMetric,
{
    fn labels() -> &'static [&'static str] {
        &[]
    }
}

impl Registrable for Durations {
    fn labels() -> &'static [&'static str] {
        &[]
    }
}

impl<L: Labels, M> Registrable for Family<L, M>
where
    Self: Metric + TypedMetric,
{
    fn labels() -> &'static [&'static str] {
        L::NAMES
    }
}

/// Where a room registers its metrics.
pub struct Shelf<'a> {
    room: &'a str,
    registry: &'a mut Registry,
    catalog: &'a mut Vec<Described>,
    ages: &'a mut Vec<Age>,
}

impl Shelf<'_> {
    /// Adds a metric. `name` is `<what>_<unit>`, without prefix and `_total`; `help` has no full stop.
    pub fn register<M: Registrable>(&mut self, name: &str, help: &str, metric: M) {
        let kind = kind::<M>();
        let (stem, unit) = split(name);
        match unit {
            Some(unit) => self.registry.register_with_unit(stem, help, base_unit(unit), metric),
            None => self.registry.register(stem, help, metric),
        }
        let suffix = if kind == "counter" { "_total" } else { "" };
        self.catalog.push(Described {
            name: format!("{PREFIX}_{}_{name}{suffix}", self.room),
            kind,
            unit: unit.map(str::to_owned),
            labels: M::labels().to_vec(),
            help: help.to_owned(),
        });
    }

    /// Adds an age, which is told anew each time somebody asks. `name` is `<what>_seconds`.
    pub fn register_age(&mut self, name: &str, help: &str, age: &Age) {
        self.register(name, help, age.seconds.clone());
        self.ages.push(age.clone());
    }
}

/// The last word is the unit, but of what is only there for its labels.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('_') {
        Some((_, "info")) | None => (name, None),
        Some((stem, unit)) => (stem, Some(unit)),
    }
}

fn base_unit(unit: &str) -> Unit {
    match unit {
        "seconds" => Unit::Seconds,
        "bytes" => Unit::Bytes,
        other => Unit::Other(other.to_owned()),
    }
}

fn kind<M: TypedMetric>() -> &'static str {
    use prometheus_client::metrics::MetricType::{Counter, Gauge, Histogram, Info, Unknown};
    match M::TYPE {
        Counter => "counter",
        Gauge => "gauge",
        Histogram => "histogram",
        Info => "info",
        Unknown => "unknown",
    }
}

impl Metrics {
    /// A registry that holds nothing but the process's own metrics.
    #[must_use]
    pub fn new() -> Self {
        let process = Process::default();
        let inner =
            Inner { registry: Registry::with_prefix(PREFIX), catalog: Vec::new(), ages: Vec::new(), process: process.clone() };
        let metrics = Self { inner: Arc::new(Mutex::new(inner)), within: "" };
        metrics.register("process", |shelf| process.register(shelf));
        metrics
    }

    /// The same registry for rooms that are there a second time: their names begin with `tidings_{within}_{room}_`.
    #[must_use]
    pub fn within(&self, within: &'static str) -> Self {
        Self { within, ..self.clone() }
    }

    /// Lets a room register its metrics; names then begin with `tidings_{room}_`.
    pub fn register(&self, room: &str, register: impl FnOnce(&mut Shelf<'_>)) {
        let room = &if self.within.is_empty() { room.to_owned() } else { format!("{}_{room}", self.within) };
        let Inner { registry, catalog, ages, .. } = &mut *self.inner.lock();
        register(&mut Shelf { room, registry: registry.sub_registry_with_prefix(room), catalog, ages });
    }

    /// Every metric that was registered, in the order of the names.
    #[must_use]
    pub fn catalog(&self) -> Vec<Described> {
        let mut catalog = self.inner.lock().catalog.clone();
        catalog.sort();
        catalog
    }

    /// All metrics at `now`, in the OpenMetrics text format.
    ///
    /// # Errors
    /// If a metric cannot be written, which only a broken implementation of a metric could cause.
    pub fn encode(&self, now: Timestamp) -> Result<String, std::fmt::Error> {
        let inner = self.inner.lock();
        inner.process.look();
        inner.ages.iter().for_each(|age| age.look(now));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &inner.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_room_what_and_unit_in_catalog_and_text_alike() {
        let metrics = Metrics::new();
        let (counter, durations) = (Counter::default(), Durations::new(&[0.5, 1.0]));
        metrics.register("room", |shelf| {
            shelf.register("sent_frames", "Frames", counter.clone());
            shelf.register("lag_seconds", "Lag", durations.clone());
        });
        counter.inc();
        let text = metrics.encode(Timestamp::from_millis(0)).unwrap();
        for described in metrics.catalog().iter().filter(|described| described.name.starts_with("tidings_room_")) {
            assert!(text.contains(&format!("\n{}", described.name)), "{}: {text}", described.name);
        }
        assert!(text.contains("# UNIT tidings_room_sent_frames frames\n"), "{text}");
        assert!(text.contains("tidings_room_sent_frames_total 1\n"), "{text}");
    }

    #[test]
    fn the_process_tells_what_it_uses() {
        let text = Metrics::new().encode(Timestamp::from_millis(0)).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("tidings_process_resident_bytes ") > 1e6);
        assert!(value("tidings_process_open_files ") >= 3.0);
        assert!(value("tidings_process_start_time_seconds ") > 1.7e9);
        assert!(value("tidings_process_build_info{") >= 1.0);
    }
}
