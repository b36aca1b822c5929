//! The devices of a shard's connections, and the cursor of each in each channel that it was sent something of.
//!
//! Owns: when a cursor is written to the log: at most once an interval, at the latest when the device's last connection has
//! left; that of where the device began, soon, unless nobody comes back with its id. A cursor that the producer has no room for stays due. Tabs of one
//! device share its cursors. Long because what is due now, soon and at the end is one queue, and its tests stand beside it. Neighbour: `uses`
//! knows of which devices the log has heard nothing for long.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;
use tidings_core::channel::Channel;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::position::Epoch;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::signal::nodes::UserDevice;

use super::members::number;
use super::uses::Uses;
use crate::gateway::inlet::NamedBy;

/// The most stretches that a cursor says; the lowest are left out of later records, earlier records hold them.
const STRETCHES: usize = 128;

struct Device {
    user: UserId,
    device: DeviceId,
    named_by: NamedBy,
    /// When the log is to hear of it again, whatever it does.
    use_due_ms: u64,
    members: Vec<u32>,
    cursors: Vec<Cursor>,
}

struct Cursor {
    channel: Channel,
    /// Set until the log says so.
    began: Option<i64>,
    offered: Stretches,
    acknowledged: Stretches,
    due: bool,
}

/// A cursor that is to be written at some time.
struct Due {
    at_ms: u64,
    device: u32,
    channel: Channel,
}

/// All devices of a shard.
pub(super) struct Devices {
    devices: Slab<Device>,
    /// Each user's devices; who connected least recently comes first.
    users: HashMap<UserId, Vec<u32>>,
    /// Mailboxes and other channels wait equally long among themselves, so both stay in order of time.
    mailboxes_due: VecDeque<Due>,
    others_due: VecDeque<Due>,
    mailbox_interval_ms: u64,
    other_interval_ms: u64,
    uses: Uses,
}

/// How long cursors may wait at most, and how often a device is told to be in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    pub(super) mailbox: Duration,
    pub(super) other: Duration,
    pub(super) device: Duration,
}

impl Devices {
    pub(super) fn new(intervals: Intervals) -> Self {
        let millis = |interval: Duration| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self {
            devices: Slab::new(),
            users: HashMap::new(),
            mailboxes_due: VecDeque::new(),
            others_due: VecDeque::new(),
            mailbox_interval_ms: millis(intervals.mailbox),
            other_interval_ms: millis(intervals.other),
            uses: Uses::new(millis(intervals.device)),
        }
    }

    /// The device's number, known or new. A client may come back with an id that was drawn for it.
    pub(super) fn of(&mut self, user: &UserId, device: &DeviceId, named_by: NamedBy) -> u32 {
        let Self { devices, users, .. } = self;
        let named = |number: &u32| devices.get(*number as usize).is_some_and(|known| known.device == *device);
        if let Some(known) = users.get(user).and_then(|own| own.iter().copied().find(named)) {
            if let Some(device) = devices.get_mut(known as usize).filter(|_| named_by == NamedBy::Client) {
                device.named_by = named_by;
            }
            return known;
        }
        let use_due_ms = self.uses.back(user, device);
        let (members, cursors) = (Vec::new(), Vec::new());
        let new = Device { user: user.clone(), device: device.clone(), named_by, use_due_ms, members, cursors };
        let number = number(devices.insert(new));
        users.entry(user.clone()).or_default().push(number);
        number
    }

    pub(super) fn join(&mut self, device: u32, member: u32) {
        let Some(joined) = self.devices.get_mut(device as usize) else { return };
        joined.members.push(member);
        if let Some(own) = self.users.get_mut(&joined.user) {
            own.retain(|number| *number != device);
            own.push(device);
        }
    }

    /// The connections of each of a user's devices that has any; the device that connected least recently comes first.
    pub(super) fn of_user(&self, user: &UserId) -> impl Iterator<Item = (&DeviceId, &[u32])> {
        let own = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        let devices = own.iter().filter_map(|number| self.devices.get(*number as usize));
        devices.filter(|device| !device.members.is_empty()).map(|device| (&device.device, device.members.as_slice()))
    }

