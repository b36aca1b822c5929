//! `tidings dlq`: what was buried, and trying it again.
//!
//! Owns: the words that are given and printed, and the exit codes: 0 all is well, 1 it could not be done, 2 it was not understood, 3 some
//! letters would stay. Nothing of a record reaches a terminal as it is: control characters are shown, not obeyed. Neighbours: `replay`
//! does it, `show` beside prints.

mod show;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use tidings_core::ids::UserId;
use tidings_core::record::letter::LetterId;
use tidings_core::selection::LetterFilter;
use tokio_util::sync::CancellationToken;

use super::json;
use super::progress::{Bar, Elsewhere, Moment, stoppable};
use super::shown::LEFT;
use crate::clock::Clock;
use crate::config::{Config, Edition, RulesSource};
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Plan};
use crate::registry::Registry;
use crate::replay::{Again, DeadLetters, GroupBy, Mode, Part, Redrive, ReplayError, Wanted, Watch};
use crate::telemetry::Metrics;

/// Arguments of `dlq`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count what lies in dlq, in groups, with the newest letters if they are wanted.
    List(ListArgs),
    /// Show one letter: bytes, headers, what was wrong, and what would become of it now.
    Show(ShowArgs),
    /// Decide anew on letters and, with --execute, send what follows. Each once, in the order of their records.
    Redrive(RedriveArgs),
    /// Write letters as lines of JSON, bytes exactly (base64).
    Export(ExportArgs),
}

/// Which letters. All that is given must hold; of one option given several times, any.
#[derive(Debug, Clone, clap::Args)]
struct Filter {
    /// Those with this class of error, for instance template_undefined; may be given several times.
    #[arg(long = "reason", value_name = "CLASS")]
    reasons: Vec<String>,
    /// Those that this rule could not be rendered for; may be given several times.
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// Those that lay on this topic; may be given several times.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// This one, by its partition and offset on dlq, for instance 2@17; may be given several times.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<LetterId>,
    /// Those buried at this time or later: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Those buried before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// By what they are grouped; several with commas between.
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "reason")]
    group_by: Vec<GroupBy>,
    /// Name so many of the newest letters, too.
    #[arg(long, value_name = "N", default_value_t = 0)]
    newest: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The letter: its partition and offset on dlq, for instance 2@17.
    id: LetterId,
    /// A folder of rules to try on it [default: those of `pipeline.rules`]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RedriveArgs {
    #[command(flatten)]
    filter: Filter,
    /// All letters that have not been redriven yet.
    #[arg(long, conflicts_with_all = ["reasons", "rules", "topics", "ids", "since", "until"])]
    all: bool,
    /// A folder of rules to decide by [default: those of `pipeline.rules`]
    #[arg(long = "rules", value_name = "DIR", id = "rules_folder")]
    rules: Option<PathBuf>,
    /// Write nothing and count what would become of them. This is what happens without --execute, too.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Send the notifications.
    #[arg(long)]
    execute: bool,
    /// Take letters that were redriven before, too. Their notifications have the same ids.
    #[arg(long)]
    again: bool,
    /// Whose name stands on the topic audit.
    #[arg(long = "as", value_name = "WHO", env = "USER", hide_env_values = true, default_value = "operator")]
    who: UserId,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    filter: Filter,
    /// The file to write; `-` or nothing is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

