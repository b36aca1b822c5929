//! Recovering: sending members what their devices missed, page by page, until they are level with live delivery.
//!
//! Owns: whose turn it is, and carrying out each step that the core's `recovery` decides. A member gets its next page when nothing
//! waits for its socket. Live delivery comes first: one turn of all recoveries together writes about as much as one of a fan-out.
//! Long because each step stands beside what it tells the client.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use prometheus_client::metrics::gauge::Gauge;
use tidings_core::channel::Channel;
use tidings_core::delivery::ledger::Ledger;
use tidings_core::position::Position;
use tidings_core::protocol::server::{Hole, HoleReason, ServerFrame};
use tidings_core::recovery::{Answer, CatchUp, Loss, Newest, Page, Reach, Start, Step, Truncated};

use super::deliver::Item;
use super::{Shard, TURN};
use crate::gateway::fed::{Fed, FedError};
use crate::gateway::metrics::Outcome;
use crate::gateway::reads::{Found, GapPage, Question, Reply, Wanted};
use crate::gateway::ring::RingPage;

/// How long to wait before those are looked at again who waited for their sockets or for a place among the reads.
const AGAIN_MS: u64 = 10;
/// The part of an outbox that a page may fill.
const OUTBOX_SHARE: usize = 4;

/// A subscription that recovers.
pub(super) struct Recovery {
    catch_up: CatchUp,
    /// Tells the answer that is awaited from those to others.
    question: u64,
    recovering: Gauge,
}

/// Who recovers and does not wait for an answer, in the order of their turns.
#[derive(Default)]
pub(super) struct Recoveries {
    waiting: VecDeque<(u32, Channel)>,
    /// The number of the last question to the store.
    questions: u64,
}

/// A subscription that has begun.
pub(super) struct Begun {
    /// What its client is to keep until it is sent something.
    pub(super) position: Position,
    pub(super) recovers: bool,
}

/// What became of a turn.
#[derive(PartialEq)]
enum Turned {
    /// Something was done, and there is more to do.
    On(usize),
    /// Nothing can be done now.
    Later,
    /// It is done, or waits for an answer.
    Out,
}

impl Recovery {
    fn begin(catch_up: CatchUp, recovering: &Gauge) -> Box<Self> {
        recovering.inc();
        Box::new(Self { catch_up, question: 0, recovering: recovering.clone() })
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.recovering.dec();
    }
}

/// A page on its way to one member.
struct Sending {
    page: Page,
    frames: u64,
    left_bytes: usize,
}

impl Sending {
    fn new(outbox_bytes: NonZeroUsize, whole_to: Option<i64>) -> Self {
        Self { page: Page { last: None, whole_to }, frames: 0, left_bytes: outbox_bytes.get() / OUTBOX_SHARE }
    }

    /// Notes the record at `offset`, which took so many bytes if it was sent. Says whether the page ends here, as there is no
    /// room for more.
    fn is_full_at(&mut self, offset: i64, bytes: Option<usize>) -> bool {
        self.frames += u64::from(bytes.is_some());
        self.left_bytes = self.left_bytes.saturating_sub(bytes.unwrap_or(0));
        self.page.last = Some(offset);
        if self.left_bytes == 0 {
            self.page.whole_to = None;
        }
        self.left_bytes == 0
    }

    /// Notes that what lies up to `last` is of no use to anybody, unless the page ended before.
    fn passed(&mut self, last: Option<i64>) {
        if self.left_bytes > 0 {
            self.page.last = self.page.last.max(last);
        }
    }
}

impl Recoveries {
    /// How long nobody needs a turn.
    pub(super) fn wait_ms(&self) -> u64 {
        if self.waiting.is_empty() { u64::MAX } else { AGAIN_MS }
    }
}

impl Shard {
    /// Subscribes a member to a channel, from where its device stopped.
    pub(super) fn begin(&mut self, member: u32, channel: &Channel, start: Start) -> Begun {
        let live = self.live(channel);
        let (from, catch_up) = match start {
            Start::Live => (live, None),
            Start::Known(offset) if offset >= live => (offset, None),
            // Nobody asked, so nothing is said if nothing was missed.
            Start::Known(offset) if self.is_quiet(channel, offset, live) => (live, None),
            Start::Named(offset) | Start::Known(offset) => (offset, Some(CatchUp::new(offset))),
            Start::Lost(loss, _) => (live, Some(CatchUp::lost(loss))),
        };
        let recovers = catch_up.is_some();
        let recovery = catch_up.map(|catch_up| Recovery::begin(catch_up, &self.shared.metrics.recovering));
        self.members.subscribe(member, channel, from, recovery);
        if recovers {
            self.recoveries.waiting.push_back((member, channel.clone()));
        }
        Begun { position: if recovers { start.shown(self.shared.epoch, live) } else { self.position(from) }, recovers }
    }

    /// The next offset of a channel's partition that live delivery has not begun with.
    fn live(&mut self, channel: &Channel) -> i64 {
        let partition = channel.partition(self.shared.partitions);
        self.next.of(channel, partition).map_or(0, |next| *next)
    }

