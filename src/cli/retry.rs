//! `tidings retry`: what is pending is sent again now, to the devices that are connected.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;
use tidings_core::ids::UserId;

use super::remote::{Asking, Remote, next_page, print_json, segment};
use crate::config::Config;

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose.
    #[arg(required_unless_present = "all")]
    user: Option<UserId>,
    /// Everybody's who is connected, at `http.retries_per_second`.
    #[arg(long, conflicts_with = "user")]
    all: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Runs the command.
///
/// # Errors
/// If no process answers, or it refuses. What was sent by then is sent.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(&args.asking.at, config)?;
    let path =
        args.user.as_ref().map_or_else(|| "/v1/retry-all".to_owned(), |user| format!("/v1/retry/{}", segment(user.as_str())));
    let (mut sent, mut offline, mut earlier, mut token) = (0, 0, 0, None::<String>);
    loop {
        let answer = remote.post(&args.asking.page(&path, token, None), None).await?;
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        sent += count("sent");
        offline += count("offline");
        earlier += count("earlier");
        token = next_page(&answer);
        if token.is_none() {
            break;
        }
    }
    let mut out = io::stdout().lock();
    if args.asking.json {
        print_json(&mut out, &json!({"sent": sent, "offline": offline, "earlier": earlier}))?;
    } else {
        let of_earlier = match earlier {
            0 => String::new(),
            earlier => format!("; {earlier} wait in an earlier epoch, and are sent when couriers have carried them over"),
        };
        let offline = format!("{offline} are pending of users who have no device connected, and are sent when they come");
        writeln!(out, "{sent} sent again; {offline}{of_earlier}")?;
    }
    Ok(ExitCode::SUCCESS)
}
