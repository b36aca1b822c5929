//! The shelf: what is known of each schema.
//!
//! Owns: schemas for as long as there is room, by their number and by what they take (decision 45), failures for a time, and that a schema is asked
//! for once however many records wait for it. What nobody has looked at yet makes room last, or records that wait for more than there is room for
//! would have it fetched again and again. Refuses to fetch: `desk` does. A reader of a schema that is there takes a lock that readers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tidings_core::schema::{Schema, SchemaId};

use super::error::RegistryError;
use super::meters::Meters;
use crate::kafka::dispatch::Awaited;

/// What may be kept beyond the capacity since nobody has looked at it yet: who waited may be gone, and never looks.
const LIMIT_UNSEEN: usize = 4096;
/// A record may need two schemas, one for its key: so many are kept whatever they take.
const LEAST: usize = 2;
/// What is known of a failure takes about so much.
const FAILURE_BYTES: usize = 1 << 10;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Schemas and failures.
    pub(super) count: usize,
    /// About how much memory they take, in bytes; as much again while nobody has looked at them.
    pub(super) bytes: usize,
}

/// What is known of a schema.
pub(super) enum Found {
    Schema(Arc<Schema>),
    Failed(Arc<RegistryError>),
    Awaited(Awaited),
}

struct Kept {
    what: What,
    bytes: usize,
    /// When it was last looked at, or was settled, by the count of uses. Shared by who reads records.
    used: AtomicU64,
    /// Whether somebody has looked since it was settled. Shared likewise.
    was_seen: AtomicBool,
}

enum What {
    Schema(Arc<Schema>),
    Failed { error: Arc<RegistryError>, until: Duration },
    Awaited(Awaited),
}

pub(super) struct Shelf {
    /// Shared by whoever reads records and the thread that asks the registry.
    kept: RwLock<HashMap<SchemaId, Kept>>,
    /// Counts uses, so that it is known which lies longest.
    uses: AtomicU64,
    room: Room,
    meters: Meters,
}

/// How much there is of what is settled.
#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    count: usize,
    bytes: usize,
}

impl Settled {
    fn of<'a>(all: impl Iterator<Item = &'a Kept>) -> Self {
        let settled = all.filter(|kept| !kept.is_awaited());
        settled.fold(Self::default(), |sum, kept| Self { count: sum.count + 1, bytes: sum.bytes + kept.bytes })
    }

    /// Whether it is more than there is room for.
    fn exceeds(self, room: Room) -> bool {
        self.count > room.count || (self.bytes > room.bytes && self.count > LEAST)
    }

    /// Whether it is so much more that also what nobody has looked at has to go.
    fn exceeds_with_unseen(self, room: Room) -> bool {
        self.exceeds(Room { count: room.count + LIMIT_UNSEEN, bytes: room.bytes.saturating_mul(2) })
    }
}

