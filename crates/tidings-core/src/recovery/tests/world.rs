//! The world around connections that recover, as the gateway and its store are.
//!
//! Long because everything that may happen to a connection is in it.

mod op;

use std::collections::BTreeSet;
use std::ops::Range;

pub(super) use self::op::{Answers, Heard, Kind, Of, Op, Places, Said, With};
use crate::position::{Epoch, Position};
use crate::record::cursor::CursorRecord;
use crate::recovery::{Answer, Archive, CatchUp, Known, Loss, Newest, Page, Reach, Start, Step, Stopped, Truncated};
use crate::stretch::Stretches;

const EPOCH: Epoch = Epoch(1);
/// Records in a page of ring or store.
const PAGE: usize = 3;
/// How many of the newest are shown to who has lost its place.
const NEWEST: usize = 2;

#[derive(Default, Clone, Copy)]
struct Node {
    live: i64,
    ring: i64,
}

pub(super) struct World {
    log: Vec<Of>,
    nodes: [Node; 2],
    projected: i64,
    trimmed: i64,
    archive: Archive,
    kind: Kind,
    answers: Answers,
    places: Places,
    now_ms: u64,
    patience_ms: u64,
    connections: Vec<Connection>,
}

/// A read of the store.
enum Read {
    Asked(Question, Option<u64>),
    Answered(Question, Option<Found>),
}

#[derive(Clone, Copy)]
enum Question {
    Gap { from: i64, until: i64 },
    Newest(Loss),
}

enum Found {
    Gap { offsets: Vec<i64>, projected: i64, trimmed: i64, whole: bool },
    Newest(Option<i64>),
}

struct Connection {
    node: usize,
    catch_up: Option<CatchUp>,
    read: Option<Read>,
    /// Since when it needs the store to go on.
    needed_ms: Option<u64>,
    /// Live delivery passes over what lies below.
    next: i64,
    seen: Seen,
    device: Device,
}

/// What a device knows, and what it may conclude.
struct Seen {
    brought: Option<Position>,
    /// Nothing of the channel is missing from here on up to `complete_to`.
    from: i64,
    complete_to: i64,
    holes: Vec<Truncated>,
    end_of_log: i64,
    /// Nobody could say whether it was here before, and it is to be told so.
    is_untold: bool,
}

/// A device, and what the log says of it.
struct Device {
    cursor: CursorRecord,
    /// It was here without a position: what is kept from here on it is sent, whenever it comes back.
    since: Option<i64>,
}

impl Device {
    fn new() -> Self {
        let cursor = CursorRecord {
            user_id: "42".parse().unwrap(),
            device_id: "phone".parse().unwrap(),
            drawn: false,
            channel: "user-42".parse().unwrap(),
            epoch: EPOCH,
            began: None,
            offered: Stretches::new(),
            acknowledged: Stretches::new(),
        };
        Self { cursor, since: None }
    }

    /// The log says that it begins here.
    fn begins(&mut self, at: i64) {
        self.cursor.began = Some(self.cursor.began.map_or(at, |began| began.min(at)));
    }

    fn relies(&mut self, from: i64) {
        self.since = Some(self.since.map_or(from, |since| since.min(from)));
    }
}

impl World {
    pub(super) fn new((kind, archive): (Kind, Archive), patience_ms: u64) -> Self {
        Self {
            log: Vec::new(),
            nodes: <[Node; 2]>::default(),
            projected: 0,
            trimmed: 0,
            archive,
            kind,
            answers: Answers::Pages,
            places: Places::Free,
            now_ms: 0,
            patience_ms,
            connections: Vec::new(),
        }
    }

    fn end(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap()
    }

    fn of_channel(&self, range: Range<i64>) -> Vec<i64> {
        range.filter(|offset| self.log.get(usize::try_from(*offset).unwrap()) == Some(&Of::Channel)).collect()
    }

    /// What the store has of the channel.
    fn kept(&self, range: Range<i64>) -> Vec<i64> {
        self.of_channel(range.start.max(self.trimmed)..range.end.min(self.projected))
    }

