//! The ledger: what was said to the domain topic, and what became of each event of it.
//!
//! Owns the judgement, which is pure: [`Evidence`] is what lies on the topics, in the store and at the devices, and an [`Event`] says what
//! ought to become of it. `evidence` gathers, `trial` asks until all is settled. Long because the tests break each thing that it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Partition and offset.
pub(crate) type Place = (i32, i64);
/// The id of a notification.
pub(crate) type Id = String;

const UNHEARD: &str = "pending, and to be acknowledged";

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Delivered,
    /// Waits on the last rung.
    Pending,
    Undelivered,
    Dlq,
    Ignored,
}

impl Fate {
    const ALL: [Self; 5] = [Self::Delivered, Self::Pending, Self::Undelivered, Self::Dlq, Self::Ignored];
}

/// What is said, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// To somebody whose device acknowledges.
    Heard,
    /// To somebody without a device, by the common ladder.
    AbsentWaits,
    /// The same by a ladder that ends.
    AbsentEnds,
    /// To somebody whose device never acknowledges, by the common ladder.
    SilentWaits,
    /// The same by a ladder that ends.
    SilentEnds,
    /// What no notification can be made of.
    Poison,
    /// What no rule cares for.
    Idle,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Heard, Self::AbsentWaits, Self::AbsentEnds, Self::SilentWaits, Self::SilentEnds, Self::Poison, Self::Idle];

    /// What it must come to.
    pub(crate) fn wanted(self) -> Fate {
        match self {
            Self::Heard => Fate::Delivered,
            Self::AbsentWaits | Self::SilentWaits => Fate::Pending,
            Self::AbsentEnds | Self::SilentEnds => Fate::Undelivered,
            Self::Poison => Fate::Dlq,
            Self::Idle => Fate::Ignored,
        }
    }

    fn is_shown(self) -> bool {
        matches!(self, Self::Heard | Self::SilentWaits | Self::SilentEnds)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Heard => "acknowledges",
            Self::AbsentWaits => "offline",
            Self::AbsentEnds => "offline, ladder ends",
            Self::SilentWaits => "never acknowledges",
            Self::SilentEnds => "the same, ladder ends",
            Self::Poison => "poison",
            Self::Idle => "no rule",
        }
    }
}

/// An event as it was said.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Where it lies on the domain topic.
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

/// A topic that the courier reads: `notifications`, or a rung.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rung {
    /// The least time that a delivery waits there.
    pub(crate) least_ms: i64,
    /// The next offset that the courier would read.
    pub(crate) next: BTreeMap<i32, i64>,
    /// Where each notification lies, and when it was appended.
    pub(crate) lies: BTreeMap<Id, Vec<(Place, i64)>>,
}

impl Rung {
    /// Whether it still waits there.
    pub(crate) fn holds(&self, id: &Id) -> bool {
        let waits = |((partition, offset), _): &(Place, i64)| self.next.get(partition).is_none_or(|next| offset >= next);
        self.lies.get(id).is_some_and(|places| places.iter().any(waits))
    }

    fn first_ms(&self, id: &Id) -> Option<i64> {
        self.lies.get(id)?.iter().map(|(_, at)| *at).min()
    }
}

/// What there is to judge by. Offsets were read first, then the topics, then the store, then the devices: so nothing that an offset covers can
/// be missing only because it was looked for too early.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// The next offset of the domain topic that the pipeline would read.
    pub(crate) decided: BTreeMap<i32, i64>,
    /// The notifications of each event.
    pub(crate) notified: BTreeMap<String, BTreeSet<Id>>,
    /// Places of events that have a letter.
    pub(crate) buried: BTreeSet<Place>,
    /// From `notifications` to the last rung.
    pub(crate) rungs: Vec<Rung>,
    /// What lies on `undelivered`, and when each was appended.
    pub(crate) ended: BTreeMap<Id, Vec<i64>>,
    /// What the store says is acknowledged.
    pub(crate) acknowledged: BTreeSet<Id>,
    /// How often each event stands in a mailbox.
    pub(crate) folded: BTreeMap<String, usize>,
    /// As what each event was shown, by devices that drop ids they know.
    pub(crate) shown: BTreeMap<String, Vec<Id>>,
    /// What devices saw in another order than it was said in.
    pub(crate) disorder: Vec<String>,
}

