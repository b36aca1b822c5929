//! A plan: what one transaction carries out of what was decided.
//!
//! Owns: which decisions go together. From each line they are taken in order, up to the first whose records go to a topic that refuses them: so a
//! topic that takes nothing holds up only the lines whose turn it is to write there, and what is tried again goes alone; so does a line of which
//! something was too large. Neighbours: `round` decides, `carry` gives plans to the brokers, `member` has the lines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::delivery::decide::Decision;
use tidings_core::fate::Cause;

use super::line::Line;
use crate::kafka::consumer::Partition;
use crate::kafka::made::Made;
use crate::kafka::refusals::Refusals;

/// A record about which it is decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// Its offset in its partition.
    pub(super) offset: i64,
    /// The records that carry it out.
    pub(super) made: Vec<Made>,
    /// What was decided.
    pub(super) ruled: Ruled,
}

/// What was decided about a record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ruled {
    Delivery(Decision),
    /// It goes to `dlq`, for this.
    Burial(Cause, &'static str),
}

/// What was decided of each line, in order.
pub(super) type Heads = BTreeMap<Partition, VecDeque<Decided>>;

/// What one transaction carries out.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The next offset to read of each line.
    pub(super) done: Vec<(Partition, i64)>,
    pub(super) made: Vec<Made>,
    /// For each of `made`, the record that asked for it.
    pub(super) origins: Vec<(Partition, i64)>,
    /// Each with the record it was decided about.
    pub(super) ruled: Vec<((Partition, i64), Ruled)>,
    /// The line that travels alone, because something of it was too large.
    pub(super) alone: Option<Partition>,
}

impl Plan {
    /// All that goes to no topic that refuses.
    pub(super) fn open(lines: &BTreeMap<Partition, Line>, heads: &mut Heads, refusals: &Refusals) -> Self {
        let mut plan = Self::default();
        for (partition, line) in there(lines) {
            let is_narrow = line.together.is_some() && heads.get(partition).is_some_and(|steps| !steps.is_empty());
            if !is_narrow {
                plan.take((partition, line), heads, |step| refusing(step, refusals).is_none());
            }
        }
        plan
    }

    /// The same of one line of which something was too large.
    pub(super) fn alone((partition, line): (&Partition, &Line), heads: &mut Heads, refusals: &Refusals) -> Self {
        let mut plan = Self { alone: Some(partition.clone()), ..Self::default() };
        plan.take((partition, line), heads, |step| refusing(step, refusals).is_none());
        plan
    }

    /// What begins with something for `topic`, which has refused until now, beside what goes to others that are due to be tried again. A line of
    /// which something was too large is tried only if there is no other.
    pub(super) fn trying(topic: &str, lines: &BTreeMap<Partition, Line>, heads: &mut Heads, refusals: &Refusals) -> Self {
        let may = |step: &Decided| step.made.iter().all(|made| made.topic == topic || !refusals.is_resting(&made.topic));
        let begins = |step: &Decided| may(step) && step.made.iter().any(|made| made.topic == topic);
        let wanted = there(lines).filter(|(partition, _)| heads.get(*partition).and_then(VecDeque::front).is_some_and(begins));
        let (narrow, others): (Vec<_>, Vec<_>) = wanted.partition(|(_, line)| line.together.is_some());
        let mut plan = Self::default();
        if let Some((partition, line)) = narrow.first().filter(|_| others.is_empty()) {
            plan.alone = Some((*partition).clone());
            plan.take((partition, line), heads, may);
        }
        for line in others {
            plan.take(line, heads, may);
        }
        plan
    }

    fn take(&mut self, (partition, line): (&Partition, &Line), heads: &mut Heads, may: impl Fn(&Decided) -> bool) {
        let mut count = 0;
        if let Some(steps) = heads.get_mut(partition) {
            while let Some(step) = steps.pop_front_if(|step| may(step)) {
                count += 1;
                self.origins.extend(step.made.iter().map(|_| (partition.clone(), step.offset)));
                self.made.extend(step.made);
                self.ruled.push(((partition.clone(), step.offset), step.ruled));
            }
        }
        let next = line.next_after(count);
        if line.committed != Some(next) {
            self.done.push((partition.clone(), next));
        }
    }

    /// What was decided about a record.
    pub(super) fn ruled_of(&self, origin: &(Partition, i64)) -> Option<Ruled> {
        self.ruled.iter().find(|(of, _)| of == origin).map(|(_, ruled)| *ruled)
    }

    /// How many of its records go to a topic.
    pub(super) fn records_for(&self, topic: &str) -> usize {
        self.made.iter().filter(|made| made.topic == topic).count()
    }

    /// The topics that it writes to, each with the lines that ask for it.
    pub(super) fn goals(&self) -> BTreeMap<String, BTreeSet<Partition>> {
        let mut goals = BTreeMap::<_, BTreeSet<_>>::new();
        for (made, (partition, _)) in self.made.iter().zip(&self.origins) {
            goals.entry(made.topic.clone()).or_default().insert(partition.clone());
        }
        goals
    }
}

/// The lines that can be committed.
fn there(lines: &BTreeMap<Partition, Line>) -> impl Iterator<Item = (&Partition, &Line)> {
    lines.iter().filter(|(_, line)| line.absence.is_none())
}

