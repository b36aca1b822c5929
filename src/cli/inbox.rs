//! `tidings inbox`: the tables, made anew from the log.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::progress::{Bar, Elsewhere};
use crate::clock::Clock;
use crate::config::Config;
use crate::inbox::{Heirlooms, Progressed, RebuildParts, Rebuilt, rebuild};
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Plan};
use crate::replay::Progress;
use crate::store::{Shadow, Swapped};

/// Arguments of `inbox`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fold the whole log once more into tables beside those in use, and put them in their place at once. `serve` may run meanwhile.
    /// Killed, it has changed nothing.
    Rebuild(RebuildArgs),
}

/// Arguments of `inbox rebuild`.
#[derive(Debug, clap::Args)]
struct RebuildArgs {
    /// Take nothing over from the tables in use, not even what Kafka no longer has: it is gone then.
    #[arg(long)]
    log_only: bool,
}

/// Does what was asked.
///
/// # Errors
/// If brokers or database do not answer or refuse, or somebody else rebuilds.
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Command::Rebuild(args) = &args.command;
    let (cluster, clock) = (Cluster::new(&config.kafka)?, Clock::start());
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
    // Before anything is made: what is wrong there is not told at the end only.
    topics::check(&cluster, &plan).await?;
    let shadow = Shadow::begin(&config.store).await.with_context(|| format!("{} (`store.url`)", config.store.url))?;
    let heirlooms = if args.log_only { Heirlooms::Dropped } else { Heirlooms::Kept };
    let parts = RebuildParts { cluster, plan, config: config.inbox.clone(), clock, shadow, heirlooms };
    let bar = Bar::new(Elsewhere::Tenths);
    let count = |offsets: i64| u64::try_from(offsets).unwrap_or(0);
    let show = move |Progressed { offsets, of }: &Progressed| {
        bar.show(Progress { what: "folding", done: count(*offsets), all: count(*of) });
        if offsets >= of {
            bar.gone();
        }
    };
    let rebuilt = rebuild(parts, show).await;
    let rebuilt = rebuilt.with_context(|| format!("the tables of {} are as they were", config.store.url))?;
    writeln!(std::io::stdout().lock(), "{} {}", config.store.url, summary(&rebuilt, clock.elapsed().as_secs_f64()))?;
    Ok(ExitCode::SUCCESS)
}

fn summary(rebuilt: &Rebuilt, seconds: f64) -> String {
    let Rebuilt { epochs, offsets, unreadable, inherited, swapped: Swapped { before, after, gone } } = rebuilt;
    let epochs = epochs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "is folded anew from {offsets} offsets of epoch {epochs} in {seconds:.1} s: {after} notifications can be read, {before} before"
    );
    if *inherited > 0 {
        text += &format!("; {inherited} rows that Kafka no longer has were taken over from the old tables");
    }
    if *gone > 0 {
        text += &format!("; {gone} of the notifications before are gone, for they are too old, too many or not on the log");
    }
    if *unreadable > 0 {
        text += &format!("; {unreadable} records do not read and were passed over: they were buried in dlq when they came");
    }
    text
}
