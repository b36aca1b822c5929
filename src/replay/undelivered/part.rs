//! Parts: a reading that is asked for piece by piece, by who cannot wait for the whole.
//!
//! Owns: where the next part begins, as a text. Opaque to callers and hostile until read: all that one can do is to say from where on a
//! topic is read that its owner may read as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// More than any text of a topic with as many partitions as Kafka takes well.
const LIMIT_BYTES: usize = 64 * 1024;

/// Which part of a topic is read.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Behind the part before.
    pub behind: Option<PartEnd>,
    /// No longer than to this time of the monotonic clock; what there is by then is told.
    pub until: Option<Duration>,
}

/// Where a part ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartEnd {
    /// How many of the notifications that were named have been met by then.
    pub(in crate::replay) met: u64,
    /// The next offset of each partition.
    pub(in crate::replay) next: BTreeMap<i32, i64>,
}

/// A text that is no end of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no page token: take `nextPageToken` of the answer before as it is, or leave it out to begin")]
pub struct PartEndError;

impl fmt::Display for PartEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.met)?;
        self.next.iter().try_for_each(|(partition, offset)| write!(f, ".{partition}-{offset}"))
    }
}

impl FromStr for PartEnd {
    type Err = PartEndError;

    fn from_str(text: &str) -> Result<Self, PartEndError> {
        let mut parts = Some(text).filter(|text| text.len() <= LIMIT_BYTES).ok_or(PartEndError)?.split('.');
        let met = parts.next().and_then(|met| met.parse().ok()).ok_or(PartEndError)?;
        let place = |part: &str| {
            let (partition, offset) = part.split_once('-')?;
            let place = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
            (place.0 >= 0 && place.1 >= 0).then_some(place)
        };
        let next = parts.map(|part| place(part).ok_or(PartEndError)).collect::<Result<_, _>>()?;
        Ok(Self { met, next })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_end_reads_back_as_written(met: u64, next in prop::collection::btree_map(0..i32::MAX, 0..i64::MAX, 0..20)) {
            let end = PartEnd { met, next };
            prop_assert_eq!(end.to_string().parse::<PartEnd>(), Ok(end));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9]{1,20}|[.-]|.){0,40}") {
            let _ = text.parse::<PartEnd>();
        }
    }

    #[test]
    fn what_is_no_end_is_refused() {
        let long = format!("0{}", ".0-0".repeat(LIMIT_BYTES / 4));
        for text in ["", "x", "1.", "1.2", "1.2-", "1.-2", "1.2--3", "1.0-9223372036854775808", &long] {
            assert_eq!(text.parse::<PartEnd>(), Err(PartEndError), "{}", text.len());
        }
    }
}
