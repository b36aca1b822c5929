//! Where the notifications lie that somebody names: in one of the user's channels, or nowhere.
//!
//! Owns: the order of looking: the ring, the store, and the store again once it has folded all that the log held at the question. Only
//! then something is said to be nowhere. Refuses to look into channels that are not in the user's inbox, and to tell one of somebody
//! else from one that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tokio::time::timeout;

use crate::gateway::fed::{Encoded, Fed, FedError};
use crate::gateway::{Shared, metrics};
use crate::store::Place;

/// The newest records of a channel that are looked at in the ring; what lies further back is in the store, which is then asked.
const SCANNED: usize = 1_000;
/// How long the projection may take to come to the end that the log had at the question.
const PATIENCE: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(20);

/// In whose inbox something is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Whose.
    pub user: &'a UserId,
    /// What it shows.
    pub channels: &'a [Channel],
}

/// From where on something is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// From the newest that this node has read.
    Ring,
    /// What the store has folded.
    Store,
}

/// What is known of notifications that somebody names, in the order they were named.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// In the user's inbox. One id may lie in several channels.
    pub found: Vec<Place>,
    /// Not there yet, and perhaps to come: the projection is behind, or nobody can say how far it is.
    pub awaited: Vec<NotificationId>,
    /// Not in the user's inbox, for certain.
    pub absent: Vec<NotificationId>,
}

/// Looks where notifications lie.
pub(super) async fn locate(shared: &Shared, scope: Scope<'_>, ids: &[NotificationId], depth: Depth) -> Located {
    let mut search = Search { shared, scope, missing: ids.iter().copied().collect(), found: BTreeMap::new() };
    if depth == Depth::Ring {
        search.in_ring();
    }
    let in_ring = search.found.len();
    // However many questions that takes, of the store and of the brokers, nobody waits for more than one answer.
    let is_all = search.missing.is_empty() || timeout(shared.config.recovery.wait.0, search.in_store()).await.unwrap_or(false);
    let mut located = Located::default();
    let mut told = BTreeSet::new();
    for id in ids.iter().copied().filter(|id| told.insert(*id)) {
        match search.found.remove(&id) {
            Some(places) => {
                located.found.extend(places.into_iter().map(|(channel, position)| Place { id, channel, position }));
            }
            None if is_all => located.absent.push(id),
            None => located.awaited.push(id),
        }
    }
    let metrics = &shared.metrics;
    metrics.looked_up(metrics::Found::Ring, in_ring);
    metrics.looked_up(metrics::Found::Store, told.len() - in_ring - located.absent.len() - located.awaited.len());
    metrics.looked_up(metrics::Found::Unseen, located.awaited.len());
    metrics.looked_up(metrics::Found::Nowhere, located.absent.len());
    located
}

/// Whether the store has folded a channel's partition up to an offset, or does so soon.
pub(super) async fn has_folded(shared: &Shared, channel: &Channel, offset: i64) -> bool {
    let end = BTreeMap::from([(channel.partition(shared.partitions), offset)]);
    timeout(shared.config.recovery.wait.0, have_folded(shared, end, PATIENCE)).await.unwrap_or(false)
}

/// Whether the store has folded all that lies on the log now, or does so within `patience`.
pub(super) async fn has_folded_all(shared: &Shared, patience: Duration) -> bool {
    let Some(ends) = shared.reads.log_ends(shared).await else { return false };
    have_folded(shared, (0..).zip(ends.iter().copied()).collect(), patience).await
}

/// Hands a withdrawn notification out of the ring no more: the record at `offset`, or what the channel's newest have of it.
pub(in crate::gateway) fn forget(shared: &Shared, channel: &Channel, id: NotificationId, offset: Option<i64>) {
    let place = (channel, channel.partition(shared.partitions));
    if let Some(offset) = offset {
        return shared.ring.forget(place, offset);
    }
    let records = shared.ring.latest(place, SCANNED);
    let offsets = read(shared, &records).filter(|(_, encoded)| encoded.id == id).map(|(offset, _)| offset);
    offsets.for_each(|offset| shared.ring.forget(place, offset));
}

/// What is in records of the ring, with their offsets.
fn read<'a>(shared: &'a Shared, records: &'a [Arc<Fed>]) -> impl Iterator<Item = (i64, &'a Encoded)> {
    let failed = |fed: &Fed, error: &FedError| shared.without_frame(fed.partition, fed.offset, error);
    records.iter().filter_map(move |fed| Some((fed.offset, fed.encoded(shared.epoch, shared.clock.now(), failed)?)))
}

/// A look-up on its way.
struct Search<'a> {
    shared: &'a Shared,
    scope: Scope<'a>,
    missing: BTreeSet<NotificationId>,
    found: BTreeMap<NotificationId, BTreeMap<Channel, Position>>,
}

impl Search<'_> {
    /// Takes those that the ring has. Of one that was written more than once the earliest place counts, as it does in the store.
    fn in_ring(&mut self) {
        let Self { shared, scope, missing, found } = self;
        for channel in scope.channels {
            let records = shared.ring.latest((channel, channel.partition(shared.partitions)), SCANNED);
            let known = read(shared, &records).filter(|(_, encoded)| missing.contains(&encoded.id));
            for (offset, encoded) in known.filter(|(_, encoded)| !encoded.excludes(scope.user)) {
                let position = Position::after(shared.epoch, offset);
                found.entry(encoded.id).or_default().insert(channel.clone(), position);
            }
        }
        missing.retain(|id| !found.contains_key(id));
    }

    /// Takes those that the store has, and says whether the others are nowhere.
    async fn in_store(&mut self) -> bool {
        if !self.look().await {
            return false;
        }
        self.missing.is_empty() || self.has_folded_all().await && self.look().await
    }

    /// One look into the store; false if it gives no answer.
    async fn look(&mut self) -> bool {
        let ids = self.missing.iter().copied().collect::<Vec<_>>();
        let Scope { user, channels } = self.scope;
        let found = self.shared.reads.look_up(self.shared, async |store| store.find(user, channels, &ids).await).await;
        let Some(found) = found else { return false };
        for one in found {
            self.missing.remove(&one.id);
            self.found.entry(one.id).or_default().insert(one.channel, one.position);
        }
        true
    }

    /// Whether the store has folded all that the log holds now of the user's channels, or does so soon.
    async fn has_folded_all(&self) -> bool {
        let Some(ends) = self.shared.reads.log_ends(self.shared).await else { return false };
        let end = |partition: i32| usize::try_from(partition).ok().and_then(|number| ends.get(number)).copied().unwrap_or(0);
        let partitions = self.scope.channels.iter().map(|channel| channel.partition(self.shared.partitions));
        have_folded(self.shared, partitions.map(|partition| (partition, end(partition))).collect(), PATIENCE).await
    }
}

/// Whether the store has folded each of these partitions up to its offset, or does so within `patience`.
async fn have_folded(shared: &Shared, mut ends: BTreeMap<i32, i64>, patience: Duration) -> bool {
    // A partition that never held anything was never folded either.
    ends.retain(|_, end| *end > 0);
    let until = shared.clock.elapsed() + patience;
    loop {
        let standings = shared.reads.look_up(shared, async |store| store.positions(shared.epoch).await).await;
        let Some(standings) = standings else { return false };
        for standing in standings.iter().filter(|standing| standing.topic == shared.notifications) {
            if ends.get(&standing.partition).is_some_and(|end| *end <= standing.next) {
                ends.remove(&standing.partition);
            }
        }
        if ends.is_empty() {
            return true;
        }
        if shared.clock.elapsed() >= until {
            return false;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
