//! The probe: whether any broker answers.
//!
//! Owns: one small client that asks for metadata every few seconds, the line in the log when brokers go and come back, and
//! the role `kafka` in `/ready`. Refuses to stop anything: every client waits and tries again by itself.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use crate::telemetry::health::Role;

const INTERVAL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

/// Keeps what librdkafka last complained about: why a connection or a handshake failed.
#[derive(Default)]
struct Complaints {
    /// Shared with librdkafka's threads.
    last: Mutex<Option<String>>,
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, _: &str, line: &str) {
        if matches!(level, RDKafkaLogLevel::Error | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Emerg) {
            *self.last.lock() = Some(line.to_owned());
        }
    }

    fn error(&self, _: KafkaError, line: &str) {
        self.last.lock().get_or_insert_with(|| line.to_owned());
    }
}

impl ConsumerContext for Complaints {}

fn client(cluster: &Cluster) -> Result<Arc<BaseConsumer<Complaints>>, KafkaError> {
    Ok(Arc::new(cluster.client("probe").create_with_context(Complaints::default())?))
}

/// Asks until `stop` is cancelled.
///
/// # Errors
/// If a property is wrong.
pub async fn run(cluster: Cluster, role: Role, stop: CancellationToken) -> Result<(), KafkaError> {
    let mut client = client(&cluster)?;
    let topic = cluster.names().meta();
    let mut away = false;
    while !stop.is_cancelled() {
        let (asked, asked_topic) = (client.clone(), topic.clone());
        let answer = tokio::task::spawn_blocking(move || asked.fetch_metadata(Some(&asked_topic), PATIENCE).map(|_| ())).await;
        match answer {
            Ok(Ok(())) => {
                if away {
                    tracing::info!(brokers = cluster.brokers(), "brokers answer again");
                }
                away = false;
                role.ready();
            }
            Ok(Err(error)) => {
                let why = client.context().last.lock().take().unwrap_or_else(|| error.to_string());
                if !away {
                    tracing::warn!(brokers = cluster.brokers(), why, "no broker answers; waiting, nothing is lost");
                }
                away = true;
                // One that has seen its brokers go may take long to look for them again; a new one looks at once.
                let before = std::mem::replace(&mut client, self::client(&cluster)?);
                drop(tokio::task::spawn_blocking(move || drop(before)));
                role.waiting(format!("no broker answers at {}: {why}", cluster.brokers()));
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    Ok(())
}
