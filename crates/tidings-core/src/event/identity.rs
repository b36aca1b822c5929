//! Identity: what makes an event the same event when it is read again.
//!
//! Owns: the parts from which the ids of its notifications follow. They never change: redelivery and replay must give the
//! same ids, and every stage downstream drops what it has seen by them.

use uuid::Uuid;

use super::{EventError, Part, SourceRecord};
use crate::channel::Channel;
use crate::ids::{EventId, NotificationId, uuid_v5};
use crate::time::Timestamp;

/// What makes an event the same event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Its producer gave it an id.
    Named {
        /// Within which its producer's ids are unique: the topic, or the source of a CloudEvent.
        source: String,
        /// The producer's id.
        id: EventId,
    },
    /// It has no id: the record is the identity. The hash tells apart records at the same place of a topic made anew.
    Coordinates {
        /// The record's topic.
        topic: String,
        /// The record's partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The record's timestamp.
        timestamp: Timestamp,
        /// A hash of the record's value, as a version 5 UUID.
        value_hash: Uuid,
    },
}

impl Identity {
    /// The hash of a record's value.
    #[must_use]
    pub fn hash(value: &[u8]) -> Uuid {
        uuid_v5(Uuid::nil(), value)
    }

    /// The id of the notification that `rule` makes of this event for `channel`.
    #[must_use]
    pub fn notification_id(&self, rule: &str, channel: &Channel) -> NotificationId {
        let (rule, channel) = (rule.as_bytes(), channel.as_str().as_bytes());
        match self {
            Self::Named { source, id } => NotificationId::derive([source.as_bytes(), id.as_str().as_bytes(), rule, channel]),
            Self::Coordinates { topic, partition, offset, timestamp, value_hash } => NotificationId::derive([
                topic.as_bytes(),
                &partition.to_be_bytes(),
                &offset.to_be_bytes(),
                &timestamp.as_millis().to_be_bytes(),
                value_hash.as_bytes(),
                rule,
                channel,
            ]),
        }
    }
}

/// The identity of a record whose ids are unique within its topic, and the id that clients are shown.
pub(crate) fn identify(record: &SourceRecord<'_>, value: &[u8], id: Option<EventId>) -> Result<(Identity, EventId), EventError> {
    if let Some(id) = id {
        return Ok((Identity::Named { source: record.topic.to_owned(), id: id.clone() }, id));
    }
    let identity = Identity::Coordinates {
        topic: record.topic.to_owned(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        value_hash: Identity::hash(value),
    };
    let shown = format!("{}:{}:{}", record.topic, record.partition, record.offset);
    let event_id = shown.parse().map_err(|source| EventError::Name { part: Part::field("id"), source })?;
    Ok((identity, event_id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(offset: i64, value: &[u8]) -> Identity {
        Identity::Coordinates {
            topic: "bookings".to_owned(),
            partition: 0,
            offset,
            timestamp: Timestamp::from_millis(1_769_860_800_000),
            value_hash: Identity::hash(value),
        }
    }

    fn id(identity: &Identity) -> String {
        identity.notification_id("booking-confirmed", &"user-42".parse().unwrap()).to_string()
    }

    #[test]
    fn the_ids_of_events_with_and_without_an_id_never_change() {
        let named = Identity::Named { source: "bookings".to_owned(), id: "e-1".parse().unwrap() };
        insta::assert_snapshot!(id(&named), @"438e828e-0a38-5599-8fb1-76b0e4574c75");
        insta::assert_snapshot!(id(&at(7, b"{}")), @"b28a9a5a-c4c7-5a2b-932f-946a08d5e468");
    }

    proptest! {
        #[test]
        fn without_an_id_another_place_or_value_is_another_event(
            a in (0_i64..4, prop::collection::vec(0_u8..3, 0..3)),
            b in (0_i64..4, prop::collection::vec(0_u8..3, 0..3)),
        ) {
            prop_assert_eq!(a == b, id(&at(a.0, &a.1)) == id(&at(b.0, &b.1)));
        }
    }
}
