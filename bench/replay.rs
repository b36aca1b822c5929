//! Replay on one core: a dry run that chooses by coordinates, key and header, and one that counts what rules make of every event, beside a bare
//! loop that reads the same records. And a redrive of as many letters as there are.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::message::{Header, OwnedHeaders};
use tidings::clock::Clock;
use tidings::config::{Config, Edition, RulesSource};
use tidings::kafka::cluster::Cluster;
use tidings::kafka::topics::{self, Plan};
use tidings::replay::{Again, DeadLetters, Events, Mode, Redrive, Replay, Selected, Watch};
use tidings_core::fate::Cause;
use tidings_core::record::audit::EventSelection;
use tidings_core::record::context::{Context, Failure, Original};
use tidings_core::selection::LetterFilter;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Rules, event};
use crate::report::{Budget, Pair, Report, say};
use crate::{Size, broker};

const EVENTS: u64 = 1_000_000;
const LETTERS: u64 = 100_000;
const PARTITIONS: i32 = 4;
/// Of so many tenants each has its share of the events.
const TENANTS: u64 = 100;

/// What a replay or a redrive runs on.
struct Place {
    config: Config,
    topic: String,
    rules: Rules,
}

impl Place {
    async fn new(size: &Size) -> anyhow::Result<Self> {
        let (topic, rules) = (broker::topic(&size.brokers, PARTITIONS).await?, Rules::write(2, 7)?);
        let mut config = tidings::config::load(None, &[])?;
        let prefix = format!("bench-{}.", uuid::Uuid::new_v4().simple());
        config.kafka.brokers.clone_from(&size.brokers);
        (config.kafka.topic_prefix, config.kafka.group_prefix) = (prefix.clone(), prefix);
        config.kafka.topics.partitions = PARTITIONS;
        config.pipeline.topics = vec![topic.parse().map_err(anyhow::Error::msg)?];
        topics::create(&Cluster::new(&config.kafka)?, &Self::plan(&config), Clock::start().now()).await?;
        Ok(Self { config, topic, rules })
    }

    fn plan(config: &Config) -> Plan {
        Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox)
    }

    fn edition(&self) -> anyhow::Result<Edition> {
        let source = RulesSource::new(&self.config.pipeline, &self.config.courier);
        Ok(Edition::read(&source.or_of(Some(self.rules.folder().to_owned())))?)
    }

    fn events(&self) -> anyhow::Result<Events> {
        let cluster = Cluster::new(&self.config.kafka)?;
        let kept = Self::plan(&self.config).ids_kept();
        Ok(Events::new(cluster, &self.config.pipeline, kept, ("bench".parse()?, Clock::start())))
    }
}

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new(size).await?;
    fill(size, &place.topic)?;
    let some = || EventSelection { keys: vec!["7".into()], headers: vec!["tenant=7".into()], ..EventSelection::default() };
    for (what, selection, budget) in [
        ("dry run by offsets, key and header", some as fn() -> EventSelection, 500_000.0),
        ("dry run, rules counted of every event", EventSelection::default, 150_000.0),
    ] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for run in 1..=size.runs {
            ours.push(tokio::task::block_in_place(|| dry(&place, selection()))?);
            bare.push(tokio::task::block_in_place(|| consumed(&size.brokers, &place.topic))?);
            say(&format!("replay, {what}, {run}: tidings {:?}, bare {:?} records a second", ours.last(), bare.last()));
        }
        let name = format!("replay, {what} (bare: reading)");
        report.add(&name, "/s", Pair { ours, bare }, Budget::AtLeast(budget));
    }
    Ok(())
}

pub(crate) async fn redrive(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=size.runs {
        let place = Place::new(size).await?;
        let epoch = topics::check(&Cluster::new(&place.config.kafka)?, &Place::plan(&place.config)).await?;
        let cluster = Cluster::new(&place.config.kafka)?.of_epoch(&epoch);
        let dlq = cluster.names().dlq();
        bury(size, &place.topic, &dlq)?;
        ours.push(tokio::task::block_in_place(|| redriven(&place, cluster))?);
        bare.push(tokio::task::block_in_place(|| consumed(&size.brokers, &dlq))?);
        say(&format!("redrive {run}: tidings {:?}, bare {:?} letters a second", ours.last(), bare.last()));
    }
    report.add("redrive: letters a second (bare: reading)", "/s", Pair { ours, bare }, Budget::AtLeast(20_000.0));
    Ok(())
}

