//! `tidings undelivered`: what ended without success, and beginning its ladder anew.
//!
//! Owns: the words that are given and printed, and the exit codes, which are those of `dlq`: 3 if some that were meant could not be redriven.
//! A list is read from the brokers, however long that takes. What has been delivered meanwhile a running process knows: it is asked to
//! redrive, a part at a time. Neighbours: `replay` does it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::record::retry::Outcome;
use tidings_core::selection::UndeliveredFilter;
use tokio_util::sync::CancellationToken;

use super::progress::{Bar, Elsewhere, Moment, stoppable};
use super::remote::{Remote, Where, next_page, print_json, text};
use super::shown::{LEFT, safe};
use super::table::table;
use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::cluster::Cluster;
use crate::replay::{Undelivered, UndeliveredWanted, Watch};

/// Arguments of `undelivered`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count what ended without success, by reason and type, and name the newest.
    List(ListArgs),
    /// Begin ladders anew, with --execute: what was not delivered is sent again, and waits on the rungs. Each once.
    Redrive(RedriveArgs),
}

/// Which. All that is given must hold; of one option given several times, any.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Those that ended for this reason: offline or unacknowledged.
    #[arg(long)]
    reason: Option<Outcome>,
    /// Those of this user; may be given several times.
    #[arg(long = "user", value_name = "USER")]
    users: Vec<UserId>,
    /// Those of this type; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<String>,
    /// This notification; may be given several times.
    #[arg(long = "id", value_name = "ID", value_parser = notification)]
    ids: Vec<NotificationId>,
    /// Those that ended at this time or later: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Those that ended before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// Name so many of the newest.
    #[arg(long, value_name = "N", default_value_t = 20)]
    newest: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RedriveArgs {
    #[command(flatten)]
    filter: Filter,
    /// All that were not redriven yet.
    #[arg(long, conflicts_with_all = ["reason", "users", "kinds", "ids", "since", "until"])]
    all: bool,
    /// Write nothing and count what would become of them. This is what happens without --execute, too.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// The most a second [default, and at most: `http.retries_per_second` of the process that is asked]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

fn notification(text: &str) -> Result<NotificationId, String> {
    let example = "438e828e-0a38-5599-8fb1-76b0e4574c75";
    text.parse().map_err(|_| format!("a notification's id looks like {example}, as `tidings undelivered list` shows it"))
}

impl Filter {
    fn read(self, clock: Clock) -> UndeliveredFilter {
        let now = clock.now();
        UndeliveredFilter {
            reason: self.reason,
            users: self.users.into_iter().collect(),
            kinds: self.kinds.into_iter().collect(),
            ids: self.ids.into_iter().collect(),
            since: self.since.map(|moment| moment.before(now)),
            until: self.until.map(|moment| moment.before(now)),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If the brokers do not answer; of a redrive, if no process answers, or it refuses.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => {
            let clock = Clock::start();
            let undelivered = Undelivered::new(Cluster::new(&config.kafka)?, clock);
            stoppable(move |stop| list(&undelivered, args, (clock, stop))).await
        }
        Command::Redrive(args) => redrive(args, config).await,
    }
}

fn list(undelivered: &Undelivered, args: ListArgs, (clock, stop): (Clock, &CancellationToken)) -> anyhow::Result<ExitCode> {
    let bar = Bar::new(Elsewhere::Silent);
    let wanted = UndeliveredWanted { filter: args.filter.read(clock), newest: args.newest, ..UndeliveredWanted::default() };
    let listing = undelivered.list(&wanted, &mut Watch { stop, progress: &mut |progress| bar.show(progress) })?;
    bar.gone();
    let (mut out, listing) = (io::stdout().lock(), serde_json::to_value(&listing)?);
    if args.json {
        print_json(&mut out, &listing)?
    } else {
        print_listing(&mut out, &listing)?
    }
    Ok(ExitCode::SUCCESS)
}

async fn redrive(args: RedriveArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let filter = args.filter.read(Clock::start());
    filter.check()?;
    if args.execute && filter.is_all() && !args.all {
        anyhow::bail!("say which (--reason, --user, --type, --id, --since, --until), or --all of them; nothing was done");
    }
    let remote = Remote::new(&args.at, config)?;
    let (mut sum, mut token) = (Sum { executed: args.execute, ..Sum::default() }, None);
    loop {
        let body = json!({"selection": selection(&filter), "execute": args.execute, "rate": args.rate, "pageToken": token});
        let report = remote.post("/v1/undelivered/redrive", Some(&body)).await?;
        token = next_page(&report);
        sum.add(serde_json::from_value(report).context("the answer is no report: is it tidings of this release?")?);
        if token.is_none() {
            break;
        }
        // Nobody may listen; that stops nothing.
        let _ = writeln!(io::stderr().lock(), "{} selected, {} redriven so far", sum.selected, sum.redriven);
    }
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &serde_json::to_value(&sum)?)?
    } else {
        print_report(&mut out, &sum)?
    }
    let is_left = ["too_large", "unreadable", "gone"].iter().any(|why| sum.skipped.contains_key(*why));
    Ok(if is_left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS })
}

