//! Presence as a shard sees it: who comes and goes, who listens to a channel, and telling a user that another device has come or gone.

use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::presence::Change;
use tidings_core::protocol::server::ServerFrame;
use tidings_core::record::signal::nodes::UserDevice;
use tokio::sync::oneshot;

use super::{Shard, TURN};

impl Shard {
    /// Names who listens. Mailboxes get their turns meanwhile, as in a fan-out.
    pub(super) fn listeners(&mut self, channel: &Channel, asker: oneshot::Sender<Vec<UserId>>) {
        let mut users = Vec::new();
        if let Some(slot) = self.members.slot(channel) {
            let listeners = self.members.listeners(slot);
            users.reserve(listeners);
            for index in 0..listeners {
                let member = self.members.at(slot, index).and_then(|member| self.members.get(member));
                users.extend(member.and_then(|member| self.devices.user(member.device)).cloned());
                if (index + 1) % TURN == 0 {
                    self.take_mails();
                }
            }
        }
        // An asker that has given up is gone already.
        let _ = asker.send(users);
    }

    /// Tells the other devices of each user.
    pub(super) fn statuses(&mut self, changes: &[Change]) {
        for Change { device: UserDevice { user_id, device_id }, status } in changes {
            let others = self.devices.of_user(user_id).filter(|(other, _)| *other != device_id);
            for number in others.flat_map(|(_, members)| members) {
                if let Some(member) = self.members.get(*number) {
                    let frame = ServerFrame::DeviceStatus { device_id, status: *status };
                    self.shared.say(&member.outbox, frame, None, self.now);
                }
            }
        }
    }

    /// A device has its first connection.
    pub(super) fn came(&self, device: u32) {
        if let Some(came) = self.devices.name(device) {
            self.shared.roster.came(came);
        }
    }

    /// A device has lost its last connection.
    pub(super) fn left(&self, device: UserDevice) {
        self.shared.roster.left(device);
    }
}