    fn is_quiet(&self, channel: &Channel, from: i64, live: i64) -> bool {
        let place = (channel, channel.partition(self.shared.partitions));
        self.shared.ring.page(place, (from, live), 1).is_some_and(|page| page.records.is_empty())
    }

    /// Gives each of those who recover at most one step, until a turn's frames are written. Gives how much was done.
    pub(super) fn take_recoveries(&mut self) -> usize {
        let (mut done, mut written) = (0, 0);
        for _ in 0..self.recoveries.waiting.len().min(TURN) {
            let Some((member, channel)) = self.recoveries.waiting.pop_front() else { break };
            match self.turn(member, &channel) {
                Turned::Out => done += 1,
                Turned::Later => self.recoveries.waiting.push_back((member, channel)),
                Turned::On(frames) => {
                    self.recoveries.waiting.push_back((member, channel));
                    done += 1;
                    written += frames;
                }
            }
            if written >= TURN {
                break;
            }
        }
        done
    }

    fn turn(&mut self, member: u32, channel: &Channel) -> Turned {
        let Some(outbox) = self.members.get(member).filter(|member| member.is_open()).map(|member| member.outbox.clone()) else {
            return Turned::Out;
        };
        let reach = self.reach(channel);
        let now_ms = self.now.ms;
        let Some(step) = self.catch_up(member, channel).map(|catch_up| catch_up.step(reach, now_ms)) else { return Turned::Out };
        if !outbox.is_idle() {
            return Turned::Later;
        }
        match step {
            Step::Wait => Turned::Later,
            Step::Ring { from } => self.send_from_ring(member, channel, (from, reach.live)),
            Step::Store { from, until } => self.ask(member, channel, until, Wanted::Gap(from..until)),
            Step::Lose { loss, newest: Newest::Store } if channel.is_mailbox() => {
                self.ask(member, channel, reach.live, Wanted::Newest(loss))
            }
            Step::Lose { loss, newest: Newest::Store | Newest::Ring } => {
                let at = self.newest_in_ring(channel, reach.live);
                self.lose(member, channel, at, loss)
            }
            Step::Lose { loss, newest: Newest::None } => self.lose(member, channel, reach.live, loss),
            Step::Level => self.level(member, channel),
        }
    }

    fn reach(&mut self, channel: &Channel) -> Reach {
        let ring = self.shared.ring.low(channel.partition(self.shared.partitions));
        Reach { live: self.live(channel), ring, archive: self.shared.reads.archive() }
    }

    fn catch_up(&mut self, member: u32, channel: &Channel) -> Option<&mut CatchUp> {
        let recovery = self.members.subscription(member, channel)?.recovery.as_mut()?;
        Some(&mut recovery.catch_up)
    }

