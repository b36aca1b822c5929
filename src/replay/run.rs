//! Replaying: records of a domain topic are decided on once more, and what follows is counted or sent.
//!
//! Owns: the order of what is written: notifications, and only when the brokers have those how far that is, on `audit`; the pace; and
//! when it ends. A kill between the two sends the same notifications with the same ids once more, and everything behind drops what it
//! knows. Refuses to send what somebody may have been told whose id is forgotten. Long because a record's way from its topic to the mark behind
//! it is to be read at once. Neighbours: `planned` says what, `scribe` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::event::{SourceHeader, SourceRecord};
use tidings_core::ids::UserId;
use tidings_core::record::audit::{self, AuditRecord, Ending, Reached, ReplayPlan, ReplaySpan, ReplayStep};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::rules::{Burial, Verdict};
use tidings_core::selection::EventFilter;
use tidings_core::stretch::Stretch;
use tidings_core::time::{Delay, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::planned::{PlanError, Planned};
use super::report::ReplayReport;
use super::scribe::Scribe;
use super::{Events, Mode, Progress, ReplayError, Undecided, Watch};
use crate::clock::Clock;
use crate::clock::pace::{Pace, nap};
use crate::config::{Edition, Settings};
use crate::kafka::consumer::{content, legible_end};
use crate::kafka::scan::{Scan, Scanned};

const WAIT: Duration = Duration::from_millis(200);
/// After so many records it is looked whether it is to stop, and told how far it is.
const LOOKED_EVERY: u64 = 1024;
/// How far it is, is on `audit` so often.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// The same after so many records with notifications, and so many notifications: an event may be for thousands.
const BATCH: usize = 5_000;
const BATCH_NOTIFICATIONS: usize = 10_000;

/// How a replay is done.
#[derive(Debug)]
pub struct Replay {
    /// By which rules.
    pub edition: Edition,
    /// Whether anything is written.
    pub mode: Mode,
    /// The most notifications a second.
    pub rate: NonZeroU32,
    /// After so many events that notify somebody it stops, for somebody to look.
    pub canary: Option<NonZeroU64>,
}

/// How a replay ended, and what it came to.
#[derive(Debug)]
pub struct Replayed {
    /// Whether it came to its end.
    pub outcome: Ending,
    /// What it came to since it was begun, or gone on with.
    pub report: ReplayReport,
}

/// What was made of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A record of which nothing was sent.
    Nothing,
    /// So many notifications were sent.
    Sent(usize),
    /// The record is behind all that is meant of this partition.
    Past(i32),
    /// Nothing came.
    Idle,
}

/// Why it is not said what becomes of a record.
enum Unsaid {
    /// It cannot be, by a class and a text: the others go on.
    Skip(&'static str, String),
    /// The registry does not answer: nothing behind it may be marked.
    Registry(String),
    /// Its schema is waited for no longer: likewise.
    Stopped,
}

/// What writes, and in whose name.
struct Replayer {
    scribe: Scribe,
    who: UserId,
    /// What was sent since the last mark: where the event lies, and what follows from it.
    open: Vec<(String, Vec<NotificationRecord>)>,
    notifications: usize,
    marked: Vec<Reached>,
    marked_at: Duration,
    pace: Pace,
}

/// One replay under way.
struct Replaying<'a> {
    events: &'a Events,
    how: &'a Replay,
    id: Uuid,
    plan: ReplayPlan,
    filter: EventFilter,
    settings: Arc<Settings>,
    /// Of what is older than this, nobody may know any more who was notified; none if it does not matter.
    known_for: Option<Duration>,
    now: Timestamp,
    replayer: Option<Replayer>,
    report: ReplayReport,
    /// Events that notified somebody.
    sent: u64,
}

