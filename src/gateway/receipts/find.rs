//! Where the notifications lie that a client names, as far as the ring tells.
//!
//! Owns: looking into the ring. What is not there may lie further back or be on its way, so nothing is said to be nowhere. Refuses to
//! look into channels that are not in the user's inbox.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;

use super::Asker;
use crate::gateway::Shared;
use crate::gateway::fed::{Encoded, Fed, FedError};

/// The newest records of a channel that are looked at in the ring.
const SCANNED: usize = 1_000;

/// What is known of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The user may see it, and it has this position behind it.
    At(Channel, Position),
    /// It cannot be said yet.
    Unseen,
}

type Known = HashMap<NotificationId, (Channel, Position)>;

/// What is known of several.
pub(super) struct Places {
    known: Known,
}

impl Places {
    pub(super) fn of(&mut self, id: NotificationId) -> Found {
        self.known.remove(&id).map_or(Found::Unseen, |(channel, position)| Found::At(channel, position))
    }
}

/// Looks where notifications lie.
pub(super) fn find(shared: &Shared, asker: &Asker, ids: &[NotificationId]) -> Places {
    let mut missing = ids.iter().copied().collect::<BTreeSet<_>>();
    let known = in_ring(shared, asker, &mut missing);
    Places { known }
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
