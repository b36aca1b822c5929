//! `tidings demo`: everything in one process, with sample events, to see what it does.
//!
//! Owns: the samples' flow and what a newcomer is told. The services are the real ones, on an embedded cluster and a database in a
//! temporary folder; the delays are short, so that retries can be watched.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tidings_core::ids::UserId;
use tidings_core::rules::{check, shipped_schemas};
use tidings_core::time::Delay;
use tokio_util::sync::CancellationToken;

use super::{ALL, App, Source, signalled};
use crate::auth;
use crate::cli::DemoArgs;
use crate::clock::Clock;
use crate::config::{AuthMode, Config, Database, TopicPattern};
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};
use crate::telemetry::health::Health;

const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The samples, each with the default topic that a service would say it on.
const SAMPLES: [(&str, &str); 5] = [
    ("bookings", "booking:confirmed"),
    ("payments", "payment:due"),
    ("contracts", "contract:expiring"),
    ("accounts", "balance:updated"),
    ("accounts", "user:logged_in"),
];

/// Runs until Ctrl-C.
///
/// # Errors
/// If something does not start, or fails.
pub async fn run(config: Config, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let config = for_demo(config, Database::Sqlite(folder.path().join("tidings.db")));
    let token = auth::sign(&config.auth, &args.user, &[], (Clock::start().now(), TOKEN_LIFETIME))?;
    let topics = config.pipeline.topics.clone();
    let cluster = Cluster::new(&config.kafka)?;
    let app = App::prepare(config, &ALL, Source::Embedded).await?;
    let (stop, health) = (CancellationToken::new(), app.health());
    let cluster = cluster.embedded_at(app.brokers().to_owned());
    let welcome = welcome(&app, &args.user, &token);
    let running = app.run(stop.clone());
    tokio::pin!(running);
    let showing = async {
        until_ready(&health).await;
        std::io::stdout().lock().write_all(welcome.as_bytes())?;
        produce_samples(cluster, &topics, &args).await
    };
    tokio::select! {
        ended = &mut running => ended?,
        shown = showing => shown?,
        () = signalled() => {
            stop.cancel();
            running.await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, with what a demo needs whatever it says: the loopback, a secret of its own, the page, short delays.
fn for_demo(mut config: Config, database: Database) -> Config {
    "127.0.0.1".clone_into(&mut config.gateway.host);
    config.gateway.console = true;
    config.gateway.tls.certificate.clear();
    config.gateway.tls.key.clear();
    config.auth.mode = AuthMode::Jwt;
    config.auth.keys.clear();
    config.auth.secret_file.clear();
    config.auth.secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    config.store.url = database;
    config.kafka.topics.partitions = 4;
    config.courier.ack_timeout = Delay(Duration::from_secs(10));
    config.courier.ladder = vec![Delay(Duration::from_secs(10)), Delay(Duration::from_secs(30))];
    config.courier.give_up_after = Delay(Duration::from_secs(60));
    config
}

fn welcome(app: &App, user: &UserId, token: &str) -> String {
    let (address, brokers) = (app.address(), app.brokers());
    let tidings = std::env::current_exe().map_or_else(|_| "tidings".to_owned(), |path| path.display().to_string());
    format!(
        r#"
tidings runs, with an embedded Kafka at {brokers}. Sample events arrive for {user}.

In a browser:
  http://{address}/console#token={token}

In another terminal:
  {tidings} tail --url ws://{address}/ws --channel booking-updates --token {token}

An event of your own:
  echo '{{"type":"booking:confirmed","data":{{"userId":"{user}","bookingId":"b-1","vehicleName":"Tesla Model 3"}}}}' |
    TIDINGS_KAFKA__BROKERS={brokers} {tidings} produce --topic bookings

What nobody acknowledges within 10 s is tried again, once more 10 s later, and ends in the topic
tidings.undelivered another 30 s later. Ctrl-C ends the demo; nothing is kept.
"#
    )
}

async fn until_ready(health: &Health) {
    while !health.is_ready() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Told(mpsc::Sender<Result<Written, ProduceError>>);

impl Ticket for Told {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        // Nobody listens any more when the demo ends.
        let _ = self.0.send(outcome);
    }
}

/// Produces the samples in turn, for ever.
async fn produce_samples(cluster: Cluster, topics: &[TopicPattern], args: &DemoArgs) -> anyhow::Result<()> {
    let producer = Producer::<Told>::new(&cluster, "demo")?;
    let (told, answers) = mpsc::channel();
    let samples = SAMPLES.iter().filter(|(topic, _)| topics.iter().any(|pattern| pattern.matches(topic)));
    let samples = samples.collect::<Vec<_>>();
    anyhow::ensure!(!samples.is_empty(), "`pipeline.topics` names none of the samples' topics");
    for (number, (topic, kind)) in samples.into_iter().cycle().enumerate() {
        let value = sample(kind, &args.user, number)?;
        let record =
            Outgoing { topic, partition: None, key: Some(args.user.as_str().as_bytes()), value: Some(&value), headers: &[] };
        producer.send(record, Box::new(Told(told.clone()))).map_err(|(error, _)| error)?;
        tokio::time::sleep(args.every.0).await;
        for outcome in answers.try_iter() {
            outcome.context("a sample event was not written")?;
        }
    }
    Ok(())
}

/// The first example of a shipped schema, said about `user`.
fn sample(kind: &str, user: &UserId, number: usize) -> anyhow::Result<Vec<u8>> {
    let example = check::sample(shipped_schemas(), kind).with_context(|| format!("no example of {kind}"))?;
    let mut event: Value = serde_json::from_slice(&example)?;
    event["id"] = format!("sample-{number}").into();
    event["data"]["userId"] = user.as_str().into();
    Ok(serde_json::to_vec(&event)?)
}