/// Events of all tenants. Those of one tenant have its number as key and in a header.
fn fill(size: &Size, topic: &str) -> anyhow::Result<()> {
    for tenant in 0..TENANTS {
        let name = tenant.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: "tenant", value: Some(&name) });
        let record = |number: u64| (name.clone(), event(tenant * EVENTS / TENANTS + number).to_string());
        broker::fill(&size.brokers, topic, (EVENTS / TENANTS, &headers), record)?;
    }
    Ok(())
}

/// Letters as the pipeline writes them, each of a record of its own.
fn bury(size: &Size, topic: &str, dlq: &str) -> anyhow::Result<()> {
    let (node, partitions) = ("bench".parse()?, i64::from(PARTITIONS));
    broker::fill_each(&size.brokers, dlq, LETTERS, |number| {
        let place = i64::try_from(number).unwrap_or(i64::MAX);
        let partition = i32::try_from(place % partitions).unwrap_or(0);
        let original = Original { topic, partition, offset: place / partitions, timestamp: None, key: None };
        let failure =
            Failure { stage: "render", cause: Cause::Poison, class: "template_undefined", message: "bench", rule: None };
        let context = Context { original, failure, attempt: None, trace: None, node: &node };
        let headers = context
            .headers()
            .into_iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key: &key, value: value.as_deref() }));
        (number.to_string(), event(number).to_string(), headers)
    })
}

/// Records a second of a dry run.
fn dry(place: &Place, events: EventSelection) -> anyhow::Result<f64> {
    let (replays, edition, stop) = (place.events()?, place.edition()?, CancellationToken::new());
    let ranges = (0..PARTITIONS).map(|partition| format!("{partition}@0..").parse());
    let selected = Selected {
        topic: place.topic.clone(),
        ranges: ranges.collect::<Result<_, _>>()?,
        events,
        to_topic: None,
        to_user: None,
        new_ids: false,
    };
    let planned = replays.plan(selected)?;
    let how = Replay { edition, mode: Mode::Try, rate: NonZeroU32::MIN, canary: None };
    let begun = Instant::now();
    let replayed = replays.replay(planned, &how, &mut Watch { stop: &stop, progress: &mut |_| {} })?;
    let elapsed = begun.elapsed();
    anyhow::ensure!(replayed.report.read == EVENTS && replayed.report.tally.is_clean(), "{:?}", replayed.report);
    Ok(EVENTS as f64 / elapsed.as_secs_f64())
}

/// Letters a second of a redrive that is executed.
fn redriven(place: &Place, cluster: Cluster) -> anyhow::Result<f64> {
    let stop = CancellationToken::new();
    let letters = DeadLetters::new(cluster, &place.config.pipeline, "bench".parse()?, Clock::start());
    let mode = Mode::Execute { who: "bench".parse()? };
    let redrive =
        Redrive { filter: LetterFilter::default(), edition: place.edition()?, mode, again: Again::Skip, until: None, most: None };
    let begun = Instant::now();
    let report = letters.redrive(&redrive, &mut Watch { stop: &stop, progress: &mut |_| {} })?;
    let elapsed = begun.elapsed();
    anyhow::ensure!(report.tally.notified == LETTERS, "{report:?}");
    Ok(LETTERS as f64 / elapsed.as_secs_f64())
}

/// Records a second of a loop that reads a topic and looks at each record's key.
fn consumed(brokers: &str, topic: &str) -> anyhow::Result<f64> {
    let consumer = broker::from_the_beginning(brokers, topic)?;
    let all = broker::written(&consumer, topic)?;
    let (begun, mut read, mut bytes) = (Instant::now(), 0_u64, 0);
    while read < all {
        let record = consumer.poll(Duration::from_secs(30)).context("nothing comes any more")??;
        (read, bytes) = (read + 1, bytes + record.key_len());
    }
    anyhow::ensure!(bytes > 0, "records without keys");
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}