/// Where an event stands.
#[derive(Debug, Clone, PartialEq)]
enum Account {
    Ended(Fate),
    /// It is on its way.
    Open(&'static str),
    /// An offset is committed behind it, and nothing of it is left.
    Lost(&'static str),
}

/// What became of everything.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    said: BTreeMap<Kind, usize>,
    fates: BTreeMap<(Kind, Fate), usize>,
    /// What is still on its way, by why.
    open: BTreeMap<(Kind, &'static str), usize>,
    lost: BTreeMap<Kind, usize>,
    /// What must not be, in words.
    pub(crate) wrong: Vec<String>,
}

impl Ledger {
    pub(crate) fn judge(events: &[Event], evidence: &Evidence) -> Self {
        let mut ledger = Self::default();
        for event in events {
            *ledger.said.entry(event.kind).or_default() += 1;
            match account(event, evidence) {
                Account::Ended(fate) => ledger.ended(event, fate, evidence),
                Account::Open(why) => *ledger.open.entry((event.kind, why)).or_default() += 1,
                Account::Lost(why) => {
                    *ledger.lost.entry(event.kind).or_default() += 1;
                    ledger.wrong.push(format!("{event:?} is lost: {why}"));
                }
            }
            ledger.wrong.extend(amiss(event, evidence));
        }
        ledger.wrong.extend(evidence.rungs.iter().skip(1).flat_map(|rung| forks(&rung.lies, "a rung")));
        ledger.wrong.extend(forks(&evidence.ended, "undelivered"));
        ledger.wrong.extend(early(evidence));
        ledger.wrong.extend(evidence.disorder.iter().cloned());
        ledger
    }

    fn ended(&mut self, event: &Event, fate: Fate, evidence: &Evidence) {
        let wanted = event.kind.wanted();
        if fate == wanted {
            *self.fates.entry((event.kind, fate)).or_default() += 1;
            if event.kind.is_shown() && !evidence.shown.contains_key(&event.id) {
                *self.open.entry((event.kind, "not shown yet")).or_default() += 1;
            }
            if wanted <= Fate::Undelivered && !evidence.folded.contains_key(&event.id) {
                *self.open.entry((event.kind, "not in the mailbox yet")).or_default() += 1;
            }
        } else if (fate, wanted) == (Fate::Pending, Fate::Delivered) {
            // Its device was away, and will still acknowledge it.
            *self.open.entry((event.kind, UNHEARD)).or_default() += 1;
        } else {
            *self.fates.entry((event.kind, fate)).or_default() += 1;
            self.wrong.push(format!("{event:?} came to {fate:?} instead of {wanted:?}"));
        }
    }

    /// Whether every event has come to what it must come to.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.wrong.is_empty()
    }

    /// Whether somebody whose device acknowledges has something pending.
    pub(crate) fn has_unheard(&self) -> bool {
        self.open.contains_key(&(Kind::Heard, UNHEARD))
    }

    pub(crate) fn said(&self) -> usize {
        self.said.values().sum()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<24}{:>7}", "to whom", "said")?;
        for fate in Fate::ALL {
            write!(f, "{:>13}", format!("{fate:?}").to_lowercase())?;
        }
        writeln!(f, "{:>7}{:>7}", "open", "lost")?;
        for kind in Kind::ALL {
            write!(f, "  {:<24}{:>7}", kind.name(), self.said.get(&kind).unwrap_or(&0))?;
            for fate in Fate::ALL {
                write!(f, "{:>13}", self.fates.get(&(kind, fate)).unwrap_or(&0))?;
            }
            let open = self.open.iter().filter(|((of, _), _)| *of == kind).map(|(_, count)| count).sum::<usize>();
            writeln!(f, "{open:>7}{:>7}", self.lost.get(&kind).unwrap_or(&0))?;
        }
        for ((kind, why), count) in &self.open {
            writeln!(f, "  open: {count} of \"{}\": {why}", kind.name())?;
        }
        self.wrong.iter().take(20).try_for_each(|wrong| writeln!(f, "  WRONG: {wrong}"))?;
        if self.wrong.len() > 20 {
            writeln!(f, "  WRONG: {} more", self.wrong.len() - 20)?;
        }
        Ok(())
    }
}

fn account(event: &Event, evidence: &Evidence) -> Account {
    let (partition, offset) = event.place;
    let is_passed = evidence.decided.get(&partition).is_some_and(|next| offset < *next);
    let is_buried = evidence.buried.contains(&event.place);
    match (event.kind, evidence.notified.get(&event.id)) {
        (_, None) if is_buried => Account::Ended(Fate::Dlq),
        (Kind::Idle, None) if is_passed => Account::Ended(Fate::Ignored),
        (_, None) if is_passed => {
            Account::Lost("the pipeline committed behind it, and there is neither a notification nor a letter")
        }
        (_, None) => Account::Open("not decided yet"),
        (_, Some(ids)) => ids.first().map_or(Account::Open("no id"), |id| delivery(id, evidence)),
    }
}

