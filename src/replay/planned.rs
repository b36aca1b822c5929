//! What is to be replayed: offsets of a topic, against those that it has.
//!
//! Owns: what may be replayed and where it may be written, the ends that are looked up once, and how far an earlier run came. Refuses what
//! means nothing before anything is read. Neighbours: core `selection` judges ranges and words, `run` does it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidings_core::ids::UserId;
use tidings_core::record::audit::{self, AuditRecord, Ending, EventSelection, Reached, ReplayPlan, ReplaySpan, ReplayStep};
use tidings_core::selection::{EventFilter, EventFilterError, PartRange, RangeError, Resolved, resolve};
use tidings_core::stretch::Stretch;
use tidings_core::time::{Delay, Timestamp};
use uuid::Uuid;

use super::{Events, ReplayError, Watch};
use crate::kafka::scan::Scan;

/// The most replays that are named to who asks for one that is not there.
const NAMED: usize = 5;

/// What somebody wants to be replayed.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The topic.
    pub topic: String,
    /// Offsets of it; all if none are named.
    pub ranges: Vec<PartRange>,
    /// Which of the records there.
    pub events: EventSelection,
    /// Where the notifications are written, if not where they are sent from.
    pub to_topic: Option<String>,
    /// Who gets all of them, if not whom the rules say.
    pub to_user: Option<UserId>,
    /// Whether they have ids of this replay's own.
    pub new_ids: bool,
}

/// A replay that can be run: everything named is there.
pub struct Planned {
    pub(super) id: Uuid,
    pub(super) plan: ReplayPlan,
    pub(super) filter: EventFilter,
    pub(super) scan: Scan,
    /// What is still to be read.
    pub(super) spans: BTreeMap<i32, Stretch>,
    /// Offsets that are named and that retention has removed.
    pub(super) gone: u64,
    /// By which rules it was begun, if it was.
    rules: Option<String>,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The words.
    #[error(transparent)]
    Words(#[from] EventFilterError),
    /// The offsets.
    #[error("these offsets of {topic} mean nothing")]
    Range {
        /// The topic.
        topic: String,
        /// What is wrong.
        source: RangeError,
    },
    /// The pipeline would never decide on it.
    #[error("the topic `{0}` is none of `pipeline.topics`, so no rules are for it: mend its name, or add it there")]
    NoSource(String),
    /// A request is no event.
    #[error(
        "what lies on `{0}` are requests, of which some hold events: choose them by key, header, offsets or time, not by --type or --where"
    )]
    Requests(String),
    /// Nothing lies there.
    #[error("nothing of {topic} lies in that range. It has the offsets {offsets}")]
    Nothing {
        /// The topic.
        topic: String,
        /// What it has, in words of the command line.
        offsets: String,
    },
    /// No time can be looked up.
    #[error(
        "the brokers at {brokers} keep no index of times, as embedded ones do not: choose offsets in place of --since. {topic} has \
         {offsets}"
    )]
    NoTimes {
        /// The topic.
        topic: String,
        /// Who was asked.
        brokers: String,
        /// What it has, in words of the command line.
        offsets: String,
    },
    /// Somebody else's to write to.
    #[error(
        "notifications are not written to `{0}` in place of where they belong: {1}; name a topic that nobody lives by (--to-topic)"
    )]
    Target(String, &'static str),
    /// Its ids are forgotten.
    #[error(
        "{place} is of {at}, and who was notified is known for {kept} only, and soon forgotten: they would be told again. Narrow the \
         range by --since '{advised}', or say --force to send all of it with new ids"
    )]
    TooOld {
        /// The first such record that was met.
        place: String,
        /// Its time.
        at: String,
        /// For how long ids are known.
        kept: Delay,
        /// What is certainly known.
        advised: Delay,
    },
    /// Nobody knows of it.
    #[error("audit knows no replay {id} (it is kept for 90 days){unfinished}")]
    Unknown {
        /// Which.
        id: Uuid,
        /// Those that can be gone on with.
        unfinished: String,
    },
    /// It has come to its end.
    #[error("replay {0} is done: there is nothing to go on with")]
    Done(Uuid),
    /// The topic is another one than when it was begun.
    #[error(
        "{topic}[{partition}] ends at {end}, and the replay had come to {reached}: the topic was deleted and made anew since. Begin a \
         new replay"
    )]
    MadeAnew {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it ends now.
        end: i64,
        /// Where the replay was.
        reached: i64,
    },
    /// Other rules than those it was begun with.
    #[error(
        "replay {id} was begun by rules {begun}, and those of now are {now}: half of it would be by others. Name their folder (--rules) if \
         that is meant, or begin a new replay"
    )]
    OtherRules {
        /// Which.
        id: Uuid,
        /// Their version then.
        begun: String,
        /// Their version now.
        now: String,
    },
}

