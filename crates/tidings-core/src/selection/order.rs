//! The order in which letters are tried again: that in which their records lay, each once.
//!
//! Owns: the order within each original partition, which is all that the order in a channel rests on; between partitions the
//! timestamps count. Two letters of one record are one. Refuses those that say they are of one record and differ: nobody knows which
//! is true. Holds no values, so that memory does not grow with them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::record::letter::{Letter, LetterId};
use crate::time::Timestamp;

/// A letter that is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Where it lies.
    pub id: LetterId,
    /// Other letters of the same record.
    pub twins: Vec<LetterId>,
}

/// Letters in the order in which they are tried again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// Parts that are held in memory one after the other.
    pub slices: Vec<Vec<Pick>>,
    /// Letters that say they are of one record, and differ.
    pub contradicting: Vec<LetterId>,
}

/// Letters as they are found.
#[derive(Debug, Default)]
pub struct Picks {
    topics: HashMap<String, usize>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    topic: usize,
    partition: i32,
    offset: i64,
    at: Timestamp,
    hash: [u8; 16],
    bytes: usize,
    id: LetterId,
}

impl Entry {
    fn run(&self) -> (usize, i32) {
        (self.topic, self.partition)
    }

    fn place(&self) -> (usize, i32, i64) {
        (self.topic, self.partition, self.offset)
    }
}

