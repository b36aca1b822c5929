//! Recovering: sending members what their devices missed, page by page, until they are level with live delivery.
//!
//! Owns: carrying out each step that the core's `recovery` decides. A member gets its next page when nothing waits for its socket,
//! and asks the store one question at a time. Live delivery comes first: one turn of all recoveries together writes about one page, then
//! what is live has its turn, and no more leaves in a second than configured. Neighbours: `turns` says who is next, `missed` sends the pages, `told`
//! says how it ends.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tidings_core::channel::Channel;
use tidings_core::position::Position;
use tidings_core::recovery::{Answer, CatchUp, Newest, Reach, Start, Step};

use super::Shard;
use super::turns::{Recoveries, Turned};
use crate::gateway::reads::{Found, Question, Reply, Wanted};

/// Missed notifications that are written before what is live has its turn; the last page is written whole. As many members are looked
/// at.
pub(super) const TURN: usize = 64;

/// A subscription that recovers.
pub(super) struct Recovery {
    pub(super) catch_up: CatchUp,
    /// Tells the answer that is awaited from those to others.
    question: u64,
    recovering: Gauge,
}

/// A subscription that has begun.
pub(super) struct Begun {
    /// What its client is to keep until it is sent something.
    pub(super) position: Position,
    pub(super) recovers: bool,
}

impl Recovery {
    fn begin(catch_up: CatchUp, recovering: &Gauge) -> Box<Self> {
        recovering.inc();
        Box::new(Self { catch_up, question: 0, recovering: recovering.clone() })
    }

    /// Behind what it was sent.
    pub(super) fn next(&self) -> i64 {
        self.catch_up.next()
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.recovering.dec();
    }
}

impl Shard {
    /// Subscribes a member to a channel, from where its device stopped.
    pub(super) fn begin(&mut self, member: u32, channel: &Channel, start: Start) -> Begun {
        let live = self.live(channel);
        let (from, catch_up) = match start {
            Start::Live | Start::First(None) => (live, None),
            // Nobody asked, so nothing is said if nothing was missed.
            Start::Known(offset) | Start::First(Some(offset)) if self.is_quiet(channel, offset, live) => (offset, None),
            Start::Named(offset) | Start::Known(offset) | Start::First(Some(offset)) => {
                (offset, Some(CatchUp::new(offset, live)))
            }
            Start::Lost(loss, _) => (live, Some(CatchUp::lost(loss, live))),
        };
        let recovers = catch_up.is_some();
        let recovery = catch_up.map(|catch_up| Recovery::begin(catch_up, &self.shared.metrics.recovering));
        self.members.subscribe(member, channel, from, recovery);
        if let Start::First(_) = start {
            self.note_beginning(member, channel);
        }
        if recovers {
            self.recoveries.enter(member);
            return Begun { position: start.shown(self.shared.epoch, live), recovers };
        }
        // What is handed over now continues what was before: cursors without holes are read at one go.
        if let Some(begun) = self.members.subscription(member, channel) {
            begun.ledger.reached(live);
        }
        Begun { position: self.position(from.max(live)), recovers }
    }

    /// Has the log say where the device begins in this channel: it comes back to that.
    pub(super) fn note_beginning(&mut self, member: u32, channel: &Channel) {
        let Some(device) = self.members.get(member).map(|member| member.device) else { return };
        if let Some(begun) = self.members.subscription(member, channel) {
            self.devices.begin(device, channel, begun.ledger.from(), self.now.ms);
        }
    }

    /// The next offset of a channel's partition that live delivery has not begun with.
    fn live(&mut self, channel: &Channel) -> i64 {
        let partition = channel.partition(self.shared.partitions);
        self.next.of(channel, partition).map_or(0, |next| *next)
    }

    fn is_quiet(&self, channel: &Channel, from: i64, live: i64) -> bool {
        if from >= live {
            return true;
        }
        let place = (channel, channel.partition(self.shared.partitions));
        self.shared.ring.page(place, (from, live), 1).is_some_and(|page| page.records.is_empty())
    }

    /// Hands over what the store has answered, then gives each of those who recover at most one step, until a turn's frames are
    /// written. Gives how much was done.
    pub(super) fn take_recoveries(&mut self) -> usize {
        self.recoveries.look(self.now.ms, self.shared.reads.places());
        let (mut done, mut written) = (0, 0);
        while written < TURN && self.may_send() {
            let Some(reply) = self.recoveries.answers.pop_front() else { break };
            written += self.hand_over(reply);
            done += 1;
        }
        for _ in 0..TURN {
            if written >= TURN || !self.may_send() {
                break;
            }
            let Some(member) = self.recoveries.queue.pop_front() else { break };
            let turned = self.turn(member);
            self.recoveries.turned(member, turned, self.now.ms);
            if let Turned::On(frames) = turned {
                self.recoveries.pace.spend(frames, self.now.ms);
                written += frames;
                done += 1;
            }
        }
        done
    }

    fn may_send(&mut self) -> bool {
        let Recoveries { pace, queue, .. } = &mut self.recoveries;
        pace.may_send(self.now.ms, || {
            if !queue.is_empty() {
                self.shared.metrics.paced.inc();
            }
        })
    }

    /// Does something for a member if its socket has taken everything: what is done is written in few calls.
    fn turn(&mut self, member: u32) -> Turned {
        let Some(outbox) = self.members.get(member).filter(|member| member.is_open()).map(|member| member.outbox.clone()) else {
            return Turned::Out;
        };
        if !outbox.is_idle() {
            return Turned::Later;
        }
        let channels = self.members.recovering(member);
        if channels.is_empty() {
            return Turned::Out;
        }
        outbox.cork();
        let turned = self.advance_in_any(member, &channels);
        outbox.uncork(self.now.ms);
        turned
    }

