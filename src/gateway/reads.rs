//! Reads of the store on behalf of connections that recover, and of the log's end.
//!
//! Owns: the budget of reads at a time, the time that each may take, and turning rows into frames away from the shards. Refuses to
//! decide anything: answers go to the core's `recovery`. Neighbours: `connection` asks before it joins, the shards ask for pages.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::position::Position;
use tidings_core::protocol::since::Since;
use tidings_core::recovery::{Archive, Known, Loss, Start};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Shared;
use super::ends::Ends;
use super::fed::{Encoded, FedError};
use super::inlet::{Control, Inlet};
use crate::config::RecoveryConfig;
use crate::store::{Course, Gap, Notified, Store, StoreError};

/// How long a position may be ahead of this node's feed before the brokers are asked whether it is one.
const AHEAD: Duration = Duration::from_millis(100);
const AHEAD_PAUSE: Duration = Duration::from_millis(5);

/// Reads for those who recover.
pub(super) struct Reads {
    store: Option<Store>,
    ends: Ends,
    /// Each permit is one connection's read.
    places: Arc<Semaphore>,
    wait: Duration,
    page: usize,
    newest: usize,
    runtime: Handle,
}

/// What a shard asks for one of its members.
pub(super) struct Question {
    pub(super) inlet: Arc<Inlet>,
    pub(super) member: u32,
    pub(super) channel: Channel,
    /// Tells its answer from those to earlier ones.
    pub(super) number: u64,
    pub(super) wanted: Wanted,
}

pub(super) enum Wanted {
    /// A page of what lies at these offsets.
    Gap(Range<i64>),
    /// Where the newest begin.
    Newest(Loss),
}

/// The answer to a question.
pub(super) struct Reply {
    pub(super) member: u32,
    pub(super) channel: Channel,
    pub(super) number: u64,
    pub(super) found: Found,
}

pub(super) enum Found {
    Gap(GapPage),
    /// Where they begin, if the store says.
    Newest(Option<i64>, Loss),
    /// No page in time.
    Nothing,
}

/// A page of what the store has.
pub(super) struct GapPage {
    pub(super) records: Vec<(i64, Encoded)>,
    /// The last offset that was read, whether or not its record can be sent.
    pub(super) last: Option<i64>,
    /// How far the partition is folded, if there is nothing more up to there.
    pub(super) whole_to: Option<i64>,
    /// What lies below is not kept.
    pub(super) trimmed: i64,
}

