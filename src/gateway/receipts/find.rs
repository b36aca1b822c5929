//! Where the notifications lie that a client names: in one of the user's channels, or nowhere.
//!
//! Owns: the order of looking: the ring, the store, and the store again once it has folded all that the log held at the question. Only
//! then something is said to be nowhere. Refuses to look into channels that are not in the user's inbox.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;
use tokio::time::timeout;

use super::Asker;
use crate::gateway::Shared;
use crate::gateway::fed::{Encoded, Fed, FedError};

/// The newest records of a channel that are looked at in the ring; what lies further back is in the store.
const SCANNED: usize = 1_000;
/// How long the projection may take to come to the end that the log had at the question.
const PATIENCE: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(20);

/// What is known of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The user may see it, and it has this position behind it.
    At(Channel, Position),
    /// It cannot be said yet.
    Unseen,
    /// It is none that the user may see.
    Nowhere,
}

type Known = HashMap<NotificationId, (Channel, Position)>;

/// What is known of several.
pub(super) struct Places {
    known: Known,
    /// What all others are.
    rest: Found,
}

impl Places {
    pub(super) fn of(&mut self, id: NotificationId) -> Found {
        self.known.remove(&id).map_or_else(|| self.rest.clone(), |(channel, position)| Found::At(channel, position))
    }
}

/// Looks where notifications lie.
pub(super) async fn find(shared: &Shared, asker: &Asker, ids: &[NotificationId]) -> Places {
    let mut missing = ids.iter().copied().collect::<BTreeSet<_>>();
    let mut known = in_ring(shared, asker, &mut missing);
    if missing.is_empty() {
        return Places { known, rest: Found::Nowhere };
    }
    // However many questions that takes, of the store and of the brokers, a client waits for no more than one answer.
    let looking = in_store(shared, asker, &mut missing, &mut known);
    let rest = timeout(shared.config.recovery.wait.0, looking).await.unwrap_or(Found::Unseen);
    Places { known, rest }
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

/// Takes those that the ring has out of `missing`.
fn in_ring(shared: &Shared, asker: &Asker, missing: &mut BTreeSet<NotificationId>) -> Known {
    let mut known = Known::new();
    for channel in &asker.channels {
        let records = shared.ring.latest((channel, channel.partition(shared.partitions)), SCANNED);
        for (offset, encoded) in read(shared, &records) {
            if missing.is_empty() {
                return known;
            }
            if !encoded.excludes(&asker.user) && missing.remove(&encoded.id) {
                known.insert(encoded.id, (channel.clone(), Position::after(shared.epoch, offset)));
            }
        }
    }
    known
}

/// Takes those that the store has out of `missing`, and says what the others are.
async fn in_store(shared: &Shared, asker: &Asker, missing: &mut BTreeSet<NotificationId>, known: &mut Known) -> Found {
    if !look(shared, asker, missing, known).await {
        return Found::Unseen;
    }
    if missing.is_empty() || has_folded_all(shared, asker).await && look(shared, asker, missing, known).await {
        return Found::Nowhere;
    }
    Found::Unseen
}

/// One look into the store; false if it gives no answer.
async fn look(shared: &Shared, asker: &Asker, missing: &mut BTreeSet<NotificationId>, known: &mut Known) -> bool {
    let ids = missing.iter().copied().collect::<Vec<_>>();
    let found = shared.reads.ask(shared, async |store| store.find(&asker.user, &asker.channels, &ids).await).await;
    let Some(found) = found else { return false };
    for one in found {
        missing.remove(&one.id);
        known.insert(one.id, (one.channel, one.position));
    }
    true
}

/// Whether the store has folded all that the log holds now of the user's channels, or does so soon.
async fn has_folded_all(shared: &Shared, asker: &Asker) -> bool {
    let Some(ends) = shared.reads.log_ends(shared).await else { return false };
    let end = |partition: i32| usize::try_from(partition).ok().and_then(|number| ends.get(number)).copied().unwrap_or(0);
    let partitions = asker.channels.iter().map(|channel| channel.partition(shared.partitions));
    let mut ends = partitions.map(|partition| (partition, end(partition))).collect::<BTreeMap<_, _>>();
    let until = shared.clock.elapsed() + PATIENCE;
    loop {
        let standings = shared.reads.ask(shared, async |store| store.positions(shared.epoch).await).await;
        let Some(standings) = standings else { return false };
        for standing in standings.iter().filter(|standing| standing.topic == shared.notifications) {
            if ends.get(&standing.partition).is_some_and(|end| *end <= standing.next) {
                ends.remove(&standing.partition);
            }
        }
        // A partition that never held anything was never folded either.
        ends.retain(|_, end| *end > 0);
        if ends.is_empty() {
            return true;
        }
        if shared.clock.elapsed() >= until {
            return false;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
