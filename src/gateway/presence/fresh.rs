//! Answers that are kept for a moment, so that many who ask the same cost one.
//!
//! Owns: that only one of several askers does the work, and that nothing is kept for longer than it is fresh. With too many different
//! questions at a time, further ones each cost their own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::gateway::moment::millis;

/// The most answers that are kept.
const LIMIT: usize = 1_024;

/// An answer, and when it was made.
type Cell<V> = Arc<OnceCell<(u64, V)>>;

/// Answers by what was asked.
pub(super) struct Fresh<K, V> {
    /// Shared: by all who ask. Never held while waiting.
    cells: Mutex<HashMap<K, Cell<V>>>,
    keep_ms: u64,
    clock: Clock,
}

impl<K: Eq + Hash, V: Clone> Fresh<K, V> {
    pub(super) fn new(keep_ms: u64, clock: Clock) -> Self {
        Self { cells: Mutex::default(), keep_ms, clock }
    }

    /// The answer that is there or on its way, or a new one. An error is not kept.
    pub(super) async fn get<E>(&self, key: K, make: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let cell = self.cell(key);
        let made = cell.get_or_try_init(|| async { make.await.map(|value| (millis(self.clock), value)) }).await?;
        Ok(made.1.clone())
    }

    fn cell(&self, key: K) -> Cell<V> {
        let now_ms = millis(self.clock);
        let mut cells = self.cells.lock();
        if let Some(cell) = cells.get(&key).filter(|cell| !self.is_stale(cell, now_ms)) {
            return cell.clone();
        }
        let cell = Cell::default();
        if cells.len() < LIMIT || cells.contains_key(&key) {
            cells.insert(key, cell.clone());
        }
        cell
    }

    fn is_stale(&self, cell: &Cell<V>, now_ms: u64) -> bool {
        cell.get().is_some_and(|(made_ms, _)| made_ms.saturating_add(self.keep_ms) <= now_ms)
    }

    /// Lets go of what is no longer fresh, and of what nobody makes any more.
    pub(super) fn forget(&self, now_ms: u64) {
        let mut cells = self.cells.lock();
        cells.retain(|_, cell| Arc::strong_count(cell) > 1 || cell.initialized() && !self.is_stale(cell, now_ms));
        if cells.is_empty() {
            cells.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn of_many_who_ask_the_same_one_does_the_work() {
        let (fresh, made) = (Fresh::new(60_000, Clock::start()), AtomicUsize::new(0));
        let ask = || {
            fresh.get("a", async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(made.fetch_add(1, Ordering::Relaxed))
            })
        };
        assert_eq!(futures_util::future::join_all((0..10).map(|_| ask())).await, vec![Ok(0); 10]);
        assert_eq!(fresh.get("a", async { Err(7) }).await, Ok(0));
    }

    #[tokio::test]
    async fn an_error_is_not_kept_and_what_is_stale_neither() {
        let fresh = Fresh::new(0, Clock::start());
        assert_eq!(fresh.get("a", async { Err::<u8, _>(7) }).await, Err(7));
        assert_eq!(fresh.get("a", async { Ok::<_, ()>(1) }).await, Ok(1));
        assert_eq!(fresh.get("a", async { Ok::<_, ()>(2) }).await, Ok(2));
        fresh.forget(u64::MAX);
        assert!(fresh.cells.lock().is_empty());
    }
}
