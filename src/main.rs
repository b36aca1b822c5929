//! The binary: one command, one file.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tidings::cli::{self, Cli, Command};
use tidings::config::{self, Config, ConfigError};
use tidings::{app, telemetry};

/// For all threads, librdkafka's among them: what one thread allocates, another frees, a few times for each record.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a refused configuration, as clap's of refused arguments.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    without_huge_pages();
    let cli = Cli::parse();
    run(cli).unwrap_or_else(|error| {
        // Standard error may be closed; then there is nobody to tell.
        let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
        if error.is::<ConfigError>() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
    })
}

/// What lives long in the heap is small and lies apart: in pages of 2 MiB most of what is resident would be empty.
fn without_huge_pages() {
    // A kernel that does not know them has none to switch off.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Config(args) = &cli.command
        && args.is_default()
    {
        return cli::config::print_default();
    }
    let config = load(&cli)?;
    telemetry::start_logging(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime did not start")?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => app::serve(config, args).await,
            Command::Demo(args) => app::demo::run(config, args).await,
            Command::Config(_) => cli::config::print_effective(&config),
            Command::Topics(args) => cli::topics::run(args, &config).await,
            Command::Dlq(args) => cli::dlq::run(args, &config).await,
            Command::Replay(args) => cli::replay::run(*args, &config).await,
            Command::Breaker(args) => cli::breaker::run(args, &config).await,
            Command::Pending(args) => cli::pending::run(args, &config).await,
            Command::Retry(args) => cli::retry::run(args, &config).await,
            Command::Undelivered(args) => cli::undelivered::run(args, &config).await,
            Command::Produce(args) => cli::produce::run(args, &config).await,
            Command::Token(args) => cli::token::run(args, &config).await,
            Command::Tail(args) => cli::tail::run(args, &config).await,
            Command::Inbox(args) => cli::inbox::run(&args, &config).await,
            Command::Store(args) => cli::store::run(&args, &config.store).await,
            Command::Check(args) => cli::check::run(&args, &config).await,
            Command::Schemas(args) => cli::schemas::run(args, &config.registry).await,
            Command::Render(args) => cli::render::run(args, config).await,
        }
    })
}

fn load(cli: &Cli) -> anyhow::Result<Config> {
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = environment.collect::<Vec<_>>();
    let Some(path) = &cli.config else { return Ok(config::load(None, &environment)?) };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("the configuration {} could not be read", path.display()))?;
    Ok(config::load(Some((&path.display().to_string(), &text)), &environment)?)
}
