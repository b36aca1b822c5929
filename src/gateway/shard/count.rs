//! Answers to the desk: what this shard has, whose connections are here, and their end on an operator's order.
//!
//! Counting looks at every device, which is fine for a person's question now and then. An asker who has given up is no error.

use std::collections::HashSet;

use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::protocol::close::CloseCode;
use tidings_core::record::signal::nodes::OpenConnection;
use tokio::sync::oneshot;

use super::Shard;
use crate::gateway::desk::{Counts, LIMIT_CHANNELS};
use crate::gateway::inlet::NamedBy;

impl Shard {
    pub(super) fn count(&self, asker: oneshot::Sender<Counts>) {
        let users = self.devices.present().map(|(user, ..)| user).collect::<HashSet<_>>();
        let shared = self.members.audiences().filter(|(channel, _)| !channel.is_mailbox());
        let mut channels = shared.map(|(channel, listeners)| (channel.clone(), listeners)).collect::<Vec<_>>();
        keep_largest(&mut channels, LIMIT_CHANNELS);
        let counts = Counts {
            connections: self.members.len(),
            devices: self.devices.present().count(),
            users: users.len(),
            subscriptions: self.members.audiences().map(|(_, listeners)| listeners).sum(),
            channels,
        };
        let _ = asker.send(counts);
    }

    pub(super) fn list(&mut self, user: &UserId, asker: oneshot::Sender<Vec<OpenConnection>>) {
        let mut present = Vec::new();
        for (device, members) in self.devices.of_user(user) {
            for number in members {
                let channels = self.members.channels(*number);
                let Some(member) = self.members.get_mut(*number).filter(|member| member.is_open()) else { continue };
                let drawn = self.devices.named_by(member.device) == Some(NamedBy::Server);
                present.push(OpenConnection {
                    connection_id: member.connection,
                    device_id: device.clone(),
                    drawn,
                    address: member.address,
                    since: member.since,
                    locale: member.locale.clone(),
                    channels,
                });
            }
        }
        present.sort_by_key(|present| present.since);
        let _ = asker.send(present);
    }

    pub(super) fn disconnect(&mut self, user: &UserId, asker: Option<oneshot::Sender<usize>>) {
        let numbers = self.devices.of_user(user).flat_map(|(_, members)| members.iter().copied()).collect::<Vec<_>>();
        let mut closed = 0;
        for number in numbers {
            if let Some(member) = self.members.get_mut(number).filter(|member| member.is_open()) {
                member.outbox.close(CloseCode::Disconnected, self.now.ms);
                closed += 1;
            }
        }
        if let Some(asker) = asker {
            let _ = asker.send(closed);
        }
    }
}

/// Leaves the `limit` channels with the most listeners, in any order.
fn keep_largest(channels: &mut Vec<(Channel, usize)>, limit: usize) {
    if channels.len() > limit {
        channels.select_nth_unstable_by_key(limit, |(_, listeners)| std::cmp::Reverse(*listeners));
        channels.truncate(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_channels_those_with_the_most_listeners_are_kept() {
        let channel = |number: usize| (format!("topic-{number}").parse::<Channel>().unwrap(), number);
        let mut channels = [3, 1, 5, 2, 4].map(channel).to_vec();
        keep_largest(&mut channels, 2);
        let mut kept = channels.into_iter().map(|(_, listeners)| listeners).collect::<Vec<_>>();
        kept.sort_unstable();
        assert_eq!(kept, [4, 5]);
    }
}