fn delivery(id: &Id, evidence: &Evidence) -> Account {
    if evidence.acknowledged.contains(id) {
        return Account::Ended(Fate::Delivered);
    }
    if evidence.ended.contains_key(id) {
        return Account::Ended(Fate::Undelivered);
    }
    match evidence.rungs.iter().rposition(|rung| rung.holds(id)) {
        Some(last) if last + 1 == evidence.rungs.len() => Account::Ended(Fate::Pending),
        Some(_) => Account::Open("on its way up the ladder"),
        None => Account::Lost("the courier committed behind it, and it is neither acknowledged nor on a rung nor ended"),
    }
}

/// What must not be, whatever else becomes of the event.
fn amiss(event: &Event, evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let ids = evidence.notified.get(&event.id).map_or(0, BTreeSet::len);
    if ids > 1 || (ids == 1 && matches!(event.kind, Kind::Poison | Kind::Idle)) {
        wrong.push(format!("{event:?} has {ids} notifications"));
    }
    let shown = evidence.shown.get(&event.id).map_or(0, Vec::len);
    if shown > 1 {
        wrong.push(format!("{event:?} was shown {shown} times"));
    }
    let is_acknowledged = evidence.notified.get(&event.id).is_some_and(|ids| !ids.is_disjoint(&evidence.acknowledged));
    if is_acknowledged && shown == 0 {
        wrong.push(format!("{event:?} is acknowledged, and no device was shown it"));
    }
    let folded = evidence.folded.get(&event.id).copied().unwrap_or(0);
    if folded > 1 {
        wrong.push(format!("{event:?} stands in the mailbox {folded} times"));
    }
    wrong
}

/// Deliveries with a second ladder.
fn forks<T>(lies: &BTreeMap<Id, Vec<T>>, place: &str) -> Vec<String> {
    let forked = lies.iter().filter(|(_, places)| places.len() > 1);
    forked.map(|(id, places)| format!("{id} lies on {place} {} times: a second ladder", places.len())).collect()
}

