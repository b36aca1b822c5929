//! Reading what takes long for one caller at a time.
//!
//! Owns: whose turn it is, and that who leaves ends his. Refuses to know what is read. Neighbours: `dlq` and `undelivered` read topics.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use tidings_core::fate::Cause;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::http::problem::Problem;
use crate::replay::ReplayError;

/// Something that is read beside the runtime.
pub(super) struct Reading<T> {
    from: Arc<T>,
    /// What callers know it as, in the plural or as a clause: "the dead letters".
    what: &'static str,
    /// After so long a caller is answered, where a part of the answer is worth something. Half of it he waits for his turn.
    patience: Duration,
    /// Held by who reads.
    turn: Arc<Mutex<()>>,
}

impl<T: Send + Sync + 'static> Reading<T> {
    /// Whose callers are given up by the listener after `request_timeout`.
    pub(super) fn new(from: T, what: &'static str, request_timeout: Duration) -> Self {
        Self { from: Arc::new(from), what, patience: request_timeout / 3 * 2, turn: Arc::default() }
    }

    /// When who asks now is to be answered.
    pub(super) fn until(&self, clock: Clock) -> Duration {
        clock.elapsed() + self.patience
    }

    /// When who was to be answered by `until` is answered at the latest, where the rest of his answer waits for something. A sixth of his
    /// time is left to do it in.
    pub(super) fn beyond(&self, until: Duration) -> Duration {
        until + self.patience / 4
    }

    /// Waits for its turn, and runs what blocks beside the runtime. Who drops this stops it.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&T, &CancellationToken) -> R + Send + 'static,
    ) -> Result<R, Problem> {
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        let turn = timeout(self.patience / 2, self.turn.clone().lock_owned()).await.map_err(|_| crowded(self.what))?;
        let from = self.from.clone();
        let working = tokio::task::spawn_blocking(move || {
            let outcome = work(&from, &stop);
            drop(turn);
            outcome
        });
        working.await.map_err(|panicked| {
            let what = self.what;
            tracing::error!(%panicked, what, "reading panicked; this is a bug");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what} could not be read"))
        })
    }
}

/// What a caller is told who waited for his turn in vain.
pub(super) fn crowded(what: &str) -> Problem {
    let told = format!("others who ask for {what} are answered one after the other: ask again");
    let problem = Problem::of("busy", StatusCode::SERVICE_UNAVAILABLE, told);
    problem.with(RETRY_AFTER, HeaderValue::from_static("5"))
}

/// What a caller is told whose reading did not come to its end.
pub(super) fn unread(error: ReplayError) -> Problem {
    let cause = error.cause();
    match error {
        ReplayError::Gone { .. } | ReplayError::Broken { .. } => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        ReplayError::Filter(error) => Problem::new(StatusCode::BAD_REQUEST, error.to_string()),
        ReplayError::Store(error) => error.into(),
        error @ (ReplayError::Behind { .. } | ReplayError::Over { .. }) => {
            let told = error.to_string();
            tracing::warn!(error = told, "ladders are not begun anew; the caller was told to come back");
            Problem::not_yet(told)
        }
        error @ ReplayError::Wordy => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        error @ ReplayError::TooMany { .. } => Problem::of("too-many", StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        error @ (ReplayError::Late | ReplayError::Unfinished { .. }) => {
            Problem::of("too-much", StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        error if cause == Cause::Bug => {
            tracing::error!(error = told(error), "what was read could not be tried again; this is a bug");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "what was read could not be tried again")
        }
        error => {
            let told = told(error);
            tracing::warn!(error = told, "a topic was not read to the end; the caller was told to come back");
            let problem = Problem::of("brokers-away", StatusCode::SERVICE_UNAVAILABLE, told);
            problem.with(RETRY_AFTER, HeaderValue::from_static("5"))
        }
    }
}

fn told(error: ReplayError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn what_is_too_much_for_a_request_is_refused_with_what_to_do_about_it() {
        let unfinished = ReplayError::Unfinished { done: 2, all: 7 };
        let many = ReplayError::TooMany { most: NonZeroUsize::MIN };
        for (error, status, advice) in [
            (ReplayError::Late, "503 Service Unavailable: ", "`tidings dlq`"),
            (unfinished, "503 Service Unavailable: ", "`tidings dlq redrive --again`"),
            (ReplayError::Wordy, "413 Payload Too Large: ", "name fewer at a time, or say it by time"),
            (many, "422 Unprocessable Entity: ", "Narrow the selection (`since`"),
        ] {
            let told = unread(error).to_string();
            assert!(told.starts_with(status) && told.contains(advice) && !told.contains("  "), "{told}");
        }
    }
}
