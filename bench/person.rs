//! One event to the one user it is for: two durable hops, domain topic to `notifications` to socket, beside two bare hops.

use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _};

use crate::clients::{Clients, SENT};
use crate::machine::{now_us, part};
use crate::pipeline::{KIND, Rules};
use crate::report::{Budget, Pair, Report, say};
use crate::server::{Server, Setup};
use crate::{Size, broker};

/// Events a second.
const RATE: u64 = 1000;
const USERS: u64 = 200;

/// What one run measured.
#[derive(Debug, Clone, Copy)]
struct Figures {
    p50_ms: f64,
    p99_ms: f64,
}

/// 1,000 events a second to 200 users.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=size.runs {
        ours.push(once(size).await?);
        bare.push(hops(size).await?);
        say(&format!("person {run}: tidings {:?}, two bare hops {:?}", ours.last(), bare.last()));
    }
    let what = format!("one event to its user, {RATE}/s");
    let p50 = Pair::of(&ours, &bare, |figures| figures.p50_ms);
    report.add(&format!("{what}: p50 (bare: two hops)"), "ms", p50, Budget::AtMost(1.8));
    let p99 = Pair::of(&ours, &bare, |figures| figures.p99_ms);
    report.add(&format!("{what}: p99 (bare: two hops)"), "ms", p99, Budget::Above(5.0));
    Ok(())
}

async fn once(size: &Size) -> anyhow::Result<Figures> {
    let source = broker::topic(&size.brokers, 4).await?;
    let rules = Rules::write(1, 1)?;
    let setup = Setup { roles: vec!["pipeline", "gateway"], partitions: 4, config: rules.config(&source) };
    let server = Server::tidings(&size.brokers, &setup).await?;
    let clients = Clients::connect(&server, usize::try_from(USERS)?).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = RATE * size.seconds;
    let brokers = size.brokers.clone();
    tokio::task::spawn_blocking(move || produce(&brokers, &source, events)).await??;
    clients.await_frames(events).await?;
    Ok(figures(clients.latencies_ms()))
}

/// Two bare hops at the same rate: produced to one topic, passed on to another by a process of its own, and consumed.
async fn hops(size: &Size) -> anyhow::Result<Figures> {
    let topic = broker::topic(&size.brokers, 4).await?;
    let between = Server::bare_forward(&size.brokers, &topic, 4).await?;
    let reader = broker::reader(&size.brokers, &between.notifications)?;
    let events = RATE * size.seconds;
    let reading = tokio::task::spawn_blocking(move || {
        let mut latencies = Vec::new();
        while (latencies.len() as u64) < events {
            if let Some(record) = reader.poll(Duration::from_millis(100)) {
                let now = now_us();
                let value = serde_json::from_slice::<serde_json::Value>(record?.payload().unwrap_or_default())?;
                let sent = value["data"][SENT].as_u64().unwrap_or(now);
                latencies.push((now - sent) as f64 / 1000.0);
            }
        }
        anyhow::Ok(latencies)
    });
    let brokers = size.brokers.clone();
    tokio::time::sleep(Duration::from_secs(2)).await;
    tokio::task::spawn_blocking(move || produce(&brokers, &topic, events)).await??;
    let latencies = reading.await??;
    between.stop()?;
    Ok(figures(latencies))
}

fn figures(latencies: Vec<f64>) -> Figures {
    Figures { p50_ms: part(latencies.clone(), 0.5), p99_ms: part(latencies, 0.99) }
}

fn produce(brokers: &str, topic: &str, events: u64) -> anyhow::Result<()> {
    let producer = broker::prompt(brokers)?;
    let start = Instant::now();
    for number in 0..events {
        broker::pace(start, RATE, number);
        let user = format!("user-{}", number % USERS);
        let value = serde_json::json!({
            "id": format!("e-{number}"), "type": KIND,
            "data": {"userId": user, "bookingId": number, "vehicleName": "A blue one", SENT: now_us()},
        });
        let value = value.to_string();
        producer.send(BaseRecord::to(topic).key(&user).payload(&value)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(10))?)
}