impl Events {
    /// Decides once more on the records that are meant, in the order of each partition; and sends what follows, if that is wanted.
    ///
    /// # Errors
    /// If the brokers do not answer, or what is met must not be sent. How far it came by then stands on `audit`.
    pub fn replay(&self, planned: Planned, how: &Replay, watch: &mut Watch<'_>) -> Result<Replayed, ReplayError> {
        let Planned { id, plan, filter, mut scan, spans, gone, .. } = planned;
        let replayer = match &how.mode {
            Mode::Try => None,
            Mode::Execute { who } => {
                let scribe = Scribe::new(&self.site.cluster, watch.stop)?.to(plan.to_topic.clone());
                Some(Replayer::new((scribe, who.clone()), how.rate, self.site.clock))
            }
        };
        let mut replaying = Replaying::new((self, how), (id, plan, filter), replayer);
        replaying.report.gone = gone;
        replaying.expect_known(&scan, &spans)?;
        replaying.tell(ReplayStep::Begun { plan: Box::new(replaying.plan.clone()), rules: how.edition.version.clone() })?;
        scan.begin(&spans)?;
        let ended = match replaying.go(&mut scan, watch) {
            // An event was being handed over: it is not marked.
            Err(ReplayError::Stopped) => Ok(Ending::Interrupted),
            ended => ended,
        };
        let outcome = *ended.as_ref().unwrap_or(&Ending::Failed);
        let why = ended.as_ref().err().map(ToString::to_string);
        let told = replaying.tell(ReplayStep::Ended { outcome, why, counts: replaying.report.counts() });
        ended.and(told).map(|()| Replayed { outcome, report: replaying.report })
    }
}

impl<'a> Replaying<'a> {
    fn new(
        (events, how): (&'a Events, &'a Replay),
        (id, plan, filter): (Uuid, ReplayPlan, EventFilter),
        replayer: Option<Replayer>,
    ) -> Self {
        let now = events.site.clock.now();
        let are_ids_known = !plan.new_ids && plan.to_topic.is_none() && plan.to_user.is_none();
        // Ids are forgotten by the log's clock and while a replay runs: what lies close to that does not count as known.
        let known_for = are_ids_known.then(|| events.ids_kept - events.ids_kept / 100);
        let report = ReplayReport::new(id, &how.mode, (&plan.topic, &how.edition.version));
        let settings = events.site.topics.of(&plan.topic);
        Self { events, how, id, plan, filter, settings, known_for, now, replayer, report, sent: 0 }
    }

    /// Who was notified of what came since then is known for certain.
    fn known_from(&self) -> Option<Timestamp> {
        self.known_for.map(|known_for| self.now.minus(known_for))
    }

    /// Refuses, before anything is sent, what begins with records that are too old. Where the brokers do not know times, each is looked at
    /// when its turn comes.
    fn expect_known(&self, scan: &Scan, spans: &BTreeMap<i32, Stretch>) -> Result<(), ReplayError> {
        let (Some(known_from), Some(_)) = (self.known_from(), &self.replayer) else { return Ok(()) };
        let firsts = scan.since(known_from)?.unwrap_or_default();
        let is_old = |(number, span): &(&i32, &Stretch)| firsts.get(*number).is_some_and(|first| span.from < *first);
        let old = spans.iter().find(is_old);
        old.map_or(Ok(()), |(number, span)| Err(self.too_old((*number, span.from), &format!("before {known_from}"))))
    }

    fn too_old(&self, (partition, offset): (i32, i64), at: &str) -> ReplayError {
        let place = format!("{}[{partition}]@{offset}", self.plan.topic);
        let kept = self.events.ids_kept;
        // Less than is taken, for time goes on until somebody has typed it.
        let advised = Delay(Duration::from_hours((kept - kept / 50).as_secs() / 3_600));
        PlanError::TooOld { place, at: at.to_owned(), kept: Delay(kept), advised }.into()
    }

    fn go(&mut self, scan: &mut Scan, watch: &mut Watch<'_>) -> Result<Ending, ReplayError> {
        let (all, mut steps) = (scan.left(), 0_u64);
        let what = if self.replayer.is_some() { "replaying" } else { "deciding" };
        let outcome = loop {
            let made = match scan.step(WAIT)? {
                Scanned::End => break Ending::Done,
                Scanned::Nothing => Made::Idle,
                Scanned::Record(record) => self.record(&record, watch.stop)?,
            };
            steps += 1;
            match made {
                Made::Sent(notifications) => self.pace(notifications, (scan, watch))?,
                Made::Past(partition) => scan.pass(partition),
                Made::Nothing | Made::Idle => {}
            }
            if self.how.canary.is_some_and(|canary| self.sent >= canary.get()) {
                break if scan.left() == 0 { Ending::Done } else { Ending::Paused };
            }
            if steps.is_multiple_of(LOOKED_EVERY) || made != Made::Nothing {
                self.now = self.events.site.clock.now();
                self.mark_if_due(scan)?;
                (watch.progress)(Progress { what, done: all.saturating_sub(scan.left()), all });
                if watch.stop.is_cancelled() {
                    break Ending::Interrupted;
                }
            }
        };
        self.mark(scan)?;
        (watch.progress)(Progress { what, done: all.saturating_sub(scan.left()), all });
        Ok(outcome)
    }