impl Shelf {
    pub(super) fn new(room: Room, meters: Meters) -> Self {
        Self { kept: RwLock::default(), uses: AtomicU64::new(0), room, meters }
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
            kept.insert(id, self.kept(What::Awaited(awaited.clone())));
            self.count(&kept);
        } else {
            // Too many are asked for: whoever waits looks again at once.
            awaited.settle();
        }
        Found::Awaited(awaited)
    }

    fn seen(&self, kept: &Kept, now: Duration) -> Option<Found> {
        kept.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        kept.was_seen.store(true, Ordering::Relaxed);
        match &kept.what {
            What::Schema(schema) => Some(Found::Schema(Arc::clone(schema))),
            What::Failed { error, until } => (now < *until).then(|| Found::Failed(Arc::clone(error))),
            What::Awaited(awaited) => Some(Found::Awaited(awaited.clone())),
        }
    }

    fn kept(&self, what: What) -> Kept {
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        let bytes = match &what {
            What::Schema(schema) => schema.bytes(),
            What::Failed { .. } => FAILURE_BYTES,
            What::Awaited(_) => 0,
        };
        Kept { what, bytes, used, was_seen: AtomicBool::new(false) }
    }

    /// What was awaited is known, if only for a time; who waited is told.
    pub(super) fn settle(&self, id: SchemaId, outcome: Result<Schema, RegistryError>, failed_until: Duration) {
        let what = match outcome {
            Ok(schema) => What::Schema(Arc::new(schema)),
            Err(error) => What::Failed { error: Arc::new(error), until: failed_until },
        };
        let mut kept = self.kept.write();
        let new = self.kept(what);
        self.make_room(&mut kept, new.bytes);
        if let Some(Kept { what: What::Awaited(awaited), .. }) = kept.insert(id, new) {
            awaited.settle();
        }
        self.count(&kept);
    }

    /// For one of so many bytes. Takes away failures first, then what was not used for longest. What is awaited stays, and what nobody has looked
    /// at as long as it is not too much.
    fn make_room(&self, kept: &mut HashMap<SchemaId, Kept>, bytes: usize) {
        let mut settled = Settled::of(kept.values());
        settled = Settled { count: settled.count + 1, bytes: settled.bytes + bytes };
        while settled.exceeds(self.room) {
            let spares_unseen = !settled.exceeds_with_unseen(self.room);
            let ranked = kept.iter().filter_map(|(id, kept)| Some((kept.rank()?, *id)));
            let ranked = ranked.filter(|((turn, _), _)| !spares_unseen || *turn < Turn::Unseen);
            let Some((_, id)) = ranked.min() else { return };
            let Some(gone) = kept.remove(&id) else { return };
            settled = Settled { count: settled.count - 1, bytes: settled.bytes - gone.bytes };
            if matches!(gone.what, What::Schema(_)) {
                self.meters.dropped.inc();
            }
        }
    }

    fn count(&self, kept: &HashMap<SchemaId, Kept>) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let count = |of: fn(&Kept) -> bool| number(kept.values().filter(|kept| of(kept)).count());
        self.meters.kept.set(count(|kept| matches!(kept.what, What::Schema { .. })));
        self.meters.kept_bytes.set(number(Settled::of(kept.values()).bytes));
        self.meters.awaited.set(count(Kept::is_awaited));
    }
}

impl Kept {
    fn is_awaited(&self) -> bool {
        matches!(self.what, What::Awaited(_))
    }

    /// The lowest goes first; what has none stays.
    fn rank(&self) -> Option<(Turn, u64)> {
        let turn = match (&self.what, self.was_seen.load(Ordering::Relaxed)) {
            (What::Awaited(_), _) => return None,
            (What::Failed { .. }, true) => Turn::Failed,
            (What::Schema(_), true) => Turn::Schema,
            (_, false) => Turn::Unseen,
        };
        Some((turn, self.used.load(Ordering::Relaxed)))
    }
}

/// What makes room first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Failed,
    Schema,
    Unseen,
}

#[cfg(test)]
mod tests {
    use tidings_core::schema::{Definition, Format};

    use super::*;

    fn schema() -> Schema {
        Schema::compile(&Definition { format: Format::Avro, text: "\"string\"".into(), references: Vec::new() }).unwrap()
    }

