//! `tidings replay`: records of a domain topic, decided on once more.
//!
//! Owns: the words that are given and printed, and the exit codes: 0 all is well, 1 it could not be done or was stopped, 2 it was not
//! understood, 3 some records would be buried or cannot be decided on. Neighbours: `replay` does it, `shown` prints.

use std::cell::Cell;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tidings_core::ids::UserId;
use tidings_core::record::audit::{Ending, EventSelection};
use tidings_core::selection::PartRange;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::progress::{Bar, Elsewhere, Moment, stoppable};
use super::{json, shown};
use crate::clock::Clock;
use crate::config::{Config, Edition, RulesSource};
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Plan};
use crate::registry::Registry;
use crate::replay::{Events, Mode, Planned, Progress, Replay, ReplayError, Replayed, Selected, Watch};
use crate::telemetry::Metrics;

/// How often a line of JSON says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
    /// All records of the topic, where nothing narrows them.
    #[arg(long)]
    all: bool,
    /// A folder of rules to decide by [default: those of `pipeline.rules`]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Write nothing and count what would follow. This is what happens without --execute, too.
    #[arg(long, conflicts_with_all = ["execute", "resume"])]
    dry_run: bool,
    /// Send the notifications.
    #[arg(long)]
    execute: bool,
    /// Go on with a replay that was stopped, killed, or had sent its canaries: where it was, with all that it was told.
    #[arg(long, value_name = "ID", conflicts_with_all = ["Filter", "all", "execute"])]
    resume: Option<Uuid>,
    /// The most notifications a second.
    #[arg(long, value_name = "N", default_value = "1000")]
    rate: NonZeroU32,
    /// Stop after so many events that notify somebody, and say how to go on.
    #[arg(long, value_name = "N")]
    canary: Option<NonZeroU64>,
    /// Whose name stands on the topic audit.
    #[arg(long = "as", value_name = "WHO", env = "USER", hide_env_values = true, default_value = "operator")]
    who: UserId,
    /// Print lines of JSON: what is begun, once a second how far it is, and the report.
    #[arg(long)]
    json: bool,
}

/// Which records, and whom what follows is for. All that is given must hold; of one option given several times, any.
#[derive(Debug, clap::Args)]
#[group(id = "Filter", multiple = true)]
struct Filter {
    /// The topic whose records are decided on: one of `pipeline.topics`, or `requests` with its prefix.
    #[arg(long, value_name = "TOPIC", required_unless_present = "resume")]
    topic: Option<String>,
    /// All of this partition; may be given several times.
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<u16>,
    /// These offsets of a partition: 2@17..90 is partition 2, from 17 to before 90; either end may be left out. Once for each partition.
    #[arg(long, value_name = "RANGE")]
    offsets: Vec<PartRange>,
    /// Those of this time or later: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Those of before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Those with this key; may be given several times.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Those with events of this type, or a pattern of types as booking:*; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Those with this header, NAME=VALUE, or NAME for any value; may be given several times.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Those whose event says so: an expression as `when` of a rule, for instance 'amount > 100 and currency == "EUR"'.
    #[arg(long = "where", value_name = "EXPRESSION")]
    expression: Option<String>,
    /// Write the notifications to this topic in place of sending them, to look at them.
    #[arg(long, value_name = "TOPIC")]
    to_topic: Option<String>,
    /// Send all of them to this user, and to nobody else.
    #[arg(long, value_name = "USER")]
    to_user: Option<UserId>,
    /// Give them new ids, so that they are shown to whom they were shown before. The same however often this replay is gone on with.
    #[arg(long)]
    force: bool,
}