    /// Looks whether a record is meant, decides on it, and sends what follows.
    fn record(&mut self, record: &BorrowedMessage<'_>, stop: &CancellationToken) -> Result<Made, ReplayError> {
        self.report.read += 1;
        let timestamp = record.timestamp();
        // As the pipeline takes one that has none.
        let at = Timestamp::from_millis(timestamp.to_millis().unwrap_or(0));
        // What a broker appended later is not of an earlier time; producers may say what they like.
        if matches!(timestamp, rdkafka::Timestamp::LogAppendTime(_)) && self.filter.is_past(at) {
            return Ok(Made::Past(record.partition()));
        }
        // To take headers apart costs more than all else: only once nothing else speaks against the record.
        if !self.filter.may_hold(at, record.key(), |name| content(record.headers()?, name)) {
            return Ok(Made::Nothing);
        }
        let (legible, unread) = record.headers().map(legible_end).unwrap_or_default();
        let place = (record.partition(), record.offset());
        if unread > 0 {
            self.report.selected += 1;
            self.report.tally.bury(&At(place), Burial::illegible());
            return Ok(Made::Nothing);
        }
        let headers = legible.iter().map(|header| SourceHeader { name: header.key, value: header.value }).collect::<Vec<_>>();
        let source = SourceRecord {
            topic: &self.plan.topic,
            partition: place.0,
            offset: place.1,
            timestamp: at,
            key: record.key(),
            value: record.payload(),
            headers: &headers,
        };
        let verdict = self.decide(&source, stop);
        let Self { report, .. } = self;
        match verdict {
            Ok(None) => return Ok(Made::Nothing),
            Ok(Some(Verdict::Notify(notifications))) => {
                report.selected += 1;
                return self.notify((place, at), notifications);
            }
            Ok(Some(Verdict::Ignore(reason))) => report.tally.ignore(reason.name()),
            Ok(Some(Verdict::Bury(burial))) => report.tally.bury(&At(place), burial),
            Err(Unsaid::Skip(class, why)) => report.tally.skip(class, &At(place), &why),
            Err(Unsaid::Registry(why)) => return Err(ReplayError::Registry(why)),
            Err(Unsaid::Stopped) => return Err(ReplayError::Stopped),
        }
        report.selected += 1;
        Ok(Made::Nothing)
    }

    /// What becomes of a record as if it were decided on when it was written; none if it is not meant.
    fn decide(&self, record: &SourceRecord<'_>, stop: &CancellationToken) -> Result<Option<Verdict>, Unsaid> {
        let (rules, filter) = (&self.how.edition.rules, &self.filter);
        let explained = match self.events.site.explained(&self.settings, record, stop) {
            Ok(Ok(explained)) => explained,
            Ok(Err(burial)) => return Ok(Some(Verdict::Bury(burial))),
            Err(Undecided::Stopped) => return Err(Unsaid::Stopped),
            Err(error) => return Err(Unsaid::Registry(error.in_full())),
        };
        if filter.asks_for_events() {
            let verdict = self.settings.decide_if(rules, ((record, explained), record.timestamp), |event| filter.holds(event));
            return verdict.map_err(|unjudged| Unsaid::Skip(unjudged.class(), unjudged.to_string()));
        }
        let verdict = self.settings.decide(rules, (record, explained), record.timestamp);
        verdict.map(Some).map_err(|newer| Unsaid::Skip(newer.class(), newer.in_full()))
    }