/// What `audit` says of one replay.
#[derive(Default)]
struct Past {
    begun: Option<(ReplayPlan, String)>,
    reached: BTreeMap<i32, i64>,
    outcome: Option<Ending>,
}

impl Planned {
    /// Its id: with it, it can be gone on with once it is executed.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What it is to do.
    #[must_use]
    pub fn plan(&self) -> &ReplayPlan {
        &self.plan
    }

    /// How many offsets are to be read.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        self.spans.values().map(|span| span.len()).sum()
    }

    /// Refuses other rules than it was begun with.
    ///
    /// # Errors
    /// If `version` is another one.
    pub fn expect_rules(&self, version: &str) -> Result<(), PlanError> {
        match &self.rules {
            Some(begun) if begun != version => {
                Err(PlanError::OtherRules { id: self.id, begun: begun.clone(), now: version.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl Events {
    /// Looks up what somebody wants to be replayed, and where it ends now.
    ///
    /// # Errors
    /// If something that is named is not there or means nothing, or the brokers do not answer.
    pub fn plan(&self, selected: Selected) -> Result<Planned, ReplayError> {
        let Selected { topic, ranges, events, to_topic, to_user, new_ids } = selected;
        let filter = EventFilter::new(&events).map_err(PlanError::from)?;
        self.expect_source(&topic, &filter)?;
        if let Some(target) = &to_topic {
            self.expect_target(target)?;
        }
        let scan = Scan::open(&self.site.cluster, &topic, self.site.clock)?;
        let ranged = resolve(&ranges, scan.bounds());
        let Resolved { mut spans, gone } = ranged.map_err(|source| PlanError::Range { topic: topic.clone(), source })?;
        if let Some(since) = events.since {
            self.narrow(&mut spans, (&scan, &topic), since)?;
        }
        spans.retain(|_, span| !span.is_empty());
        if spans.is_empty() {
            return Err(PlanError::Nothing { topic, offsets: listed(scan.bounds()) }.into());
        }
        let span = |(partition, span): (&i32, &Stretch)| ReplaySpan { partition: *partition, from: span.from, to: span.to };
        let plan = ReplayPlan { topic, spans: spans.iter().map(span).collect(), events, to_topic, to_user, new_ids };
        Ok(Planned { id: Uuid::new_v4(), plan, filter, scan, spans, gone, rules: None })
    }

    /// Looks up how far a replay came, to go on with it.
    ///
    /// # Errors
    /// If `audit` knows none of that id or says that it is done, or the brokers do not answer.
    pub fn resume(&self, id: Uuid, watch: &Watch<'_>) -> Result<Planned, ReplayError> {
        let mut pasts = BTreeMap::<Uuid, Past>::new();
        self.site.acts(watch, |_, act| {
            if let AuditRecord::Replay(audit::Replay { id, step, .. }) = act {
                pasts.entry(id).or_default().note(step);
            }
        })?;
        let Some(Past { begun: Some((plan, rules)), reached, outcome }) = pasts.remove(&id) else {
            return Err(PlanError::Unknown { id, unfinished: unfinished(&pasts) }.into());
        };
        if outcome == Some(Ending::Done) {
            return Err(PlanError::Done(id).into());
        }
        let filter = EventFilter::new(&plan.events).map_err(PlanError::from)?;
        self.expect_source(&plan.topic, &filter)?;
        if let Some(target) = &plan.to_topic {
            self.expect_target(target)?;
        }
        let scan = Scan::open(&self.site.cluster, &plan.topic, self.site.clock)?;
        let (spans, gone) = left(&plan, &reached, scan.bounds())?;
        Ok(Planned { id, plan, filter, scan, spans, gone, rules: Some(rules) })
    }

    fn expect_source(&self, topic: &str, filter: &EventFilter) -> Result<(), PlanError> {
        if !self.site.is_source(topic) {
            return Err(PlanError::NoSource(topic.to_owned()));
        }
        if filter.asks_for_events() && !self.site.topics.of(topic).has_events() {
            return Err(PlanError::Requests(topic.to_owned()));
        }
        Ok(())
    }

    fn expect_target(&self, target: &str) -> Result<(), ReplayError> {
        let refused = |why| Err(PlanError::Target(target.to_owned(), why).into());
        if target.starts_with(self.site.cluster.names().prefix()) {
            return refused("it is one of tidings' own topics");
        }
        if self.site.is_source(target) {
            return refused("the pipeline reads it");
        }
        // It must be there; what lies on it does not matter.
        Scan::open(&self.site.cluster, target, self.site.clock)?;
        Ok(())
    }

    /// Has each partition begin at its first record of `since` or later.
    fn narrow(
        &self,
        spans: &mut BTreeMap<i32, Stretch>,
        (scan, topic): (&Scan, &str),
        since: Timestamp,
    ) -> Result<(), ReplayError> {
        let Some(firsts) = scan.since(since)? else {
            let (topic, brokers) = (topic.to_owned(), self.site.cluster.brokers().to_owned());
            return Err(PlanError::NoTimes { topic, brokers, offsets: listed(scan.bounds()) }.into());
        };
        for (number, span) in spans {
            span.from = span.from.max(firsts.get(number).copied().unwrap_or(span.from));
        }
        Ok(())
    }
}

impl Past {
    fn note(&mut self, step: ReplayStep) {
        match step {
            ReplayStep::Begun { plan, rules } => {
                self.begun = Some((*plan, rules));
                self.outcome = None;
            }
            ReplayStep::Progress { reached } => {
                for Reached { partition, next } in reached {
                    // Two who go on with it at the same time stand at different places.
                    let known = self.reached.entry(partition).or_insert(next);
                    *known = next.max(*known);
                }
            }
            ReplayStep::Ended { outcome, .. } => self.outcome = Some(outcome),
        }
    }
}

/// What is left of a plan, and how much of that retention has removed.
fn left(
    plan: &ReplayPlan,
    reached: &BTreeMap<i32, i64>,
    bounds: &BTreeMap<i32, Stretch>,
) -> Result<(BTreeMap<i32, Stretch>, u64), PlanError> {
    let (mut spans, mut gone) = (BTreeMap::new(), 0);
    for ReplaySpan { partition, from, to } in &plan.spans {
        let reached = reached.get(partition).map_or(*from, |next| *from.max(next));
        let there = bounds.get(partition).copied().unwrap_or(Stretch { from: 0, to: 0 });
        if there.to < reached {
            let (topic, partition, end) = (plan.topic.clone(), *partition, there.to);
            return Err(PlanError::MadeAnew { topic, partition, end, reached });
        }
        let span = Stretch { from: reached.max(there.from), to: *to };
        gone += Stretch { from: reached, to: span.from.min(*to) }.len();
        if !span.is_empty() {
            spans.insert(*partition, span);
        }
    }
    Ok((spans, gone))
}

fn unfinished(pasts: &BTreeMap<Uuid, Past>) -> String {
    let open = |past: &Past| past.outcome != Some(Ending::Done) && past.begun.is_some();
    let open = pasts.iter().filter(|(_, past)| open(past)).map(|(id, _)| id.to_string()).take(NAMED).collect::<Vec<_>>();
    if open.is_empty() { String::new() } else { format!("; not done are, for instance, {}", open.join(", ")) }
}

/// Offsets in words of the command line.
fn listed(bounds: &BTreeMap<i32, Stretch>) -> String {
    let mut text = String::new();
    for (number, span) in bounds {
        let comma = if text.is_empty() { "" } else { ", " };
        // A text takes everything.
        let _ = write!(text, "{comma}{number}@{}..{}", span.from, span.to);
    }
    text
}
