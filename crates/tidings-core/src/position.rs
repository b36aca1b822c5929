//! Positions: where a reader stands in a channel.
//!
//! Owns: the epoch (the generation of tidings' own topics) and the pair of epoch and offset that orders everything.
//! Refuses to compare offsets of different epochs. Neighbours: records, delivery and protocol above.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The generation of tidings' own topics. Offsets mean something only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The next offset to read in a channel's partition, written `epoch:offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The generation that the offset belongs to.
    pub epoch: Epoch,
    /// The next offset to read: everything below it lies behind the reader.
    pub offset: i64,
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position looks like `1:42` (epoch and offset), this is {text:?}")]
pub struct PositionError {
    text: String,
}

impl Position {
    /// The position behind the record at `offset`.
    #[must_use]
    pub fn after(epoch: Epoch, offset: i64) -> Self {
        Self { epoch, offset: offset.saturating_add(1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let refused = || PositionError { text: text.chars().take(40).collect() };
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (epoch, offset) =
            text.split_once(':').filter(|(epoch, offset)| number(epoch) && number(offset)).ok_or_else(refused)?;
        Ok(Self { epoch: Epoch(epoch.parse().map_err(|_| refused())?), offset: offset.parse().map_err(|_| refused())? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_two_plain_numbers_are_a_position() {
        for text in ["", ":", "1", "1:", ":1", "1:-1", "+1:1", "1:1:1", "1 :1", "1:99999999999999999999", "a:b"] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_position_reads_back_as_written(epoch: u64, offset in 0..=i64::MAX) {
            let position = Position { epoch: Epoch(epoch), offset };
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Position>();
        }
    }
}
