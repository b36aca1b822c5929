//! Coming in, subscribing, being judged anew, and leaving.
//!
//! Owns: what a user may have of connections and devices, and where each subscription begins. Who may subscribe to what is the
//! core's word: the connection asks for it before, a refresh asks here for all that is there.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tidings_core::channel::{Channel, Verdict};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::position::Position;
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::{ErrorCode, Problem, ServerFrame};
use tidings_core::recovery::Start;

use super::Shard;
use super::members::{Heartbeat, Member};
use super::recover::Begun;
use crate::auth::Identity;
use crate::gateway::inlet::Join;
use crate::gateway::metrics::Limit;
use crate::gateway::outbox::Phase;

impl Shard {
    pub(super) fn join(&mut self, join: Join) {
        if let Err(code) = self.has_room(&join.user, &join.device) {
            // An asker that has given up is gone already.
            let _ = join.joined.send(Err(code));
            return;
        }
        // Silence counts from here on.
        join.outbox.pulse().heard_ms.store(self.now.ms, Ordering::Relaxed);
        let device = self.devices.of(&join.user, &join.device, join.named_by);
        let member = self.members.add(Member {
            outbox: join.outbox.clone(),
            device,
            mode: join.mode,
            locale: join.locale.clone(),
            ends_at: join.ends_at,
            connection: join.connection,
            address: join.address,
            since: join.since,
            subscriptions: Vec::with_capacity(join.channels.len()),
            heartbeat: Heartbeat { asked_ms: self.now.ms, ..Heartbeat::default() },
        });
        if self.devices.members(device).is_empty() {
            self.came(device);
        }
        self.devices.join(device, member);
        self.greet(member, &join);
        if self.draining {
            join.outbox.close(CloseCode::Draining, self.now.ms);
        }
        if join.joined.send(Ok(member)).is_err() {
            self.leave(member);
        }
    }

    /// Subscribes a new member to its own channels, and tells it all that it has to know.
    fn greet(&mut self, member: u32, join: &Join) {
        let limit = self.shared.config.channels_per_connection.get();
        let (mut channels, mut recovering) = (BTreeMap::new(), Vec::new());
        for (channel, start) in join.channels.iter().take(limit) {
            let Begun { position, recovers } = self.begin(member, channel, *start);
            channels.insert(channel.as_str(), position);
            if recovers {
                recovering.push((channel, position));
            }
        }
        let connected = ServerFrame::Connected {
            user_id: &join.user,
            connection_id: join.connection,
            device_id: &join.device,
            heartbeat_interval: u64::try_from(self.shared.config.heartbeat_interval.0.as_millis()).unwrap_or(u64::MAX),
            channels,
            counts: join.counts,
        };
        self.shared.say(&join.outbox, connected, join.reply_to.as_deref(), self.now);
        self.shared.tally.joined(&join.user, join.counts, self.now.ms);
        for (channel, position) in recovering {
            self.shared.say(&join.outbox, ServerFrame::Subscribed { channel, position, recovering: true }, None, self.now);
        }
        join.outbox.uncork(self.now.ms);
    }

    /// Whether the user may have one more connection. For one more device, the one that connected least recently goes.
    fn has_room(&mut self, user: &UserId, device: &DeviceId) -> Result<(), CloseCode> {
        let config = &self.shared.config;
        let connections = self.devices.of_user(user).map(|(_, members)| members.len()).sum::<usize>();
        if connections >= config.connections_per_user.get() {
            self.shared.metrics.crossed(Limit::ConnectionsPerUser);
            return Err(CloseCode::TooMany);
        }
        if self.devices.of_user(user).any(|(known, _)| known == device) {
            return Ok(());
        }
        let Self { devices, members, .. } = self;
        let is_open = |member: &u32| members.get(*member).is_some_and(|member| member.outbox.phase() == Phase::Open);
        let open = devices.of_user(user).filter(|(_, members)| members.iter().any(is_open)).collect::<Vec<_>>();
        if open.len() >= config.devices_per_user.get() {
            self.shared.metrics.crossed(Limit::DevicesPerUser);
            for member in open.first().map(|(_, members)| *members).unwrap_or_default() {
                members.get(*member).into_iter().for_each(|member| member.outbox.close(CloseCode::TooMany, self.now.ms));
            }
        }
        Ok(())
    }

