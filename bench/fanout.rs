//! One notification to many: what a delivered frame costs, and how long it takes from the broker to its subscriber.

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer as _};

use crate::clients::Clients;
use crate::machine::part;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{CHANNEL, Server, Setup};
use crate::{Size, broker};

/// Notifications a second; each becomes a frame on every connection.
const RATE: u64 = 20;

/// What one run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) frame_cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// 20 notifications a second to all connections.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=size.runs {
        ours.push(once(Server::tidings(&size.brokers, &Setup::gateway()).await?, size, RATE).await?);
        bare.push(once(Server::bare_fanout(&size.brokers).await?, size, RATE).await?);
        say(&format!("fanout {run}: tidings {:?}, bare {:?}", ours.last(), bare.last()));
    }
    let what = format!("{RATE} notifications/s to {}", size.connections);
    let cpu = Pair::of(&ours, &bare, |figures| figures.frame_cpu_us);
    report.add(&format!("{what}: CPU per frame"), "µs", cpu, Budget::Ratio(1.25));
    let p50 = Pair::of(&ours, &bare, |figures| figures.p50_ms);
    report.add(&format!("{what}: p50 to a subscriber"), "ms", p50, Budget::Ratio(1.5));
    let p99 = Pair::of(&ours, &bare, |figures| figures.p99_ms);
    report.add(&format!("{what}: p99 to a subscriber"), "ms", p99, Budget::Ratio(2.0));
    Ok(())
}

/// One run at `rate` notifications a second.
pub(crate) async fn once(server: Server, size: &Size, rate: u64) -> anyhow::Result<Figures> {
    let clients = Clients::connect(&server, size.connections).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = server.cpu_us()?;
    let events = rate * size.seconds;
    let frames = events * size.connections as u64;
    produce(size, &server, events, Duration::from_micros(1_000_000 / rate)).await?;
    clients.await_frames(frames).await?;
    let frame_cpu_us = (server.cpu_us()? - cpu) / frames as f64;
    let latencies = clients.latencies_ms();
    drop(clients);
    server.stop()?;
    Ok(Figures { frame_cpu_us, p50_ms: part(latencies.clone(), 0.5), p99_ms: part(latencies, 0.99) })
}

/// Writes notifications to the channel, one each `interval`, that say when they were written.
pub(crate) async fn produce(size: &Size, server: &Server, events: u64, interval: Duration) -> anyhow::Result<()> {
    let producer = broker::prompt(&size.brokers)?;
    let mut ticks = tokio::time::interval(interval);
    for number in 0..events {
        ticks.tick().await;
        let value = broker::notification(CHANNEL, number);
        let record = BaseRecord::to(&server.notifications).key(CHANNEL).payload(&value).headers(broker::version());
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(10))?)
}
