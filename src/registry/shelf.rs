//! The shelf: what is known of each schema.
//!
//! Owns: schemas for as long as there is room, failures for a time, and that a schema is asked for once however many records wait for
//! it. Refuses to fetch: `desk` does. A reader of a schema that is there takes a lock that readers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tidings_core::schema::{Schema, SchemaId};

use super::error::RegistryError;
use super::meters::Meters;
use crate::kafka::dispatch::Awaited;

/// What is known of a schema.
pub(super) enum Found {
    Schema(Arc<Schema>),
    Failed(Arc<RegistryError>),
    Awaited(Awaited),
}

enum Kept {
    Schema { schema: Arc<Schema>, used: AtomicU64 },
    Failed { error: Arc<RegistryError>, until: Duration },
    Awaited(Awaited),
}

pub(super) struct Shelf {
    /// Shared by whoever reads records and the thread that asks the registry.
    kept: RwLock<HashMap<SchemaId, Kept>>,
    /// Counts uses, so that it is known which lies longest.
    uses: AtomicU64,
    capacity: usize,
    meters: Meters,
}

impl Shelf {
    pub(super) fn new(capacity: usize, meters: Meters) -> Self {
        Self { kept: RwLock::default(), uses: AtomicU64::new(0), capacity, meters }
    }

    /// What is known; if that is nothing, it is awaited from now on, and `ask` is called to have it fetched.
    pub(super) fn find(&self, id: SchemaId, now: Duration, ask: impl FnOnce(Awaited) -> bool) -> Found {
        if let Some(found) = self.kept.read().get(&id).and_then(|kept| self.seen(kept, now)) {
            return found;
        }
        let mut kept = self.kept.write();
        if let Some(found) = kept.get(&id).and_then(|kept| self.seen(kept, now)) {
            return found;
        }
        let awaited = Awaited::default();
        if ask(awaited.clone()) {
            kept.insert(id, Kept::Awaited(awaited.clone()));
            self.count(&kept);
        } else {
            // Too many are asked for: whoever waits looks again at once.
            awaited.settle();
        }
        Found::Awaited(awaited)
    }

    fn seen(&self, kept: &Kept, now: Duration) -> Option<Found> {
        match kept {
            Kept::Schema { schema, used } => {
                used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                Some(Found::Schema(Arc::clone(schema)))
            }
            Kept::Failed { error, until } => (now < *until).then(|| Found::Failed(Arc::clone(error))),
            Kept::Awaited(awaited) => Some(Found::Awaited(awaited.clone())),
        }
    }

    /// What was awaited is known, if only for a time; who waited is told.
    pub(super) fn settle(&self, id: SchemaId, outcome: Result<Schema, RegistryError>, failed_until: Duration) {
        let mut kept = self.kept.write();
        if kept.len() > self.capacity {
            make_room(&mut kept, id);
        }
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        let known = match outcome {
            Ok(schema) => Kept::Schema { schema: Arc::new(schema), used },
            Err(error) => Kept::Failed { error: Arc::new(error), until: failed_until },
        };
        if let Some(Kept::Awaited(awaited)) = kept.insert(id, known) {
            awaited.settle();
        }
        self.count(&kept);
    }

    fn count(&self, kept: &HashMap<SchemaId, Kept>) {
        let count = |of: fn(&Kept) -> bool| i64::try_from(kept.values().filter(|kept| of(kept)).count()).unwrap_or(i64::MAX);
        self.meters.kept.set(count(|kept| matches!(kept, Kept::Schema { .. })));
        self.meters.awaited.set(count(|kept| matches!(kept, Kept::Awaited(_))));
    }
}

/// Takes away the failure that ends first, else the schema that was not used for longest. What is awaited stays.
fn make_room(kept: &mut HashMap<SchemaId, Kept>, coming: SchemaId) {
    let rank = |kept: &Kept| match kept {
        Kept::Failed { until, .. } => Some((0, u64::try_from(until.as_millis()).unwrap_or(u64::MAX))),
        Kept::Schema { used, .. } => Some((1, used.load(Ordering::Relaxed))),
        Kept::Awaited(_) => None,
    };
    let ranked = kept.iter().filter(|(id, _)| **id != coming).filter_map(|(id, kept)| Some((rank(kept)?, *id)));
    if let Some((_, id)) = ranked.min() {
        kept.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::schema::{Definition, Format};

    use super::*;

    fn schema() -> Schema {
        Schema::compile(&Definition { format: Format::Avro, text: "\"string\"".into(), references: Vec::new() }).unwrap()
    }

    fn find(shelf: &Shelf, id: u32, now: u64) -> Found {
        shelf.find(SchemaId::Number(id), Duration::from_secs(now), |_| true)
    }

    #[test]
    fn a_schema_is_asked_for_once_and_everybody_who_waits_is_told() {
        let shelf = Shelf::new(10, Meters::default());
        let mut asked = 0;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let found = shelf.find(SchemaId::Number(1), Duration::ZERO, |_| {
                asked += 1;
                true
            });
            let Found::Awaited(awaited) = found else { panic!("nothing is known of it") };
            waiting.push(awaited);
        }
        assert_eq!((asked, waiting.iter().filter(|awaited| awaited.is_over()).count()), (1, 0));
        shelf.settle(SchemaId::Number(1), Ok(schema()), Duration::ZERO);
        assert!(waiting.iter().all(Awaited::is_over));
        assert!(matches!(find(&shelf, 1, 0), Found::Schema(_)));
    }

    #[test]
    fn a_failure_is_forgotten_after_its_time() {
        let shelf = Shelf::new(10, Meters::default());
        find(&shelf, 1, 0);
        shelf.settle(SchemaId::Number(1), Err(RegistryError::Absent), Duration::from_secs(60));
        assert!(matches!(find(&shelf, 1, 59), Found::Failed(_)));
        assert!(matches!(find(&shelf, 1, 60), Found::Awaited(_)));
    }

    #[test]
    fn of_more_than_there_is_room_for_failures_go_first_and_then_what_was_not_used_for_longest() {
        let shelf = Shelf::new(2, Meters::default());
        let settle = |id, outcome| {
            find(&shelf, id, 0);
            shelf.settle(SchemaId::Number(id), outcome, Duration::from_secs(60));
        };
        settle(1, Ok(schema()));
        settle(2, Err(RegistryError::Absent));
        settle(3, Ok(schema()));
        assert!(!shelf.kept.read().contains_key(&SchemaId::Number(2)));
        find(&shelf, 1, 0);
        settle(4, Ok(schema()));
        let mut left = shelf.kept.read().keys().copied().collect::<Vec<_>>();
        left.sort_unstable();
        assert_eq!(left, [SchemaId::Number(1), SchemaId::Number(4)]);
    }

    #[test]
    fn who_asks_when_too_many_are_asked_for_is_to_look_again() {
        let shelf = Shelf::new(2, Meters::default());
        let Found::Awaited(awaited) = shelf.find(SchemaId::Number(1), Duration::ZERO, |_| false) else { panic!("not known") };
        assert!(awaited.is_over());
    }
}
