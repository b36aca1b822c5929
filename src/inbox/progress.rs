//! Progress: where each partition of ours stands, in the store and beyond it.
//!
//! Owns: the numbers; who moves them is the projector. Refuses to move a partition that is held.

use std::collections::BTreeMap;

use tidings_core::time::Timestamp;

use crate::kafka::consumer::Partition;
use crate::store::Move;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The next offset to fold, as the store has it.
    pub(super) stored: i64,
    /// The next offset to read: everything below is stored, with the store, or in the batch.
    pub(super) read: i64,
    /// The latest append time of what was read since a batch was last given to the store.
    pub(super) clock: Option<Timestamp>,
    /// What must be folded before the partition counts as caught up; unknown at first.
    pub(super) goal: Option<i64>,
    /// Why nothing more is folded, if so.
    pub(super) held: Option<String>,
}

/// All partitions of ours.
#[derive(Debug, Default)]
pub(super) struct Progress {
    places: BTreeMap<Partition, Place>,
}

impl Progress {
    /// A partition begins at `stored`.
    pub(super) fn begin(&mut self, partition: Partition, stored: i64) {
        self.places.insert(partition, Place { stored, read: stored, clock: None, goal: None, held: None });
    }

    /// Partitions of ours no more.
    pub(super) fn forget(&mut self, gone: &[Partition]) {
        self.places.retain(|partition, _| !gone.contains(partition));
    }

    pub(super) fn get_mut(&mut self, partition: &Partition) -> Option<&mut Place> {
        self.places.get_mut(partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Partition, &Place)> {
        self.places.iter()
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.places.keys().cloned().collect()
    }

    /// Everything below `next` was read, whether it held records, markers of transactions or nothing.
    pub(super) fn read_to(&mut self, partition: &Partition, next: i64) {
        if let Some(place) = self.places.get_mut(partition)
            && place.held.is_none()
        {
            place.read = place.read.max(next);
        }
    }

    /// A record that counts was appended at `appended`.
    pub(super) fn saw(&mut self, partition: &Partition, appended: Timestamp) {
        if let Some(place) = self.places.get_mut(partition) {
            place.clock = place.clock.max(Some(appended));
        }
    }

    /// The steps from what is stored to what was read, which are about to be stored.
    pub(super) fn moves(&mut self) -> Vec<Move> {
        let ahead = self.places.iter_mut().filter(|(_, place)| place.read > place.stored);
        let step = |(partition, place): (&Partition, &mut Place)| Move {
            topic: partition.topic.clone(),
            partition: partition.number,
            from: place.stored,
            to: place.read,
            clock: place.clock.take(),
            is_loss: false,
        };
        ahead.map(step).collect()
    }

    /// The steps were stored.
    pub(super) fn moved(&mut self, moves: &[Move]) {
        for step in moves {
            let partition = Partition { topic: step.topic.clone(), number: step.partition };
            if let Some(place) = self.places.get_mut(&partition) {
                place.stored = step.to;
            }
        }
    }

    /// The steps were not stored.
    pub(super) fn not_moved(&mut self, moves: &[Move]) {
        for step in moves {
            if let Some(appended) = step.clock {
                self.saw(&Partition { topic: step.topic.clone(), number: step.partition }, appended);
            }
        }
    }

    /// Offsets that are not folded yet of those that must be before we have caught up; nothing while a goal is unknown.
    pub(super) fn missing(&self) -> Option<i64> {
        self.places
            .values()
            .filter(|place| place.held.is_none())
            .try_fold(0, |sum, place| Some(sum + (place.goal? - place.stored).max(0)))
    }

    /// The partitions that are held, with the reasons.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Partition, &str)> {
        self.places.iter().filter_map(|(partition, place)| Some((partition, place.held.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition { topic: "notifications".into(), number }
    }

    #[test]
    fn a_partition_moves_from_what_is_stored_to_what_was_read() {
        let mut progress = Progress::default();
        progress.begin(partition(0), 5);
        progress.begin(partition(1), 0);
        for appended in [70, 80, 60] {
            progress.saw(&partition(0), Timestamp::from_millis(appended));
        }
        progress.read_to(&partition(0), 9);
        let moves = progress.moves();
        let clock = Some(Timestamp::from_millis(80));
        assert_eq!(moves, [Move { topic: "notifications".into(), partition: 0, from: 5, to: 9, clock, is_loss: false }]);
        progress.moved(&moves);
        assert!(progress.moves().is_empty());
        progress.read_to(&partition(0), 10);
        assert_eq!(progress.moves()[0].clock, None, "nothing was appended that counts");
    }

    #[test]
    fn what_is_read_while_a_batch_is_stored_moves_with_the_next_or_with_both_if_that_fails() {
        let mut progress = Progress::default();
        progress.begin(partition(0), 5);
        let read = |progress: &mut Progress, next, appended| {
            progress.read_to(&partition(0), next);
            progress.saw(&partition(0), Timestamp::from_millis(appended));
        };
        read(&mut progress, 9, 80);
        let first = progress.moves();
        read(&mut progress, 12, 70);
        progress.not_moved(&first);
        let both = progress.moves();
        assert_eq!((both[0].from, both[0].to, both[0].clock), (5, 12, Some(Timestamp::from_millis(80))));
        read(&mut progress, 15, 90);
        progress.moved(&both);
        let next = progress.moves();
        assert_eq!((next[0].from, next[0].to, next[0].clock), (12, 15, Some(Timestamp::from_millis(90))));
    }

    #[test]
    fn a_held_partition_stays_where_it_is() {
        let mut progress = Progress::default();
        progress.begin(partition(0), 5);
        progress.get_mut(&partition(0)).unwrap().held = Some("a newer release wrote it".into());
        progress.read_to(&partition(0), 9);
        assert!(progress.moves().is_empty());
        assert_eq!(progress.held().count(), 1);
    }

    #[test]
    fn caught_up_is_said_only_once_every_goal_is_known_and_stored() {
        let mut progress = Progress::default();
        progress.begin(partition(0), 5);
        assert_eq!(progress.missing(), None);
        progress.get_mut(&partition(0)).unwrap().goal = Some(8);
        assert_eq!(progress.missing(), Some(3));
        progress.read_to(&partition(0), 8);
        assert_eq!(progress.missing(), Some(3), "read is not stored");
        let moves = progress.moves();
        progress.moved(&moves);
        assert_eq!(progress.missing(), Some(0));
    }
}
