//! `tidings pending`: what nobody has acknowledged yet, and what was tried.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use tidings_core::ids::UserId;

use super::remote::{Asking, Remote, next_page, print_json, segment, text};
use super::table::table;
use crate::config::Config;

/// The most that one answer is asked for.
const PAGE: usize = 200;

/// Arguments of `pending`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what is pending of this user, also what has not been tried yet.
    user: Option<UserId>,
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the command.
///
/// # Errors
/// If no process answers, or it refuses.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(&args.asking.at, config)?;
    let path =
        args.user.as_ref().map_or_else(|| "/v1/pending".to_owned(), |user| format!("/v1/pending/{}", segment(user.as_str())));
    let (mut pending, mut counts, mut token) = (Vec::new(), Value::Null, None::<String>);
    loop {
        let left = args.limit.saturating_sub(pending.len());
        let page = left.clamp(1, PAGE.min(config.http.page_notifications.get()));
        let answer = remote.get(&args.asking.page(&path, token, Some(("limit", page.to_string())))).await?;
        pending.extend(answer["pending"].as_array().into_iter().flatten().take(left).cloned());
        counts = if counts.is_null() { answer["counts"].clone() } else { counts };
        token = next_page(&answer);
        if token.is_none() || pending.len() >= args.limit {
            break;
        }
    }
    let mut out = io::stdout().lock();
    if args.asking.json {
        print_json(&mut out, &json!({"pending": pending, "counts": counts, "more": token.is_some()}))?;
    } else {
        print(&mut out, &pending, (&counts, token.is_some()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, pending: &[Value], (counts, more): (&Value, bool)) -> io::Result<()> {
    if !pending.is_empty() {
        let header = ["user", "type", "id", "since", "attempts", "last came to", "next at"].map(str::to_owned).to_vec();
        let rows = [header].into_iter().chain(pending.iter().map(row)).collect::<Vec<_>>();
        table(out, &rows)?;
        writeln!(out)?;
    }
    let shown = pending.len();
    let more = if more { "; there is more (--limit)" } else { "" };
    match (counts["offline"].as_u64(), counts["unacknowledged"].as_u64()) {
        (Some(offline), Some(unacknowledged)) => {
            writeln!(out, "{shown} shown{more}; on the rungs wait {offline} offline, {unacknowledged} unacknowledged")
        }
        _ => writeln!(out, "{shown} pending{more}"),
    }
}

fn row(one: &Value) -> Vec<String> {
    let attempts = one["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let made = attempts.last().map(|last| text(&last["number"])).unwrap_or_default();
    let known = attempts.iter().rev().find(|attempt| attempt["outcome"] != "waiting");
    let known = known.map_or_else(|| "-".to_owned(), |attempt| text(&attempt["outcome"]));
    let field = |name: &str| text(&one[name]);
    vec![field("userId"), field("type"), field("id"), field("appendedAt"), made, known, field("nextAt")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_a_table_with_a_sum() {
        let tried = json!({"userId": "alice", "type": "payment_due", "id": "438e828e-0a38-5599-8fb1-76b0e4574c75",
            "appendedAt": "2026-01-31T12:00:00.000Z", "nextAt": "2026-01-31T12:03:07.000Z", "attempts": [
                {"number": 0, "outcome": "offline"}, {"number": 1, "outcome": "unacknowledged"}, {"number": 2, "outcome": "waiting"}]});
        let sent = json!({"userId": "bob", "type": "t", "id": "-", "appendedAt": "-", "attempts": [{"number": 0, "outcome": "waiting"}]});
        let mut out = Vec::new();
        print(&mut out, &[tried, sent], (&json!({"offline": 17, "unacknowledged": 3}), true)).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        user   type         id                                    since                     attempts  last came to    next at
        alice  payment_due  438e828e-0a38-5599-8fb1-76b0e4574c75  2026-01-31T12:00:00.000Z  2         unacknowledged  2026-01-31T12:03:07.000Z
        bob    t            -                                     -                         0         -

        2 shown; there is more (--limit); on the rungs wait 17 offline, 3 unacknowledged
        ");
    }
}
