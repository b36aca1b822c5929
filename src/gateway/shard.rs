//! A shard: one thread that owns a part of the users' connections, their subscriptions and cursors.
//!
//! Owns: the order in which controls, mailboxes and broadcasts get their turns. A fan-out covers the members at its start;
//! mailboxes get a turn after every 256 writes of one, so a large channel holds nobody up; what receipts tell has a turn of its own;
//! devices that recover come last.
//! Nothing else touches its state.

mod acks;
mod count;
mod deliver;
mod devices;
mod members;
mod missed;
mod once;
mod pace;
mod present;
mod receipts;
mod recent;
mod recover;
mod seats;
mod sweep;
mod told;
mod turns;
mod uses;
mod withdrawn;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tidings_core::channel::Channel;
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::ServerFrame;

use self::devices::{Devices, Intervals};
use self::members::Members;
use self::once::Outstanding;
use self::receipts::Tellings;
use self::recent::Recent;
use self::turns::Recoveries;
pub(super) use self::withdrawn::IDS as WITHDRAWN;
use self::withdrawn::Withdrawn;
use super::cursor::CursorWriter;
use super::inlet::{Control, Inlet, Outlet};
use super::moment::Moment;
use super::{GatewayError, Shared};

/// Writes of a fan-out between two turns of the mailboxes, and records or words taken in one turn.
const TURN: usize = 256;
/// Connections that come in at one turn: each is greeted, which costs more than any other word.
const JOINS: usize = 16;
/// How long the last cursors may wait for room in the producer.
const FINISH: Duration = Duration::from_secs(5);

/// What a shard's thread owns.
pub(super) struct Shard {
    shared: Arc<Shared>,
    inlet: Arc<Inlet>,
    outlet: Outlet,
    cursors: CursorWriter,
    members: Members,
    devices: Devices,
    recent: Recent,
    recoveries: Recoveries,
    once: Outstanding,
    withdrawn: Withdrawn,
    tellings: Tellings,
    next: Next,
    now: Moment,
    sweep_at_ms: u64,
    /// Who comes in now is sent away at once.
    draining: bool,
    finishing: bool,
}

/// The next offset of each partition that this shard has not begun, in each of its two orders.
#[derive(Debug, Default)]
struct Next {
    mailboxes: Vec<i64>,
    others: Vec<i64>,
}

impl Next {
    fn of(&mut self, channel: &Channel, partition: i32) -> Option<&mut i64> {
        let offsets = if channel.is_mailbox() { &mut self.mailboxes } else { &mut self.others };
        usize::try_from(partition).ok().and_then(|partition| offsets.get_mut(partition))
    }
}

impl Shard {
    pub(super) fn new(shared: Arc<Shared>, inlet: Arc<Inlet>, outlet: Outlet, cursors: CursorWriter) -> Self {
        let config = &shared.config;
        let devices = Devices::new(Intervals {
            mailbox: config.mailbox_cursor_interval.0,
            other: config.other_cursor_interval.0,
            device: config.device_interval.0,
        });
        let now = Moment::of(shared.clock);
        let once = Outstanding::new(config.once_per_user.get(), shared.metrics.clone());
        let patience_ms = u64::try_from(config.recovery.wait.0.as_millis()).unwrap_or(u64::MAX);
        let recoveries = Recoveries::new(config.recovery.frames_per_second.get(), patience_ms);
        Self {
            shared,
            inlet,
            outlet,
            cursors,
            members: Members::default(),
            devices,
            recent: Recent::default(),
            recoveries,
            once,
            withdrawn: Withdrawn::default(),
            tellings: Tellings::default(),
            next: Next::default(),
            now,
            sweep_at_ms: 0,
            draining: false,
            finishing: false,
        }
    }