impl Filter {
    fn read(self, clock: Clock) -> LetterFilter {
        let now = clock.now();
        LetterFilter {
            reasons: self.reasons.into_iter().collect(),
            rules: self.rules.into_iter().collect(),
            topics: self.topics.into_iter().collect(),
            ids: self.ids.into_iter().collect(),
            since: self.since.map(|moment| moment.before(now)),
            until: self.until.map(|moment| moment.before(now)),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If the brokers do not answer, rules have problems, there is no such letter, or it is stopped.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    let mut cluster = Cluster::new(&config.kafka)?;
    if matches!(&args.command, Command::Redrive(args) if args.execute) {
        let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
        let epoch = topics::check(&cluster, &plan).await?;
        cluster = cluster.of_epoch(&epoch);
    }
    let registry = Registry::start(&config.registry, clock, &Metrics::new())?;
    let letters = DeadLetters::new(cluster, &config.pipeline, config.node.name()?, clock).with_schemas(registry);
    let edition = |folder: Option<PathBuf>| Edition::read(&RulesSource::new(&config.pipeline, &config.courier).or_of(folder));
    match args.command {
        Command::List(args) => stoppable(move |stop| list(&letters, args, (clock, stop))).await,
        Command::Show(args) => {
            let edition = edition(args.rules.clone())?;
            stoppable(move |stop| show(&letters, &edition, (&args, stop))).await
        }
        Command::Redrive(args) => {
            let edition = edition(args.rules.clone())?;
            stoppable(move |stop| redrive(&letters, edition, args, (clock, stop))).await
        }
        Command::Export(args) => stoppable(move |stop| export(&letters, args, (clock, stop))).await,
    }
}

/// When a command was given, and what stops it.
type Called<'a> = (Clock, &'a CancellationToken);

fn list(letters: &DeadLetters, args: ListArgs, (clock, stop): Called<'_>) -> anyhow::Result<ExitCode> {
    let (filter, part) = (args.filter.read(clock), Part::default());
    let wanted = Wanted { filter, part, by: args.group_by, letters: args.newest };
    let bar = Bar::new(Elsewhere::Silent);
    let listing = letters.list(&wanted, &mut Watch { stop, progress: &mut |progress| bar.show(progress) })?;
    bar.gone();
    let mut out = io::stdout().lock();
    if args.json {
        json(&mut out, &listing)?
    } else {
        show::listing(&mut out, &wanted, &listing)?
    }
    Ok(ExitCode::SUCCESS)
}

fn show(letters: &DeadLetters, edition: &Edition, (args, stop): (&ShowArgs, &CancellationToken)) -> anyhow::Result<ExitCode> {
    let mut progress = |_| {};
    let mut watch = Watch { stop, progress: &mut progress };
    let (letter, shown) = letters.one(args.id, &mut watch)?;
    let trial = letters.trial(&letter, edition, &watch)?;
    let mut out = io::stdout().lock();
    if args.json {
        json(&mut out, &serde_json::json!({ "letter": shown, "now": trial }))?;
    } else {
        show::letter(&mut out, &letter, &shown, &trial)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn redrive(letters: &DeadLetters, edition: Edition, args: RedriveArgs, (clock, stop): Called<'_>) -> anyhow::Result<ExitCode> {
    let filter = args.filter.read(clock);
    if args.execute && filter.is_all() && !args.all {
        anyhow::bail!(
            "say which letters (--reason, --rule, --topic, --id, --since, --until), or --all of them; nothing was sent"
        );
    }
    let mode = if args.execute { Mode::Execute { who: args.who } } else { Mode::Try };
    let again = if args.again { Again::Include } else { Again::Skip };
    let bar = Bar::new(Elsewhere::Tenths);
    let wanted = Redrive { filter, edition, mode, again, until: None, most: None };
    let report = letters.redrive(&wanted, &mut Watch { stop, progress: &mut |progress| bar.show(progress) })?;
    bar.gone();
    let mut out = io::stdout().lock();
    if args.json {
        json(&mut out, &report)?
    } else {
        show::report(&mut out, &report)?
    }
    Ok(if report.tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(LEFT) })
}

fn export(letters: &DeadLetters, args: ExportArgs, (clock, stop): Called<'_>) -> anyhow::Result<ExitCode> {
    let mut out: Box<dyn Write> = if args.output.as_os_str() == "-" {
        Box::new(io::BufWriter::new(io::stdout().lock()))
    } else {
        let file = std::fs::File::create(&args.output);
        Box::new(io::BufWriter::new(file.with_context(|| format!("{} could not be written", args.output.display()))?))
    };
    let bar = Bar::new(Elsewhere::Silent);
    let mut written = Ok(());
    let reader_gone = stop.child_token();
    let read = letters.export(
        &args.filter.read(clock),
        &mut Watch { stop: &reader_gone, progress: &mut |progress| bar.show(progress) },
        |line| {
            if written.is_ok() {
                written = writeln!(out, "{line}");
                if written.is_err() {
                    reader_gone.cancel();
                }
            }
        },
    );
    bar.gone();
    written.and_then(|()| out.flush()).context("not all letters could be written")?;
    read.map(|()| ExitCode::SUCCESS).map_err(ReplayError::into)
}
