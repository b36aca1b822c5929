//! Fates: how often something went wrong with a record, by why and by what became of it.
//!
//! Owns: the labels, which are the same in every room, so that one query asks all stages. The fate is the one that the core gives
//! the cause: who counts cannot say another. Neighbours: each service has its own under its own prefix.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tidings_core::fate::Cause;

use super::{Labels, Shelf};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailure {
    cause: &'static str,
    fate: &'static str,
    class: &'static str,
}

impl Labels for OfFailure {
    const NAMES: &'static [&'static str] = &["cause", "fate", "class"];
}

/// The failures of one stage. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fates(Family<OfFailure, Counter>);

impl Fates {
    /// Adds it to a stage's metrics.
    pub fn register(&self, shelf: &mut Shelf<'_>) {
        let help = "Times that something went wrong with a record, by cause, fate and class of failure";
        shelf.register("failed_records", help, self.0.clone());
    }

    /// The counter of one class, for whoever counts often. A class has one cause.
    #[must_use]
    pub fn of(&self, cause: Cause, class: &'static str) -> Counter {
        self.0.get_or_create(&OfFailure { cause: cause.name(), fate: cause.fate().name(), class }).clone()
    }

    /// Counts that something went wrong with this many records.
    pub fn count(&self, cause: Cause, class: &'static str, records: usize) {
        if records > 0 {
            self.of(cause, class).inc_by(records as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::time::Timestamp;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_failure_is_counted_with_the_fate_of_its_cause_and_none_has_no_line() {
        let (metrics, fates) = (Metrics::new(), Fates::default());
        metrics.register("room", |shelf| fates.register(shelf));
        fates.count(Cause::Poison, "malformed", 1);
        fates.count(Cause::Dependency, "store", 3);
        fates.count(Cause::Bug, "nothing_happened", 0);
        let text = metrics.encode(Timestamp::from_millis(0)).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with("tidings_room_")).collect::<Vec<_>>();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                r#"tidings_room_failed_records_total{cause="dependency",fate="retry_in_place",class="store"} 3"#,
                r#"tidings_room_failed_records_total{cause="poison",fate="dead_letter",class="malformed"} 1"#,
            ]
        );
    }
}