    /// Works until it is told to finish and its last connection has left.
    pub(super) fn run(mut self) -> Result<(), GatewayError> {
        self.inlet.is_mine();
        while !self.finishing {
            self.now = Moment::of(self.shared.clock);
            let live = [self.take_controls(), self.take_mails(), self.take_tellings(), self.take_broadcasts()];
            let recovered = self.take_recoveries();
            let wait_ms = self.sweep_when_due();
            if live == [0; 4] && recovered == 0 {
                std::thread::park_timeout(Duration::from_millis(wait_ms.min(self.recoveries.wait_ms(self.now.ms))));
            }
        }
        self.finish();
        Ok(())
    }

    fn take_controls(&mut self) -> usize {
        let mut joined = 0;
        for taken in 0..TURN {
            match self.outlet.controls.try_recv() {
                Ok(control) => {
                    joined += usize::from(matches!(control, Control::Join(_)));
                    self.obey(control);
                }
                Err(_) => return taken,
            }
            if joined >= JOINS {
                return taken + 1;
            }
        }
        TURN
    }

    fn take_mails(&mut self) -> usize {
        for taken in 0..TURN {
            if self.tellings.is_full() {
                return taken;
            }
            match self.outlet.mails.try_recv() {
                Ok(mail) => self.mail(mail),
                Err(_) => return taken,
            }
        }
        TURN
    }

    fn take_broadcasts(&mut self) -> usize {
        let mut written = 0;
        for taken in 0..TURN {
            match self.outlet.broadcasts.try_recv() {
                Ok(broadcast) => written += self.broadcast(&broadcast),
                Err(_) => return taken,
            }
            if written >= TURN {
                return taken + 1;
            }
        }
        TURN
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::Begin(starts, withdrawn) => {
                self.next = Next { mailboxes: starts.to_vec(), others: starts.to_vec() };
                withdrawn.iter().for_each(|id| self.withdrawn.note(*id));
            }
            Control::Join(join) => self.join(*join),
            Control::Leave(member) => self.leave(member),
            Control::Refresh { member, identity, gained, reply_to } => {
                self.refresh(member, &identity, gained, reply_to.as_deref());
            }
            Control::Found(reply) => self.found(*reply),
            Control::Subscribe { member, channels, reply_to } => self.subscribe(member, &channels, reply_to.as_deref()),
            Control::Unsubscribe { member, channels, reply_to } => self.unsubscribe(member, &channels, reply_to.as_deref()),
            Control::Ack { member, ack, reply_to } => self.acknowledge(member, ack, reply_to.as_deref()),
            Control::Count(counts) => self.count(counts),
            Control::List { user, listed } => self.list(&user, listed),
            Control::Listeners { channel, named } => self.listeners(&channel, named),
            Control::Statuses(changes) => self.statuses(&changes),
            Control::Disconnect { user, closed } => self.disconnect(&user, closed),
            Control::Unwritten(record) => self.devices.restore(&record, self.now.ms),
            Control::Withdrawn(withdrawal) => self.withdrawn(&withdrawal),
            Control::Unwithdrawn(withdrawal) => self.unwithdrawn(*withdrawal),
            Control::Counted(user, counts) => self.counted(&user, counts),
            Control::Reconnect(spread) => self.reconnect(spread),
            Control::Drain => self.drain(),
            Control::Finish => self.finishing = true,
        }
    }

    fn reconnect(&mut self, spread: Duration) {
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        let mut random = rand::rng();
        for (_, member) in self.members.iter_mut() {
            let retry_after = random.random_range(0..=spread_ms);
            self.shared.say(&member.outbox, ServerFrame::Reconnect { retry_after }, None, self.now);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.members.iter_mut().for_each(|(_, member)| member.outbox.close(CloseCode::Draining, self.now.ms));
    }

    /// Writes every cursor that is due, waiting a bounded time for room.
    fn finish(&mut self) {
        let until = self.shared.clock.elapsed() + FINISH;
        loop {
            let left = self.devices.all_due();
            if left.is_empty() {
                return;
            }
            for (device, channel) in left {
                self.write_cursor(device, channel);
            }
            if self.shared.clock.elapsed() >= until {
                tracing::error!("cursors were lost while draining; what they acknowledge will be delivered again");
                return;
            }
            if !self.devices.all_due().is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