fn selection(filter: &UndeliveredFilter) -> Value {
    let UndeliveredFilter { reason, users, kinds, ids, since, until } = filter;
    json!({"reason": reason, "users": users, "types": kinds, "ids": ids, "since": since, "until": until})
}

/// The reports of all parts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sum {
    executed: bool,
    selected: u64,
    redriven: u64,
    skipped: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unproven: Option<u64>,
}

impl Sum {
    fn add(&mut self, part: Self) {
        self.selected += part.selected;
        self.redriven += part.redriven;
        if let Some(unproven) = part.unproven {
            *self.unproven.get_or_insert_default() += unproven;
        }
        for (why, count) in part.skipped {
            *self.skipped.entry(why).or_default() += count;
        }
    }
}

fn print_listing(out: &mut impl Write, listing: &Value) -> io::Result<()> {
    let rows = |name: &str, columns: &[(&str, &str)]| {
        let header = columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>();
        let row = |one: &Value| columns.iter().map(|(_, field)| text(&one[*field])).collect::<Vec<_>>();
        let rows = listing[name].as_array().into_iter().flatten().map(row).collect::<Vec<_>>();
        if rows.is_empty() { rows } else { [header].into_iter().chain(rows).collect() }
    };
    let groups =
        [("reason", "reason"), ("type", "type"), ("undelivered", "undelivered"), ("redriven", "redriven"), ("last at", "lastAt")];
    let newest = [
        ("ended at", "endedAt"),
        ("user", "userId"),
        ("type", "type"),
        ("id", "id"),
        ("attempts", "attempts"),
        ("redriven", "redriven"),
        ("reason", "reason"),
    ];
    for rows in [rows("groups", &groups), rows("newest", &newest)].into_iter().filter(|rows| !rows.is_empty()) {
        table(out, &rows)?;
        writeln!(out)?;
    }
    let count = |name: &str| listing[name].as_u64().unwrap_or(0);
    let (all, redriven, unreadable) = (count("undelivered"), count("redriven"), count("unreadable"));
    let unreadable = if unreadable > 0 { format!("; {unreadable} records do not read") } else { String::new() };
    writeln!(out, "{all} undelivered, {redriven} redriven, {} open{unreadable}", all.saturating_sub(redriven))
}

fn print_report(out: &mut impl Write, report: &Sum) -> io::Result<()> {
    let done = if report.executed { "redriven" } else { "would be redriven (nothing was written: this is a dry run)" };
    writeln!(out, "{} selected; {done}: {}", report.selected, report.redriven)?;
    if let Some(unproven) = report.unproven {
        let told = "ended longer ago than it is known what was begun anew since: one that lies there twice may be begun twice";
        writeln!(out, "of these {unproven} {told}")?;
    }
    report.skipped.iter().try_for_each(|(why, count)| writeln!(out, "skipped ({}): {count}", safe(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_groups_the_newest_and_a_sum() {
        let listing = json!({"undelivered": 3, "redriven": 1,
            "groups": [{"reason": "offline", "type": "payment_due", "undelivered": 3, "redriven": 1, "lastAt": "2026-01-31T12:00:00.000Z"}],
            "newest": [{"endedAt": "2026-01-31T12:00:00.000Z", "userId": "alice", "type": "payment_due", "id": "438e", "attempts": 32,
                "redriven": false, "reason": "offline"}]});
        let mut out = Vec::new();
        print_listing(&mut out, &listing).unwrap();
        let mut sum = Sum { redriven: 1, ..Sum::default() };
        sum.add(Sum { selected: 3, redriven: 1, skipped: [("redriven_before".to_owned(), 1)].into(), ..Sum::default() });
        print_report(&mut out, &sum).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        reason   type         undelivered  redriven  last at
        offline  payment_due  3            1         2026-01-31T12:00:00.000Z

        ended at                  user   type         id    attempts  redriven  reason
        2026-01-31T12:00:00.000Z  alice  payment_due  438e  32        false     offline

        3 undelivered, 1 redriven, 2 open
        3 selected; would be redriven (nothing was written: this is a dry run): 2
        skipped (redriven_before): 1
        ");
    }
}
