//! Redriving: letters are decided on anew, and what follows is written.
//!
//! Owns: the two readings of `dlq` (which letters, of each only a place of about a hundred bytes, and no more than the caller takes; then their
//! values slice by slice, so that these take as much however many there are) and the order of what is written: notifications, and only when
//! the brokers have those the mark on `audit` that says so. A kill between the two sends the same notifications with the same ids once more,
//! and everything behind drops what it knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Duration;

use tidings_core::ids::UserId;
use tidings_core::record::audit::{AuditRecord, Ending, RedriveStep, Redriven};
use tidings_core::record::letter::{Letter, LetterId};
use tidings_core::record::{audit, notified::NotificationRecord};
use tidings_core::rules::{Burial, Verdict};
use tidings_core::selection::{LetterFilter, Ordered, Pick, Picks, unfit};
use tidings_core::stretch::Stretches;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::audit::Done;
use super::letters::{FoundLetter, places, read_part, read_until, spans};
use super::part::Part;
use super::report::Report;
use super::scribe::Scribe;
use super::{DeadLetters, Mode, Progress, ReplayError, Undecided, Watch};
use crate::config::Edition;
use crate::kafka::producer::ProduceError;
use crate::kafka::scan::Scan;

/// The values that are held at a time.
const SLICE_BYTES: usize = 64 * 1024 * 1024;
/// And the most letters of which they are held: beside its value each takes about a kilobyte.
const SLICE_LETTERS: usize = 32 * 1024;
/// After so many letters the brokers are waited for, and the mark is written.
const BATCH: usize = 1_000;

/// What is to be redriven, how.
#[derive(Debug)]
pub struct Redrive {
    /// Which letters.
    pub filter: LetterFilter,
    /// By which rules.
    pub edition: Edition,
    /// Whether anything is written.
    pub mode: Mode,
    /// What of those that were redriven before.
    pub again: Again,
    /// No longer than to this time of the monotonic clock; what was done by then is told.
    pub until: Option<Duration>,
    /// The most letters whose places are kept; without a number as many as there are.
    pub most: Option<NonZeroUsize>,
}

impl Redrive {
    /// Whether so many letters are more than the caller takes.
    fn is_too_much(&self, letters: usize) -> bool {
        self.most.is_some_and(|most| letters > most.get())
    }
}

/// What becomes of letters that were redriven before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// They are left alone.
    Skip,
    /// They are redriven like the others, with the same ids.
    Include,
}

/// The same after so many notifications: an event may be for thousands.
const BATCH_NOTIFICATIONS: usize = 10_000;

/// One redrive under way.
struct Redriving<'a> {
    letters: &'a DeadLetters,
    redrive: &'a Redrive,
    report: Report,
    /// There if something is written.
    redriver: Option<Redriver>,
    /// How many letters are to be decided on, and are.
    all: u64,
    decided: u64,
    /// How many were marked as redriven.
    marked: u64,
}

/// What writes, and in whose name.
struct Redriver {
    scribe: Scribe,
    id: Uuid,
    who: UserId,
}

impl DeadLetters {
    /// Decides anew on the letters that are meant, in the order of their records, each once; and writes what follows, if that is wanted.
    ///
    /// # Errors
    /// If no letter can be meant, the brokers do not answer, or the caller stopped it. What was done by then stands on `audit`.
    pub fn redrive(&self, redrive: &Redrive, watch: &mut Watch<'_>) -> Result<Report, ReplayError> {
        redrive.filter.check()?;
        let mut report = Report { rules: redrive.edition.version.clone(), ..Report::default() };
        let mut scan = self.scan()?;
        let picks = self.pick((redrive, &mut report), &mut scan, watch)?;
        let all = report.letters;
        let redriver = match &redrive.mode {
            Mode::Try => None,
            Mode::Execute { .. } if picks.is_empty() => None,
            Mode::Execute { who } => {
                let scribe = Scribe::new(&self.site.cluster, watch.stop)?;
                Some(Redriver { scribe, id: Uuid::new_v4(), who: who.clone() })
            }
        };
        report.executed = redrive.mode != Mode::Try;
        let mut redriving = Redriving { letters: self, redrive, report, redriver, all, decided: 0, marked: 0 };
        redriving.begin()?;
        let ordered = picks.in_order(SLICE_BYTES);
        let outcome = redriving.slices(ordered, &mut scan, watch);
        redriving.end(outcome)
    }

