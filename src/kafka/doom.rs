//! Doom: an idempotent producer of which librdkafka says that it can write nothing more.
//!
//! Owns: that word's way from librdkafka's threads to the assembly, which ends the process; a new one begins with a producer whose order
//! is sound. Refuses to judge transactional producers, which the courier replaces by itself.

use std::sync::Arc;

use tidings_core::fate::Cause;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The facility of librdkafka's line about a fatal error (`rd_kafka_set_fatal_error0` in its rdkafka.c).
const FACILITY: &str = "FATAL";
/// What stands there between the name of its thread and the reason.
const PREFACE: &str = "Fatal error: ";

/// A producer of this process has failed for good: whatever it is given from now on is refused.
#[derive(Debug, thiserror::Error)]
#[error("a producer can write nothing more: {0}")]
pub struct Doomed(String);

impl Doomed {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Dependency
    }
}

/// Hears of producers that have failed for good. Clones hear the same.
#[derive(Debug, Clone, Default)]
pub struct Doom(Arc<watch::Sender<Option<String>>>);

impl Doom {
    /// Takes note of a line that librdkafka writes. It says there that an error is fatal; what it reports as an error is only its code.
    pub(super) fn hear(&self, facility: &str, text: &str) {
        if facility == FACILITY {
            let reason = text.split_once(PREFACE).map_or(text, |(_, reason)| reason);
            self.0.send_replace(Some(reason.to_owned()));
        }
    }

    /// Watches until `stop` is cancelled.
    ///
    /// # Errors
    /// As soon as a producer has failed for good.
    pub async fn watch(self, stop: CancellationToken) -> Result<(), Doomed> {
        let mut said = self.0.subscribe();
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            reason = said.wait_for(Option::is_some) => match reason.ok().and_then(|reason| reason.clone()) {
                Some(reason) => Err(Doomed(reason)),
                None => Ok(()),
            },
        }
    }
}
