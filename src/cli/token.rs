//! `tidings token`: a token to try things with, signed with the configured secret.

use std::io::Write as _;
use std::process::ExitCode;

use tidings_core::ids::UserId;
use tidings_core::time::Delay;

use crate::auth;
use crate::clock::Clock;
use crate::config::Config;

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user whom it names.
    #[arg(long)]
    user: UserId,
    /// A role of the user; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How long it is valid.
    #[arg(long, default_value = "1h")]
    expires: Delay,
}

/// Prints the token, and nothing else.
///
/// # Errors
/// If no secret is configured.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let token = auth::sign(&config.auth, &args.user, &args.roles, (Clock::start().now(), args.expires.0))?;
    writeln!(std::io::stdout().lock(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}
