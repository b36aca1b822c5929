//! The pipeline alone on a backlog: decode, match, render and produce two notifications an event, beside a bare copy loop.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::message::OwnedHeaders;

use crate::clients::SENT;
use crate::report::{Budget, Pair, Report, say};
use crate::server::{CHANNEL, Server, Setup};
use crate::{Size, broker};

/// The type of the load's events.
pub(crate) const KIND: &str = "bench:confirmed";
/// Events of the backlog.
pub(crate) const EVENTS: u64 = 400_000;
const LIMIT: Duration = Duration::from_secs(300);

/// What one run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// From the process's first instruction on.
    pub(crate) event_cpu_us: f64,
    events_per_s: f64,
}

/// What a pipeline runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) partitions: i32,
    pub(crate) rules: usize,
    /// The notifications that follow from each event: one or two.
    pub(crate) told: usize,
}

/// Rules in a folder that is removed with it.
pub(crate) struct Rules(tempfile::TempDir);

impl Rules {
    /// `count` rules, of which `told` are for events of the load: the first tells the user, the second everybody.
    pub(crate) fn write(told: usize, count: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut text = format!(
            "[[rule]]\nname = \"user\"\nevent = \"{KIND}\"\nuser = \"{{{{ userId }}}}\"\ntype = \"t\"\ntitle = \"Booking Confirmed\"\n\
             message = \"Your booking for {{{{ vehicleName }}}} has been confirmed.\"\n\
             data = {{ booking_id = \"bookingId\", {SENT} = \"{SENT}\" }}\n"
        );
        if told > 1 {
            write!(
                text,
                "[[rule]]\nname = \"all\"\nevent = \"{KIND}\"\nchannel = \"{CHANNEL}\"\ntype = \"t\"\ntitle = \"Booking Confirmed\"\n\
                 message = \"A booking has been confirmed.\"\ndata = {{ booking_id = \"bookingId\" }}\n"
            )?;
        }
        for number in told..count {
            write!(
                text,
                "[[rule]]\nname = \"other-{number}\"\nevent = \"other-{number}:*\"\nuser = \"{{{{ userId }}}}\"\ntype = \"t\"\n\
                 message = \"{{{{ name }}}}\"\n"
            )?;
        }
        std::fs::write(folder.path().join("bench.toml"), text)?;
        Ok(Self(folder))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The configuration of a pipeline that reads `source` by these rules.
    pub(crate) fn config(&self, source: &str) -> Vec<(&'static str, String)> {
        vec![
            ("PIPELINE__TOPICS", source.to_owned()),
            ("PIPELINE__RULES", self.0.path().display().to_string()),
            ("PIPELINE__START", "beginning".to_owned()),
        ]
    }
}

/// A backlog with the shipped number of rules.
pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let source = backlog(size, 4).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=size.runs {
        ours.push(once(size, &source, Work { partitions: 4, rules: 7, told: 2 }).await?);
        bare.push(copy(size, &source, 4).await?);
        say(&format!("pipeline {run}: tidings {:?}, bare {:?}", ours.last(), bare.last()));
    }
    let cpu = Pair::of(&ours, &bare, |figures| figures.event_cpu_us);
    report.add("pipeline, two notifications an event: CPU (bare: one copy)", "µs", cpu, Budget::AtMost(10.0));
    let core = Pair::of(&ours, &bare, |figures| 1_000_000.0 / figures.event_cpu_us);
    report.add("the same, in events a second of one core", "/s", core, Budget::AtLeast(100_000.0));
    let rate = Pair::of(&ours, &bare, |figures| figures.events_per_s);
    report.add("the same, events a second beside the broker", "/s", rate, Budget::None);
    Ok(())
}

/// A topic full of events of about 250 bytes.
pub(crate) async fn backlog(size: &Size, partitions: i32) -> anyhow::Result<String> {
    let source = broker::topic(&size.brokers, partitions).await?;
    let record = |number: u64| (number.to_string(), event(number).to_string());
    broker::fill(&size.brokers, &source, (EVENTS, &OwnedHeaders::new()), record)?;
    Ok(source)
}

/// An event of about 250 bytes.
pub(crate) fn event(number: u64) -> serde_json::Value {
    serde_json::json!({
        "id": format!("e-{number}"), "type": KIND, "time": "2099-01-31T12:00:00Z",
        "data": {"userId": format!("u-{}", number % 10_000), "bookingId": format!("b-{number}"), "vehicleName": "A blue one",
                 SENT: number, "note": "x".repeat(80)},
    })
}

/// Starts a pipeline on the backlog and waits until it has written everything.
pub(crate) async fn once(size: &Size, source: &str, work: Work) -> anyhow::Result<Figures> {
    with(size, source, work, Vec::new()).await
}

/// The same with more configuration.
pub(crate) async fn with(size: &Size, source: &str, work: Work, more: Vec<(&'static str, String)>) -> anyhow::Result<Figures> {
    let rules = Rules::write(work.told, work.rules)?;
    let config = [rules.config(source), more].concat();
    let setup = Setup { roles: vec!["pipeline"], partitions: work.partitions, config };
    let started = Instant::now();
    let server = Server::tidings(&size.brokers, &setup).await?;
    finish(size, server, EVENTS * u64::try_from(work.told)?, started).await
}

/// The same for a bare copy of the backlog to a topic with so many partitions.
pub(crate) async fn copy(size: &Size, source: &str, partitions: i32) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let server = Server::bare_copy(&size.brokers, source, (partitions, EVENTS)).await?;
    finish(size, server, EVENTS, started).await
}

async fn finish(size: &Size, server: Server, records: u64, started: Instant) -> anyhow::Result<Figures> {
    let reader = broker::reader(&size.brokers, &server.notifications)?;
    while broker::written(&reader, &server.notifications)? < records {
        let rest = LIMIT.checked_sub(started.elapsed());
        rest.with_context(|| format!("not all of {records} records were written within {LIMIT:?}"))?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let elapsed = started.elapsed();
    let event_cpu_us = server.cpu_us()? / EVENTS as f64;
    server.stop()?;
    Ok(Figures { event_cpu_us, events_per_s: EVENTS as f64 / elapsed.as_secs_f64() })
}
