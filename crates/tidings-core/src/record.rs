//! Records: the value of each topic of our own, versioned.
//!
//! Owns: encoding, decoding and the version header; one file per topic. Fields are added, never changed; readers ignore
//! unknown fields and refuse a version newer than they know. Neighbours: services write and read them, `kafka` moves them.

pub mod audit;
pub mod context;
pub mod cursor;
pub mod dead_letter;
pub mod letter;
pub mod meta;
pub mod notified;
pub mod receipt;
pub mod request;
pub mod retry;
pub mod signal;
pub mod trace;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fate::Cause;

/// A header as Kafka has it.
pub type Header = (String, Option<Vec<u8>>);

/// The header that says which version of its type a value is, as decimal digits.
pub const VERSION_HEADER: &str = "tidings-version";

/// A value on a topic of our own: JSON, with its version in [`VERSION_HEADER`].
pub trait Record: Serialize + DeserializeOwned {
    /// What the value is called in messages.
    const NAME: &'static str;
    /// The version that this release writes, and the newest it reads.
    const VERSION: u32;
}

/// Why bytes are no record of the expected type.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The version header is missing or no number.
    #[error("{name} record without a readable `{VERSION_HEADER}` header: it was not written by tidings")]
    Unversioned {
        /// The expected type.
        name: &'static str,
    },
    /// The key says no channel.
    #[error("{name} record whose key names no channel: it was not written by tidings")]
    Unkeyed {
        /// The expected type.
        name: &'static str,
    },
    /// Not in the partition that its key belongs to.
    #[error("{name} record in partition {found}, its key belongs to {expected}: it was not written by tidings")]
    Misplaced {
        /// The expected type.
        name: &'static str,
        /// The partition it lies in.
        found: i32,
        /// The partition that holds its channel.
        expected: i32,
    },
    /// Written by a later release.
    #[error("{name} record of version {found}, this release reads up to {known}: upgrade this process")]
    Newer {
        /// The expected type.
        name: &'static str,
        /// The version in the header.
        found: u32,
        /// The newest version this release reads.
        known: u32,
    },
    /// The bytes are not what the version promises.
    #[error("{name} record that does not read as its version promises")]
    Malformed {
        /// The expected type.
        name: &'static str,
        /// Where the JSON departs from it.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// Whose fault it is that the bytes do not read.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Newer { .. } => Cause::Dependency,
            Self::Unversioned { .. } | Self::Unkeyed { .. } | Self::Misplaced { .. } | Self::Malformed { .. } => Cause::Poison,
        }
    }

    /// A short name that does not change between releases, for `dlq` and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unversioned { .. } => "unversioned",
            Self::Unkeyed { .. } => "unkeyed",
            Self::Misplaced { .. } => "misplaced",
            Self::Newer { .. } => "newer_version",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// What is wrong, with where in the JSON, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::Malformed { source, .. } => format!("{self}: {source}"),
            Self::Unversioned { .. } | Self::Unkeyed { .. } | Self::Misplaced { .. } | Self::Newer { .. } => self.to_string(),
        }
    }
}

/// The value's bytes.
///
/// # Errors
/// If a value cannot be written as JSON, which only a map with keys that are no text could cause; no record has one.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(record).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

