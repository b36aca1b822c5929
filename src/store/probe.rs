//! The probe: whether the database answers, if a server has it.
//!
//! Owns: one small question every few seconds, the line in the log when the server goes and comes back, and the role `store` in `/ready`.
//! Refuses to stop anything: whoever needs the database waits, or does without. Neighbours: `kafka` has the brokers' probe.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Store;
use crate::telemetry::health::Role;

const INTERVAL: Duration = Duration::from_secs(2);

/// Asks until `stop` is cancelled.
pub async fn run(store: Store, role: Role, stop: CancellationToken) {
    let mut away = false;
    let asking = async {
        loop {
            match store.answers().await {
                Ok(()) => {
                    if away {
                        tracing::info!("the database answers again");
                    }
                    away = false;
                    role.ready();
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    if !away {
                        tracing::warn!(%error, source, "the database is not used; what is live goes on");
                    }
                    away = true;
                    role.waiting(source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}")));
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(asking).await;
}
