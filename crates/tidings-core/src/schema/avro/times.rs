//! Times: what Avro counts from 1970 or midnight, as people write it (RFC 3339, ISO 8601).
//!
//! Owns: the texts. A fraction of a second has as many digits as it needs: none, 3, 6 or 9. Refuses what is outside of the years 0 to 9999
//! or of a day, since no text means it.

use chrono::{DateTime, Datelike as _, NaiveTime, SecondsFormat, Utc};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// Whole seconds, and nanoseconds beyond.
    fn split(self, count: i64) -> (i64, u32) {
        let per_second = self.per_second();
        let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
        (count.div_euclid(per_second), u32::try_from(nanos).unwrap_or(0))
    }
}

fn at(seconds: i64, nanos: u32) -> Result<DateTime<Utc>, String> {
    let time = DateTime::from_timestamp(seconds, nanos).filter(|time| (0..=9999).contains(&time.year()));
    time.ok_or_else(|| format!("a time is {seconds} seconds from 1970, outside of the years 0 to 9999"))
}

/// `2026-02-01`.
pub(super) fn date(days: i32) -> Result<String, String> {
    Ok(at(i64::from(days) * 86_400, 0)?.format("%Y-%m-%d").to_string())
}

/// `08:30:00.250`.
pub(super) fn of_day(count: i64, unit: Unit) -> Result<String, String> {
    let (seconds, nanos) = unit.split(count);
    let time = u32::try_from(seconds).ok().and_then(|seconds| NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos));
    Ok(time.ok_or_else(|| format!("a time of day is {seconds} seconds from midnight"))?.format("%H:%M:%S%.f").to_string())
}

/// `2026-02-01T08:30:00.250Z`.
pub(super) fn instant(count: i64, unit: Unit) -> Result<String, String> {
    let (seconds, nanos) = unit.split(count);
    Ok(at(seconds, nanos)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// `2026-02-01T08:30:00.250`, wherever that is.
pub(super) fn local(count: i64, unit: Unit) -> Result<String, String> {
    let (seconds, nanos) = unit.split(count);
    Ok(at(seconds, nanos)?.format("%Y-%m-%dT%H:%M:%S%.f").to_string())
}

/// Months, days and milliseconds, each little-endian: `P1M2DT3.004S`.
pub(super) fn duration(bytes: [u8; 12]) -> String {
    let part = |from: usize| bytes.iter().skip(from).take(4).rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let (months, days, millis) = (part(0), part(4), part(8));
    let (seconds, fraction) = (millis / 1000, millis % 1000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    format!("P{months}M{days}DT{seconds}{fraction}S")
}