/// The same, written behind what `buffer` holds.
///
/// # Errors
/// As [`encode`]; then the buffer's end is unspecified.
pub fn encode_into<R: Record>(record: &R, buffer: &mut Vec<u8>) -> Result<(), RecordError> {
    serde_json::to_writer(buffer, record).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

/// Reads a value back, given the content of its version header.
///
/// # Errors
/// If the header is missing, names a newer version, or the bytes do not read.
pub fn decode<R: Record>(version: Option<&[u8]>, value: &[u8]) -> Result<R, RecordError> {
    expect_known::<R>(version.ok_or(RecordError::Unversioned { name: R::NAME })?)?;
    serde_json::from_slice(value).map_err(|source| RecordError::Malformed { name: R::NAME, source })
}

/// Looks whether this release reads the version that a header names.
///
/// # Errors
/// If it names a newer one, or none.
pub fn expect_known<R: Record>(version: &[u8]) -> Result<(), RecordError> {
    let found = std::str::from_utf8(version).ok().and_then(|text| text.parse::<u32>().ok());
    match found.ok_or(RecordError::Unversioned { name: R::NAME })? {
        found if found > R::VERSION => Err(RecordError::Newer { name: R::NAME, found, known: R::VERSION }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::meta::EpochRecord;
    use super::*;
    use crate::channel::Channel;
    use crate::ids::ConnectionId;
    use crate::position::Epoch;
    use crate::stretch::Stretch;
    use crate::time::{Delay, Timestamp};

    fn delivery() -> retry::Delivery {
        retry::Delivery {
            channel: "user-42".parse().unwrap(),
            notification: serde_json::from_value(serde_json::json!({
                "id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e-1", "type": "payment_due",
                "createdAt": "2026-01-31T12:00:00Z", "title": "Payment Due", "data": {"payment_id": 7}, "priority": "high"
            }))
            .unwrap(),
            epoch: Epoch(3),
            offset: 41,
            appended_at: Some(Timestamp::from_millis(1_769_860_800_250)),
            ladder: Some(vec![Delay(Duration::from_secs(30)), Delay(Duration::from_secs(7200))]),
            attempts_forgotten: 0,
            attempts: vec![retry::Attempt {
                at: Timestamp::from_millis(1_769_860_830_000),
                node: "node-a".parse().unwrap(),
                sink: retry::Sink::Websocket,
                outcome: retry::Outcome::Offline,
                next_at: Some(Timestamp::from_millis(1_769_860_865_000)),
                by: None,
            }],
        }
    }

    /// The record as it lies on the log, which must read back as what was written.
    fn shown<R: Record + PartialEq + std::fmt::Debug>(record: &R) -> String {
        let value = encode(record).unwrap();
        let mut buffer = b"before".to_vec();
        encode_into(record, &mut buffer).unwrap();
        assert_eq!(buffer.strip_prefix(b"before"), Some(&*value));
        assert_eq!(decode::<R>(Some(R::VERSION.to_string().as_bytes()), &value).unwrap(), *record);
        format!("{} {}: {}", R::NAME, R::VERSION, String::from_utf8(value).unwrap())
    }

    fn cursor(channel: &Channel) -> cursor::CursorRecord {
        let stretches = |ranges: &[(i64, i64)]| ranges.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect();
        cursor::CursorRecord {
            user_id: "42".parse().unwrap(),
            device_id: "phone".parse().unwrap(),
            drawn: false,
            channel: channel.clone(),
            epoch: Epoch(3),
            began: None,
            offered: stretches(&[(40, 44)]),
            acknowledged: stretches(&[(40, 41), (42, 44)]),
        }
    }

    #[test]
    fn the_values_of_our_own_topics_look_like_this() {
        let delivery = delivery();
        let notified = notified::NotificationRecord {
            channel: delivery.channel.clone(),
            notification: delivery.notification.clone(),
            rule: "payment-due".into(),
            origin: notified::Origin {
                topic: "payments".into(),
                partition: 2,
                offset: 17,
                timestamp: Some(Timestamp::from_millis(1_769_860_800_250)),
            },
            exclude: vec!["7".parse().unwrap()],
            ladder: delivery.ladder.clone(),
            attempts_forgotten: 0,
            attempts: Vec::new(),
        };
        let undelivered = retry::UndeliveredRecord {
            delivery: delivery.clone(),
            reason: retry::Outcome::Unacknowledged,
            ended_at: Timestamp::from_millis(1_769_861_000_000),
            refused: None,
        };
        let source = receipt::Source { device_id: "phone".parse().unwrap(), connection_id: ConnectionId(uuid::Uuid::nil()) };
        let read = receipt::ReceiptRecord::State {
            user_id: "42".parse().unwrap(),
            state: receipt::ReadState::Read,
            items: vec![receipt::ReceiptItem {
                id: delivery.notification.id,
                channel: Some(delivery.channel.clone()),
                position: Some("3:42".parse().unwrap()),
            }],
            source: Some(source),
        };
        let epoch = EpochRecord { epoch: Epoch(3), ..EpochRecord::first(12, Timestamp::from_millis(1_769_860_800_000)) };
        let lines = [
            shown(&notified),
            shown(&cursor(&delivery.channel)),
            shown(&read),
            shown(&retry::RetryRecord(delivery.clone())),
            shown(&undelivered),
            shown(&signal::SignalRecord::Redeliver { delivery: Box::new(delivery), redelivery: 1 }),
            shown(&signal::SignalRecord::Disconnect { user_id: "42".parse().unwrap(), by: "node-a".parse().unwrap() }),
            shown(&epoch),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_lies_beside_a_delivery_that_waits_or_has_ended_looks_like_this() {
        let (delivery, node) = (delivery(), "node-b".parse().unwrap());
        let context = delivery.context(("tidings.notifications", 2), retry::Outcome::Unacknowledged, None, &node);
        let headers = context.headers().into_iter();
        let lines = headers.map(|(name, value)| format!("{name}={}", String::from_utf8(value.unwrap()).unwrap()));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }

    const VALUE: &[u8] = br#"{"epoch":3,"partitions":4,"createdAt":"2026-01-31T12:00:00.000Z","added":"later"}"#;

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(decode::<EpochRecord>(Some(b"1"), VALUE).unwrap().partitions, 4);
    }

    #[test]
    fn a_kind_of_signal_that_a_later_release_added_is_passed_over() {
        let later = br#"{"signal":"later","node":{"a":[1]}}"#;
        assert_eq!(decode::<signal::SignalRecord>(Some(b"1"), later).unwrap(), signal::SignalRecord::Unknown);
    }

    #[test]
    fn a_newer_version_is_refused_and_named() {
        let error = decode::<EpochRecord>(Some(b"2"), VALUE).unwrap_err();
        insta::assert_snapshot!(error, @"epoch record of version 2, this release reads up to 1: upgrade this process");
    }

    #[test]
    fn a_refusal_says_its_class_and_where_the_json_departs() {
        let name = EpochRecord::NAME;
        let refusals = [
            RecordError::Unversioned { name },
            RecordError::Unkeyed { name },
            RecordError::Misplaced { name, found: 1, expected: 2 },
            decode::<EpochRecord>(Some(b"2"), VALUE).unwrap_err(),
            decode::<EpochRecord>(Some(b"1"), b"{").unwrap_err(),
        ];
        insta::assert_snapshot!(refusals.map(|refusal| format!("{}: {}", refusal.class(), refusal.in_full())).join("\n"), @r"
        unversioned: epoch record without a readable `tidings-version` header: it was not written by tidings
        unkeyed: epoch record whose key names no channel: it was not written by tidings
        misplaced: epoch record in partition 1, its key belongs to 2: it was not written by tidings
        newer_version: epoch record of version 2, this release reads up to 1: upgrade this process
        malformed: epoch record that does not read as its version promises: EOF while parsing an object at line 1 column 1
        ");
    }

    #[test]
    fn a_value_without_its_version_is_not_ours() {
        for version in [None, Some(&b""[..]), Some(b"one"), Some(b"\xff")] {
            assert!(matches!(decode::<EpochRecord>(version, VALUE), Err(RecordError::Unversioned { .. })));
        }
    }
}