impl Picks {
    /// Takes a letter in.
    pub fn add(&mut self, letter: &Letter) {
        let original = &letter.original;
        let next = self.topics.len();
        let topic = match self.topics.get(&original.topic) {
            Some(topic) => *topic,
            None => *self.topics.entry(original.topic.clone()).or_insert(next),
        };
        let (hash, bytes) = content(letter);
        let at = original.timestamp.unwrap_or(letter.buried_at);
        let (partition, offset, id) = (original.partition, original.offset, letter.id);
        self.entries.push(Entry { topic, partition, offset, at, hash, bytes, id });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them in order, in slices whose letters take up to `slice_bytes`, or are one.
    #[must_use]
    pub fn in_order(mut self, slice_bytes: usize) -> Ordered {
        self.entries.sort_unstable_by_key(|entry| (entry.place(), entry.id));
        let mut ordered = Ordered::default();
        let mut held = 0;
        for same in merged(&self.entries) {
            let Some((first, others)) = self.entries.get(same).and_then(<[Entry]>::split_first) else { continue };
            if others.iter().any(|other| other.hash != first.hash) {
                ordered.contradicting.extend([first].into_iter().chain(others).map(|entry| entry.id));
                continue;
            }
            held += first.bytes;
            if held > slice_bytes || ordered.slices.is_empty() {
                ordered.slices.push(Vec::new());
                held = first.bytes;
            }
            let pick = Pick { id: first.id, twins: others.iter().map(|other| other.id).collect() };
            if let Some(slice) = ordered.slices.last_mut() {
                slice.push(pick);
            }
        }
        ordered
    }
}

/// What tells a record from another one, and what it takes.
fn content(letter: &Letter) -> ([u8; 16], usize) {
    let names = letter.headers.iter().flat_map(|(name, value)| [Some(name.as_bytes()), value.as_deref()]);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    for part in [letter.key.as_deref(), letter.value.as_deref()].into_iter().chain(names) {
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
        bytes += part.map_or(0, <[u8]>::len);
    }
    let mut short = [0; 16];
    short.iter_mut().zip(hash.finalize()).for_each(|(byte, of_hash)| *byte = of_hash);
    (short, bytes)
}

/// The entries of each record, as ranges: those of a partition by their offsets, and of all partitions the earliest next.
fn merged(sorted: &[Entry]) -> Vec<Range<usize>> {
    let end_of = |from: usize, same: &dyn Fn(&Entry, &Entry) -> bool| {
        let rest = sorted.get(from..).unwrap_or_default();
        let end = rest.first().and_then(|first| rest.iter().position(|entry| !same(first, entry)));
        from + end.unwrap_or(rest.len())
    };
    let mut heads = BinaryHeap::new();
    let mut from = 0;
    while let Some(entry) = sorted.get(from) {
        let end = end_of(from, &|a, b| a.run() == b.run());
        heads.push(Reverse((entry.at, from, end)));
        from = end;
    }
    let mut ranges = Vec::with_capacity(sorted.len());
    while let Some(Reverse((_, from, end))) = heads.pop() {
        let next = end_of(from, &|a, b| a.place() == b.place()).min(end);
        ranges.push(from..next);
        if let Some(entry) = sorted.get(next).filter(|_| next < end) {
            heads.push(Reverse((entry.at, next, end)));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::filter::tests::letter;
    use super::*;

    fn in_order(letters: &[Letter], slice_bytes: usize) -> Ordered {
        let mut picks = Picks::default();
        letters.iter().for_each(|letter| picks.add(letter));
        assert_eq!(picks.len(), letters.len());
        picks.in_order(slice_bytes)
    }

    fn offsets(ordered: &Ordered) -> Vec<i64> {
        ordered.slices.iter().flatten().map(|pick| pick.id.offset).collect()
    }

    #[test]
    fn letters_of_a_partition_come_in_the_order_of_their_records_however_they_were_buried() {
        let letters = [letter(1, 30, "a", None), letter(2, 10, "b", None), letter(3, 20, "a", None)];
        assert_eq!(offsets(&in_order(&letters, 1000)), [2, 3, 1]);
    }

    #[test]
    fn of_several_partitions_the_earliest_comes_next_and_none_is_reordered_by_a_stepped_clock() {
        let mut letters = [letter(1, 10, "a", None), letter(2, 30, "a", None), letter(3, 20, "a", None), letter(4, 5, "a", None)];
        letters[2].original.partition = 4;
        // The producer's clock was set back: its offset counts.
        letters[3].original.offset = 31;
        assert_eq!(offsets(&in_order(&letters, 1000)), [1, 3, 2, 4]);
    }

    #[test]
    fn two_letters_of_one_record_are_one_and_two_that_differ_are_none() {
        let mut forged = letter(3, 20, "a", None);
        forged.value = Some(b"forged".to_vec());
        let letters =
            [letter(1, 10, "a", None), letter(2, 10, "b", None), letter(4, 20, "a", None), forged, letter(5, 30, "a", None)];
        let ordered = in_order(&letters, 1000);
        assert_eq!(offsets(&ordered), [1, 5]);
        assert_eq!(ordered.slices[0][0].twins, [LetterId { partition: 0, offset: 2 }]);
        assert_eq!(ordered.contradicting.iter().map(|id| id.offset).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_header_more_makes_another_record() {
        let mut other = letter(2, 10, "a", None);
        other.headers.push(("ce_type".into(), Some(b"x".to_vec())));
        assert_eq!(in_order(&[letter(1, 10, "a", None), other], 1000).contradicting.len(), 2);
    }

    #[test]
    fn nothing_picked_is_nothing_to_do() {
        assert_eq!(in_order(&[], 10), Ordered::default());
    }

    proptest! {
        #[test]
        fn every_letter_is_in_one_slice_within_its_bound_and_partitions_keep_their_order(
            places in prop::collection::hash_set((0..3_i32, 0..50_i64), 0..40), slice_bytes in 1..60_usize,
        ) {
            let letters = places.iter().enumerate().map(|(number, (partition, offset))| {
                let mut letter = letter(i64::try_from(number).unwrap(), *offset, "a", None);
                letter.original.partition = *partition;
                letter
            });
            let letters = letters.collect::<Vec<_>>();
            let ordered = in_order(&letters, slice_bytes);
            let all = offsets(&ordered);
            prop_assert_eq!(all.len(), letters.len());
            let of = |offset: &i64| &letters[usize::try_from(*offset).unwrap()];
            for partition in 0..3 {
                let kept = all.iter().map(of).filter(|letter| letter.original.partition == partition);
                prop_assert!(kept.map(|letter| letter.original.offset).is_sorted());
            }
            for slice in &ordered.slices {
                let bytes = slice.iter().map(|pick| of(&pick.id.offset).value.as_ref().unwrap().len()).sum::<usize>();
                prop_assert!(bytes <= slice_bytes || slice.len() == 1);
            }
        }
    }
}
