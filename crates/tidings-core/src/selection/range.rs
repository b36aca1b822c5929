//! Which offsets of which partitions somebody means, against those that there are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::stretch::Stretch;

/// Offsets of a partition, as they are given: `2@17..90`, with either end left out; or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRange {
    /// The partition.
    pub partition: i32,
    /// The first that is meant; else the first there is.
    pub from: Option<i64>,
    /// The first that is not meant any more; else the end.
    pub to: Option<i64>,
}

/// What is meant of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By partition.
    pub spans: BTreeMap<i32, Stretch>,
    /// Offsets that are named and that retention has removed.
    pub gone: u64,
}

/// Offsets that mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not as they are written.
    #[error("{0:?} names no offsets: write `2@17..90` (partition 2, from 17 to before 90), `2@17..` or `2@..90`")]
    Unread(String),
    /// Between its ends is nothing.
    #[error("{0} holds no offset: the first number is the first that is meant, the second the first that is not meant any more")]
    Empty(PartRange),
    /// A partition that is not there.
    #[error("there is no partition {partition}: the topic has the partitions 0 to {last}")]
    NoPartition {
        /// As it was given.
        partition: i32,
        /// The last that is there.
        last: i32,
    },
    /// A partition that is given twice.
    #[error("partition {0} is given twice: give one range for each partition")]
    Twice(i32),
    /// Nothing of it lies there.
    #[error("{range} lies outside of the partition: it has the offsets {from} to before {to}")]
    Outside {
        /// As it was given.
        range: PartRange,
        /// The first that is there.
        from: i64,
        /// The first that is not there yet.
        to: i64,
    },
}

impl FromStr for PartRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let unread = || RangeError::Unread(text.chars().take(60).collect());
        let offset = |digits: &str| match digits {
            "" => Ok(None),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map(Some).map_err(|_| unread()),
            _ => Err(unread()),
        };
        let (partition, offsets) = text.split_once('@').ok_or_else(unread)?;
        let (from, to) = offsets.split_once("..").ok_or_else(unread)?;
        let partition = offset(partition)?.and_then(|number| i32::try_from(number).ok()).ok_or_else(unread)?;
        let range = Self { partition, from: offset(from)?, to: offset(to)? };
        match (range.from, range.to) {
            (Some(from), Some(to)) if from >= to => Err(RangeError::Empty(range)),
            (_, Some(0)) => Err(RangeError::Empty(range)),
            _ => Ok(range),
        }
    }
}

impl fmt::Display for PartRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |offset: Option<i64>| offset.map(|offset| offset.to_string()).unwrap_or_default();
        write!(f, "{}@{}..{}", self.partition, shown(self.from), shown(self.to))
    }
}

/// What `wanted` means of a topic that has `bounds`; everything if nothing is named.
///
/// # Errors
/// If something that is named is not there at all.
pub fn resolve(wanted: &[PartRange], bounds: &BTreeMap<i32, Stretch>) -> Result<Resolved, RangeError> {
    if wanted.is_empty() {
        return Ok(Resolved { spans: bounds.clone(), gone: 0 });
    }
    let mut resolved = Resolved::default();
    for range in wanted {
        let partition = range.partition;
        let last = bounds.keys().next_back().copied().unwrap_or(0);
        let there = bounds.get(&partition).ok_or(RangeError::NoPartition { partition, last })?;
        let (from, to) = (range.from.unwrap_or(there.from), range.to.unwrap_or(there.to));
        let is_named = range.from.is_some() || range.to.is_some();
        if is_named && from.max(there.from) >= to.min(there.to) {
            return Err(RangeError::Outside { range: *range, from: there.from, to: there.to });
        }
        resolved.gone += u64::try_from(there.from.saturating_sub(from)).unwrap_or(0);
        let span = Stretch { from: from.max(there.from), to: to.min(there.to) };
        if resolved.spans.insert(partition, span).is_some() {
            return Err(RangeError::Twice(partition));
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> BTreeMap<i32, Stretch> {
        [(0, Stretch { from: 10, to: 20 }), (1, Stretch { from: 0, to: 0 })].into()
    }

    fn meant(texts: &[&str]) -> Result<Resolved, RangeError> {
        let ranges = texts.iter().map(|text| text.parse::<PartRange>()).collect::<Result<Vec<_>, _>>()?;
        resolve(&ranges, &bounds())
    }

    #[test]
    fn a_range_is_cut_to_what_is_there_and_what_retention_took_of_it_is_counted() {
        let of =
            |text: &str| meant(&[text]).map(|resolved| (resolved.spans.get(&0).map(|span| (span.from, span.to)), resolved.gone));
        assert_eq!(of("0@12..15"), Ok((Some((12, 15)), 0)));
        assert_eq!(of("0@12.."), Ok((Some((12, 20)), 0)));
        assert_eq!(of("0@..15"), Ok((Some((10, 15)), 0)));
        assert_eq!(of("0@4..99"), Ok((Some((10, 20)), 6)));
        assert_eq!(resolve(&[], &bounds()), Ok(Resolved { spans: bounds(), gone: 0 }));
        let all = PartRange { partition: 1, from: None, to: None };
        assert_eq!(resolve(&[all], &bounds()).map(|resolved| resolved.gone), Ok(0), "an empty partition is no error by itself");
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_there_is() {
        let refused = |texts: &[&str]| meant(texts).unwrap_err().to_string();
        insta::assert_snapshot!(refused(&["0@15..12"]), @"0@15..12 holds no offset: the first number is the first that is meant, the second the first that is not meant any more");
        insta::assert_snapshot!(refused(&["0@15..15"]), @"0@15..15 holds no offset: the first number is the first that is meant, the second the first that is not meant any more");
        insta::assert_snapshot!(refused(&["0@30..40"]), @"0@30..40 lies outside of the partition: it has the offsets 10 to before 20");
        insta::assert_snapshot!(refused(&["0@..5"]), @"0@..5 lies outside of the partition: it has the offsets 10 to before 20");
        insta::assert_snapshot!(refused(&["7@1.."]), @"there is no partition 7: the topic has the partitions 0 to 1");
        insta::assert_snapshot!(refused(&["0@11..", "0@..12"]), @"partition 0 is given twice: give one range for each partition");
        for text in ["", "0", "0@5", "@..", "a@1..2", "0@-1..2", "0@1..x", "99999999999@1..", "0@99999999999999999999.."] {
            assert!(refused(&[text]).contains("names no offsets"), "{text}");
        }
    }
}