    /// Takes a member off its device. Gives the channels whose cursors must be written now, as nobody is left.
    pub(super) fn leave(&mut self, device: u32, member: u32, now_ms: u64) -> Vec<Channel> {
        let Some(left) = self.devices.get_mut(device as usize) else { return Vec::new() };
        left.members.retain(|seated| *seated != member);
        if !left.members.is_empty() {
            return Vec::new();
        }
        self.renew(device, now_ms);
        let Some(left) = self.devices.get(device as usize) else { return Vec::new() };
        let due = left.cursors.iter().filter(|cursor| cursor.due).map(|cursor| cursor.channel.clone()).collect();
        self.forget_idle(device, now_ms);
        due
    }

    /// Looks at some of the devices, and has those told to be in use that the log has heard nothing of for long: not many at a time,
    /// however many come at once.
    pub(super) fn renew_some(&mut self, now_ms: u64) {
        for device in self.uses.round(self.devices.capacity()) {
            self.renew(number(device), now_ms);
        }
    }

    /// Has the log told that a device is in use, unless it hears of it anyway.
    fn renew(&mut self, device: u32, now_ms: u64) {
        let Some(used) = self.devices.get(device as usize) else { return };
        let is_heard_of = now_ms < used.use_due_ms || used.cursors.iter().any(|cursor| cursor.due);
        if used.named_by == NamedBy::Client && !is_heard_of {
            let mailbox = Channel::mailbox(&used.user);
            self.touch(device, &mailbox, now_ms);
        }
    }

    /// Whose device it is.
    pub(super) fn user(&self, device: u32) -> Option<&UserId> {
        self.devices.get(device as usize).map(|device| &device.user)
    }

    /// The device with its user, as other nodes are told.
    pub(super) fn name(&self, device: u32) -> Option<UserDevice> {
        let device = self.devices.get(device as usize)?;
        Some(UserDevice { user_id: device.user.clone(), device_id: device.device.clone() })
    }

    /// Who gave a device its id.
    pub(super) fn named_by(&self, device: u32) -> Option<NamedBy> {
        self.devices.get(device as usize).map(|device| device.named_by)
    }

    /// Every device that has a connection, with its user and its connections' numbers.
    pub(super) fn present(&self) -> impl Iterator<Item = (&UserId, &DeviceId, &[u32])> {
        let present = self.devices.iter().filter(|(_, device)| !device.members.is_empty());
        present.map(|(_, device)| (&device.user, &device.device, device.members.as_slice()))
    }

    pub(super) fn members(&self, device: u32) -> &[u32] {
        self.devices.get(device as usize).map(|device| device.members.as_slice()).unwrap_or_default()
    }

    /// Notes where the device began, to be written within the shorter interval whatever the channel: a device that comes back before is
    /// taken for a new one. It is kept no longer than that, for most devices are sent little.
    pub(super) fn begin(&mut self, device: u32, channel: &Channel, at: i64, now_ms: u64) {
        if self.named_by(device) != Some(NamedBy::Client) {
            return;
        }
        let Some(cursor) = self.cursor(device, channel) else { return };
        cursor.began = Some(cursor.began.map_or(at, |began| began.min(at)));
        cursor.due = true;
        let at_ms = now_ms.saturating_add(self.mailbox_interval_ms);
        self.mailboxes_due.push_back(Due { at_ms, device, channel: channel.clone() });
    }

    /// Notes what was sent, to be written in time.
    pub(super) fn offer(&mut self, device: u32, channel: &Channel, offered: Stretch) {
        if let Some(cursor) = self.cursor(device, channel) {
            cursor.offered.insert(offered.from, offered.to);
            cursor.offered.keep_newest(STRETCHES);
        }
    }

    /// Notes what was acknowledged, to be written in time.
    pub(super) fn acknowledge(&mut self, device: u32, channel: &Channel, acknowledged: &Stretches, now_ms: u64) {
        if !acknowledged.is_empty()
            && let Some(cursor) = self.cursor(device, channel)
            && cursor.acknowledged.merge(acknowledged)
        {
            cursor.acknowledged.keep_newest(STRETCHES);
            self.touch(device, channel, now_ms);
        }
    }

