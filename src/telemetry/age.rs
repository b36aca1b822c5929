//! Ages: for how long something has been waiting, in seconds.
//!
//! Owns: since when, as its stage says. The age itself is told when somebody asks for metrics, so that it grows also while the
//! stage's thread is stuck. Neighbours: `metrics` asks it with the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tidings_core::time::Timestamp;

/// Nothing waits.
const NOTHING: i64 = i64::MIN;

/// The age of what waits longest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Age {
    /// In milliseconds since 1970. Shared by the stage that sets it and the registry.
    since_ms: Arc<AtomicI64>,
    pub(super) seconds: Gauge<f64, AtomicU64>,
}

impl Age {
    /// What waits longest waits since then; nothing if nothing waits.
    pub fn set(&self, since: Option<Timestamp>) {
        self.since_ms.store(since.map_or(NOTHING, Timestamp::as_millis), Ordering::Relaxed);
    }

    /// Tells the age at `now`.
    pub(super) fn look(&self, now: Timestamp) {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let age = if since_ms == NOTHING { 0.0 } else { now.since(Timestamp::from_millis(since_ms)).as_secs_f64() };
        self.seconds.set(age);
    }
}

impl Default for Age {
    fn default() -> Self {
        Self { since_ms: Arc::new(AtomicI64::new(NOTHING)), seconds: Gauge::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_age_grows_with_the_clock_until_nothing_waits_and_is_never_below_nothing() {
        let (metrics, age) = (Metrics::new(), Age::default());
        metrics.register("room", |shelf| shelf.register_age("lag_seconds", "Lag", &age));
        let told = |now: i64| {
            let text = metrics.encode(Timestamp::from_millis(now)).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("tidings_room_lag_seconds ")).unwrap();
            line.parse::<f64>().unwrap()
        };
        assert_eq!(told(5_000), 0.0);
        age.set(Some(Timestamp::from_millis(5_000)));
        assert_eq!((told(5_000), told(7_500), told(3_605_000)), (0.0, 2.5, 3600.0));
        assert_eq!(told(4_000), 0.0, "the clock was set back");
        age.set(None);
        assert_eq!(told(3_605_000), 0.0);
    }
}