    /// Takes the next step in the first channel in which one can be taken.
    fn advance_in_any(&mut self, member: u32, channels: &[Channel]) -> Turned {
        let mut turned = Turned::Later;
        for channel in channels {
            match self.advance(member, channel) {
                Turned::Later => {}
                Turned::Queued => turned = Turned::Queued,
                done => return done,
            }
        }
        turned
    }

    /// Takes the next step in one channel, if it can be taken now.
    fn advance(&mut self, member: u32, channel: &Channel) -> Turned {
        let (reach, now_ms, patience_ms) = (self.reach(channel), self.now.ms, self.patience_ms());
        let answered_ms = self.shared.reads.answered_ms();
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Later };
        // Nobody may have looked since the line has moved.
        catch_up.queued(answered_ms, patience_ms);
        match catch_up.step(reach, now_ms, patience_ms) {
            Step::Wait => Turned::Later,
            Step::Ring { from } => self.send_from_ring(member, channel, (from, reach.live)),
            Step::Store { from, until } => self.ask(member, channel, until, Wanted::Gap(from..until)),
            Step::Lose { loss, newest: Newest::Store } if channel.is_mailbox() => {
                self.ask(member, channel, reach.live, Wanted::Newest(loss))
            }
            Step::Lose { loss, newest: Newest::Store | Newest::Ring } => {
                let newest = self.newest_in_ring(channel, reach.live);
                self.lose(member, channel, newest, loss)
            }
            Step::Level => self.level(member, channel),
        }
    }

    pub(super) fn reach(&mut self, channel: &Channel) -> Reach {
        let ring = self.shared.ring.low(channel.partition(self.shared.partitions));
        Reach { live: self.live(channel), ring, archive: self.shared.reads.archive() }
    }

    pub(super) fn catch_up(&mut self, member: u32, channel: &Channel) -> Option<&mut CatchUp> {
        let recovery = self.members.subscription(member, channel)?.recovery.as_mut()?;
        Some(&mut recovery.catch_up)
    }

    /// Asks the store, if the member has no other question and there is a place among those who may.
    fn ask(&mut self, member: u32, channel: &Channel, until: i64, wanted: Wanted) -> Turned {
        if self.recoveries.asking.contains_key(&member) {
            return Turned::Later;
        }
        let number = self.recoveries.questions + 1;
        let (now_ms, patience_ms) = (self.now.ms, self.patience_ms());
        let shared = self.shared.clone();
        let inlet = self.inlet.clone();
        let Some(recovery) = self.members.subscription(member, channel).and_then(|asking| asking.recovery.as_mut()) else {
            return Turned::Later;
        };
        let left_ms = recovery.catch_up.deadline_ms().map_or(patience_ms, |deadline_ms| deadline_ms.saturating_sub(now_ms));
        let limit = Duration::from_millis(left_ms);
        if !shared.reads.begin(&shared, Question { inlet, member, channel: channel.clone(), number, wanted, limit }) {
            return Turned::Queued;
        }
        recovery.question = number;
        recovery.catch_up.asked(until);
        self.recoveries.questions = number;
        self.recoveries.asking.insert(member, number);
        Turned::On(0)
    }

    /// Takes the store's answer; it is handed over when recoveries have their turn.
    pub(super) fn found(&mut self, reply: Reply) {
        self.recoveries.answers.push_back(reply);
    }

    /// Hands over an answer, unless who asked has left or begun anew. Gives how many frames were written.
    fn hand_over(&mut self, reply: Reply) -> usize {
        let Reply { member, channel, number, found, _place } = reply;
        if self.recoveries.asking.get(&member) == Some(&number) {
            self.recoveries.asking.remove(&member);
            self.recoveries.wake(member);
        }
        let asked = self.members.subscription(member, &channel).and_then(|asking| asking.recovery.as_ref());
        if asked.is_none_or(|recovery| recovery.question != number) {
            return 0;
        }
        let Some(outbox) = self.members.get(member).map(|member| member.outbox.clone()) else { return 0 };
        let live = self.live(&channel);
        let turned = match found {
            Found::Gap(page) if outbox.is_idle() => {
                outbox.cork();
                let turned = self.send_from_store(member, &channel, page);
                outbox.uncork(self.now.ms);
                turned
            }
            // Other channels were faster; a page is not kept for it, as there are few places for pages.
            Found::Gap(_) => {
                self.catch_up(member, &channel).into_iter().for_each(CatchUp::postponed);
                Turned::Later
            }
            Found::Newest(newest, loss) => {
                let newest = newest.or_else(|| self.newest_in_ring(&channel, live));
                self.lose(member, &channel, newest, loss)
            }
            Found::Nothing => {
                let now_ms = self.now.ms;
                self.catch_up(member, &channel).into_iter().for_each(|catch_up| catch_up.answered(Answer::Nothing, now_ms));
                Turned::Later
            }
        };
        let frames = if let Turned::On(frames) = turned { frames } else { 0 };
        self.recoveries.pace.spend(frames, self.now.ms);
        frames
    }

    fn patience_ms(&self) -> u64 {
        u64::try_from(self.shared.config.recovery.wait.0.as_millis()).unwrap_or(u64::MAX)
    }
}