    /// Takes back what the brokers did not take.
    pub(super) fn restore(&mut self, record: &CursorRecord, now_ms: u64) {
        let named_by = if record.drawn { NamedBy::Server } else { NamedBy::Client };
        let device = self.of(&record.user_id, &record.device_id, named_by);
        if let Some(cursor) = self.cursor(device, &record.channel) {
            cursor.began = cursor.began.into_iter().chain(record.began).min();
            cursor.offered.merge(&record.offered);
            cursor.acknowledged.merge(&record.acknowledged);
            self.touch(device, &record.channel, now_ms);
        }
    }

    /// Says that a cursor has changed.
    pub(super) fn touch(&mut self, device: u32, channel: &Channel, now_ms: u64) {
        if let Some(cursor) = self.cursor(device, channel)
            && !cursor.due
        {
            cursor.due = true;
            self.postpone(device, channel.clone(), now_ms);
        }
    }

    fn postpone(&mut self, device: u32, channel: Channel, now_ms: u64) {
        let (queue, interval_ms) = if channel.is_mailbox() {
            (&mut self.mailboxes_due, self.mailbox_interval_ms)
        } else {
            (&mut self.others_due, self.other_interval_ms)
        };
        queue.push_back(Due { at_ms: now_ms.saturating_add(interval_ms), device, channel });
    }

