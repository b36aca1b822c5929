//! Durations: a histogram that costs two additions and neither lock nor memory for each observation.
//!
//! Owns: the counts. Refuses labels: who needs some has one histogram each. Any thread may observe. Neighbours: `metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One scale for all: from the time that one record's decision takes up to a consumer that is far behind.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// How long something took, in seconds, as a histogram. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Durations {
    /// Shared by whoever observes and the registry.
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One more than `bounds`: what is longer than the last.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Durations {
    /// A histogram with these upper bounds, in seconds and rising.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { inner: Arc::new(Inner { bounds, counts, nanoseconds: AtomicU64::new(0) }) }
    }

    /// Notes that something took this long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let index = self.inner.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.inner.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self::new(SECONDS)
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.inner.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let bounds = self.inner.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(counts.iter().copied()).collect::<Vec<_>>();
        let seconds = Duration::from_nanos(self.inner.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(seconds, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::time::Timestamp;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn what_was_observed_is_in_the_first_bucket_it_fits_and_in_all_above() {
        let (metrics, durations) = (Metrics::new(), Durations::new(&[0.1, 1.0]));
        metrics.register("room", |shelf| shelf.register("wait_seconds", "Waits", durations.clone()));
        for millis in [50, 100, 500, 2_000] {
            durations.observe(Duration::from_millis(millis));
        }
        let text = metrics.encode(Timestamp::from_millis(0)).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("tidings_room_wait_seconds")).collect::<Vec<_>>();
        assert_eq!(
            lines,
            [
                "tidings_room_wait_seconds_sum 2.65",
                "tidings_room_wait_seconds_count 4",
                "tidings_room_wait_seconds_bucket{le=\"0.1\"} 2",
                "tidings_room_wait_seconds_bucket{le=\"1.0\"} 3",
                "tidings_room_wait_seconds_bucket{le=\"+Inf\"} 4",
            ]
        );
    }

    #[test]
    fn bounds_rise() {
        assert!(SECONDS.is_sorted_by(|a, b| a < b));
    }
}
