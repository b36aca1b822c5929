//! Rotation: keys that are read again while the process runs, on request and when one of their files has changed.
//!
//! Owns: noticing the change, by looking at the files now and then: a secret that is mounted changes by a link above it, which
//! events of the file system do not tell. Refuses to end because of a bad key: those that were there stay.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Auth;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// When a file was written, and its size; none if it is not there.
type Look = Option<(SystemTime, u64)>;

/// Reads the keys again with each request, and when one of their files has changed, until `stop`.
pub async fn follow(auth: Arc<Auth>, mut requests: watch::Receiver<u64>, stop: CancellationToken) {
    let mut seen = look(&auth).await;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            asked = requests.changed() => asked.is_ok(),
            () = tokio::time::sleep(LOOK) => false,
        };
        let found = look(&auth).await;
        if asked || found != seen {
            seen = found;
            reload(&auth).await;
        }
    }
}

async fn look(auth: &Auth) -> Vec<Look> {
    let mut looks = Vec::new();
    for file in auth.files() {
        let metadata = tokio::fs::metadata(file).await.ok();
        looks.push(metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len()))));
    }
    looks
}

async fn reload(auth: &Arc<Auth>) {
    let reading = auth.clone();
    match tokio::task::spawn_blocking(move || reading.reload()).await {
        Ok(Ok(keys)) => tracing::info!(keys, "the keys of tokens were read again"),
        Ok(Err(error)) => {
            let chain = std::iter::successors(Some(&error as &dyn Error), |error| (*error).source());
            let error = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            tracing::error!(error, "the keys of tokens were not replaced: mend the file, and send SIGHUP");
        }
        Err(_) => tracing::error!("reading the keys of tokens panicked, which is a bug; those in force stay"),
    }
}
