//! `tidings config`: the reference, and what is in force.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{Config, DEFAULT};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key with its default and what it means.
    Default,
    /// Print what is in force: defaults, file and environment together, secrets hidden.
    Show,
}

impl Args {
    /// Whether the command needs no valid configuration.
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(self.command, Command::Default)
    }
}

/// Prints the reference.
///
/// # Errors
/// If standard output is closed.
pub fn print_default() -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(DEFAULT.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what is in force.
///
/// # Errors
/// If standard output is closed.
pub fn print_effective(config: &Config) -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(config.shown()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
