//! Rotation: keys that are read again while the process runs, on request and when one of their files has changed.
//!
//! Owns: noticing the change, by looking at the files now and then, and saying what came of it. Refuses to end because of a bad key:
//! those that were there stay, and log, metrics and health say so until the file is mended.

use std::error::Error;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Auth;
use crate::config::{LOOK_INTERVAL, Look};
use crate::telemetry::health::Role;
use crate::telemetry::{Labels, Metrics};

/// What health calls the keys.
const NOTE: &str = "keys";

/// How a rotation tells what became of it.
pub struct Rotation {
    reloads: Family<WithOutcome, Counter>,
    role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithOutcome {
    outcome: &'static str,
}

impl Labels for WithOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
}

impl Rotation {
    /// Tells by `metrics`, and by the health of the role that needs the keys.
    #[must_use]
    pub fn telling(metrics: &Metrics, role: Role) -> Self {
        let reloads = Family::default();
        metrics.register("auth", |shelf| {
            shelf.register("key_reloads", "Times the keys of tokens were read again, by outcome", reloads.clone());
        });
        Self { reloads, role }
    }

    /// Reads the keys again with each request, and when one of their files has changed, until `stop`.
    pub async fn follow(self, auth: Arc<Auth>, mut requests: watch::Receiver<u64>, stop: CancellationToken) {
        // Not a look of now: keys may have changed while this process waited for its brokers.
        let mut seen = auth.first_look();
        let mut asked = false;
        loop {
            let found = look(&auth).await;
            if asked || found != seen {
                seen = found;
                self.reload(&auth).await;
            }
            asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = requests.changed() => asked.is_ok(),
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
        }
    }

    async fn reload(&self, auth: &Arc<Auth>) {
        let reading = auth.clone();
        let wrong = match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(Ok(keys)) => {
                tracing::info!(keys, "the keys of tokens were read again");
                None
            }
            Ok(Err(error)) => {
                let chain = std::iter::successors(Some(&error as &dyn Error), |error| (*error).source());
                let error = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                tracing::error!(error, "the keys of tokens were not replaced: mend the file, or send SIGHUP once it is");
                Some(format!("those from before stay in use: {error}"))
            }
            Err(_) => {
                tracing::error!("reading the keys of tokens panicked, which is a bug; those in use stay");
                Some("those from before stay in use: reading them panicked, which is a bug".to_owned())
            }
        };
        let outcome = if wrong.is_none() { "replaced" } else { "kept" };
        self.reloads.get_or_create(&WithOutcome { outcome }).inc();
        self.role.note(NOTE, wrong);
    }
}

async fn look(auth: &Auth) -> Look {
    let files = auth.files();
    // What cannot be looked at is seen as absent, and at the next look as changed.
    tokio::task::spawn_blocking(move || Look::at_files(files)).await.unwrap_or_else(|_| Look::at_files([]))
}