    pub(super) fn position(&self, offset: i64) -> Position {
        Position { epoch: self.shared.epoch, offset }
    }

    pub(super) fn subscribe(&mut self, member: u32, channels: &[(Channel, Start)], reply_to: Option<&str>) {
        for (channel, start) in channels {
            if matches!(start, Start::Named(_) | Start::Lost(_, Some(_))) {
                // Who names a position begins there, whatever it was sent before.
                self.quit(member, channel);
            }
            let known = self.members.subscription(member, channel);
            let known = known.map(|known| (known.ledger.next(), known.recovery.is_some()));
            let Some(asking) = self.members.get(member) else { return };
            let outbox = asking.outbox.clone();
            let limit = self.shared.config.channels_per_connection.get();
            if known.is_none() && asking.subscriptions.len() >= limit {
                self.shared.metrics.crossed(Limit::ChannelsPerConnection);
                let problem = Problem::new(ErrorCode::Limit, format!("a connection subscribes to at most {limit} channels"));
                self.shared.say(&outbox, problem.frame(), reply_to, self.now);
                continue;
            }
            let begun = match known {
                Some((next, recovers)) => Begun { position: self.position(next), recovers },
                None => self.begin(member, channel, *start),
            };
            let subscribed = ServerFrame::Subscribed { channel, position: begun.position, recovering: begun.recovers };
            self.shared.say(&outbox, subscribed, reply_to, self.now);
        }
    }

    pub(super) fn unsubscribe(&mut self, member: u32, channels: &[Channel], reply_to: Option<&str>) {
        for channel in channels {
            self.quit(member, channel);
            let Some(left) = self.members.get(member) else { return };
            self.shared.say(&left.outbox, ServerFrame::Unsubscribed { channel }, reply_to, self.now);
        }
    }

    /// Ends a subscription, if there is one.
    fn quit(&mut self, member: u32, channel: &Channel) {
        let subscription = self.members.unsubscribe(member, channel).filter(|subscription| subscription.due);
        if let (Some(subscription), Some(left)) = (subscription, self.members.get(member)) {
            self.devices.offer(left.device, channel, subscription.ledger.offered());
        }
    }

    /// Judges every subscription by the new roles, adds the channels of those that are new, and tells until when the token holds.
    pub(super) fn refresh(
        &mut self,
        member: u32,
        identity: &Identity,
        mut gained: Vec<(Channel, Start)>,
        reply_to: Option<&str>,
    ) {
        let held = self.members.channels(member);
        let judge = |channel: &Channel| self.shared.access.judge(&identity.user, &identity.roles, channel);
        let lost = held.iter().filter(|channel| judge(channel) == Verdict::Forbidden).cloned().collect::<Vec<_>>();
        gained.retain(|(channel, _)| !held.contains(channel));
        self.unsubscribe(member, &lost, None);
        self.subscribe(member, &gained, None);
        let Some(refreshed) = self.members.get_mut(member) else { return };
        refreshed.ends_at = identity.expiry.map(|expiry| expiry.ends_at);
        let outbox = refreshed.outbox.clone();
        if let Some(expiry) = identity.expiry {
            self.shared.say(&outbox, ServerFrame::Refreshed { expires_at: expiry.at }, reply_to, self.now);
        }
    }

    pub(super) fn leave(&mut self, member: u32) {
        let Some((gone, subscriptions)) = self.members.remove(member) else { return };
        self.recoveries.left(member);
        for (channel, subscription) in subscriptions.iter().filter(|(_, subscription)| subscription.due) {
            self.devices.offer(gone.device, channel, subscription.ledger.offered());
        }
        let left = self.devices.name(gone.device).filter(|_| self.devices.members(gone.device) == [member]);
        let user = self.devices.user(gone.device).cloned();
        for channel in self.devices.leave(gone.device, member, self.now.ms) {
            self.write_cursor(gone.device, channel);
        }
        if let Some(user) = user.filter(|user| self.devices.of_user(user).next().is_none()) {
            self.once.leave(&user);
        }
        if let Some(left) = left {
            self.left(left);
        }
    }
}