/// Deliveries that went on before their time.
fn early(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, rung) in evidence.rungs.iter().enumerate() {
        for id in rung.lies.keys() {
            let Some(came) = rung.first_ms(id) else { continue };
            let next = evidence.rungs.get(at + 1).and_then(|next| next.first_ms(id));
            let ended = evidence.ended.get(id).and_then(|times| times.iter().min().copied());
            if let Some(waited) = next.or(ended).map(|left| left - came).filter(|waited| *waited < rung.least_ms) {
                wrong.push(format!("{id} went on after {waited} ms of {}", rung.least_ms));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [i64; 3] = [10_000, 11_000, 12_000];

    fn event(kind: Kind, offset: i64) -> Event {
        Event { place: (0, offset), kind, id: format!("e{offset}") }
    }

    fn events() -> Vec<Event> {
        Kind::ALL.into_iter().zip(0..).map(|(kind, offset)| event(kind, offset)).collect()
    }

    /// Everything has come to what it must come to.
    fn sound() -> Evidence {
        let rung = |least_ms| Rung { least_ms, ..Rung::default() };
        let mut evidence = Evidence { rungs: vec![rung(1_000), rung(1_000), rung(3_600_000)], ..Evidence::default() };
        evidence.decided.insert(0, 7);
        for event in events() {
            let (offset, id) = (event.place.1, format!("n{}", event.place.1));
            match event.kind.wanted() {
                Fate::Dlq => drop(evidence.buried.insert(event.place)),
                Fate::Ignored => {}
                fate => {
                    let reached = if fate == Fate::Delivered { 1 } else { 3 - usize::from(fate == Fate::Undelivered) };
                    for (rung, at) in evidence.rungs.iter_mut().zip(TIMES).take(reached) {
                        rung.lies.insert(id.clone(), vec![((0, offset), at)]);
                    }
                    if fate == Fate::Undelivered {
                        evidence.ended.insert(id.clone(), vec![12_500]);
                    }
                    if fate == Fate::Delivered {
                        evidence.acknowledged.insert(id.clone());
                    }
                    evidence.folded.insert(event.id.clone(), 1);
                    if event.kind.is_shown() {
                        evidence.shown.insert(event.id.clone(), vec![id.clone()]);
                    }
                    evidence.notified.insert(event.id, BTreeSet::from([id]));
                }
            }
        }
        for rung in &mut evidence.rungs[..2] {
            rung.next.insert(0, 7);
        }
        evidence
    }

    fn wrong(evidence: &Evidence) -> String {
        let ledger = Ledger::judge(&events(), evidence);
        assert!(!ledger.is_settled());
        ledger.wrong.join("\n")
    }

    #[test]
    fn what_came_to_what_it_must_is_settled_and_each_kind_stands_in_its_column() {
        let ledger = Ledger::judge(&events(), &sound());
        assert!(ledger.is_settled(), "{ledger}");
        assert_eq!(ledger.fates, Kind::ALL.into_iter().map(|kind| ((kind, kind.wanted()), 1)).collect());
        assert_eq!(
            ledger.to_string().lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>()[1..],
            ["1", "1", "0", "0", "0", "0", "0", "0"]
        );
    }

    #[test]
    fn an_event_that_an_offset_covers_and_that_is_nowhere_is_lost() {
        for event in events().iter().filter(|event| event.kind != Kind::Idle) {
            let mut evidence = sound();
            evidence.notified.remove(&event.id);
            evidence.buried.remove(&event.place);
            let wrong = wrong(&evidence);
            assert!(wrong.contains(&format!("{event:?} is lost: the pipeline committed behind it")), "{wrong}");
            // Before the offset it is merely not decided yet.
            evidence.decided.insert(0, event.place.1);
            let ledger = Ledger::judge(std::slice::from_ref(event), &evidence);
            assert!(ledger.wrong.is_empty() && !ledger.is_settled(), "{ledger}");
        }
    }

    #[test]
    fn a_delivery_that_the_courier_has_passed_and_that_is_nowhere_is_lost() {
        for (kind, rung) in [(Kind::AbsentEnds, 0), (Kind::SilentEnds, 1), (Kind::AbsentWaits, 2), (Kind::SilentWaits, 2)] {
            let event = events().into_iter().find(|event| event.kind == kind).unwrap();
            let id = format!("n{}", event.place.1);
            let mut evidence = sound();
            evidence.ended.remove(&id);
            evidence.rungs[rung + 1..].iter_mut().for_each(|rung| drop(rung.lies.remove(&id)));
            evidence.rungs[rung].next.insert(0, 7);
            let wrong = wrong(&evidence);
            assert!(wrong.contains("the courier committed behind it"), "{kind:?}: {wrong}");
        }
        let mut evidence = sound();
        evidence.acknowledged.clear();
        assert!(wrong(&evidence).contains("the courier committed behind it"));
    }

    #[test]
    fn what_is_shown_twice_or_acknowledged_unseen_or_in_another_order_is_wrong() {
        let mut evidence = sound();
        evidence.shown.get_mut("e0").unwrap().push("n9".into());
        assert!(wrong(&evidence).contains("was shown 2 times"));
        evidence = sound();
        evidence.shown.remove("e0");
        assert!(wrong(&evidence).contains("no device was shown it"));
        evidence = sound();
        evidence.disorder.push("e0 after e1".into());
        assert_eq!(wrong(&evidence), "e0 after e1");
        evidence = sound();
        evidence.folded.insert("e0".into(), 2);
        assert!(wrong(&evidence).contains("stands in the mailbox 2 times"));
        evidence = sound();
        evidence.notified.get_mut("e0").unwrap().insert("n9".into());
        assert!(wrong(&evidence).contains("has 2 notifications"));
    }

    #[test]
    fn a_second_ladder_an_early_step_and_another_fate_are_wrong() {
        let mut evidence = sound();
        evidence.rungs[1].lies.get_mut("n2").unwrap().push(((0, 9), 11_500));
        assert!(wrong(&evidence).contains("n2 lies on a rung 2 times"));
        evidence = sound();
        evidence.ended.get_mut("n2").unwrap().push(13_000);
        assert!(wrong(&evidence).contains("n2 lies on undelivered 2 times"));
        evidence = sound();
        evidence.rungs[1].lies.insert("n1".into(), vec![((0, 1), 10_999)]);
        assert!(wrong(&evidence).contains("n1 went on after 999 ms of 1000"));
        evidence = sound();
        evidence.ended.insert("n2".into(), vec![11_900]);
        assert!(wrong(&evidence).contains("n2 went on after 900 ms of 1000"));
        evidence = sound();
        evidence.acknowledged.insert("n4".into());
        assert!(wrong(&evidence).contains("came to Delivered instead of Undelivered"));
        evidence = sound();
        evidence.buried.insert((0, 6));
        assert!(wrong(&evidence).contains("came to Dlq instead of Ignored"));
    }

    #[test]
    fn what_is_on_its_way_keeps_the_ledger_open_and_is_not_wrong() {
        let mut evidence = sound();
        evidence.acknowledged.clear();
        evidence.rungs[0].next.clear();
        let ledger = Ledger::judge(&events(), &evidence);
        assert!(ledger.wrong.is_empty() && !ledger.is_settled(), "{ledger}");
        for part in ["shown", "folded"] {
            let mut evidence = sound();
            match part {
                "shown" => drop(evidence.shown.remove("e4")),
                _ => drop(evidence.folded.remove("e4")),
            }
            let ledger = Ledger::judge(&events(), &evidence);
            assert!(ledger.wrong.is_empty() && !ledger.is_settled(), "{part}: {ledger}");
        }
    }
}
