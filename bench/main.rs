//! The budgets: what tidings costs and how long it takes, each figure beside a bare counterpart of the same run.
//!
//! `cargo bench --bench budgets -- [NAME]…` runs the named benches, or all, against the broker in `TIDINGS_TEST_BROKERS`. Runs
//! of tidings and of its counterpart alternate; medians are printed. `TIDINGS_BENCH_RUNS` (5), `TIDINGS_BENCH_SECONDS` (10) and
//! `TIDINGS_BENCH_CONNECTIONS` (5000) set the size, and `TIDINGS_BENCH_MISSED` (50) that of a storm.

mod bare;
mod broker;
mod clients;
mod connections;
mod fanout;
mod growth;
mod list;
mod machine;
mod person;
mod pipeline;
mod projector;
mod replay;
mod report;
mod schemas;
mod server;
mod storm;
mod tls;
mod waiting;

use anyhow::Context as _;

use crate::machine::Machine;
use crate::report::{Report, say};

/// As the binary has it: replays run in this process, and so do the counterparts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How large a bench is.
#[derive(Debug, Clone)]
struct Size {
    brokers: String,
    runs: u64,
    seconds: u64,
    connections: usize,
    /// Notifications that each device of a storm has missed.
    missed: u64,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").collect::<Vec<_>>();
    if args.first().is_some_and(|arg| arg == "bare") {
        return bare::serve(&args.split_off(1));
    }
    // Fails if there is one already, which does as well. Both are rustls with ring.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(&args))
}

async fn measure(names: &[String]) -> anyhow::Result<()> {
    let size = Size {
        brokers: std::env::var("TIDINGS_TEST_BROKERS").context("TIDINGS_TEST_BROKERS names no broker; use `make bench`")?,
        runs: number("TIDINGS_BENCH_RUNS", 5)?,
        seconds: number("TIDINGS_BENCH_SECONDS", 10)?,
        connections: usize::try_from(number("TIDINGS_BENCH_CONNECTIONS", 5000)?)?,
        missed: number("TIDINGS_BENCH_MISSED", 50)?,
    };
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let machine = Machine::look()?;
    let mut report = Report::default();
    live(&size, &wanted, &mut report).await?;
    stored(&size, &wanted, &mut report).await?;
    say(&format!("\nmedians of {} runs\n\n{report}\n{}", size.runs, machine.compare()?));
    Ok(())
}

/// What happens on its way to a device.
async fn live(size: &Size, wanted: &impl Fn(&str) -> bool, report: &mut Report) -> anyhow::Result<()> {
    if wanted("connections") {
        connections::run(size, report).await?;
    }
    if wanted("fanout") {
        fanout::run(size, report).await?;
    }
    if wanted("person") {
        person::run(size, report).await?;
    }
    if wanted("pipeline") {
        pipeline::run(size, report).await?;
    }
    if wanted("schemas") {
        schemas::run(size, report).await?;
    }
    if wanted("storm") {
        storm::run(size, report).await?;
    }
    if wanted("tls") {
        tls::run(size, report).await?;
    }
    if wanted("growth") {
        growth::run(size, report).await?;
    }
    Ok(())
}

/// What is folded, looked up, or tried once more.
async fn stored(size: &Size, wanted: &impl Fn(&str) -> bool, report: &mut Report) -> anyhow::Result<()> {
    if wanted("projector") {
        projector::run(size, report).await?;
    }
    if wanted("list") {
        list::run(size, report).await?;
    }
    if wanted("replay") {
        replay::run(size, report).await?;
    }
    if wanted("redrive") {
        replay::redrive(size, report).await?;
    }
    if wanted("waiting") {
        waiting::run(size, report).await?;
    }
    Ok(())
}

fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} must be a number")),
        Err(_) => Ok(default),
    }
}
