//! Stretches: the offsets of a channel that a device was offered, or has acknowledged, without gaps between.
//!
//! Owns: a sorted set of half-open ranges of offsets. Refuses to grow beyond a bound of ranges. An exception of an
//! acknowledgement is the gap between two stretches.

use serde::{Deserialize, Deserializer, Serialize};

/// A half-open range of offsets: `from` lies inside, `to` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stretch {
    /// The first offset inside.
    pub from: i64,
    /// The first offset behind.
    pub to: i64,
}

impl Stretch {
    /// How many offsets lie inside.
    #[must_use]
    pub fn len(self) -> u64 {
        u64::try_from(self.to.saturating_sub(self.from)).unwrap_or(0)
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Disjoint stretches in ascending order, none touching the next; as JSON a list of `{"from", "to"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Stretches(Vec<Stretch>);

impl Stretches {
    /// No offset at all.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The stretches in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[Stretch] {
        &self.0
    }

    /// Whether no offset lies inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `offset` lies inside a stretch.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let behind = self.0.partition_point(|stretch| stretch.to <= offset);
        self.0.get(behind).is_some_and(|stretch| stretch.from <= offset)
    }

    /// The first offset behind everything inside, if anything is.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.0.last().map(|stretch| stretch.to)
    }

    /// The first offset from `from` on that no stretch holds.
    #[must_use]
    pub fn first_outside(&self, from: i64) -> i64 {
        let behind = self.0.partition_point(|stretch| stretch.to <= from);
        self.0.get(behind).filter(|stretch| stretch.from <= from).map_or(from, |stretch| stretch.to)
    }

    /// What lies between the stretches.
    #[must_use]
    pub fn holes(&self) -> Vec<Stretch> {
        self.0.windows(2).filter_map(|pair| Some(Stretch { from: pair.first()?.to, to: pair.last()?.from })).collect()
    }

    /// Adds the offsets from `from` up to but not including `to`; an empty range adds nothing. Says whether anything was new.
    pub fn insert(&mut self, from: i64, to: i64) -> bool {
        if from >= to {
            return false;
        }
        let first = self.0.partition_point(|stretch| stretch.to < from);
        let behind = self.0.partition_point(|stretch| stretch.from <= to);
        let touched = self.0.get(first..behind).unwrap_or_default();
        if let [only] = touched
            && only.from <= from
            && to <= only.to
        {
            return false;
        }
        let merged = Stretch {
            from: touched.first().map_or(from, |stretch| stretch.from.min(from)),
            to: touched.last().map_or(to, |stretch| stretch.to.max(to)),
        };
        self.0.splice(first..behind, [merged]);
        true
    }

    /// Adds everything inside `other`. Says whether anything was new.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut grown = false;
        for stretch in &other.0 {
            grown |= self.insert(stretch.from, stretch.to);
        }
        grown
    }

    /// Takes an offset out.
    pub fn remove(&mut self, offset: i64) {
        let behind = self.0.partition_point(|stretch| stretch.to <= offset);
        let Some(Stretch { from, to }) = self.0.get(behind).copied().filter(|stretch| stretch.from <= offset) else { return };
        let halves = [Stretch { from, to: offset }, Stretch { from: offset.saturating_add(1), to }];
        self.0.splice(behind..=behind, halves.into_iter().filter(|half| half.from < half.to));
    }

    /// Forgets the lowest stretches until at most `limit` are left.
    pub fn keep_newest(&mut self, limit: usize) {
        let surplus = self.0.len().saturating_sub(limit);
        self.0.drain(..surplus);
    }
}

impl FromIterator<Stretch> for Stretches {
    fn from_iter<I: IntoIterator<Item = Stretch>>(stretches: I) -> Self {
        let mut set = Self::new();
        for stretch in stretches {
            set.insert(stretch.from, stretch.to);
        }
        set
    }
}

impl<'de> Deserialize<'de> for Stretches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Stretch>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn offsets(set: &Stretches) -> BTreeSet<i64> {
        set.as_slice().iter().flat_map(|stretch| stretch.from..stretch.to).collect()
    }

    proptest! {
        #[test]
        fn stretches_hold_exactly_what_was_inserted(ranges in prop::collection::vec((0..60_i64, -2..12_i64), 0..30)) {
            let mut set = Stretches::new();
            let mut expected = BTreeSet::new();
            for (from, length) in ranges {
                let before = expected.len();
                expected.extend(from..from + length);
                prop_assert_eq!(set.insert(from, from + length), expected.len() > before);
            }
            prop_assert_eq!(offsets(&set), expected.clone());
            for offset in -2..80 {
                prop_assert_eq!(set.contains(offset), expected.contains(&offset));
                let outside = (offset..).find(|next| !expected.contains(next));
                prop_assert_eq!(Some(set.first_outside(offset)), outside);
            }
            if let Some((first, last)) = expected.first().zip(expected.last()) {
                let holes = set.holes().iter().flat_map(|hole| hole.from..hole.to).collect::<BTreeSet<_>>();
                prop_assert_eq!(holes, (*first..*last).filter(|offset| !expected.contains(offset)).collect());
            }
            for pair in set.as_slice().windows(2) {
                prop_assert!(pair[0].to < pair[1].from, "{pair:?} touch");
            }
        }

        #[test]
        fn what_was_taken_out_is_not_inside_and_everything_else_is(
            ranges in prop::collection::vec((0..60_i64, 1..12_i64), 0..8),
            gone in prop::collection::vec(-2..75_i64, 0..20),
        ) {
            let mut set: Stretches = ranges.into_iter().map(|(from, length)| Stretch { from, to: from + length }).collect();
            let expected = &offsets(&set) - &gone.iter().copied().collect();
            gone.into_iter().for_each(|offset| set.remove(offset));
            prop_assert_eq!(offsets(&set), expected);
            prop_assert!(set.as_slice().iter().all(|stretch| stretch.from < stretch.to));
        }

        #[test]
        fn what_is_read_back_is_what_was_written(ranges in prop::collection::vec((0..60_i64, 1..12_i64), 0..10)) {
            let set: Stretches = ranges.into_iter().map(|(from, length)| Stretch { from, to: from + length }).collect();
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<Stretches>(&text).unwrap(), set);
        }
    }

    fn set_of(ranges: &[(i64, i64)]) -> Stretches {
        ranges.iter().map(|(from, length)| Stretch { from: *from, to: from + length }).collect()
    }

    proptest! {
        #[test]
        fn merged_stretches_hold_both_and_say_whether_anything_was_new(
            mine in prop::collection::vec((0..60_i64, 1..12_i64), 0..6),
            more in prop::collection::vec((0..60_i64, 1..12_i64), 0..6),
        ) {
            let (mine, more) = (set_of(&mine), set_of(&more));
            let mut merged = mine.clone();
            let is_news = merged.merge(&more);
            let expected = &offsets(&mine) | &offsets(&more);
            prop_assert_eq!(is_news, expected.len() > offsets(&mine).len());
            prop_assert_eq!(merged.end(), expected.last().map(|last| last + 1));
            prop_assert_eq!(merged.is_empty(), expected.is_empty());
            prop_assert_eq!(offsets(&merged), expected);
        }
    }

    #[test]
    fn of_too_many_stretches_the_lowest_are_forgotten() {
        let mut set = set_of(&[(1, 2), (5, 2), (9, 2)]);
        set.keep_newest(3);
        assert_eq!(set, set_of(&[(1, 2), (5, 2), (9, 2)]));
        set.keep_newest(2);
        assert_eq!(set, set_of(&[(5, 2), (9, 2)]));
    }

    #[test]
    fn forged_stretches_out_of_order_are_put_in_order() {
        let set: Stretches = serde_json::from_str(r#"[{"from":9,"to":12},{"from":5,"to":1},{"from":1,"to":9}]"#).unwrap();
        assert_eq!(set.as_slice(), [Stretch { from: 1, to: 12 }]);
    }
}