    /// One that takes somewhat more than twice so many bytes.
    fn large(bytes: usize) -> Schema {
        let text = format!(r#"{{"type":"enum","name":"E","symbols":["{}"]}}"#, "S".repeat(bytes));
        Schema::compile(&Definition { format: Format::Avro, text, references: Vec::new() }).unwrap()
    }

    fn room(count: usize) -> Room {
        Room { count, bytes: usize::MAX }
    }

    fn find(shelf: &Shelf, id: u32, now: u64) -> Found {
        shelf.find(SchemaId::Number(id), Duration::from_secs(now), |_| true)
    }

    #[test]
    fn a_schema_is_asked_for_once_and_everybody_who_waits_is_told() {
        let shelf = Shelf::new(room(10), Meters::default());
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
        let shelf = Shelf::new(room(10), Meters::default());
        find(&shelf, 1, 0);
        shelf.settle(SchemaId::Number(1), Err(RegistryError::Absent), Duration::from_secs(60));
        assert!(matches!(find(&shelf, 1, 59), Found::Failed(_)));
        assert!(matches!(find(&shelf, 1, 60), Found::Awaited(_)));
    }

    fn settled(shelf: &Shelf, id: u32, outcome: Result<Schema, RegistryError>) {
        find(shelf, id, 0);
        shelf.settle(SchemaId::Number(id), outcome, Duration::from_secs(60));
    }

    fn left(shelf: &Shelf) -> Vec<SchemaId> {
        let mut left = shelf.kept.read().keys().copied().collect::<Vec<_>>();
        left.sort_unstable();
        left
    }

    #[test]
    fn of_more_than_there_is_room_for_failures_go_first_and_then_what_was_not_used_for_longest() {
        let shelf = Shelf::new(room(2), Meters::default());
        settled(&shelf, 1, Ok(schema()));
        settled(&shelf, 2, Err(RegistryError::Absent));
        find(&shelf, 1, 0);
        find(&shelf, 2, 0);
        settled(&shelf, 3, Ok(schema()));
        assert_eq!(left(&shelf), [1, 3].map(SchemaId::Number));
        find(&shelf, 3, 0);
        find(&shelf, 1, 0);
        settled(&shelf, 4, Ok(schema()));
        assert_eq!(left(&shelf), [1, 4].map(SchemaId::Number));
    }

    #[test]
    fn what_somebody_waits_for_is_kept_until_he_has_looked_and_what_nobody_looks_at_is_bounded() {
        let shelf = Shelf::new(room(2), Meters::default());
        for id in 0..10 {
            settled(&shelf, id, Err(RegistryError::Absent));
        }
        for id in 0..10 {
            assert!(matches!(find(&shelf, id, 0), Found::Failed(_)), "{id} is asked for again");
        }
        settled(&shelf, 10, Ok(schema()));
        assert_eq!(left(&shelf).len(), 2, "what was looked at makes room");
        for id in 100..100 + 2 * u32::try_from(LIMIT_UNSEEN).unwrap() {
            settled(&shelf, id, Err(RegistryError::Absent));
        }
        assert_eq!(left(&shelf).len(), 2 + LIMIT_UNSEEN);
    }

    #[test]
    fn of_more_bytes_than_there_is_room_for_what_was_not_used_for_longest_goes() {
        let shelf = Shelf::new(Room { count: 100, bytes: 10_000 }, Meters::default());
        for id in 1..=4 {
            settled(&shelf, id, Ok(large(1_500)));
            find(&shelf, id, 0);
            find(&shelf, 1, 0);
        }
        assert_eq!(left(&shelf), [1, 3, 4].map(SchemaId::Number));
        assert_eq!((shelf.meters.kept.get(), shelf.meters.dropped.get()), (3, 1));
        assert!((9_000..10_000).contains(&shelf.meters.kept_bytes.get()), "{}", shelf.meters.kept_bytes.get());
        // One that takes all of it leaves room for the one that was used last: a record may need both.
        settled(&shelf, 5, Ok(large(50_000)));
        assert_eq!(left(&shelf), [1, 5].map(SchemaId::Number));
        for _ in 0..3 {
            assert!(matches!(find(&shelf, 1, 0), Found::Schema(_)));
            assert!(matches!(find(&shelf, 5, 0), Found::Schema(_)));
        }
    }

    #[test]
    fn what_nobody_has_looked_at_takes_no_more_than_as_much_again() {
        let shelf = Shelf::new(Room { count: 100, bytes: 10_000 }, Meters::default());
        for id in 1..=6 {
            settled(&shelf, id, Ok(large(1_500)));
        }
        for id in 1..=6 {
            assert!(matches!(find(&shelf, id, 0), Found::Schema(_)), "{id} is asked for again");
        }
        for id in 11..=30 {
            settled(&shelf, id, Ok(large(1_500)));
        }
        assert!(shelf.meters.kept_bytes.get() <= 20_000, "{}", shelf.meters.kept_bytes.get());
    }

    #[test]
    fn who_asks_when_too_many_are_asked_for_is_to_look_again() {
        let shelf = Shelf::new(room(2), Meters::default());
        let Found::Awaited(awaited) = shelf.find(SchemaId::Number(1), Duration::ZERO, |_| false) else { panic!("not known") };
        assert!(awaited.is_over());
    }
}