    /// The next cursor whose time has come.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(u32, Channel)> {
        for queue in [&mut self.mailboxes_due, &mut self.others_due] {
            if queue.front().is_some_and(|due| due.at_ms <= now_ms) {
                return queue.pop_front().map(|due| (due.device, due.channel));
            }
        }
        None
    }

    /// Every cursor that is due, whatever its time.
    pub(super) fn all_due(&self) -> Vec<(u32, Channel)> {
        let due = self.devices.iter().flat_map(|(index, device)| {
            device.cursors.iter().filter(|cursor| cursor.due).map(move |cursor| (number(index), cursor.channel.clone()))
        });
        due.collect()
    }

    /// What a cursor has to say, if it is due.
    pub(super) fn record(&self, device: u32, channel: &Channel, epoch: Epoch) -> Option<CursorRecord> {
        let device = self.devices.get(device as usize)?;
        let cursor = device.cursors.iter().find(|cursor| cursor.channel == *channel && cursor.due)?;
        Some(CursorRecord {
            user_id: device.user.clone(),
            device_id: device.device.clone(),
            drawn: device.named_by == NamedBy::Server,
            channel: cursor.channel.clone(),
            epoch,
            began: cursor.began,
            offered: cursor.offered.clone(),
            acknowledged: cursor.acknowledged.clone(),
        })
    }

    /// The producer has the cursor.
    pub(super) fn taken(&mut self, device: u32, channel: &Channel, now_ms: u64) {
        if let Some(cursor) = self.cursor(device, channel) {
            (cursor.began, cursor.due) = (None, false);
        }
        if let Some(written) = self.devices.get_mut(device as usize) {
            written.use_due_ms = self.uses.next_ms(now_ms);
            written.cursors.retain(|cursor| cursor.due || !cursor.offered.is_empty() || !cursor.acknowledged.is_empty());
            if written.cursors.is_empty() {
                written.cursors = Vec::new();
            }
        }
        self.forget_idle(device, now_ms);
    }

    /// The producer had no room for the cursor.
    pub(super) fn refused(&mut self, device: u32, channel: Channel, now_ms: u64) {
        self.postpone(device, channel, now_ms);
    }

    fn forget_idle(&mut self, device: u32, now_ms: u64) {
        let idle = |device: &Device| device.members.is_empty() && device.cursors.iter().all(|cursor| !cursor.due);
        if self.devices.get(device as usize).is_some_and(idle)
            && let Some(gone) = self.devices.try_remove(device as usize)
        {
            if gone.named_by == NamedBy::Client {
                self.uses.left((&gone.user, &gone.device), gone.use_due_ms, now_ms);
            }
            let Some(own) = self.users.get_mut(&gone.user) else { return };
            own.retain(|number| *number != device);
            if own.is_empty() {
                self.users.remove(&gone.user);
            }
        }
    }

    fn cursor(&mut self, device: u32, channel: &Channel) -> Option<&mut Cursor> {
        let cursors = &mut self.devices.get_mut(device as usize)?.cursors;
        let index = cursors.iter().position(|cursor| cursor.channel == *channel).unwrap_or_else(|| {
            cursors.push(Cursor {
                channel: channel.clone(),
                began: None,
                offered: Stretches::new(),
                acknowledged: Stretches::new(),
                due: false,
            });
            cursors.len() - 1
        });
        cursors.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE_MS: u64 = 3_600_000;

    fn devices() -> Devices {
        Devices::new(Intervals {
            mailbox: Duration::from_secs(1),
            other: Duration::from_secs(30),
            device: Duration::from_millis(DEVICE_MS),
        })
    }

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    fn phone(devices: &mut Devices) -> u32 {
        devices.of(&"42".parse().unwrap(), &"phone".parse().unwrap(), NamedBy::Client)
    }

    #[test]
    fn a_mailbox_is_written_after_its_interval_and_other_channels_after_theirs() {
        let mut devices = devices();
        let phone = phone(&mut devices);
        devices.touch(phone, &channel("booking-updates"), 0);
        devices.touch(phone, &channel("user-42"), 0);
        devices.touch(phone, &channel("user-42"), 500);
        assert_eq!(devices.pop_due(999), None);
        assert_eq!(devices.pop_due(1_000), Some((phone, channel("user-42"))));
        assert_eq!(devices.pop_due(29_999), None);
        assert_eq!(devices.pop_due(30_000), Some((phone, channel("booking-updates"))));
    }

    #[test]
    fn a_device_is_kept_until_its_last_cursor_is_taken() {
        let mut devices = devices();
        let device = phone(&mut devices);
        devices.join(device, 3);
        devices.touch(device, &channel("user-42"), 0);
        assert_eq!(devices.leave(device, 3, 0), [channel("user-42")]);
        assert!(devices.record(device, &channel("user-42"), Epoch(1)).is_some());
        devices.taken(device, &channel("user-42"), 0);
        assert!(devices.users.is_empty() && devices.devices.is_empty());
    }

    #[test]
    fn where_a_device_began_is_written_soon_whatever_the_channel_and_then_forgotten() {
        let mut devices = devices();
        let phone = phone(&mut devices);
        devices.join(phone, 3);
        let everyone = channel("system-announcements");
        devices.begin(phone, &everyone, 7, 0);
        assert_eq!(devices.pop_due(999), None);
        assert_eq!(devices.pop_due(1_000), Some((phone, everyone.clone())));
        let record = devices.record(phone, &everyone, Epoch(1)).unwrap();
        assert_eq!((record.began, record.offered.is_empty(), record.acknowledged.is_empty()), (Some(7), true, true));
        devices.taken(phone, &everyone, 1_000);
        assert!(devices.record(phone, &everyone, Epoch(1)).is_none());
        assert_eq!(devices.devices[phone as usize].cursors.capacity(), 0, "an idle device costs nothing more");
        devices.restore(&record, 1_000);
        assert_eq!(devices.record(phone, &everyone, Epoch(1)), Some(record), "the brokers did not take it");
    }

    /// Has the log told of a device whatever is due of it.
    fn tell(devices: &mut Devices, device: u32, now_ms: u64) -> Vec<CursorRecord> {
        let due = devices.all_due().into_iter().filter(|(number, _)| *number == device);
        let mut told = Vec::new();
        for (device, channel) in due.collect::<Vec<_>>() {
            told.extend(devices.record(device, &channel, Epoch(1)));
            devices.taken(device, &channel, now_ms);
        }
        told
    }

    #[test]
    fn a_device_that_says_nothing_is_told_to_be_in_use_once_an_interval_however_often_it_comes() {
        let mut devices = devices();
        for now_ms in [0, 1_000, 2_000] {
            let phone = phone(&mut devices);
            devices.join(phone, 3);
            devices.renew_some(now_ms);
            let told = tell(&mut devices, phone, now_ms);
            assert_eq!(told.iter().map(CursorRecord::says_nothing).collect::<Vec<_>>(), vec![true; usize::from(now_ms == 0)]);
            assert_eq!(devices.leave(phone, 3, now_ms), [], "it was told");
        }
        assert!(devices.devices.is_empty());
        let phone = phone(&mut devices);
        devices.join(phone, 3);
        devices.renew_some(DEVICE_MS - 1);
        assert!(devices.all_due().is_empty());
        devices.renew_some(DEVICE_MS);
        assert_eq!(tell(&mut devices, phone, DEVICE_MS).len(), 1, "it stays for longer than that");
    }

    #[test]
    fn a_device_that_leaves_before_its_turn_is_told_to_have_been_in_use() {
        let mut devices = devices();
        let phone = phone(&mut devices);
        devices.join(phone, 3);
        assert_eq!(devices.leave(phone, 3, 5), [channel("user-42")]);
        assert!(tell(&mut devices, phone, 5)[0].says_nothing());
        assert!(devices.devices.is_empty());
    }

    #[test]
    fn of_a_device_that_acknowledges_and_of_one_that_nobody_named_nothing_more_is_told() {
        let mut devices = devices();
        let phone = phone(&mut devices);
        devices.join(phone, 3);
        devices.offer(phone, &channel("role-driver"), Stretch { from: 1, to: 5 });
        devices.touch(phone, &channel("role-driver"), 0);
        devices.renew_some(0);
        assert_eq!(devices.all_due().len(), 1);
        tell(&mut devices, phone, 10);
        devices.renew_some(DEVICE_MS);
        assert!(devices.all_due().is_empty(), "the log has heard of it");

        let drawn = devices.of(&"42".parse().unwrap(), &"drawn".parse().unwrap(), NamedBy::Server);
        devices.join(drawn, 4);
        devices.renew_some(10);
        assert!(devices.all_due().is_empty());
        assert_eq!(devices.leave(drawn, 4, 10), []);
    }

    #[test]
    fn of_a_device_whose_id_was_drawn_only_what_it_acknowledged_is_written() {
        let mut devices = devices();
        let (user, drawn, mailbox) = ("42".parse().unwrap(), "drawn".parse().unwrap(), channel("user-42"));
        let device = devices.of(&user, &drawn, NamedBy::Server);
        devices.begin(device, &mailbox, 7, 0);
        assert!(devices.all_due().is_empty());
        devices.acknowledge(device, &mailbox, &Stretches::from_iter([Stretch { from: 7, to: 8 }]), 0);
        assert!(devices.record(device, &mailbox, Epoch(1)).is_some_and(|record| record.drawn));
        assert_eq!(devices.of(&user, &drawn, NamedBy::Client), device);
        assert!(devices.record(device, &mailbox, Epoch(1)).is_some_and(|record| !record.drawn), "it is named now");
    }

    #[test]
    fn a_users_devices_stand_in_the_order_they_connected_last() {
        let mut devices = devices();
        let user: UserId = "42".parse().unwrap();
        for (member, name) in (0..).zip(["phone", "watch", "tablet", "phone"]) {
            let device = devices.of(&user, &name.parse().unwrap(), NamedBy::Client);
            devices.join(device, member);
        }
        devices.of(&user, &"never-connected".parse().unwrap(), NamedBy::Client);
        devices.of(&"43".parse().unwrap(), &"phone".parse().unwrap(), NamedBy::Client);
        let found = devices.of_user(&user).map(|(device, members)| (device.as_str(), members.to_vec())).collect::<Vec<_>>();
        assert_eq!(found, [("watch", vec![1]), ("tablet", vec![2]), ("phone", vec![0, 3])]);
    }

    #[test]
    fn what_the_brokers_did_not_take_is_due_again() {
        let mut devices = devices();
        let device = phone(&mut devices);
        devices.offer(device, &channel("user-42"), Stretch { from: 1, to: 5 });
        devices.touch(device, &channel("user-42"), 0);
        let record = devices.record(device, &channel("user-42"), Epoch(1)).unwrap();
        devices.taken(device, &channel("user-42"), 0);
        devices.restore(&record, 7);
        assert_eq!(devices.all_due().len(), 1);
    }
}