    fn reach(&self, node: usize) -> Reach {
        Reach { live: self.nodes[node].live, ring: self.nodes[node].ring, archive: self.archive }
    }

    fn connect(&mut self, node: usize, start: Start, (brought, mut device): (Option<Position>, Device)) {
        let live = self.nodes[node].live;
        let (next, catch_up) = match start {
            Start::Live | Start::First(None) => (live, None),
            Start::Named(offset) | Start::Known(offset) | Start::First(Some(offset)) => {
                (offset, Some(CatchUp::new(offset, live)))
            }
            Start::Lost(loss, _) => (live, Some(CatchUp::lost(loss, live))),
        };
        if let Start::First(_) = start {
            device.begins(next);
        }
        // Who is told that it may lack something is promised nothing of before.
        if brought.is_none() && self.archive == Archive::Store && !matches!(start, Start::Lost(..)) {
            self.lacks_nothing(&device, next);
            device.relies(next);
        }
        let is_untold = start == Start::Lost(Loss::Behind, None);
        let seen = Seen { brought, from: next, complete_to: next, holes: Vec::new(), end_of_log: self.end(), is_untold };
        self.connections.push(Connection { node, catch_up, read: None, needed_ms: None, next, seen, device });
    }

    fn connect_with(&mut self, node: usize, brought: Option<Position>, device: Device) {
        let known = Known { projected: Some(self.projected), ..Known::default() };
        let start = match (brought, self.archive, self.kind) {
            (Some(position), ..) => Start::named(position, EPOCH, self.end()),
            (None, Archive::None, _) => Start::Live,
            (None, Archive::Store, Kind::Mailbox) => Start::in_mailbox(known),
            (None, Archive::Store, Kind::Other) => Start::elsewhere(known),
        };
        self.connect(node, start, (brought, device));
    }

    /// A device that brings nothing begins where its cursor says. In a mailbox what is pending is not passed over whatever is known of it.
    fn come_back(&mut self, node: usize, device: Device, heard: Heard) {
        if (self.archive, self.kind, heard) == (Archive::Store, Kind::Other, Heard::Nothing) {
            let known = Known { stopped: Some(Stopped::Untold), ..Known::default() };
            return self.connect(node, Start::elsewhere(known), (None, device));
        }
        let missed = Stopped::holes(&device.cursor).iter().find_map(|hole| self.kept(hole.from..hole.to).first().copied());
        let stopped = Stopped::of_cursor(&device.cursor, missed, Some(self.projected));
        match stopped.filter(|_| self.archive == Archive::Store) {
            Some(Stopped::At(offset)) => self.connect(node, Start::Known(offset), (None, device)),
            Some(Stopped::Before | Stopped::Untold) | None => self.connect_with(node, None, device),
        }
    }

    /// A device that begins at `offset` leaves nothing behind that it did not acknowledge, since it was here first. One that was sent nothing
    /// was not here, although it may acknowledge by an id what it knows from elsewhere.
    fn lacks_nothing(&self, device: &Device, offset: i64) {
        let acknowledged = &device.cursor.acknowledged;
        let first = acknowledged.as_slice().first().map(|first| first.from).filter(|_| !device.cursor.offered.is_empty());
        let Some(from) = device.since.into_iter().chain(first).min() else { return };
        let passed = self.of_channel(from.max(self.trimmed)..offset);
        let skipped = passed.into_iter().filter(|offset| !acknowledged.contains(*offset)).collect::<Vec<_>>();
        assert_eq!(skipped, [0_i64; 0], "begins at {offset}, behind what it never acknowledged");
    }

    fn acknowledge(&mut self, number: usize, said: &Said) {
        let next = self.connections[number].next;
        let sent = self.of_channel(0..next);
        let Connection { seen, device: Device { cursor: device, .. }, .. } = &mut self.connections[number];
        device.offered.insert(seen.from, seen.complete_to);
        match said {
            Said::Below(back) => device.acknowledged.insert(seen.from, seen.complete_to - back),
            Said::One(index) => match sent.get(*index) {
                Some(offset) => device.acknowledged.insert(*offset, offset + 1),
                None => false,
            },
        };
    }