impl Reads {
    pub(super) fn new(store: Option<Store>, ends: Ends, config: &RecoveryConfig) -> Self {
        Self {
            store,
            ends,
            places: Arc::new(Semaphore::new(config.reads.get())),
            wait: config.wait.0,
            page: config.page_records.get(),
            newest: config.newest.get(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn archive(&self) -> Archive {
        if self.store.is_some() { Archive::Store } else { Archive::None }
    }

    /// Begins a read, if there is a place for it. The shard is told the answer.
    pub(super) fn begin(&self, shared: &Arc<Shared>, question: Question) -> bool {
        let (Some(store), Ok(place)) = (self.store.clone(), self.places.clone().try_acquire_owned()) else { return false };
        let shared_too = shared.clone();
        let reading = async move {
            let Question { inlet, member, channel, number, wanted } = question;
            let found = shared_too.reads.found(&shared_too, &store, &channel, wanted).await;
            drop(place);
            // Without its shard nobody waits for it.
            let _ = inlet.say(Control::Found(Box::new(Reply { member, channel, number, found }))).await;
        };
        shared.connections.spawn_on(reading, &self.runtime);
        true
    }

    async fn found(&self, shared: &Shared, store: &Store, channel: &Channel, wanted: Wanted) -> Found {
        let course = shared.course(channel);
        let unanswered = if let Wanted::Newest(loss) = wanted { Found::Newest(None, loss) } else { Found::Nothing };
        let read = async {
            Ok(match wanted {
                Wanted::Gap(offsets) => Found::Gap(encoded(shared, store.gap(&course, offsets, self.page).await?)),
                Wanted::Newest(loss) => {
                    let newest = store.newest(&course, self.newest).await?;
                    Found::Newest(newest.first().map(|oldest| oldest.offset), loss)
                }
            })
        };
        self.in_time(shared, self.wait, read).await.unwrap_or(unanswered)
    }

    /// What the store says, if it does in time.
    async fn in_time<T>(&self, shared: &Shared, limit: Duration, read: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let error = match timeout(limit, read).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        shared.metrics.failed_reads.inc();
        let error = error.as_ref().map(tracing::field::display);
        tracing::debug!(error, "the store gave no answer to a device that recovers");
        None
    }

    /// Where subscriptions of a device begin, those of `since` at the position there. All of it takes no longer than one read may: a
    /// store or brokers that do not answer keep nobody from what is live.
    pub(super) async fn starts(
        &self,
        shared: &Shared,
        owner: (&UserId, &DeviceId),
        channels: Vec<Channel>,
        since: &Since,
    ) -> Vec<(Channel, Start)> {
        let deadline = shared.clock.elapsed() + self.wait;
        let mut starts = Vec::with_capacity(channels.len());
        let mut unnamed = Vec::new();
        for channel in channels {
            match since.of(&channel) {
                Some(position) => starts.push((channel.clone(), self.named(shared, &channel, position, deadline).await)),
                None => unnamed.push(channel),
            }
        }
        // A place is taken only now, so that nobody holds one while asking brokers.
        let mut place = None;
        for channel in unnamed {
            let Some(store) = &self.store else {
                starts.push((channel, Start::Live));
                continue;
            };
            if place.is_none() {
                place = timeout(left(shared, deadline), self.places.acquire()).await.ok().and_then(Result::ok);
            }
            let known = match place {
                Some(_) => self.in_time(shared, left(shared, deadline), known(shared, store, owner, &channel)).await,
                None => None,
            };
            let start = known.map_or(Start::Lost(Loss::Unanswered, None), |known| {
                if channel.is_mailbox() { Start::in_mailbox(known) } else { Start::elsewhere(known) }
            });
            starts.push((channel, start));
        }
        starts
    }

    /// Judges a position. One that is a little ahead of this node's feed was given by another node.
    async fn named(&self, shared: &Shared, channel: &Channel, position: Position, deadline: Duration) -> Start {
        let partition = channel.partition(shared.partitions);
        let until = deadline.min(shared.clock.elapsed() + AHEAD);
        loop {
            let next = shared.ring.next(partition);
            if position.epoch != shared.epoch || position.offset <= next {
                return Start::named(position, shared.epoch, next);
            }
            if shared.clock.elapsed() >= until {
                break;
            }
            tokio::time::sleep(AHEAD_PAUSE).await;
        }
        match self.ends.end(partition, shared.clock, left(shared, deadline)).await {
            Some(end) => Start::named(position, shared.epoch, end),
            None => Start::Lost(Loss::Unanswered, Some(position)),
        }
    }
}

/// The time until a deadline.
fn left(shared: &Shared, deadline: Duration) -> Duration {
    deadline.saturating_sub(shared.clock.elapsed())
}

impl Shared {
    fn course(&self, channel: &Channel) -> Course {
        let partition = channel.partition(self.partitions);
        Course { channel: channel.clone(), epoch: self.epoch, topic: self.notifications.clone(), partition }
    }
}

/// What the store knows of a device that names no position. The furthest that it has acknowledged counts; one that never
/// acknowledged anything begins where it began before.
async fn known(
    shared: &Shared,
    store: &Store,
    (user, device): (&UserId, &DeviceId),
    channel: &Channel,
) -> Result<Known, StoreError> {
    let cursor = store
        .cursor(shared.epoch, (user, device), channel)
        .await?
        .and_then(|cursor| cursor.acknowledged.end().or_else(|| cursor.offered.as_slice().first().map(|stretch| stretch.from)));
    if cursor.is_some() || !channel.is_mailbox() {
        return Ok(Known { cursor, ..Known::default() });
    }
    // How far it is folded comes first: what is folded in between is then looked at twice instead of never.
    let projected = store.projected(&shared.course(channel)).await?;
    let pending = store.oldest_pending(shared.epoch, user, shared.clock.now()).await?;
    Ok(Known { cursor, pending, projected })
}

fn encoded(shared: &Shared, gap: Gap) -> GapPage {
    let now = shared.clock.now();
    let last = gap.records.last().map(|record| record.offset);
    let records = gap.records.into_iter().filter_map(|Notified { record, partition, offset, .. }| {
        let told = |error: &FedError| shared.without_frame(partition, offset, error);
        let encoded = Encoded::new(record, Position::after(shared.epoch, offset), now).inspect_err(told);
        Some((offset, encoded.ok()?))
    });
    let whole_to = if gap.next.is_none() { gap.projected } else { None };
    GapPage { records: records.collect(), last, whole_to, trimmed: gap.trimmed }
}
