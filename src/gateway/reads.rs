//! Reads of the store on behalf of connections, most of which recover, and of the log's end.
//!
//! Owns: the budgets of reads at a time (of those who come in, of pages, of what is named: none takes another's places), the time that
//! each may take, and turning rows into frames away from the shards. Refuses to decide anything: answers go to the core's
//! `recovery`. Neighbours: `connection` asks before it joins, the shards ask for pages. Long because all who read share its budgets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::channel::{Channel, ChannelKind};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::position::{Epoch, Position};
use tidings_core::protocol::since::Since;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::recovery::{Archive, Known, Loss, Start, Stopped};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Shared;
use super::ends::Ends;
use super::fed::{Encoded, FedError};
use super::hearing::Hearing;
use super::inlet::{Control, Inlet, NamedBy};
use super::moment::millis;
use crate::config::GatewayConfig;
use crate::store::{Course, Gap, Notified, PageSize, Store, StoreError};

/// How long a position may be ahead of this node's feed before the brokers are asked whether it is one.
const AHEAD: Duration = Duration::from_millis(100);
const AHEAD_PAUSE: Duration = Duration::from_millis(5);

/// Reads for those who recover.
pub(super) struct Reads {
    store: Option<Store>,
    ends: Ends,
    hearing: Hearing,
    /// Each permit is one connection that comes in or subscribes.
    starting: Semaphore,
    /// Each permit is one look for what somebody names.
    lookups: Semaphore,
    /// Each permit is one page, from its question until it was handed over.
    pages: Arc<Semaphore>,
    /// When the store last answered, in monotonic milliseconds; 0 if it never did.
    answered_ms: AtomicU64,
    wait: Duration,
    page: PageSize,
    newest: usize,
    runtime: Handle,
}

/// Whose subscriptions begin.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) user: &'a UserId,
    pub(super) device: &'a DeviceId,
    pub(super) named_by: NamedBy,
}

/// The part of an outbox that a page may fill.
const OUTBOX_SHARE: usize = 4;

/// The largest page there is.
pub(super) fn page_size(config: &GatewayConfig) -> PageSize {
    PageSize { records: config.recovery.page_records.get(), bytes: config.outbox_bytes.get() / OUTBOX_SHARE }
}

/// What a shard asks for one of its members.
pub(super) struct Question {
    pub(super) inlet: Arc<Inlet>,
    pub(super) member: u32,
    pub(super) channel: Channel,
    /// Tells its answer from those to earlier ones.
    pub(super) number: u64,
    pub(super) wanted: Wanted,
    /// How long its answer is waited for.
    pub(super) limit: Duration,
}

#[derive(Debug)]
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
    /// Given back when the answer was handed over: so many pages there are at a time, and no more.
    pub(super) _place: OwnedSemaphorePermit,
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
    /// Each with its offset; one that no frame can be made of is none.
    pub(super) records: Vec<(i64, Option<Encoded>)>,
    /// How far the partition is folded, if there is nothing more up to there.
    pub(super) whole_to: Option<i64>,
    /// What lies below is not kept.
    pub(super) trimmed: i64,
}

