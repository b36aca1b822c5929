//! Identifiers as types of their own, checked where they enter.
//!
//! Owns: what a user, device, connection, notification or event id may look like, and how a notification's id follows
//! from its event. Refuses: empty, overlong and control-character ids. Used by every other module.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

/// The namespace of notification ids; fixed for ever, since replays must give the same ids.
const NOTIFICATION_NAMESPACE: Uuid = Uuid::from_u128(0x7469_6469_6e67_5f6e_6f74_6966_6963_6174);

/// The longest type of an event, in bytes.
pub(crate) const LIMIT_TYPE_BYTES: usize = 256;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What the text was meant to be.
        kind: &'static str,
    },
    /// More bytes than allowed.
    #[error("a {kind} has at most {limit_bytes} bytes, this one has {bytes}")]
    TooLong {
        /// What the text was meant to be.
        kind: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The most that is allowed, in bytes.
        limit_bytes: usize,
    },
    /// A control character, or white space at an end.
    #[error("a {kind} must not hold control characters, nor begin or end with white space")]
    Unprintable {
        /// What the text was meant to be.
        kind: &'static str,
    },
}

/// A version 5 UUID ([RFC 9562, section 5.5](https://www.rfc-editor.org/rfc/rfc9562#section-5.5)). The hash that the `uuid` crate
/// brings knows no instructions of the processor for it, and the pipeline derives an id for each notification.
pub(crate) fn uuid_v5(namespace: Uuid, name: &[u8]) -> Uuid {
    let hash = Sha1::new().chain_update(namespace.as_bytes()).chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = of_hash);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

pub(crate) fn check(kind: &'static str, text: &str, limit_bytes: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > limit_bytes {
        return Err(IdError::TooLong { kind, bytes: text.len(), limit_bytes });
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(IdError::Unprintable { kind });
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $limit_bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check($kind, text, $limit_bytes)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A user as the token's subject names it: 1 to 128 bytes.
    UserId,
    "user id",
    128
);
text_id!(
    /// A device of a user, drawn by the client or the server: 1 to 64 bytes.
    DeviceId,
    "device id",
    64
);
text_id!(
    /// A running process of tidings, as operators see it: 1 to 64 bytes.
    NodeId,
    "node id",
    64
);
text_id!(
    /// The id that the producer of an event gave it, or its coordinates: 1 to 512 bytes.
    EventId,
    "event id",
    512
);

/// One WebSocket connection, unique across nodes and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub Uuid);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a process of tidings: another one after each restart, while its [`NodeId`] may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

/// The id of a notification: the same for the same event, rule and channel, however often it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NotificationId(pub Uuid);

impl NotificationId {
    /// Derives the id from the parts that make a notification unique, in this order: the identity of the event (one or more
    /// parts), the rule's name, the channel. Each part is prefixed by its length, so that no two lists give the same bytes.
    ///
    /// The result is a version 5 UUID ([RFC 9562, section 5.5](https://www.rfc-editor.org/rfc/rfc9562#section-5.5)).
    #[must_use]
    pub fn derive<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut name = Vec::with_capacity(128);
        for part in parts {
            name.extend_from_slice(&(part.len() as u64).to_be_bytes());
            name.extend_from_slice(part);
        }
        Self(uuid_v5(NOTIFICATION_NAMESPACE, &name))
    }

    /// The id of the same notification where `user` gets it in place of whom it is for: each of those that would be sent has another one.
    #[must_use]
    pub fn redirected(self, user: &UserId) -> Self {
        Self::derive([&b"redirected"[..], self.0.as_bytes(), user.as_str().as_bytes()])
    }

    /// The id of the same notification as `replay` sends it to who knows it already: the same whenever that replay sends it.
    #[must_use]
    pub fn renewed(self, replay: Uuid) -> Self {
        Self::derive([&b"renewed"[..], self.0.as_bytes(), replay.as_bytes()])
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NotificationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl DeviceId {
    /// The id of a device that named none; the number is drawn by the caller.
    #[must_use]
    pub fn drawn(number: Uuid) -> Self {
        Self(number.to_string().into())
    }

    /// The first of all in their order: ids begin with a printable character, and there is none before this one.
    pub(crate) fn first() -> Self {
        Self("!".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_neither_empty_nor_overlong_nor_unprintable() {
        assert_eq!("".parse::<UserId>(), Err(IdError::Empty { kind: "user id" }));
        assert!(matches!("x".repeat(129).parse::<UserId>(), Err(IdError::TooLong { bytes: 129, .. })));
        for text in ["a\nb", " a", "a ", "\u{0}"] {
            assert_eq!(text.parse::<UserId>(), Err(IdError::Unprintable { kind: "user id" }), "{text:?}");
        }
        assert!("auth0|65f1".parse::<UserId>().is_ok());
    }

    #[test]
    fn the_id_of_a_connection_is_written_as_a_uuid() {
        let text = "438e828e-0a38-5599-8fb1-76b0e4574c75";
        assert_eq!(ConnectionId(text.parse().unwrap()).to_string(), text);
    }

    #[test]
    fn a_derived_uuid_is_that_of_the_specification() {
        // RFC 9562, appendix A.4.
        let dns = Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);
        assert_eq!(uuid_v5(dns, b"www.example.com").to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn a_hostile_id_is_refused_while_reading_json() {
        assert!(serde_json::from_str::<UserId>("\"\\u0000\"").is_err());
    }

    #[test]
    fn no_device_comes_before_the_first_one() {
        let first = DeviceId::first();
        assert_eq!(first.as_str().parse::<DeviceId>().as_ref(), Ok(&first));
        let others = (0..=u8::MAX).filter_map(|byte| char::from(byte).to_string().parse::<DeviceId>().ok());
        assert!(others.into_iter().all(|other| first <= other));
    }

    #[test]
    fn the_same_parts_give_the_same_id_and_moved_borders_another() {
        let id = |parts: &[&str]| NotificationId::derive(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(id(&["bookings", "1", "rule", "user-1"]), id(&["bookings", "1", "rule", "user-1"]));
        assert_ne!(id(&["ab", "c"]), id(&["a", "bc"]));
        assert_ne!(id(&["a", ""]), id(&["a"]));
    }

    #[test]
    fn who_is_told_in_anothers_place_or_once_more_gets_another_id_and_always_the_same() {
        let id = NotificationId::derive([&b"a"[..]]);
        let (ada, bob): (UserId, UserId) = ("ada".parse().unwrap(), "bob".parse().unwrap());
        let all = [id, id.redirected(&ada), id.redirected(&bob), id.renewed(Uuid::nil()), id.renewed(Uuid::max())];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
        assert_eq!(id.redirected(&ada), all[1]);
        insta::assert_snapshot!(id.renewed(Uuid::nil()), @"27aa1136-a66f-5a42-82cd-f8cd39cebed1");
    }

    #[test]
    fn the_derivation_of_ids_never_changes() {
        let id = NotificationId::derive(["bookings", "e-1", "booking-confirmed", "user-42"].map(str::as_bytes));
        insta::assert_snapshot!(id, @"438e828e-0a38-5599-8fb1-76b0e4574c75");
    }
}
