//! `tidings undelivered`: what ended without success, and beginning its ladder anew.
//!
//! Owns: the words that are given and printed, and the exit codes, which are those of `dlq`: 3 if some that were meant could not be redriven.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};
use tidings_core::ids::{NotificationId, UserId};

use super::progress::Moment;
use super::remote::{Remote, Where, print_json, text, with_query};
use super::shown::LEFT;
use super::table::table;
use crate::clock::Clock;
use crate::config::Config;

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
    reason: Option<String>,
    /// Those of this user; may be given several times.
    #[arg(long = "user", value_name = "USER")]
    users: Vec<UserId>,
    /// Those of this type; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<String>,
    /// This notification; may be given several times.
    #[arg(long = "id", value_name = "ID")]
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
    newest: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
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
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

impl Filter {
    fn is_all(&self) -> bool {
        let Self { reason, users, kinds, ids, since, until } = self;
        let is_timed = since.is_some() || until.is_some();
        reason.is_none() && users.is_empty() && kinds.is_empty() && ids.is_empty() && !is_timed
    }

    fn times(&self, clock: Clock) -> [Option<String>; 2] {
        [self.since, self.until].map(|moment| moment.map(|moment| moment.before(clock.now()).to_string()))
    }

    fn parameters(&self, clock: Clock) -> Vec<(&'static str, String)> {
        let [since, until] = self.times(clock);
        let reason = self.reason.iter().map(|reason| ("reason", reason.clone()));
        let users = self.users.iter().map(|user| ("user", user.to_string()));
        let kinds = self.kinds.iter().map(|kind| ("type", kind.clone()));
        let ids = self.ids.iter().map(|id| ("id", id.to_string()));
        let times = since.map(|since| ("since", since)).into_iter().chain(until.map(|until| ("until", until)));
        reason.chain(users).chain(kinds).chain(ids).chain(times).collect()
    }

    fn selection(&self, clock: Clock) -> Value {
        let [since, until] = self.times(clock);
        let Self { reason, users, kinds, ids, .. } = self;
        json!({"reason": reason, "users": users, "types": kinds, "ids": ids, "since": since, "until": until})
    }
}

/// Runs the command.
///
/// # Errors
/// If no process answers, or it refuses.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(args, config).await,
        Command::Redrive(args) => redrive(args, config).await,
    }
}

async fn list(args: ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut parameters = args.filter.parameters(Clock::start());
    parameters.push(("newest", args.newest.to_string()));
    let listing = Remote::new(&args.at, config)?.get(&with_query("/v1/undelivered", &parameters)).await?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &listing)?
    } else {
        print_listing(&mut out, &listing)?
    }
    Ok(ExitCode::SUCCESS)
}

async fn redrive(args: RedriveArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.execute && args.filter.is_all() && !args.all {
        anyhow::bail!("say which (--reason, --user, --type, --id, --since, --until), or --all of them; nothing was done");
    }
    let body = json!({"selection": args.filter.selection(Clock::start()), "execute": args.execute});
    let report = Remote::new(&args.at, config)?.post("/v1/undelivered/redrive", Some(&body)).await?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &report)?
    } else {
        print_report(&mut out, &report)?
    }
    let is_left = report["skipped"]["too_large"].as_u64().is_some_and(|left| left > 0);
    Ok(if is_left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS })
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
    let (all, redriven) = (count("undelivered"), count("redriven"));
    writeln!(out, "{all} undelivered, {redriven} redriven, {} open", all.saturating_sub(redriven))
}

fn print_report(out: &mut impl Write, report: &Value) -> io::Result<()> {
    let done = if report["executed"] == true { "redriven" } else { "would be redriven (nothing was written: this is a dry run)" };
    writeln!(out, "{} selected; {done}: {}", report["selected"], report["redriven"])?;
    let mut skipped = report["skipped"].as_object().into_iter().flatten();
    skipped.try_for_each(|(why, count)| writeln!(out, "skipped ({why}): {count}"))
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
        print_report(&mut out, &json!({"executed": false, "selected": 3, "redriven": 2, "skipped": {"redriven_before": 1}}))
            .unwrap();
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