/// The topic because of which a step waits, if it does: one that rests, if there is one.
pub(super) fn refusing<'a>(step: &'a Decided, refusals: &Refusals) -> Option<&'a str> {
    let held = || step.made.iter().map(|made| made.topic.as_str()).filter(|topic| refusals.holds(topic));
    held().find(|topic| refusals.is_resting(topic)).or_else(|| held().next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_core::delivery::ladder::Rung;
    use tidings_core::time::Timestamp;

    use super::*;
    use crate::clock::Clock;
    use crate::courier::line::tests::remains;
    use crate::courier::line::{Held, Work};
    use crate::kafka::refusals::{Reason, RefusalMeters};

    /// Lines of one topic, each with records in front that go to these topics.
    fn held(goals: &[&[&str]]) -> (BTreeMap<Partition, Line>, Heads) {
        let node = "node-1".parse().unwrap();
        let (mut lines, mut heads) = (BTreeMap::new(), Heads::new());
        for (number, goals) in goals.iter().enumerate() {
            let partition = Partition { topic: "n".into(), number: i32::try_from(number).unwrap() };
            let mut line = Line::begin(Rung::FIRST, 0, Some(0));
            for (offset, goal) in (0..).zip(*goals) {
                let due = Timestamp::from_millis(0);
                line.push(Held { offset, bytes: 1, due, work: Work::Bury(Box::new(remains(offset)), None) });
                let made = vec![Made::burying(goal, &remains(offset), &node)];
                let ruled = Ruled::Burial(Cause::Poison, "malformed");
                heads.entry(partition.clone()).or_default().push_back(Decided { offset, made, ruled });
            }
            lines.insert(partition, line);
        }
        (lines, heads)
    }

    fn refusals(topics: &[&str]) -> Refusals {
        let mut refusals = Refusals::new(Duration::from_secs(15), Clock::start(), RefusalMeters::default());
        topics.iter().for_each(|topic| refusals.refused(topic, Reason::Denied));
        refusals
    }

    fn shown(plan: &Plan) -> (Vec<(i32, i64)>, Vec<&str>) {
        let done = plan.done.iter().map(|(partition, next)| (partition.number, *next)).collect();
        (done, plan.made.iter().map(|made| made.topic.as_str()).collect())
    }

    #[test]
    fn a_topic_that_refuses_holds_up_only_what_stands_behind_it_in_its_line() {
        let (lines, mut heads) = held(&[&["a", "dlq", "a"], &["b", "b"], &["dlq"]]);
        let refusals = refusals(&["dlq"]);
        let open = Plan::open(&lines, &mut heads, &refusals);
        assert_eq!(shown(&open), (vec![(0, 1), (1, 2)], vec!["a", "b", "b"]));
        let left = heads.values().map(VecDeque::len).collect::<Vec<_>>();
        assert_eq!(left, [2, 0, 1]);
    }

    #[test]
    fn a_line_of_which_something_was_too_large_travels_alone_and_the_others_as_ever() {
        let (mut lines, mut heads) = held(&[&["a", "a"], &["a", "b"], &["dlq", "a"]]);
        let narrow = Partition { topic: "n".into(), number: 1 };
        lines.get_mut(&narrow).unwrap().narrow(2);
        let refusals = refusals(&["dlq"]);
        let open = Plan::open(&lines, &mut heads, &refusals);
        assert_eq!((shown(&open), open.alone.as_ref()), ((vec![(0, 2)], vec!["a", "a"]), None));
        let alone = Plan::alone((&narrow, &lines[&narrow]), &mut heads, &refusals);
        assert_eq!(shown(&alone), (vec![(1, 2)], vec!["a", "b"]));
        assert_eq!(alone.alone.as_ref(), Some(&narrow));
        // With nothing in front of it, what was passed over is committed with the others'.
        lines.get_mut(&narrow).unwrap().pass(9);
        lines.get_mut(&narrow).unwrap().done_below(2);
        assert_eq!(shown(&Plan::open(&lines, &mut heads, &refusals)).0, [(1, 10)]);
    }

    #[test]
    fn a_refusing_topic_is_tried_with_lines_of_which_nothing_was_too_large_or_with_one_of_the_others() {
        let (mut lines, mut heads) = held(&[&["dlq"], &["dlq"], &["dlq"]]);
        let refusals = refusals(&["dlq"]);
        for number in [0, 2] {
            lines.get_mut(&Partition { topic: "n".into(), number }).unwrap().narrow(1);
        }
        let mut tried = || {
            let trial = Plan::trying("dlq", &lines, &mut heads, &refusals);
            (trial.done.iter().map(|(partition, _)| partition.number).collect::<Vec<_>>(), trial.alone.map(|alone| alone.number))
        };
        assert_eq!([tried(), tried(), tried()], [(vec![1], None), (vec![0], Some(0)), (vec![2], Some(2))]);
    }

    #[test]
    fn what_is_tried_again_goes_with_nothing_of_other_lines_and_not_beyond_another_that_refuses() {
        let (mut lines, mut heads) = held(&[&["dlq", "a", "b", "a"], &["a"], &["b", "dlq"]]);
        let refusals = refusals(&["dlq", "b"]);
        let trial = Plan::trying("dlq", &lines, &mut heads, &refusals);
        assert_eq!(shown(&trial), (vec![(0, 2)], vec!["dlq", "a"]));
        assert_eq!(trial.goals().into_keys().collect::<Vec<_>>(), ["a", "dlq"]);
        lines.values_mut().for_each(|line| line.miss("gone".into()));
        assert_eq!(shown(&Plan::open(&lines, &mut heads, &refusals)), (vec![], vec![]), "nothing is committed where nothing is");
    }
}