    fn send_from_ring(&mut self, member: u32, channel: &Channel, (from, live): (i64, i64)) -> Turned {
        let limit = self.shared.config.recovery.page_records.get();
        let place = (channel, channel.partition(self.shared.partitions));
        // The feed goes on meanwhile: what was there a moment ago may be gone.
        let Some(RingPage { records, whole }) = self.shared.ring.page(place, (from, live), limit) else { return Turned::On(0) };
        let shared = self.shared.clone();
        let failed = |fed: &Fed, error: &FedError| shared.without_frame(fed.partition, fed.offset, error);
        let mut sending = Sending::new(shared.config.outbox_bytes, whole.then_some(live));
        for fed in &records {
            let bytes = fed.encoded(shared.epoch, self.now.wall, failed).and_then(|encoded| {
                let first = self.recent.note(encoded.id, fed.offset);
                self.hand_missed(member, channel, &Item { encoded, offset: fed.offset, first })
            });
            if sending.is_full_at(fed.offset, bytes) {
                break;
            }
        }
        shared.metrics.records_from_ring.inc_by(sending.frames);
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Out };
        catch_up.sent(sending.page);
        // At once: before the next turn live delivery goes on.
        if catch_up.next() >= live { self.level(member, channel) } else { Turned::On(records.len()) }
    }

    fn hand_missed(&mut self, member: u32, channel: &Channel, item: &Item<'_>) -> Option<usize> {
        let slot = self.members.slot(channel)?;
        let bytes = self.hand(slot, member, item)?;
        self.shared.metrics.frames_sent.inc();
        self.shared.metrics.bytes_sent.inc_by(bytes as u64);
        Some(bytes)
    }

    /// Asks the store, if there is a place among those who may.
    fn ask(&mut self, member: u32, channel: &Channel, until: i64, wanted: Wanted) -> Turned {
        let number = self.recoveries.questions + 1;
        let question = Question { inlet: self.inlet.clone(), member, channel: channel.clone(), number, wanted };
        if !self.shared.reads.begin(&self.shared, question) {
            return Turned::Later;
        }
        self.recoveries.questions = number;
        if let Some(recovery) = self.members.subscription(member, channel).and_then(|asking| asking.recovery.as_mut()) {
            recovery.question = number;
            recovery.catch_up.asked(until);
        }
        Turned::Out
    }

    /// Takes the store's answer, unless who asked has left or begun anew.
    pub(super) fn found(&mut self, reply: Reply) {
        let Reply { member, channel, number, found } = reply;
        let asking = self.members.subscription(member, &channel).and_then(|asking| asking.recovery.as_ref());
        if asking.is_none_or(|recovery| recovery.question != number) {
            return;
        }
        let live = self.live(&channel);
        match found {
            Found::Gap(page) => self.send_from_store(member, &channel, page),
            Found::Newest(at, loss) => {
                let at = at.unwrap_or_else(|| self.newest_in_ring(&channel, live));
                self.lose(member, &channel, at, loss);
            }
            Found::Nothing => {
                let (now_ms, patience_ms) = (self.now.ms, self.patience_ms());
                if let Some(catch_up) = self.catch_up(member, &channel) {
                    catch_up.answered(Answer::Nothing, now_ms, patience_ms);
                }
            }
        }
        self.recoveries.waiting.push_back((member, channel));
    }

    fn patience_ms(&self) -> u64 {
        u64::try_from(self.shared.config.recovery.wait.0.as_millis()).unwrap_or(u64::MAX)
    }

    fn send_from_store(&mut self, member: u32, channel: &Channel, page: GapPage) {
        let Some(catch_up) = self.catch_up(member, channel) else { return };
        let hole = catch_up.cut(page.trimmed);
        let from = catch_up.next();
        if let Some(hole) = hole {
            self.truncate(member, channel, hole);
        }
        let shared = self.shared.clone();
        let mut sending = Sending::new(shared.config.outbox_bytes, page.whole_to);
        for (offset, encoded) in page.records.iter().filter(|(offset, _)| *offset >= from) {
            let bytes = self.hand_missed(member, channel, &Item { encoded, offset: *offset, first: None });
            if sending.is_full_at(*offset, bytes) {
                break;
            }
        }
        // The last ones may be of no use to anybody; they are passed all the same.
        sending.passed(page.last.filter(|last| *last >= from));
        shared.metrics.records_from_store.inc_by(sending.frames);
        let (now_ms, patience_ms) = (self.now.ms, self.patience_ms());
        if let Some(catch_up) = self.catch_up(member, channel) {
            catch_up.answered(Answer::Page(sending.page), now_ms, patience_ms);
        }
    }

    /// Tells what is missing, before anything behind it is sent.
    fn truncate(&mut self, member: u32, channel: &Channel, hole: Truncated) {
        self.renew(member, channel, hole.to);
        self.tell(member, ServerFrame::Truncated { channel, hole: self.hole(hole) });
    }

    fn hole(&self, hole: Truncated) -> Hole {
        Hole { from: self.position(hole.from), to: self.position(hole.to), reason: HoleReason::Retention }
    }

    /// Begins a new stretch: what was sent before and what is sent from here on do not touch.
    fn renew(&mut self, member: u32, channel: &Channel, at: i64) {
        let Some(device) = self.members.get(member).map(|member| member.device) else { return };
        let Some(subscription) = self.members.subscription(member, channel) else { return };
        let before = std::mem::replace(&mut subscription.ledger, Ledger::new(at));
        if subscription.due {
            self.devices.offer(device, channel, before.offered());
        }
    }

    /// Tells that what was missed cannot be told, and goes on at `at`.
    fn lose(&mut self, member: u32, channel: &Channel, at: i64, loss: Loss) -> Turned {
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Out };
        catch_up.restart(at, loss);
        self.renew(member, channel, at);
        self.tell(member, ServerFrame::Recovered { channel, position: self.position(at), recovered: false, truncated: None });
        self.shared.metrics.recovered(Outcome::Lost(loss));
        Turned::On(1)
    }

    /// Where the newest of a mailbox begin, as far as the ring has them; of another channel, the live end.
    fn newest_in_ring(&self, channel: &Channel, live: i64) -> i64 {
        let place = (channel, channel.partition(self.shared.partitions));
        let count = self.shared.config.recovery.newest.get();
        let newest = channel.is_mailbox().then(|| self.shared.ring.newest(place, live, count)).flatten();
        newest.unwrap_or(live)
    }

    /// Hands over to live delivery.
    fn level(&mut self, member: u32, channel: &Channel) -> Turned {
        let Some(subscription) = self.members.subscription(member, channel) else { return Turned::Out };
        let Some(recovery) = subscription.recovery.take() else { return Turned::Out };
        subscription.ledger.reached(recovery.catch_up.next());
        let position = self.position(recovery.catch_up.next());
        // It was told already.
        if recovery.catch_up.loss().is_some() {
            return Turned::Out;
        }
        let truncated = recovery.catch_up.truncated().map(|hole| self.hole(hole));
        self.tell(member, ServerFrame::Recovered { channel, position, recovered: true, truncated });
        self.shared.metrics.recovered(if truncated.is_some() { Outcome::Truncated } else { Outcome::Complete });
        Turned::Out
    }

    fn tell(&self, member: u32, frame: ServerFrame<'_>) {
        if let Some(member) = self.members.get(member) {
            self.shared.say(&member.outbox, frame, None, self.now);
        }
    }
}