impl Filter {
    fn read(self, clock: Clock) -> Selected {
        let now = clock.now();
        let whole = |partition: u16| PartRange { partition: partition.into(), from: None, to: None };
        let events = EventSelection {
            keys: self.keys,
            headers: self.headers,
            types: self.types,
            expression: self.expression,
            since: self.since.map(|moment| moment.before(now)),
            until: self.until.map(|moment| moment.before(now)),
        };
        Selected {
            topic: self.topic.unwrap_or_default(),
            ranges: self.partitions.into_iter().map(whole).chain(self.offsets).collect(),
            events,
            to_topic: self.to_topic,
            to_user: self.to_user,
            new_ids: self.force,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If the brokers do not answer, rules have problems, or what is asked for means nothing.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    let mut cluster = Cluster::new(&config.kafka)?;
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
    if args.execute || args.resume.is_some() {
        let epoch = topics::check(&cluster, &plan).await?;
        cluster = cluster.of_epoch(&epoch);
    }
    let registry = Registry::start(&config.registry, clock, &Metrics::new())?;
    let events = Events::new(cluster, &config.pipeline, plan.ids_kept(), (config.node.name()?, clock)).with_schemas(registry);
    let source = RulesSource::new(&config.pipeline, &config.courier).or_of(args.rules.clone());
    let edition = Edition::read(&source)?;
    stoppable(move |stop| replay(&events, edition, args, (clock, stop))).await
}

fn replay(events: &Events, edition: Edition, args: Args, (clock, stop): (Clock, &CancellationToken)) -> anyhow::Result<ExitCode> {
    let is_written = args.execute || args.resume.is_some();
    let planned = match args.resume {
        Some(id) => events.resume(id, &Watch { stop, progress: &mut |_| {} })?,
        None => {
            let selected = args.filter.read(clock);
            if is_written && selected.ranges.is_empty() && selected.events.is_all() && !args.all {
                anyhow::bail!(
                    "say which records (--offsets, --partition, --since, --until, --key, --type, --header, --where), or --all of the \
                     topic; nothing was sent"
                );
            }
            events.plan(selected)?
        }
    };
    if args.rules.is_none() {
        planned.expect_rules(&edition.version)?;
    }
    let mode = if is_written { Mode::Execute { who: args.who } } else { Mode::Try };
    let how = Replay { edition, mode, rate: args.rate, canary: args.canary.filter(|_| is_written) };
    let teller = if args.json { Teller::Lines(Lines::new(clock)) } else { Teller::Bar(Bar::new(Elsewhere::Tenths)) };
    teller.begun(&planned, &how.mode)?;
    let id = planned.id();
    let replayed = events.replay(planned, &how, &mut Watch { stop, progress: &mut |progress| teller.progress(progress) });
    let go_on = format!("tidings replay --resume {id}");
    match replayed {
        Ok(replayed) => teller.ended(&replayed, &go_on),
        Err(error) => {
            teller.gone();
            // What was refused is not mended by going on.
            let can_go_on = is_written && !matches!(error, ReplayError::Plan(_));
            let error = anyhow::Error::from(error);
            Err(if can_go_on { error.context(format!("replay {id} stopped; once that is mended: {go_on}")) } else { error })
        }
    }
}

/// How somebody is told.
enum Teller {
    Bar(Bar),
    Lines(Lines),
}

/// Lines of JSON for scripts.
struct Lines {
    clock: Clock,
    /// When the last one was written, and how far it was.
    last: Cell<(Duration, u64)>,
}

impl Teller {
    fn begun(&self, planned: &Planned, mode: &Mode) -> anyhow::Result<()> {
        let (id, plan, offsets) = (planned.id(), planned.plan(), planned.offsets());
        match self {
            Self::Lines(lines) => {
                let executed = *mode != Mode::Try;
                lines.say(&json!({"kind": "begun", "id": id, "executed": executed, "plan": plan, "offsets": offsets}))
            }
            Self::Bar(_) if *mode == Mode::Try => Ok(()),
            Self::Bar(_) => {
                let topic = shown::safe(&plan.topic);
                // Known also to whom it is killed. Nobody may listen; that stops nothing.
                let _ = writeln!(
                    io::stderr().lock(),
                    "replay {id} of {offsets} offsets of {topic}; if it is stopped: tidings replay --resume {id}"
                );
                Ok(())
            }
        }
    }

    fn progress(&self, progress: Progress) {
        match self {
            Self::Bar(bar) => bar.show(progress),
            Self::Lines(lines) => lines.progress(progress),
        }
    }

    fn gone(&self) {
        if let Self::Bar(bar) = self {
            bar.gone();
        }
    }

    fn ended(&self, replayed: &Replayed, go_on: &str) -> anyhow::Result<ExitCode> {
        let Replayed { outcome, report } = replayed;
        self.gone();
        match self {
            Self::Lines(lines) => {
                let resume = (*outcome != Ending::Done && report.executed).then_some(go_on);
                lines.say(&json!({"kind": "ended", "outcome": outcome, "resume": resume, "report": report}))?;
            }
            Self::Bar(_) => print(&mut io::stdout().lock(), replayed, go_on)?,
        }
        Ok(match outcome {
            Ending::Interrupted | Ending::Failed => ExitCode::FAILURE,
            Ending::Done | Ending::Paused if report.tally.is_clean() => ExitCode::SUCCESS,
            Ending::Done | Ending::Paused => ExitCode::from(shown::LEFT),
        })
    }
}

impl Lines {
    fn new(clock: Clock) -> Self {
        Self { clock, last: Cell::new((Duration::ZERO, 0)) }
    }

    fn progress(&self, Progress { what, done, all }: Progress) {
        let (now, (at, before)) = (self.clock.elapsed(), self.last.get());
        let since = now.saturating_sub(at);
        if since < LINE_EVERY {
            return;
        }
        self.last.set((now, done));
        let rate = (done.saturating_sub(before) as f64 / since.as_secs_f64()).round();
        // Nobody may listen; what is written for operators goes on.
        let _ = self.say(&json!({"kind": "progress", "what": what, "done": done, "all": all, "perSecond": rate}));
    }

    fn say(&self, line: &serde_json::Value) -> anyhow::Result<()> {
        json(&mut io::stdout().lock(), line)
    }
}

fn print(out: &mut impl Write, Replayed { outcome, report }: &Replayed, go_on: &str) -> io::Result<()> {
    let (topic, tally) = (shown::safe(&report.topic), &report.tally);
    let done = if report.executed { "sent" } else { "would send (nothing was written: this is a dry run)" };
    writeln!(out, "{} records of {topic} read, {} are meant; by rules {}", report.read, report.selected, report.rules)?;
    writeln!(out, "{done}: {} notifications of {} events", tally.notifications, tally.notified)?;
    shown::tally(out, tally, "buried if it came now")?;
    if report.expired > 0 {
        writeln!(out, "expired, and not sent: {} notifications", report.expired)?;
    }
    if report.gone > 0 {
        writeln!(out, "gone: {} offsets that retention has removed", report.gone)?;
    }
    if report.too_old > 0 {
        writeln!(
            out,
            "too old: of {} events nobody knows any more who was notified; to send them takes --force, or a later --since",
            report.too_old
        )?;
    }
    match (outcome, report.executed) {
        (Ending::Paused, _) => writeln!(out, "stopped behind the canaries; look at them, and go on: {go_on}"),
        (Ending::Interrupted | Ending::Failed, true) => writeln!(out, "stopped; go on: {go_on}"),
        (Ending::Interrupted | Ending::Failed, false) => writeln!(out, "stopped"),
        (Ending::Done, _) => Ok(()),
    }
}
