//! Time as data: an instant and a delay, both given to the core, never read by it.
//!
//! Owns: milliseconds since 1970 in UTC as Kafka counts them, and delays as configuration and topic names write them.
//! Refuses to know what time it is. Neighbours: everything that dates or waits.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in milliseconds since 1970-01-01T00:00:00Z; as JSON, RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text or number that is no instant between the years 1 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time looks like `2026-01-31T12:00:00Z` (RFC 3339), this is {text:?}")]
pub struct TimestampError {
    text: String,
}

/// The instants RFC 3339 can write: the years 1 to 9999.
const WRITABLE_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

impl Timestamp {
    /// The instant `millis` after 1970, moved into the years 1 to 9999 if it lies outside.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(*WRITABLE_MS.start(), *WRITABLE_MS.end()))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The instant `delay` later.
    #[must_use]
    pub fn plus(self, delay: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The same time, `delay` earlier.
    #[must_use]
    pub fn minus(self, delay: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        DateTime::parse_from_rfc3339(text)
            .map(|instant| instant.timestamp_millis())
            .ok()
            .filter(|millis| WRITABLE_MS.contains(millis))
            .map(Self)
            .ok_or_else(|| TimestampError { text: text.chars().take(40).collect() })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time as people write it: `30s`, `2m`, `1h 30m`. Written without spaces, as in the topic `retry.30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delay(pub Duration);

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a length of time looks like `30s`, `2m` or `1h`, this is {text:?}")]
pub struct DelayError {
    text: String,
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl FromStr for Delay {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Self, DelayError> {
        humantime::parse_duration(text).map(Self).map_err(|_| DelayError { text: text.chars().take(40).collect() })
    }
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_delay_is_written_as_topics_name_it() {
        for text in ["30s", "2m", "10m", "1h", "6h", "250ms", "1h30m"] {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), text);
        }
        assert!("30".parse::<Delay>().is_err());
        assert!("soon".parse::<Delay>().is_err());
    }

    proptest! {
        #[test]
        fn an_instant_reads_back_as_written(millis: i64) {
            let instant = Timestamp::from_millis(millis);
            prop_assert_eq!(instant.to_string().parse::<Timestamp>().unwrap(), instant);
        }

        #[test]
        fn time_never_overflows(millis: i64, delay_ms: u64) {
            let start = Timestamp::from_millis(millis);
            let end = start.plus(Duration::from_millis(delay_ms));
            prop_assert!(end >= start);
            prop_assert!(end.since(start) <= Duration::from_millis(delay_ms));
        }
    }
}
