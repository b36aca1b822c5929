//! Recovery as a whole, without sockets: a log, two nodes that read it at their own pace, a projection behind it, retention, and
//! connections that come with any earlier position. Whatever the order of all that, each is sent everything that is kept from
//! where it begins, in order and once, or is told what it is not. Long because the world around a connection is in it.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::position::{Epoch, Position};

const EPOCH: Epoch = Epoch(1);
/// Records in a page of ring or store.
const PAGE: usize = 3;
/// How many of the newest are shown to who has lost its place.
const NEWEST: usize = 2;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    /// A record is appended: of the channel, or of another one of its partition.
    Append(Of),
    /// A node goes on with live delivery.
    Deliver {
        node: usize,
        records: i64,
    },
    /// A node's ring gives up its oldest.
    Evict {
        node: usize,
        records: i64,
    },
    /// The projection goes on.
    Project(i64),
    /// Retention removes the oldest of the channel.
    Trim(usize),
    Store(Answers),
    Pass(u64),
    Connect {
        node: usize,
        with: With,
    },
    /// A connection breaks, and its device comes back with a position that it was given before.
    Reconnect {
        connection: usize,
        node: usize,
        back: i64,
    },
    /// A connection takes one step.
    Turn(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Channel,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answers {
    Yes,
    No,
}

/// What a device brings.
#[derive(Debug, Clone)]
enum With {
    /// This many offsets before the end of the log, or beyond it.
    Position(i64),
    OtherEpoch,
    Nothing,
}

#[derive(Default, Clone, Copy)]
struct Node {
    live: i64,
    ring: i64,
}

struct World {
    log: Vec<Of>,
    nodes: [Node; 2],
    projected: i64,
    trimmed: i64,
    archive: Archive,
    answers: Answers,
    now_ms: u64,
    patience_ms: u64,
    connections: Vec<Connection>,
}

/// A read of the store.
enum Read {
    Asked(Question),
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
    /// Live delivery passes over what lies below.
    next: i64,
    seen: Seen,
}

/// What the device knows, and what it may conclude.
struct Seen {
    brought: Option<Position>,
    /// Nothing of the channel is missing up to here, but what it was told of.
    complete_to: i64,
    holes: Vec<Truncated>,
    end_of_log: i64,
}

impl World {
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

    fn connect(&mut self, node: usize, brought: Option<Position>) {
        let live = self.nodes[node].live;
        let known = Known { cursor: None, pending: None, projected: (self.archive == Archive::Store).then_some(self.projected) };
        let start = brought.map_or_else(|| Start::in_mailbox(known), |position| Start::named(position, EPOCH, self.end()));
        let (next, catch_up) = match start {
            Start::Live => (live, None),
            Start::Named(offset) | Start::Known(offset) => (offset, Some(CatchUp::new(offset))),
            Start::Lost(loss, _) => (live, Some(CatchUp::lost(loss))),
        };
        let seen = Seen { brought, complete_to: next, holes: Vec::new(), end_of_log: self.end() };
        self.connections.push(Connection { node, catch_up, read: None, next, seen });
    }

    /// What a shard does with a connection when its turn comes and its outbox is empty.
    fn turn(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        match connection.read.take() {
            Some(Read::Asked(question)) => {
                let found = (self.answers == Answers::Yes).then(|| self.look_up(question));
                self.connections[number].read = Some(Read::Answered(question, found));
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
        let (now_ms, patience_ms) = (self.now_ms, self.patience_ms);
        match (question, found) {
            (Question::Newest(loss), Some(Found::Newest(Some(at)))) => self.restart(number, Some(at), loss),
            (Question::Newest(loss), _) => self.restart_in_ring(number, loss),
            (Question::Gap { .. }, Some(Found::Gap { offsets, projected, trimmed, whole })) => {
                let connection = &mut self.connections[number];
                let catch_up = connection.catch_up.as_mut().unwrap();
                if let Some(hole) = catch_up.cut(trimmed) {
                    connection.seen.hole(hole, self.trimmed, &self.log);
                }
                let from = catch_up.next();
                let sent = offsets.into_iter().filter(|offset| *offset >= from).collect::<Vec<_>>();
                for offset in &sent {
                    connection.seen.sent(*offset, &self.log);
                }
                let page = Page { last: sent.last().copied(), whole_to: whole.then_some(projected) };
                catch_up.answered(Answer::Page(page), now_ms, patience_ms);
                connection.next = connection.next.max(catch_up.next());
            }
            (Question::Gap { .. }, _) => {
                self.connections[number].catch_up.as_mut().unwrap().answered(Answer::Nothing, now_ms, patience_ms);
            }
        }
    }

    fn step_of(&self, number: usize) -> Option<Step> {
        let connection = &self.connections[number];
        connection.catch_up.as_ref().map(|catch_up| catch_up.step(self.reach(connection.node), self.now_ms))
    }

    fn step(&mut self, number: usize) {
        let Some(step) = self.step_of(number) else { return };
        let live = self.nodes[self.connections[number].node].live;
        match step {
            Step::Wait => {}
            Step::Ring { from } => {
                // What the ring has lost it cannot give.
                let ring = self.nodes[self.connections[number].node].ring;
                let all = self.of_channel(from.max(ring)..live);
                let whole = all.len() <= PAGE;
                let connection = &mut self.connections[number];
                let sent = all.into_iter().take(PAGE).collect::<Vec<_>>();
                sent.iter().for_each(|offset| connection.seen.sent(*offset, &self.log));
                let page = Page { last: sent.last().copied(), whole_to: whole.then_some(live) };
                connection.catch_up.as_mut().unwrap().sent(page);
            }
            Step::Store { from, until } => self.ask(number, Question::Gap { from, until }, until),
            Step::Lose { loss, newest: Newest::Store } => self.ask(number, Question::Newest(loss), live),
            Step::Lose { loss, newest: Newest::Ring } => self.restart_in_ring(number, loss),
            Step::Lose { loss, newest: Newest::None } => self.restart(number, None, loss),
            Step::Level => self.level(number, live),
        }
    }

    fn ask(&mut self, number: usize, question: Question, until: i64) {
        let connection = &mut self.connections[number];
        connection.catch_up.as_mut().unwrap().asked(until);
        connection.read = Some(Read::Asked(question));
    }

    fn restart_in_ring(&mut self, number: usize, loss: Loss) {
        let Node { live, ring } = self.nodes[self.connections[number].node];
        let held = self.of_channel(ring..live);
        self.restart(number, held.get(held.len().saturating_sub(NEWEST)).copied(), loss);
    }

    fn restart(&mut self, number: usize, at: Option<i64>, loss: Loss) {
        let node = self.connections[number].node;
        let at = at.unwrap_or(self.nodes[node].live);
        let ring = self.nodes[node].ring;
        let connection = &mut self.connections[number];
        let is_justified = match loss {
            Loss::Epoch => connection.seen.brought.is_some_and(|brought| brought.epoch != EPOCH),
            Loss::Beyond => connection.seen.brought.is_some_and(|brought| brought.offset > connection.seen.end_of_log),
            Loss::Forgotten => self.archive == Archive::None && connection.seen.complete_to < ring,
            Loss::Behind | Loss::Unanswered => self.archive == Archive::Store && connection.seen.complete_to < ring,
        };
        assert!(is_justified, "{loss:?} without reason");
        connection.catch_up.as_mut().unwrap().restart(at, loss);
        connection.next = at;
        connection.seen.complete_to = at;
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
        if self.log[usize::try_from(offset).unwrap()] == Of::Other {
            return;
        }
        for connection in self.connections.iter_mut().filter(|connection| connection.node == node) {
            if connection.catch_up.is_none() && offset >= connection.next {
                connection.seen.sent(offset, &self.log);
                connection.next = offset + 1;
            }
        }
    }

    fn happens(&mut self, op: &Op) {
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
            Op::Store(answers) => self.answers = answers,
            Op::Pass(millis) => self.now_ms += millis,
            Op::Connect { node, ref with } => {
                let brought = match with {
                    With::Position(before) => Some(Position { epoch: EPOCH, offset: (self.end() - before).max(0) }),
                    With::OtherEpoch => Some(Position { epoch: Epoch(9), offset: 1 }),
                    With::Nothing => None,
                };
                self.connect(node, brought);
            }
            Op::Reconnect { connection, node, back } => {
                if connection < self.connections.len() {
                    let left = self.connections.swap_remove(connection);
                    let offset = (left.seen.complete_to - back).max(0);
                    self.connect(node, Some(Position { epoch: EPOCH, offset }));
                }
            }
            Op::Turn(connection) => {
                if connection < self.connections.len() {
                    self.turn(connection);
                }
            }
        }
    }

    /// Nothing new happens and everything answers: everybody is level soon, and lacks nothing.
    fn settle(&mut self) {
        self.answers = Answers::Yes;
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

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 0..2_usize;
    let connection = 0..6_usize;
    let with = prop_oneof![
        8 => (-3..40_i64).prop_map(With::Position),
        1 => Just(With::OtherEpoch),
        2 => Just(With::Nothing),
    ];
    let op = prop_oneof![
        6 => Just(Op::Append(Of::Channel)),
        3 => Just(Op::Append(Of::Other)),
        6 => (node.clone(), 1..6_i64).prop_map(|(node, records)| Op::Deliver { node, records }),
        3 => (node.clone(), 1..6_i64).prop_map(|(node, records)| Op::Evict { node, records }),
        4 => (1..6_i64).prop_map(Op::Project),
        2 => (0..4_usize).prop_map(Op::Trim),
        1 => prop_oneof![Just(Answers::Yes), Just(Answers::No)].prop_map(Op::Store),
        1 => (1..200_u64).prop_map(Op::Pass),
        3 => (node.clone(), with).prop_map(|(node, with)| Op::Connect { node, with }),
        2 => (connection.clone(), node, 0..9_i64).prop_map(|(connection, node, back)| Op::Reconnect { connection, node, back }),
        12 => connection.prop_map(Op::Turn),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn everything_kept_comes_once_and_in_order_or_is_told_to_be_missing(
        ops in ops(),
        patience_ms in 0..400_u64,
        archive in prop_oneof![3 => Just(Archive::Store), 1 => Just(Archive::None)],
    ) {
        let mut world = World {
            log: Vec::new(),
            nodes: <[Node; 2]>::default(),
            projected: 0,
            trimmed: 0,
            archive,
            answers: Answers::Yes,
            now_ms: 0,
            patience_ms,
            connections: Vec::new(),
        };
        ops.iter().for_each(|op| world.happens(op));
        world.settle();
    }
}
