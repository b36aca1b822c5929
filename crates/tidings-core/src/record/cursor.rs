//! The value of `cursors`: what a device was offered of a channel, and what it has acknowledged.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::channel::Channel;
use crate::ids::{DeviceId, UserId};
use crate::position::Epoch;
use crate::stretch::Stretches;

/// What one process knows of one device in one channel. A later record of the same key may say less: a process that was killed
/// has lost what it knew. So what holds within an epoch is the union of all records of a key. One that says nothing says that its device
/// is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CursorRecord {
    /// Whose device.
    pub user_id: UserId,
    /// Which device.
    pub device_id: DeviceId,
    /// The server drew the id for one connection, and nobody comes back with it. What was acknowledged counts for the user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drawn: bool,
    /// Which channel.
    pub channel: Channel,
    /// The generation the offsets belong to.
    pub epoch: Epoch,
    /// Where the device began in the channel, in a record that says so before the device was sent anything. Of several the lowest holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
    /// What was written to the device's connections; nothing, if it has only acknowledged over HTTP.
    pub offered: Stretches,
    /// What the device has acknowledged: these are delivered.
    pub acknowledged: Stretches,
}

impl CursorRecord {
    /// The record's key: user, device and channel, joined by `|`, with `|` and `%` inside them percent-encoded. All whose ids were drawn
    /// share one without a device, so that the topic keeps no word for ever of devices that nobody knows. One that [says nothing](Self::says_nothing)
    /// has a key without a channel, so that compaction does not take what was said for it.
    #[must_use]
    pub fn key(&self) -> String {
        let escape = |part: &str| part.replace('%', "%25").replace('|', "%7C");
        let device = if self.drawn { "" } else { self.device_id.as_str() };
        let channel = if self.says_nothing() { "" } else { self.channel.as_str() };
        format!("{}|{}|{}", escape(self.user_id.as_str()), escape(device), escape(channel))
    }

    /// Whether it says no more than that the device is in use.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        self.began.is_none() && self.offered.is_empty() && self.acknowledged.is_empty()
    }

    /// The first offset that the device was to be sent, by all that is said of it here.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        let first = |said: &Stretches| said.as_slice().first().map(|stretch| stretch.from);
        [self.began, first(&self.offered), first(&self.acknowledged)].into_iter().flatten().min()
    }

    /// The partition, of `partitions`, that the record belongs to: the one of its user's mailbox.
    #[must_use]
    pub fn partition(&self, partitions: i32) -> i32 {
        Channel::mailbox(&self.user_id).partition(partitions)
    }
}

impl Record for CursorRecord {
    const NAME: &'static str = "cursor";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(user: &str, device: &str) -> CursorRecord {
        CursorRecord {
            user_id: user.parse().unwrap(),
            device_id: device.parse().unwrap(),
            drawn: false,
            channel: "booking-updates".parse().unwrap(),
            epoch: Epoch(1),
            began: None,
            offered: Stretches::new(),
            acknowledged: Stretches::new(),
        }
    }

    #[test]
    fn a_cursor_of_any_channel_lies_in_the_partition_of_its_users_mailbox() {
        for user in ["alice", "bob", "carol", "dave", "erin"] {
            let mailbox = Channel::mailbox(&user.parse().unwrap());
            assert_eq!(cursor(user, "d1").partition(64), mailbox.partition(64), "{user}");
        }
    }

    #[test]
    fn that_a_device_is_in_use_takes_the_place_of_nothing_that_it_said() {
        let said = CursorRecord { began: Some(1), ..cursor("alice", "phone") };
        assert_eq!((said.key(), said.says_nothing()), ("alice|phone|booking-updates".into(), false));
        let used = cursor("alice", "phone");
        assert_eq!((used.key(), used.says_nothing()), ("alice|phone|".into(), true));
    }

    proptest! {
        #[test]
        fn two_devices_never_share_a_key(a in "[a|%]{1,4}", b in "[a|%]{1,4}", c in "[a|%]{1,4}", d in "[a|%]{1,4}") {
            prop_assume!((&a, &b) != (&c, &d));
            let said = |user: &str, device: &str| CursorRecord { began: Some(1), ..cursor(user, device) };
            prop_assert_ne!(said(&a, &b).key(), said(&c, &d).key());
            prop_assert_ne!(cursor(&a, &b).key(), cursor(&c, &d).key());
        }
    }
}
