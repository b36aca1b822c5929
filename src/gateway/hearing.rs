//! Whether all is folded that devices have said until now.
//!
//! Owns: two questions, each asked once for all who wait for its answer: where `cursors` ends, and how far the store has folded it. Asked
//! only for devices that nothing is known of in a channel: they are new, or what they said is on its way. Neighbour: `reads` asks.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::ends::Ends;
use crate::store::Store;

/// How long to wait before the store is looked at again.
const AGAIN: Duration = Duration::from_millis(20);

/// What devices said, and how much of it is folded.
pub(super) struct Hearing {
    ends: Ends,
    topic: Arc<str>,
    /// Held over the question, so that there is never more than one.
    looked: Mutex<Looked>,
}

/// The last look.
#[derive(Default)]
struct Looked {
    at: Option<Duration>,
    /// The next offset to fold of each partition.
    folded: Vec<i64>,
}

impl Looked {
    fn has_passed(&self, partition: usize, end: i64) -> bool {
        self.folded.get(partition).copied().unwrap_or(0) >= end
    }
}

impl Hearing {
    pub(super) fn new(ends: Ends, topic: &str) -> Self {
        Self { ends, topic: topic.into(), looked: Mutex::default() }
    }

    /// Whether the store has folded all that devices of a user have said until now, or does so within `wait`.
    pub(super) async fn is_over(&self, shared: &Shared, (store, user): (&Store, &UserId), wait: Duration) -> bool {
        let passing = async {
            let ends = self.ends.all(shared.clock, wait).await?;
            let partition = usize::try_from(Channel::mailbox(user).partition(shared.partitions)).unwrap_or_default();
            let end = ends.get(partition).copied().unwrap_or(0);
            while !self.has_passed(shared, store, (partition, end)).await {
                sleep(AGAIN).await;
            }
            Some(())
        };
        timeout(wait, passing).await.is_ok_and(|passed| passed.is_some())
    }

    async fn has_passed(&self, shared: &Shared, store: &Store, (partition, end): (usize, i64)) -> bool {
        let mut looked = self.looked.lock().await;
        let now = shared.clock.elapsed();
        if looked.has_passed(partition, end) || looked.at.is_some_and(|at| now < at + AGAIN) {
            return looked.has_passed(partition, end);
        }
        looked.at = Some(now);
        let standings = shared.reads.in_time(shared, shared.config.recovery.wait.0, store.positions(shared.epoch)).await;
        looked.folded.resize(usize::try_from(shared.partitions).unwrap_or_default(), 0);
        for standing in standings.into_iter().flatten().filter(|standing| standing.topic == self.topic) {
            if let Some(next) = usize::try_from(standing.partition).ok().and_then(|number| looked.folded.get_mut(number)) {
                *next = standing.next;
            }
        }
        looked.has_passed(partition, end)
    }
}
