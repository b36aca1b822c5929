//! The probe: whether any broker answers.
//!
//! Owns: one small client that asks for metadata every few seconds, the line in the log when brokers go and come back, and
//! the role `kafka` in `/ready`. Refuses to stop anything: every client waits and tries again by itself.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use crate::telemetry::health::Role;

const INTERVAL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks until `stop` is cancelled.
///
/// # Errors
/// If a property is wrong.
pub async fn run(cluster: Cluster, role: Role, stop: CancellationToken) -> Result<(), KafkaError> {
    let client: BaseConsumer = cluster.client("probe").create()?;
    let client = std::sync::Arc::new(client);
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
                if !away {
                    tracing::warn!(brokers = cluster.brokers(), %error, "no broker answers; waiting, nothing is lost");
                }
                away = true;
                role.waiting(format!("no broker answers at {}: {error}", cluster.brokers()));
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
