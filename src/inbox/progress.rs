//! Progress: where each partition of ours stands, in the store and beyond it.
//!
//! Owns: the numbers; who moves them is the projector. Refuses to move a partition that is held, or over a record that is not buried yet.

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
    /// The record that comes next, while it is on its way to `dlq`: nothing is read behind it.
    pub(super) burying: Option<i64>,
    /// Why it is not known where it goes on, if so. It is held then, and looked for.
    pub(super) away: Option<Away>,
}

/// Why it is not known where a partition goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// A broker does not have its topic. It may only be slow to know of it.
    Unseen,
    /// Its topic was not there for some seconds.
    Missing,
    /// The brokers do not say.
    Unsaid,
}

impl Place {
    /// Whether it is read on.
    pub(super) fn is_read(&self) -> bool {
        self.held.is_none() && self.burying.is_none()
    }
}

/// All partitions of ours.
#[derive(Debug, Default)]
pub(super) struct Progress {
    places: BTreeMap<Partition, Place>,
}

impl Progress {
    /// A partition begins at `stored`.
    pub(super) fn begin(&mut self, partition: Partition, stored: i64) {
        let place = Place { stored, read: stored, clock: None, goal: None, held: None, burying: None, away: None };
        self.places.insert(partition, place);
    }

    /// It is not known where a partition begins, or goes on, for this reason.
    pub(super) fn lose(&mut self, partition: Partition, away: Away, why: String) {
        let stored = self.stored(&partition);
        // One that has just been made anew has no leader yet.
        let away = if self.is_missing(&partition) { Away::Missing } else { away };
        self.begin(partition.clone(), stored);
        if let Some(place) = self.places.get_mut(&partition) {
            (place.held, place.away) = (Some(why), Some(away));
        }
    }

    /// The next offset to fold of a partition, as the store has it.
    pub(super) fn stored(&self, partition: &Partition) -> i64 {
        self.places.get(partition).map_or(0, |place| place.stored)
    }

    /// Records that are on their way to `dlq`.
    pub(super) fn burying(&self) -> impl Iterator<Item = (&Partition, i64)> {
        self.places.iter().filter_map(|(partition, place)| Some((partition, place.burying?)))
    }

    /// Partitions of which it is not known where they go on.
    pub(super) fn away(&self) -> Vec<Partition> {
        let away = self.places.iter().filter(|(_, place)| place.away.is_some());
        away.map(|(partition, _)| partition.clone()).collect()
    }

    /// A partition's topic is still not there.
    pub(super) fn miss(&mut self, partition: &Partition) {
        if let Some(place) = self.places.get_mut(partition).filter(|place| place.away == Some(Away::Unseen)) {
            place.away = Some(Away::Missing);
        }
    }

    /// Whether a partition's topic was not there for some seconds, as far as is known.
    pub(super) fn is_missing(&self, partition: &Partition) -> bool {
        self.places.get(partition).is_some_and(|place| place.away == Some(Away::Missing))
    }

    /// The record that comes next in a partition is on its way to `dlq`.
    pub(super) fn bury(&mut self, partition: &Partition, offset: i64) {
        if let Some(place) = self.places.get_mut(partition) {
            place.read = place.read.max(offset);
            place.burying = Some(offset);
        }
    }

    /// A record lies in `dlq`. Says whether its partition has waited for that, and goes on.
    pub(super) fn buried(&mut self, partition: &Partition, offset: i64) -> bool {
        let Some(place) = self.places.get_mut(partition).filter(|place| place.burying == Some(offset)) else { return false };
        place.burying = None;
        place.read = offset + 1;
        true
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
            && place.is_read()
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
    fn a_partition_is_folded_up_to_the_record_that_is_not_buried_yet_and_the_others_beyond() {
        let mut progress = Progress::default();
        [0, 1].into_iter().for_each(|number| progress.begin(partition(number), 5));
        progress.read_to(&partition(0), 7);
        progress.bury(&partition(0), 7);
        // A position that the client brings is behind the record it has read.
        [0, 1].into_iter().for_each(|number| progress.read_to(&partition(number), 9));
        let moves = progress.moves();
        assert_eq!(moves.iter().map(|step| (step.partition, step.to)).collect::<Vec<_>>(), [(0, 7), (1, 9)]);
        progress.moved(&moves);
        assert!(!progress.buried(&partition(0), 6), "another one");
        assert!(progress.moves().is_empty());
        assert!(progress.buried(&partition(0), 7) && !progress.buried(&partition(0), 7));
        assert_eq!(progress.moves().iter().map(|step| (step.from, step.to)).collect::<Vec<_>>(), [(7, 8)]);
    }

    #[test]
    fn a_partition_that_is_away_stays_where_the_store_has_it_until_it_begins_again() {
        let mut progress = Progress::default();
        progress.begin(partition(0), 5);
        progress.read_to(&partition(0), 9);
        progress.lose(partition(0), Away::Unseen, "it is not there".into());
        assert!(progress.moves().is_empty() && !progress.is_missing(&partition(0)), "one answer says little");
        progress.miss(&partition(0));
        progress.lose(partition(0), Away::Unsaid, "it has no leader".into());
        assert!(progress.is_missing(&partition(0)), "what comes back may be another");
        assert_eq!((progress.away(), progress.held().count()), (vec![partition(0)], 1));
        progress.begin(partition(0), 5);
        assert!(progress.away().is_empty() && progress.held().next().is_none());
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