    /// What a shard does with a connection when its turn comes and its outbox is empty.
    fn turn(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        match connection.read.take() {
            Some(Read::Asked(question, deadline_ms)) => {
                let is_over = deadline_ms.is_some_and(|deadline_ms| self.now_ms >= deadline_ms);
                self.connections[number].read = Some(match self.answers {
                    Answers::Never if !is_over => Read::Asked(question, deadline_ms),
                    Answers::Pages if !is_over => Read::Answered(question, Some(self.look_up(question))),
                    _ => Read::Answered(question, None),
                });
            }
            Some(Read::Answered(question, found)) => self.take_answer(number, question, found),
            None => self.step(number),
        }
    }

    fn look_up(&self, question: Question) -> Found {
        match question {
            Question::Gap { from, until } => {
                let all = self.kept(from..until);
                let whole = all.len() <= PAGE;
                let offsets = all.into_iter().take(PAGE).collect();
                Found::Gap { offsets, projected: self.projected, trimmed: self.trimmed, whole }
            }
            Question::Newest(_) => {
                let all = self.kept(0..self.end());
                Found::Newest(all.get(all.len().saturating_sub(NEWEST)).copied())
            }
        }
    }

    fn take_answer(&mut self, number: usize, question: Question, found: Option<Found>) {
        let now_ms = self.now_ms;
        match (question, found) {
            (Question::Newest(loss), Some(Found::Newest(Some(at)))) => self.restart(number, Some(at), loss),
            (Question::Newest(loss), _) => self.restart_in_ring(number, loss),
            (Question::Gap { .. }, Some(Found::Gap { offsets, projected, trimmed, whole })) => {
                let connection = &mut self.connections[number];
                let catch_up = connection.catch_up.as_mut().unwrap();
                let asked_from = catch_up.next();
                if let Some(hole) = catch_up.cut(trimmed) {
                    connection.seen.hole(hole, self.trimmed, &self.log);
                }
                let from = catch_up.next();
                let sent = offsets.into_iter().filter(|offset| *offset >= from).collect::<Vec<_>>();
                for offset in &sent {
                    connection.seen.sent(*offset, &self.log);
                }
                let page = Page { last: sent.last().copied(), whole_to: whole.then_some(projected) };
                catch_up.answered(Answer::Page(page), now_ms);
                connection.needed_ms.take_if(|_| catch_up.next() > asked_from);
                connection.next = connection.next.max(catch_up.next());
            }
            (Question::Gap { .. }, _) => {
                self.connections[number].catch_up.as_mut().unwrap().answered(Answer::Nothing, now_ms);
            }
        }
    }

    fn step(&mut self, number: usize) {
        let reach = self.reach(self.connections[number].node);
        let Some(catch_up) = &mut self.connections[number].catch_up else { return };
        match catch_up.step(reach, self.now_ms, self.patience_ms) {
            Step::Wait => {}
            Step::Ring { from } => {
                // What the ring has lost it cannot give.
                let all = self.of_channel(from.max(reach.ring)..reach.live);
                let whole = all.len() <= PAGE;
                let connection = &mut self.connections[number];
                let sent = all.into_iter().take(PAGE).collect::<Vec<_>>();
                sent.iter().for_each(|offset| connection.seen.sent(*offset, &self.log));
                let page = Page { last: sent.last().copied(), whole_to: whole.then_some(reach.live) };
                let catch_up = connection.catch_up.as_mut().unwrap();
                catch_up.sent(page);
                connection.needed_ms.take_if(|_| catch_up.next() > from);
                connection.next = connection.next.max(catch_up.next());
            }
            Step::Store { from, until } => {
                self.connections[number].needed_ms.get_or_insert(self.now_ms);
                self.ask(number, Question::Gap { from, until }, until);
            }
            Step::Lose { loss, newest: Newest::Store } => self.ask(number, Question::Newest(loss), reach.live),
            Step::Lose { loss, newest: Newest::Ring } => self.restart_in_ring(number, loss),
            Step::Level => self.level(number, reach.live),
        }
    }

