//! What a connection costs: to open, verify and subscribe, and to keep.

use std::time::Duration;

use crate::Size;
use crate::clients::Clients;
use crate::fanout;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};

/// Notifications that each connection is sent at once before it is idle again.
const BURST: u64 = 50;
/// Connections before those that are measured.
const FIRST: usize = 16;
/// How long a server may take to give back what it no longer needs.
const SETTLE: Duration = Duration::from_secs(3);

/// What one run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) open_cpu_us: f64,
    pub(crate) idle_kib: f64,
    after_burst_kib: f64,
}

/// Twice the connections of the other benches.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let count = size.connections * 2;
    for run in 1..=size.runs {
        ours.push(once(Server::tidings(&size.brokers, &Setup::gateway()).await?, size, count).await?);
        bare.push(once(Server::bare_fanout(&size.brokers).await?, size, count).await?);
        say(&format!("connections {run}: tidings {:?}, bare {:?}", ours.last(), bare.last()));
    }
    let open = Pair::of(&ours, &bare, |figures| figures.open_cpu_us);
    report.add("connect, verify, subscribe: CPU", "µs", open, Budget::AtMost(60.0));
    let idle = Pair::of(&ours, &bare, |figures| figures.idle_kib);
    report.add(&format!("resident per idle connection, of {count}"), "KiB", idle, Budget::AtMost(4.0));
    let burst = Pair::of(&ours, &bare, |figures| figures.after_burst_kib);
    report.add(&format!("the same after a burst of {BURST} notifications each"), "KiB", burst, Budget::AtMost(8.0));
    Ok(())
}

/// One run with `count` connections. A few come before: what a process starts with its first connection, such as its connections to
/// the brokers, is not what one costs.
pub(crate) async fn once(server: Server, size: &Size, count: usize) -> anyhow::Result<Figures> {
    let first = Clients::open(&server, (0..FIRST).map(|number| (format!("first-{number}"), String::new()))).await?;
    tokio::time::sleep(SETTLE).await;
    let (before, cpu) = (server.resident_bytes()?, server.cpu_us()?);
    let clients = Clients::connect(&server, count).await?;
    tokio::time::sleep(SETTLE).await;
    let open_cpu_us = (server.cpu_us()? - cpu) / count as f64;
    let each = |bytes: f64| (bytes - before) / 1024.0 / count as f64;
    let idle_kib = each(server.resident_bytes()?);
    fanout::produce(size, &server, BURST, Duration::from_millis(20)).await?;
    clients.await_frames(BURST * count as u64).await?;
    tokio::time::sleep(SETTLE).await;
    let after_burst_kib = each(server.resident_bytes()?);
    drop((clients, first));
    server.stop()?;
    Ok(Figures { open_cpu_us, idle_kib, after_burst_kib })
}
