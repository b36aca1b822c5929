//! Channels: the one kind of address, and who may listen to which.
//!
//! Owns: a channel's name, its kind, the partition it lies in, and the decision whether a user may subscribe. Refuses
//! names that are no address. Neighbours: `ids` below; records, protocol and gateway above.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
            return Self::role(role);
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

/// Names of channels with `*`, `?`, `[…]` and `{a,b}` in them, as a shell writes names of files.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing was given.
    #[error("a pattern of channels must not be empty")]
    Empty,
    /// It reaches what is given by the name alone.
    #[error("a pattern cannot open `user-…` and `role-…`: those are for their owner and for who has the role")]
    Reserved,
    /// It does not read.
    #[error("not a pattern of channels: {0}")]
    Glob(String),
}

impl Pattern {
    /// Whether the channel's name fits.
    #[must_use]
    pub fn fits(&self, channel: &Channel) -> bool {
        self.0.is_match(channel.as_str())
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.starts_with(MAILBOX_PREFIX) || text.starts_with(ROLE_PREFIX) {
            return Err(PatternError::Reserved);
        }
        let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| PatternError::Glob(error.kind().to_string()))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.glob().glob())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Channels that are opened to those who have one of some roles.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Which channels.
    pub pattern: Pattern,
    /// Any of these is enough; none: everyone who is known.
    pub roles: Vec<String>,
}

/// Who may subscribe to what. `user-{id}` is for its owner, `role-{role}` for who has the role; other channels are open to
/// everyone who is known, or by a pattern to who has one of its roles.
#[derive(Debug, Clone)]
pub struct Access {
    open: Vec<Channel>,
    grants: Vec<Grant>,
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
    /// Access in which everyone who is known may subscribe to `open`, and others as `grants` say.
    #[must_use]
    pub fn new(open: Vec<Channel>, grants: Vec<Grant>) -> Self {
        Self { open, grants }
    }

    /// Whether `user`, holding `roles`, may subscribe to `channel`.
    #[must_use]
    pub fn judge(&self, user: &UserId, roles: &[String], channel: &Channel) -> Verdict {
        let allowed = match channel.kind() {
            ChannelKind::Mailbox(owner) => owner == *user,
            ChannelKind::Role(role) => roles.contains(&role),
            ChannelKind::Everyone => true,
            ChannelKind::Topic => self.open.contains(channel) || self.grants.iter().any(|grant| grant.opens(channel, roles)),
        };
        if allowed { Verdict::Allowed } else { Verdict::Forbidden }
    }
}

impl Grant {
    fn opens(&self, channel: &Channel, held: &[String]) -> bool {
        (self.roles.is_empty() || self.roles.iter().any(|role| held.contains(role))) && self.pattern.fits(channel)
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
        assert!(channel("user-42").is_mailbox());
        assert!(!channel("role-admin").is_mailbox());
    }

    #[test]
    fn in_a_log_a_name_stands_in_quotes() {
        assert_eq!(format!("{:?}", channel("say \"hi\"")), r#""say \"hi\"""#);
    }

    fn grant(pattern: &str, roles: &[&str]) -> Grant {
        Grant { pattern: pattern.parse().unwrap(), roles: roles.iter().map(|role| (*role).to_owned()).collect() }
    }

    #[test]
    fn a_pattern_opens_channels_to_who_has_one_of_its_roles() {
        let grants = vec![grant("fleet-*", &["driver", "dispatcher"]), grant("news.{de,fr}", &[])];
        let access = Access::new(Vec::new(), grants);
        let judge = |roles: &[&str], name: &str| {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
            access.judge(&user("1"), &roles, &channel(name))
        };
        assert_eq!(judge(&["driver"], "fleet-7"), Verdict::Allowed);
        assert_eq!(judge(&["clerk", "dispatcher"], "fleet-a/b"), Verdict::Allowed);
        assert_eq!(judge(&["clerk"], "fleet-7"), Verdict::Forbidden);
        assert_eq!(judge(&["driver"], "the-fleet-7"), Verdict::Forbidden);
        assert_eq!(judge(&[], "news.fr"), Verdict::Allowed);
        assert_eq!(judge(&[], "news.it"), Verdict::Forbidden);
    }

    #[test]
    fn what_is_no_pattern_or_would_open_a_mailbox_is_refused() {
        assert_eq!("".parse::<Pattern>().unwrap_err(), PatternError::Empty);
        assert_eq!("user-*".parse::<Pattern>().unwrap_err(), PatternError::Reserved);
        assert_eq!("role-admin".parse::<Pattern>().unwrap_err(), PatternError::Reserved);
        assert!(matches!("a[".parse::<Pattern>(), Err(PatternError::Glob(_))));
    }

    #[test]
    fn a_prefix_without_a_name_is_no_channel() {
        assert!("user-".parse::<Channel>().is_err());
        assert!("role-".parse::<Channel>().is_err());
        assert!("".parse::<Channel>().is_err());
    }

    #[test]
    fn a_roles_name_is_as_long_as_a_channel_has_room_for() {
        let longest = "r".repeat(155);
        let channel = Channel::role(&longest).unwrap();
        assert_eq!(channel.to_string().parse(), Ok(channel));
        let refused = Channel::role(&format!("{longest}r"));
        assert_eq!(refused, Err(IdError::TooLong { kind: "role", bytes: 156, limit_bytes: 155 }));
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        assert_eq!(serde_json::to_value(grant("news.{de,fr}", &[]).pattern).unwrap(), "news.{de,fr}");
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
            let access = Access::new(listed, vec![grant("*", &[])]);
            prop_assert_eq!(access.judge(&user(&other), std::slice::from_ref(&owner), &mailbox), Verdict::Forbidden);
            prop_assert_eq!(access.judge(&user(&owner), &[], &mailbox), Verdict::Allowed);
        }

        #[test]
        fn a_role_channel_is_for_who_has_the_role(role in "[a-z]{1,10}", held in "[a-z]{1,10}") {
            let access = Access::new(Vec::new(), vec![grant("*", &[])]);
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