    fn ask(&mut self, number: usize, question: Question, until: i64) {
        if self.places == Places::Taken {
            return;
        }
        let connection = &mut self.connections[number];
        let catch_up = connection.catch_up.as_mut().unwrap();
        catch_up.asked(until);
        connection.read = Some(Read::Asked(question, catch_up.deadline_ms()));
    }

    fn restart_in_ring(&mut self, number: usize, loss: Loss) {
        let Node { live, ring } = self.nodes[self.connections[number].node];
        let held = self.of_channel(ring..live);
        self.restart(number, held.get(held.len().saturating_sub(NEWEST)).copied(), loss);
    }

    fn restart(&mut self, number: usize, newest: Option<i64>, loss: Loss) {
        let reach = self.reach(self.connections[number].node);
        let connection = &mut self.connections[number];
        let (brought, ring) = (connection.seen.brought, reach.ring);
        // It was given its whole time.
        let waited_ms = connection.needed_ms.take().map_or(0, |since_ms| self.now_ms - since_ms);
        let is_untold = std::mem::take(&mut connection.seen.is_untold);
        let is_justified = match loss {
            Loss::Behind if is_untold => true,
            Loss::Epoch => brought.is_some_and(|brought| brought.epoch != EPOCH),
            Loss::Beyond => brought.is_some_and(|brought| brought.offset > connection.seen.end_of_log),
            // Nobody here has spoken of more than one channel.
            Loss::Lapsed => false,
            Loss::Forgotten => self.archive == Archive::None && connection.seen.complete_to < ring,
            Loss::Behind | Loss::Unanswered => {
                self.archive == Archive::Store && connection.seen.complete_to < ring && waited_ms >= self.patience_ms
            }
        };
        assert!(is_justified, "{loss:?} without reason");
        let is_first_place = is_untold || matches!(loss, Loss::Epoch | Loss::Beyond);
        let at = connection.catch_up.as_mut().unwrap().restart(newest, reach, loss);
        assert!(is_first_place || at >= connection.seen.complete_to, "goes back to {at}, behind what it was sent");
        connection.next = at;
        if self.archive == Archive::Store {
            connection.device.begins(at);
            connection.device.relies(at);
        }
        connection.seen.complete_to = at;
        connection.seen.from = at;
        connection.seen.holes.clear();
    }

    fn level(&mut self, number: usize, live: i64) {
        let connection = &mut self.connections[number];
        let catch_up = connection.catch_up.take().unwrap();
        connection.next = connection.next.max(catch_up.next());
        let missing = connection.seen.complete_to..live;
        assert_eq!(self.of_channel(missing), Vec::<i64>::new(), "told to be level");
        let seen = &mut self.connections[number].seen;
        assert_eq!(catch_up.truncated().map(|all| (all.from, all.to)), seen.told());
        seen.complete_to = seen.complete_to.max(live);
    }

    fn deliver(&mut self, node: usize) {
        let offset = self.nodes[node].live;
        if offset >= self.end() {
            return;
        }
        self.nodes[node].live += 1;
        if self.log[usize::try_from(offset).unwrap()] != Of::Channel {
            return;
        }
        for connection in self.connections.iter_mut().filter(|connection| connection.node == node) {
            if connection.catch_up.is_none() && offset >= connection.next {
                connection.seen.sent(offset, &self.log);
                connection.next = offset + 1;
            }
        }
    }

