//! `tidings store`: the database, without any service.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::StoreConfig;
use crate::store::Store;

/// Arguments of `store`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the database's schema up to this release's. `serve` does it by itself if `store.migrate` is set.
    Migrate,
}

/// Does what was asked.
///
/// # Errors
/// If the database cannot be opened or migrated, or standard output is closed.
pub async fn run(args: &Args, config: &StoreConfig) -> anyhow::Result<ExitCode> {
    let Command::Migrate = args.command;
    let store = Store::migrate(config).await.with_context(|| format!("{} (`store.url`)", config.url))?;
    store.close().await;
    writeln!(std::io::stdout().lock(), "{} has schema version {}", config.url, store.schema_version())?;
    Ok(ExitCode::SUCCESS)
}