    /// Finds the letters that can be decided on, and counts the others.
    fn pick(
        &self,
        (redrive, report): (&Redrive, &mut Report),
        scan: &mut Scan,
        watch: &mut Watch<'_>,
    ) -> Result<Picks, ReplayError> {
        let (filter, part) = (&redrive.filter, Part { behind: None, until: redrive.until });
        let mut done = Done::new(self.marks(filter.since, || part.goes_on(watch, self.site.clock))?);
        let (mut picks, mut missing) = (Picks::default(), filter.ids.clone());
        let spans = spans(scan, filter)?;
        let rest = read_until(&part, (scan, spans), (watch, "reading dlq"), |FoundLetter { id, buried_at, letter }| {
            let redriven = done.holds((id.partition, id.offset), buried_at);
            missing.remove(&id);
            match letter {
                Ok(letter) if filter.holds(&letter) => {
                    if redriven && redrive.again == Again::Skip {
                        report.redriven_before += 1;
                        return ControlFlow::Continue(());
                    }
                    report.letters += 1;
                    match unfit(&letter, |topic| self.site.is_source(topic)) {
                        Some(unfit) => report.tally.skip(unfit.class(), &id, &unfit),
                        None => picks.add(&letter),
                    }
                }
                Err(error) if filter.may_hold(id, buried_at) => report.tally.skip(error.class(), &id, &error),
                _ => {}
            }
            if redrive.is_too_much(picks.len()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(most) = redrive.most.filter(|_| redrive.is_too_much(picks.len())) {
            return Err(ReplayError::TooMany { most });
        }
        // Who has not seen all of them does not know the order of their records.
        if rest.is_some() {
            return Err(ReplayError::Late);
        }
        for id in missing {
            report.tally.skip("gone", &id, &"no record lies there any more, or yet");
        }
        Ok(picks)
    }
}

impl Redriving<'_> {
    /// Says on `audit` that it begins.
    fn begin(&mut self) -> Result<(), ReplayError> {
        let (selection, rules) = (self.redrive.filter.to_string(), self.report.rules.clone());
        self.tell(RedriveStep::Begun { selection, rules }).map_err(|error| match error {
            ReplayError::Unwritten(ProduceError::TooLarge { .. }) => ReplayError::Wordy,
            error => error,
        })
    }

    fn tell(&mut self, step: RedriveStep) -> Result<(), ReplayError> {
        let node = self.letters.site.node.clone();
        let Some(Redriver { scribe, id, who }) = &mut self.redriver else { return Ok(()) };
        scribe.tell(&AuditRecord::Redrive(audit::Redrive { id: *id, who: who.clone(), node, step }))
    }

    /// Says on `audit` how it ended.
    fn end(mut self, outcome: Result<(), ReplayError>) -> Result<Report, ReplayError> {
        let how = match &outcome {
            Ok(()) if self.report.more => Ending::Paused,
            Ok(()) => Ending::Done,
            Err(ReplayError::Stopped) => Ending::Interrupted,
            Err(_) => Ending::Failed,
        };
        let why = outcome.as_ref().err().map(ToString::to_string);
        let told = self.tell(RedriveStep::Ended { outcome: how, why, counts: self.report.counts() });
        outcome.and(told).map(|()| self.report)
    }

    fn slices(&mut self, ordered: Ordered, scan: &mut Scan, watch: &mut Watch<'_>) -> Result<(), ReplayError> {
        for id in ordered.contradicting {
            self.report.tally.skip(
                "contradicting",
                &id,
                &"another letter says it is of the same record, and differs: one is forged",
            );
        }
        for slice in ordered.slices.iter().flat_map(|slice| slice.chunks(SLICE_LETTERS)) {
            if self.is_late() {
                return self.leave_off();
            }
            let Some(mut values) = fetch(scan, slice, (watch, self.redrive.until))? else {
                return self.leave_off();
            };
            for batch in slice.chunks(BATCH) {
                if watch.stop.is_cancelled() {
                    return Err(ReplayError::Stopped);
                }
                if self.batch(batch, &mut values, watch.stop)?.is_break() {
                    return Ok(());
                }
                let what = if self.redriver.is_some() { "redriving" } else { "deciding" };
                (watch.progress)(Progress { what, done: self.decided.min(self.all), all: self.all });
            }
        }
        Ok(())
    }

    /// Whether the time is over. Something is done by every call.
    fn is_late(&self) -> bool {
        self.decided > 0 && self.redrive.until.is_some_and(|until| self.letters.site.clock.elapsed() >= until)
    }

    /// Leaves the rest to the next call, which leaves alone what is marked. Where nothing is, or that is taken all the same, it would begin with
    /// the same letters, for ever.
    fn leave_off(&mut self) -> Result<(), ReplayError> {
        match (self.marked, self.redrive.again) {
            (0, _) => Err(ReplayError::Late),
            (done, Again::Include) => Err(ReplayError::Unfinished { done, all: self.all }),
            (_, Again::Skip) => {
                self.report.more = true;
                Ok(())
            }
        }
    }

    /// Decides on some letters in order, writes what follows, and marks those of which all is on the log. Breaks if the time is over by then.
    fn batch(
        &mut self,
        picks: &[Pick],
        values: &mut HashMap<LetterId, Letter>,
        stop: &CancellationToken,
    ) -> Result<ControlFlow<()>, ReplayError> {
        let (mut notified, mut held) = (BTreeMap::new(), 0);
        for (number, pick) in picks.iter().enumerate() {
            // One event may be for thousands.
            if self.is_late() {
                self.settle(picks, notified)?;
                return self.leave_off().map(ControlFlow::Break);
            }
            self.decided += 1 + pick.twins.len() as u64;
            self.report.duplicates += pick.twins.len() as u64;
            let Some(letter) = values.remove(&pick.id) else {
                self.report.tally.skip("gone", &pick.id, &"retention removed it just now");
                continue;
            };
            match self.letters.decide(&self.redrive.edition.rules, &letter, stop) {
                Ok(Verdict::Notify(notifications)) => {
                    if let Some(redriver) = &mut self.redriver {
                        redriver.scribe.notify(number, &notifications)?;
                    }
                    held += notifications.len();
                    notified.insert(number, notifications);
                    if held >= BATCH_NOTIFICATIONS {
                        self.settle(picks, std::mem::take(&mut notified))?;
                        held = 0;
                    }
                }
                Ok(Verdict::Ignore(reason)) => self.report.tally.ignore(reason.name()),
                Ok(Verdict::Bury(burial)) => self.report.tally.bury(&pick.id, burial),
                Err(Undecided::Registry(error)) => {
                    self.settle(picks, notified)?;
                    return Err(ReplayError::Registry(error.in_full()));
                }
                Err(Undecided::Stopped) => {
                    self.settle(picks, notified)?;
                    return Err(ReplayError::Stopped);
                }
                Err(error) => self.report.tally.skip(error.class(), &pick.id, &error.in_full()),
            }
        }
        self.settle(picks, notified).map(ControlFlow::Continue)
    }

    fn settle(&mut self, picks: &[Pick], mut notified: BTreeMap<usize, Vec<NotificationRecord>>) -> Result<(), ReplayError> {
        let too_large = match &mut self.redriver {
            Some(redriver) => redriver.scribe.settle()?.into_iter().collect::<BTreeSet<_>>(),
            None => BTreeSet::new(),
        };
        for number in too_large {
            notified.remove(&number);
            picks.get(number).into_iter().for_each(|pick| self.report.tally.bury(&pick.id, Burial::too_large()));
        }
        let done = notified
            .keys()
            .filter_map(|number| picks.get(*number))
            .flat_map(|pick| [pick.id].into_iter().chain(pick.twins.clone()));
        let mut by_partition = BTreeMap::<i32, Stretches>::new();
        for id in done {
            by_partition.entry(id.partition).or_default().insert(id.offset, id.offset.saturating_add(1));
        }
        if self.redriver.is_some() {
            self.marked += notified.len() as u64;
        }
        if !by_partition.is_empty() {
            let redriven = by_partition.into_iter().map(|(partition, offsets)| Redriven { partition, offsets }).collect();
            self.tell(RedriveStep::Progress { redriven })?;
        }
        notified.into_values().for_each(|notifications| self.report.tally.notify(notifications));
        Ok(())
    }
}

/// The letters of a slice; none if they could not be read in time.
fn fetch(
    scan: &mut Scan,
    slice: &[Pick],
    (watch, until): (&mut Watch<'_>, Option<Duration>),
) -> Result<Option<HashMap<LetterId, Letter>>, ReplayError> {
    let wanted = slice.iter().map(|pick| pick.id).collect::<BTreeSet<_>>();
    let (mut letters, part) = (HashMap::with_capacity(wanted.len()), Part { behind: None, until });
    let rest = read_part(&part, (scan, places(&wanted)), (watch, "fetching"), |FoundLetter { id, letter, .. }| {
        if let (true, Ok(letter)) = (wanted.contains(&id), letter) {
            letters.insert(id, letter);
        }
    })?;
    Ok(rest.is_none().then_some(letters))
}