    pub(super) fn happens(&mut self, op: &Op) {
        match *op {
            Op::Append(of) => self.log.push(of),
            Op::Deliver { node, records } => (0..records).for_each(|_| self.deliver(node)),
            Op::Evict { node, records } => {
                let node = &mut self.nodes[node];
                node.ring = (node.ring + records).min(node.live);
            }
            Op::Project(records) => self.projected = (self.projected + records).min(self.end()),
            Op::Trim(records) => {
                if let Some(last) = self.kept(0..self.end()).get(records) {
                    self.trimmed = last + 1;
                }
            }
            Op::Withdraw(number) => {
                if let Some(offset) = self.of_channel(0..self.end()).get(number) {
                    self.log[usize::try_from(*offset).unwrap()] = Of::Withdrawn;
                }
            }
            Op::Store(answers) => self.answers = answers,
            Op::Places(places) => self.places = places,
            Op::Pass(millis) => self.now_ms += millis,
            Op::Connect { node, ref with } => {
                let brought = match with {
                    With::Position(before) => Some(Position { epoch: EPOCH, offset: (self.end() - before).max(0) }),
                    With::OtherEpoch => Some(Position { epoch: Epoch(9), offset: 1 }),
                    With::Nothing => None,
                };
                self.connect_with(node, brought, Device::new());
            }
            Op::Reconnect { connection, node, back } if connection < self.connections.len() => {
                let Connection { seen, device, .. } = self.connections.swap_remove(connection);
                let offset = (seen.complete_to - back).max(0);
                self.connect_with(node, Some(Position { epoch: EPOCH, offset }), device);
            }
            Op::Acknowledge { connection, ref said } if connection < self.connections.len() => self.acknowledge(connection, said),
            Op::Return { connection, node, heard } if connection < self.connections.len() => {
                let Connection { device, .. } = self.connections.swap_remove(connection);
                self.come_back(node, device, heard);
            }
            Op::Turn(connection) if connection < self.connections.len() => self.turn(connection),
            Op::Reconnect { .. } | Op::Acknowledge { .. } | Op::Return { .. } | Op::Turn(_) => {}
        }
    }

    /// Nothing new happens, and the store answers or never does: everybody is level soon, and lacks nothing that it was not told of.
    pub(super) fn settle(&mut self, answers: Answers) {
        self.answers = answers;
        self.places = Places::Free;
        self.projected = self.end();
        (0..2).for_each(|node| (0..self.end()).for_each(|_| self.deliver(node)));
        for number in 0..self.connections.len() {
            for _ in 0..1_000 {
                if self.connections[number].catch_up.is_none() {
                    break;
                }
                self.turn(number);
                self.now_ms += 10;
            }
            let connection = &self.connections[number];
            assert!(connection.catch_up.is_none(), "still catching up: {:?}", connection.catch_up);
            let missing = self.of_channel(connection.seen.complete_to..self.end());
            assert!(missing.is_empty(), "never sent: {missing:?}");
        }
    }
}

impl Seen {
    fn sent(&mut self, offset: i64, log: &[Of]) {
        assert!(offset >= self.complete_to, "{offset} came again or out of order, after everything below {}", self.complete_to);
        self.nothing_between(offset, log);
        self.complete_to = offset + 1;
    }

    fn hole(&mut self, hole: Truncated, limit: i64, log: &[Of]) {
        assert!(hole.from < hole.to && hole.to <= limit, "{hole:?} with everything below {limit} trimmed");
        assert!(hole.from >= self.complete_to);
        self.nothing_between(hole.from, log);
        self.complete_to = hole.to;
        self.from = hole.to;
        self.holes.push(hole);
    }

    fn nothing_between(&self, offset: i64, log: &[Of]) {
        let left_out = (self.complete_to..offset).filter(|offset| log[usize::try_from(*offset).unwrap()] == Of::Channel);
        assert_eq!(left_out.collect::<BTreeSet<_>>(), BTreeSet::new(), "left out before {offset}");
    }

    /// From the first hole's beginning to the last one's end.
    fn told(&self) -> Option<(i64, i64)> {
        Some((self.holes.first()?.from, self.holes.last()?.to))
    }
}