    /// Counts notifications, or sends them.
    fn notify(
        &mut self,
        (place, at): ((i32, i64), Timestamp),
        mut notifications: Vec<NotificationRecord>,
    ) -> Result<Made, ReplayError> {
        if self.known_from().is_some_and(|known_from| at < known_from) {
            if self.replayer.is_some() {
                return Err(self.too_old(place, &at.to_string()));
            }
            self.report.too_old += 1;
        }
        let all = notifications.len();
        notifications.retain(|record| record.notification.expires_at.is_none_or(|at| at > self.now));
        self.report.expired += (all - notifications.len()) as u64;
        if notifications.is_empty() {
            self.report.tally.ignore("expired");
            return Ok(Made::Nothing);
        }
        let readdressed = notifications.into_iter().map(|record| self.readdressed(record)).collect::<Vec<_>>();
        let Some(replayer) = &mut self.replayer else {
            self.report.tally.notify(readdressed);
            return Ok(Made::Nothing);
        };
        let count = readdressed.len();
        replayer.scribe.notify(replayer.open.len(), &readdressed)?;
        replayer.notifications += count;
        replayer.open.push((At(place).to_string(), readdressed));
        self.sent += 1;
        Ok(Made::Sent(count))
    }

    fn readdressed(&self, record: NotificationRecord) -> NotificationRecord {
        let record = match &self.plan.to_user {
            Some(user) => record.redirected(user),
            None => record,
        };
        if self.plan.new_ids { record.renewed(self.id) } else { record }
    }

    /// Waits until so many more are within the rate, or it is to stop. What was handed over is marked meanwhile.
    fn pace(&mut self, notifications: usize, (scan, watch): (&Scan, &Watch<'_>)) -> Result<(), ReplayError> {
        let Some(replayer) = &mut self.replayer else { return Ok(()) };
        let until = replayer.pace.take(notifications as u64);
        while !watch.stop.is_cancelled() && nap(self.events.site.clock, until) {
            self.mark_if_due(scan)?;
        }
        Ok(())
    }

    fn mark_if_due(&mut self, scan: &Scan) -> Result<(), ReplayError> {
        let now = self.events.site.clock.elapsed();
        let is_due = |replayer: &Replayer| {
            replayer.open.len() >= BATCH
                || replayer.notifications >= BATCH_NOTIFICATIONS
                || now.saturating_sub(replayer.marked_at) >= MARK_EVERY
        };
        if self.replayer.as_ref().is_some_and(is_due) { self.mark(scan) } else { Ok(()) }
    }

    /// Waits until the brokers have what was sent, and says on `audit` how far that is.
    fn mark(&mut self, scan: &Scan) -> Result<(), ReplayError> {
        let Some(replayer) = &mut self.replayer else { return Ok(()) };
        let too_large = replayer.scribe.settle()?.into_iter().collect::<BTreeSet<_>>();
        replayer.notifications = 0;
        for (number, (place, notifications)) in std::mem::take(&mut replayer.open).into_iter().enumerate() {
            if too_large.contains(&number) {
                self.report.tally.bury(&place, Burial::too_large());
            } else {
                self.report.tally.notify(notifications);
            }
        }
        replayer.marked_at = self.events.site.clock.elapsed();
        let next = |span: &ReplaySpan| scan.next_of(span.partition).unwrap_or(span.to);
        let spans = self.plan.spans.iter();
        let reached = spans.map(|span| Reached { partition: span.partition, next: next(span) }).collect::<Vec<_>>();
        if replayer.marked == reached {
            return Ok(());
        }
        replayer.marked.clone_from(&reached);
        self.tell(ReplayStep::Progress { reached })
    }

    fn tell(&mut self, step: ReplayStep) -> Result<(), ReplayError> {
        let (id, node) = (self.id, self.events.site.node.clone());
        let Some(Replayer { scribe, who, .. }) = &mut self.replayer else { return Ok(()) };
        scribe.tell(&AuditRecord::Replay(audit::Replay { id, who: who.clone(), node, step }))
    }
}

impl Replayer {
    fn new((scribe, who): (Scribe, UserId), rate: NonZeroU32, clock: Clock) -> Self {
        // A tenth of a second's at once, so that a nap costs nothing.
        let pace = Pace::new(clock, rate, (rate.get() / 10).max(1) as usize);
        Self { scribe, who, open: Vec::new(), notifications: 0, marked: Vec::new(), marked_at: clock.elapsed(), pace }
    }
}

/// A place in words of the command line: `2@17`.
struct At((i32, i64));

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((partition, offset)) = self;
        write!(f, "{partition}@{offset}")
    }
}
