//! Locating: where the notifications lie that a user names, and whether one that is not found can still come.
//!
//! Owns: that "there is no such notification" is only said once it is known. Refuses to tell one of somebody else from one that is not
//! there. Neighbours: the store finds, the gateway's desk knows where the log ends.

use std::collections::BTreeSet;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::record::receipt::ReceiptItem;

use super::super::Rest;
use super::super::owner::Owner;
use crate::store::{Found, Store, StoreError};

/// What is known of notifications that a user names.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// In the user's inbox.
    pub(super) found: Vec<Found>,
    /// Not there yet, and perhaps to come: the projection is behind, or nobody can say how far it is.
    pub(super) awaited: Vec<NotificationId>,
    /// Not in the user's inbox, for certain.
    pub(super) absent: Vec<NotificationId>,
}

impl Located {
    /// What a receipt says of what is there and what may come.
    pub(super) fn items(&self) -> Vec<ReceiptItem> {
        let found = self.found.iter().map(|found| ReceiptItem {
            id: found.id,
            channel: Some(found.channel.clone()),
            position: Some(found.position),
        });
        found.chain(self.awaited.iter().map(|id| ReceiptItem { id: *id, channel: None, position: None })).collect()
    }
}

impl Rest {
    /// Looks for notifications in an inbox. A store that is away finds nothing, and says of nothing that it is not there.
    pub(super) async fn locate(&self, owner: &Owner, ids: &[NotificationId]) -> Located {
        let Ok(store) = self.store() else { return Located { awaited: ids.to_vec(), ..Located::default() } };
        match self.look(store, owner, ids).await {
            Ok(located) => located,
            Err(error) => {
                tracing::warn!(%error, "notifications that a user names could not be looked for; what was done with them is kept");
                Located { awaited: ids.to_vec(), ..Located::default() }
            }
        }
    }

    async fn look(&self, store: &Store, owner: &Owner, ids: &[NotificationId]) -> Result<Located, StoreError> {
        let mut found = store.find(&owner.user, &owner.channels, ids).await?;
        if missing(ids, &found).is_empty() {
            return Ok(Located { found, ..Located::default() });
        }
        let is_whole = self.is_projected(store, &owner.channels).await?;
        // What was folded in between would else count as not there.
        found = store.find(&owner.user, &owner.channels, ids).await?;
        let missing = missing(ids, &found);
        Ok(if is_whole {
            Located { found, absent: missing, ..Located::default() }
        } else {
            Located { found, awaited: missing, ..Located::default() }
        })
    }

    /// Whether all that the channels hold at this moment is folded.
    async fn is_projected(&self, store: &Store, channels: &[Channel]) -> Result<bool, StoreError> {
        let Some(ends) = self.desk.ends().await else { return Ok(false) };
        let partitions = channels.iter().map(|channel| channel.partition(self.courses.partitions)).collect::<BTreeSet<_>>();
        let ends = partitions.into_iter().map(|partition| (partition, end_of(&ends, partition)));
        let standings = store.positions(self.courses.epoch).await?;
        let next = |partition: i32| {
            let of_topic = standings.iter().filter(|standing| standing.topic == self.courses.notifications);
            of_topic.filter(|standing| standing.partition == partition).map(|standing| standing.next).max()
        };
        // A partition that never held anything was never folded either.
        Ok(ends.into_iter().all(|(partition, end)| end == 0 || next(partition).is_some_and(|next| next >= end)))
    }
}

/// The end of a partition among those of all.
pub(super) fn end_of(ends: &[i64], partition: i32) -> i64 {
    usize::try_from(partition).ok().and_then(|partition| ends.get(partition)).copied().unwrap_or(0)
}

/// Those of `ids` that were not found, each once.
fn missing(ids: &[NotificationId], found: &[Found]) -> Vec<NotificationId> {
    let found = found.iter().map(|found| found.id).collect::<BTreeSet<_>>();
    let missing = ids.iter().copied().filter(|id| !found.contains(id)).collect::<BTreeSet<_>>();
    missing.into_iter().collect()
}
