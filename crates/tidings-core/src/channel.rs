//! Channels: the one kind of address, and who may listen to which.
//!
//! Owns: a channel's name, its kind, the partition it lies in, and the decision whether a user may subscribe. Refuses
//! names that are no address. Neighbours: `ids` below; records, protocol and gateway above.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{self, IdError, UserId};

const MAILBOX_PREFIX: &str = "user-";
const ROLE_PREFIX: &str = "role-";
const EVERYONE: &str = "system-announcements";
const LIMIT_BYTES: usize = 160;

/// What a client subscribes to, 1 to 160 bytes. All notifications of a channel lie in one partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Channel(Arc<str>);

/// Whom a channel reaches, told by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelKind {
    /// `user-{id}`: one person.
    Mailbox(UserId),
    /// `role-{role}`: everyone whose token names the role.
    Role(String),
    /// `system-announcements`: every connection.
    Everyone,
    /// Any other name: whoever is interested and allowed.
    Topic,
}

impl Channel {
    /// The mailbox of a user.
    #[must_use]
    pub fn mailbox(user: &UserId) -> Self {
        Self(format!("{MAILBOX_PREFIX}{user}").into())
    }

    /// The channel of a role.
    ///
    /// # Errors
    /// If the role's name is not printable or too long for a channel.
    pub fn role(role: &str) -> Result<Self, IdError> {
        ids::check("role", role, LIMIT_BYTES - ROLE_PREFIX.len())?;
        Ok(Self(format!("{ROLE_PREFIX}{role}").into()))
    }

    /// The channel that reaches everyone.
    #[must_use]
    pub fn everyone() -> Self {
        Self(EVERYONE.into())
    }

    /// The name as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whom the channel reaches.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        if let Some(user) = self.mailbox_user() {
            ChannelKind::Mailbox(user)
        } else if let Some(role) = self.0.strip_prefix(ROLE_PREFIX) {
            ChannelKind::Role(role.to_owned())
        } else if &*self.0 == EVERYONE {
            ChannelKind::Everyone
        } else {
            ChannelKind::Topic
        }
    }

    /// The owner, if the channel is a mailbox.
    #[must_use]
    pub fn mailbox_user(&self) -> Option<UserId> {
        self.0.strip_prefix(MAILBOX_PREFIX).and_then(|id| id.parse().ok())
    }

    /// Whether the channel is the mailbox of somebody.
    #[must_use]
    pub fn is_mailbox(&self) -> bool {
        self.0.starts_with(MAILBOX_PREFIX)
    }

    /// The partition, of `partitions`, that holds the channel: what Kafka's default partitioner gives for the name as key
    /// (murmur2 with the sign bit cleared, modulo the count).
    #[must_use]
    pub fn partition(&self, partitions: i32) -> i32 {
        let hash = murmur2::murmur2(self.0.as_bytes(), murmur2::KAFKA_SEED) & 0x7fff_ffff;
        i32::try_from(hash).unwrap_or(0) % partitions.max(1)
    }
}

impl FromStr for Channel {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        ids::check("channel", text, LIMIT_BYTES)?;
        if let Some(user) = text.strip_prefix(MAILBOX_PREFIX) {
            user.parse::<UserId>()?;
        }
        if let Some(role) = text.strip_prefix(ROLE_PREFIX) {
            ids::check("role", role, LIMIT_BYTES - ROLE_PREFIX.len())?;
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may subscribe to what. `user-{id}` is for its owner, `role-{role}` for who has the role, and these for everyone
/// whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    open: Vec<Channel>,
}

/// The answer to a wish to subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user may listen.
    Allowed,
    /// The user may not, and is not told whether the channel exists.
    Forbidden,
}

impl Access {
    /// Access in which every verified user may subscribe to `open`.
    #[must_use]
    pub fn new(open: Vec<Channel>) -> Self {
        Self { open }
    }

    /// Whether `user`, holding `roles`, may subscribe to `channel`.
    #[must_use]
    pub fn judge(&self, user: &UserId, roles: &[String], channel: &Channel) -> Verdict {
        let allowed = match channel.kind() {
            ChannelKind::Mailbox(owner) => owner == *user,
            ChannelKind::Role(role) => roles.contains(&role),
            ChannelKind::Everyone => true,
            ChannelKind::Topic => self.open.contains(channel),
        };
        if allowed { Verdict::Allowed } else { Verdict::Forbidden }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn the_name_tells_whom_a_channel_reaches() {
        assert_eq!(channel("user-42").kind(), ChannelKind::Mailbox(user("42")));
        assert_eq!(channel("role-admin").kind(), ChannelKind::Role("admin".into()));
        assert_eq!(channel("system-announcements").kind(), ChannelKind::Everyone);
        assert_eq!(channel("booking-updates").kind(), ChannelKind::Topic);
    }

    #[test]
    fn a_prefix_without_a_name_is_no_channel() {
        assert!("user-".parse::<Channel>().is_err());
        assert!("role-".parse::<Channel>().is_err());
        assert!("".parse::<Channel>().is_err());
    }

    #[test]
    fn the_partition_is_the_one_of_kafkas_default_partitioner() {
        // From Kafka's own UtilsTest.testMurmur2: murmur2("21") is -973932308, murmur2("foobar") is -790332482.
        assert_eq!(channel("21").partition(1_000_000), (-973_932_308_i32 & 0x7fff_ffff) % 1_000_000);
        assert_eq!(channel("foobar").partition(1_000_000), (-790_332_482_i32 & 0x7fff_ffff) % 1_000_000);
    }

    proptest! {
        #[test]
        fn nobody_but_the_owner_gets_a_mailbox(owner in "[a-z0-9|@.-]{1,20}", other in "[a-z0-9|@.-]{1,20}", open in "[a-z-]{1,12}") {
            prop_assume!(owner != other);
            let mailbox = Channel::mailbox(&user(&owner));
            let mut listed = vec![mailbox.clone()];
            listed.extend(open.parse::<Channel>());
            let access = Access::new(listed);
            prop_assert_eq!(access.judge(&user(&other), std::slice::from_ref(&owner), &mailbox), Verdict::Forbidden);
            prop_assert_eq!(access.judge(&user(&owner), &[], &mailbox), Verdict::Allowed);
        }

        #[test]
        fn a_role_channel_is_for_who_has_the_role(role in "[a-z]{1,10}", held in "[a-z]{1,10}") {
            let access = Access::new(Vec::new());
            let expected = if role == held { Verdict::Allowed } else { Verdict::Forbidden };
            prop_assert_eq!(access.judge(&user("1"), &[held], &Channel::role(&role).unwrap()), expected);
        }

        #[test]
        fn a_partition_lies_within_the_count(name in "[a-z0-9-]{6,30}", partitions in 1..100_i32) {
            let partition = channel(&name).partition(partitions);
            prop_assert!((0..partitions).contains(&partition));
        }
    }
}
