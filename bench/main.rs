//! What a connection and a frame cost, beside a bare loop of writes measured in the same run.
//!
//! Starts `tidings serve --role gateway` against the broker in `TIDINGS_TEST_BROKERS`, then the same load against a process
//! that only accepts sockets, reads the topic and writes. Runs are interleaved; medians are printed. Takes
//! `TIDINGS_BENCH_CONNECTIONS` (default 5000), `TIDINGS_BENCH_RUNS` (3) and `TIDINGS_BENCH_SECONDS` (10).

mod bare;
mod clients;
mod machine;
mod server;

use std::time::Duration;

use anyhow::Context as _;

use crate::clients::Clients;
use crate::machine::{Machine, median};
use crate::server::Server;

/// Events a second; each becomes a frame on every connection.
const RATE: u64 = 20;

/// The load, the same for both.
#[derive(Debug, Clone, Copy)]
struct Load {
    connections: usize,
    seconds: u64,
}

/// What one run measured.
#[derive(Debug, Clone, Copy)]
struct Figures {
    idle_bytes: f64,
    frame_cpu_us: f64,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    if args.next().as_deref() == Some("bare") {
        return bare::serve(args.collect::<Vec<_>>().as_slice());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let brokers = std::env::var("TIDINGS_TEST_BROKERS").context("TIDINGS_TEST_BROKERS names no broker; use `make bench`")?;
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let connections = usize::try_from(number("TIDINGS_BENCH_CONNECTIONS", 5000))?;
    let load = Load { connections, seconds: number("TIDINGS_BENCH_SECONDS", 10) };
    let runs = number("TIDINGS_BENCH_RUNS", 3);
    let machine = Machine::look()?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        ours.push(one_run(Server::tidings(&brokers).await?, load).await?);
        bare.push(one_run(Server::bare(&brokers).await?, load).await?);
        say(&format!("run {run} of {runs}: tidings {:?}, bare {:?}", ours.last(), bare.last()));
    }
    report(load, &ours, &bare);
    say(&machine.compare()?);
    Ok(())
}

async fn one_run(mut server: Server, load: Load) -> anyhow::Result<Figures> {
    let before = server.resident_bytes()?;
    let clients = Clients::connect(&server, load.connections).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle_bytes = (server.resident_bytes()? - before) / load.connections as f64;
    let cpu_before = server.cpu_us()?;
    let events = RATE * load.seconds;
    server.produce(events, Duration::from_micros(1_000_000 / RATE)).await?;
    clients.await_frames(events * load.connections as u64).await?;
    let frame_cpu_us = (server.cpu_us()? - cpu_before) / (events * load.connections as u64) as f64;
    drop(clients);
    server.stop()?;
    Ok(Figures { idle_bytes, frame_cpu_us })
}

fn report(load: Load, ours: &[Figures], bare: &[Figures]) {
    let line = |name: &str, unit: &str, ours: f64, bare: f64| {
        // A bare socket may need no memory of the process at all.
        let ratio = if bare < 0.01 { "     -".to_owned() } else { format!("{:>6.2}", ours / bare) };
        say(&format!("{name:<34} {ours:>10.2} {unit:<3} bare {bare:>10.2} {unit:<3} ratio {ratio}"));
    };
    let pick = |figures: &[Figures], field: fn(&Figures) -> f64| median(figures.iter().map(field).collect());
    say(&format!("{} connections, {RATE} events/s for {} s, medians of {} runs", load.connections, load.seconds, ours.len()));
    let (idle, bare_idle) = (pick(ours, |run| run.idle_bytes), pick(bare, |run| run.idle_bytes));
    line("resident memory per idle connection", "KiB", idle / 1024.0, bare_idle / 1024.0);
    line("CPU per delivered frame", "us", pick(ours, |run| run.frame_cpu_us), pick(bare, |run| run.frame_cpu_us));
}

#[allow(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn say(line: &str) {
    println!("{line}");
}