impl Reads {
    pub(super) fn new(store: Option<Store>, (ends, hearing): (Ends, Hearing), config: &GatewayConfig) -> Self {
        Self {
            store,
            ends,
            hearing,
            starting: Semaphore::new(config.recovery.start_reads.get()),
            lookups: Semaphore::new(config.lookup_reads.get()),
            pages: Arc::new(Semaphore::new(config.recovery.page_reads.get())),
            answered_ms: AtomicU64::new(0),
            wait: config.recovery.wait.0,
            page: page_size(config),
            newest: config.recovery.newest.get(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn archive(&self) -> Archive {
        if self.store.is_some() { Archive::Store } else { Archive::None }
    }

    /// Where the log ends in each partition, not earlier than this call, if the brokers say.
    pub(super) async fn log_ends(&self, shared: &Shared) -> Option<Arc<[i64]>> {
        self.ends.all(shared.clock, self.wait).await
    }

    /// Takes every place of those who come in.
    #[cfg(test)]
    pub(super) fn all_starting(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.starting.try_acquire_many(u32::try_from(self.starting.available_permits()).unwrap()).unwrap()
    }

    /// When the store last answered anybody, in monotonic milliseconds.
    pub(super) fn answered_ms(&self) -> u64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// How many places for pages are free.
    pub(super) fn places(&self) -> usize {
        self.pages.available_permits()
    }

    /// Begins a read, if there is a place for it. The shard is told the answer.
    pub(super) fn begin(&self, shared: &Arc<Shared>, question: Question) -> bool {
        let (Some(store), Ok(place)) = (self.store.clone(), self.pages.clone().try_acquire_owned()) else { return false };
        let shared_too = shared.clone();
        let reading = async move {
            let Question { inlet, member, channel, number, wanted, limit } = question;
            let found = tokio::select! {
                found = shared_too.reads.found(&shared_too, (&store, limit), &channel, wanted) => found,
                () = shared_too.draining.cancelled() => Found::Nothing,
            };
            // Without its shard nobody waits for it.
            let _ = inlet.say(Control::Found(Box::new(Reply { member, channel, number, found, _place: place }))).await;
        };
        shared.connections.spawn_on(reading, &self.runtime);
        true
    }

    async fn found(&self, shared: &Shared, (store, limit): (&Store, Duration), channel: &Channel, wanted: Wanted) -> Found {
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
        self.in_time(shared, limit, read).await.unwrap_or(unanswered)
    }

    /// What the store says, if it does in time.
    pub(super) async fn in_time<T>(
        &self,
        shared: &Shared,
        limit: Duration,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let error = match timeout(limit, read).await {
            Ok(Ok(found)) => {
                self.answered_ms.store(millis(shared.clock), Ordering::Relaxed);
                return Some(found);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        shared.metrics.failed_reads.inc();
        let error = error.as_ref().map(tracing::field::display);
        tracing::debug!(error, "the store gave no answer to a connection");
        None
    }

    /// What the store says of notifications that somebody names, if there is one and it does in time.
    pub(super) async fn look_up<T>(&self, shared: &Shared, read: impl AsyncFnOnce(&Store) -> Result<T, StoreError>) -> Option<T> {
        let deadline = shared.clock.elapsed() + self.wait;
        let _place = timeout(self.wait, self.lookups.acquire()).await.ok()?.ok()?;
        self.in_time(shared, left(shared, deadline), read(self.store.as_ref()?)).await
    }

    /// The same for one who asks for many, and one question at a time.
    pub(super) async fn ask_for_all<T>(
        &self,
        shared: &Shared,
        read: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
    ) -> Option<T> {
        self.in_time(shared, self.wait, read(self.store.as_ref()?)).await
    }

    /// How far the store has folded each partition of a topic, asked from a thread that may wait; nothing if there is no store, and no
    /// partition if it does not answer.
    pub(super) fn folded(&self, shared: &Shared, topic: &str) -> Option<BTreeMap<i32, i64>> {
        self.store.as_ref()?;
        let standings = self.runtime.block_on(self.ask_for_all(shared, async |store| store.positions(shared.epoch).await));
        let of_topic = standings.into_iter().flatten().filter(|standing| &*standing.topic == topic);
        Some(of_topic.map(|standing| (standing.partition, standing.next)).collect())
    }

    /// Whether a position is one of the log's, or why not.
    pub(super) async fn is_on_the_log(&self, shared: &Shared, channel: &Channel, position: Position) -> Result<(), Loss> {
        let deadline = shared.clock.elapsed() + self.wait;
        match self.judged(shared, vec![(channel.clone(), position)], deadline).await.pop() {
            Some((_, Start::Lost(loss, _))) => Err(loss),
            _ => Ok(()),
        }
    }

    /// Where subscriptions of a device begin, those of `since` at the position there. All of it takes no longer than one read may: a
    /// store or brokers that do not answer keep nobody from what is live.
    pub(super) async fn starts(
        &self,
        shared: &Shared,
        owner: Owner<'_>,
        channels: Vec<Channel>,
        since: &Since,
    ) -> Vec<(Channel, Start)> {
        let deadline = shared.clock.elapsed() + self.wait;
        let mut unnamed = Vec::new();
        let mut named = Vec::new();
        for channel in channels {
            match since.of(&channel) {
                Some(position) => named.push((channel, position)),
                None => unnamed.push(channel),
            }
        }
        let mut starts = self.judged(shared, named, deadline).await;
        // A place is taken only now, so that nobody holds one while asking brokers.
        starts.extend(self.resumed(shared, owner, unnamed, deadline).await);
        starts
    }

    /// Judges positions. One that is a little ahead of this node's feed was given by another node; the brokers are asked once for
    /// all that stay ahead.
    async fn judged(&self, shared: &Shared, named: Vec<(Channel, Position)>, deadline: Duration) -> Vec<(Channel, Start)> {
        let next = |channel: &Channel| shared.ring.next(channel.partition(shared.partitions));
        let is_ahead =
            |(channel, position): &(Channel, Position)| position.epoch == shared.epoch && position.offset > next(channel);
        let until = deadline.min(shared.clock.elapsed() + AHEAD);
        while named.iter().any(is_ahead) && shared.clock.elapsed() < until {
            tokio::time::sleep(AHEAD_PAUSE).await;
        }
        let ends = if named.iter().any(is_ahead) { self.ends.all(shared.clock, left(shared, deadline)).await } else { None };
        let judge = |(channel, position): (Channel, Position)| {
            let partition = usize::try_from(channel.partition(shared.partitions)).ok();
            let end = partition.zip(ends.as_ref()).and_then(|(partition, ends)| ends.get(partition).copied());
            let end = Some(next(&channel)).filter(|next| position.epoch != shared.epoch || position.offset <= *next).or(end);
            let start =
                end.map_or(Start::Lost(Loss::Unanswered, Some(position)), |end| Start::named(position, shared.epoch, end));
            (channel, start)
        };
        named.into_iter().map(judge).collect()
    }

    /// Where a device begins in channels that it names no position in.
    async fn resumed(
        &self,
        shared: &Shared,
        owner: Owner<'_>,
        channels: Vec<Channel>,
        deadline: Duration,
    ) -> Vec<(Channel, Start)> {
        let Some(store) = self.store.as_ref().filter(|_| !channels.is_empty()) else {
            return channels.into_iter().map(|channel| (channel, Start::Live)).collect();
        };
        let mut known = self.known(shared, (store, owner), &channels, deadline).await;
        if owner.named_by == NamedBy::Client {
            self.make_sure(shared, (store, owner), (&channels, &mut known), deadline).await;
        }
        let mut known = known.into_iter();
        let start = |channel: Channel| {
            let start = known.next().map_or(Start::Lost(Loss::Unanswered, None), |known| {
                if channel.is_mailbox() { Start::in_mailbox(known) } else { Start::elsewhere(known) }
            });
            (channel, start)
        };
        channels.into_iter().map(start).collect()
    }

    /// What is known of a device in each of `channels`; nothing, if the store does not say it in time.
    async fn known(
        &self,
        shared: &Shared,
        (store, owner): (&Store, Owner<'_>),
        channels: &[Channel],
        deadline: Duration,
    ) -> Vec<Known> {
        let reading = async {
            // It is never closed; who waits for it is bounded by the deadline.
            let _place = self.starting.acquire().await.ok();
            let read = known(shared, store, (owner.user, owner.device), channels);
            self.in_time(shared, left(shared, deadline), read).await
        };
        timeout(left(shared, deadline), reading).await.ok().flatten().unwrap_or_default()
    }

    /// Looks again where nothing is known of a device, once all is folded that it may have said there. In its mailbox it begins at what
    /// is pending, and misses nothing either way.
    async fn make_sure(
        &self,
        shared: &Shared,
        (store, owner): (&Store, Owner<'_>),
        (channels, known): (&[Channel], &mut [Known]),
        deadline: Duration,
    ) {
        let is_unknown = |(channel, known): &(&Channel, &mut Known)| !channel.is_mailbox() && known.stopped.is_none();
        let unknown = channels.iter().zip(known.iter_mut()).filter(is_unknown);
        let (unknown, places): (Vec<Channel>, Vec<&mut Known>) = unknown.map(|(channel, known)| (channel.clone(), known)).unzip();
        if unknown.is_empty() {
            return;
        }
        let wait = left(shared, deadline).min(shared.config.recovery.device_wait.0);
        let again = match self.hearing.is_over(shared, (store, owner.user), wait).await {
            true => self.known(shared, (store, owner), &unknown, deadline).await,
            false => Vec::new(),
        };
        let mut again = again.into_iter();
        for place in places {
            *place = again.next().unwrap_or(Known { stopped: Some(Stopped::Untold), ..Known::default() });
        }
    }
}

/// The time until a deadline.
fn left(shared: &Shared, deadline: Duration) -> Duration {
    deadline.saturating_sub(shared.clock.elapsed())
}

impl Shared {
    pub(super) fn course(&self, channel: &Channel) -> Course {
        let partition = channel.partition(self.partitions);
        Course { channel: channel.clone(), epoch: self.epoch, topic: self.notifications.clone(), partition }
    }
}

/// What the store knows of a device in each of `channels`, in their order.
async fn known(
    shared: &Shared,
    store: &Store,
    owner: (&UserId, &DeviceId),
    channels: &[Channel],
) -> Result<Vec<Known>, StoreError> {
    let cursors = store.cursors(owner, channels).await?;
    let mut all = Vec::with_capacity(channels.len());
    for channel in channels {
        let (written, is_known) = of_channel(&cursors, channel, shared.epoch);
        let stopped = match written {
            Some(cursor) => stopped(shared, store, cursor).await?,
            None => is_known.then_some(Stopped::Before),
        };
        if stopped.is_some() || !channel.is_mailbox() {
            all.push(Known { stopped, ..Known::default() });
            continue;
        }
        // How far it is folded comes first: what is folded in between is then looked at twice instead of never.
        let projected = store.projected(&shared.course(channel)).await?;
        let pending = store.oldest_pending(shared.epoch, owner.0, shared.clock.now()).await?;
        all.push(Known { stopped, pending, projected, ..Known::default() });
    }
    let is_new = |(channel, known): &(&Channel, &mut Known)| known.stopped.is_none() && channel.kind() == ChannelKind::Topic;
    let new = channels.iter().zip(&mut all).filter(is_new).map(|(_, known)| known).collect::<Vec<_>>();
    // Cursors were read before: who lapsed by then is known to have.
    if !new.is_empty() && store.has_lapsed(owner).await? {
        new.into_iter().for_each(|known| known.may_have_lapsed = true);
    }
    Ok(all)
}

/// The cursor in a channel that was written in this epoch, and whether any was.
fn of_channel<'a>(cursors: &'a [CursorRecord], channel: &Channel, epoch: Epoch) -> (Option<&'a CursorRecord>, bool) {
    let written = cursors.iter().filter(|cursor| cursor.channel == *channel).collect::<Vec<_>>();
    (written.iter().copied().find(|cursor| cursor.epoch == epoch), !written.is_empty())
}

/// Where a device stopped. Most cursors have no holes, and nothing more is asked.
async fn stopped(shared: &Shared, store: &Store, cursor: &CursorRecord) -> Result<Option<Stopped>, StoreError> {
    let holes = Stopped::holes(cursor);
    let (mut missed, mut projected) = (None, None);
    if !holes.is_empty() {
        let course = shared.course(&cursor.channel);
        projected = store.projected(&course).await?;
        missed = store.first_within(&course, &holes, shared.clock.now()).await?;
    }
    Ok(Stopped::of_cursor(cursor, missed, projected))
}

fn encoded(shared: &Shared, gap: Gap) -> GapPage {
    let now = shared.clock.now();
    let records = gap.records.into_iter().map(|Notified { record, partition, offset, .. }| {
        let told = |error: &FedError| shared.without_frame(partition, offset, error);
        let encoded = Encoded::new(record, Position::after(shared.epoch, offset), now).inspect_err(told);
        (offset, encoded.ok())
    });
    let whole_to = if gap.next.is_none() { gap.projected } else { None };
    GapPage { records: records.collect(), whole_to, trimmed: gap.trimmed }
}
