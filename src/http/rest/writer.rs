//! Writing for a caller who waits: a record is on the log within a limit, or is given up.
//!
//! Refuses to write later what the caller was told has failed. Only an answer of the brokers that was lost on its way leaves it open
//! whether the record was written, which is why callers send an idempotency key.

use std::error::Error as _;
use std::time::Duration;

use hyper::StatusCode;
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use crate::http::problem::Problem;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};

/// A producer whose records wait for nothing longer than a caller does.
pub(super) struct Writer {
    producer: Producer<Told>,
}

struct Told(oneshot::Sender<Result<Written, ProduceError>>);

impl Ticket for Told {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        // The caller may have left.
        let _ = self.0.send(outcome);
    }
}

impl Writer {
    pub(super) fn new(cluster: &Cluster, limit: Duration) -> Result<Self, KafkaError> {
        Ok(Self { producer: Producer::within(cluster, "http", limit)? })
    }

    /// Returns once the brokers have the record.
    pub(super) async fn write(&self, record: Outgoing<'_>) -> Result<(), Unwritten> {
        let (tell, told) = oneshot::channel();
        if let Err((error, _)) = self.producer.send(record, Box::new(Told(tell))) {
            return Err(if is_too_large(&error) { Unwritten::TooLarge } else { Unwritten::untaken(&error) });
        }
        match told.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_too_large(&error) => Err(Unwritten::TooLarge),
            Ok(Err(error)) => Err(Unwritten::unanswered(Some(&error))),
            Err(_) => Err(Unwritten::unanswered(None)),
        }
    }
}

/// Why the brokers are not known to have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// It was refused, as it always will be.
    TooLarge,
    /// It was never sent.
    Untaken,
    /// No answer came in time: perhaps they have it.
    Unanswered,
}

impl Unwritten {
    fn untaken(error: &ProduceError) -> Self {
        tracing::warn!(why = told(error), "a record of a REST caller was not sent; the caller was told to come back");
        Self::Untaken
    }

    fn unanswered(error: Option<&ProduceError>) -> Self {
        tracing::warn!(
            why = error.map(told),
            "a record of a REST caller was perhaps not written; the caller was told to come back"
        );
        Self::Unanswered
    }

    /// Whether the record is on no log, for certain.
    pub(super) fn is_certain(self) -> bool {
        self != Self::Unanswered
    }

    /// In words for the caller, who is told what to do `next`.
    pub(super) fn problem(self, next: &str) -> Problem {
        let detail = match self {
            Self::TooLarge => {
                let detail = "the request is larger than its topic takes (`max.message.bytes`)";
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail);
            }
            Self::Untaken => format!("the brokers are away or slow: nothing was accepted; {next}"),
            Self::Unanswered => format!("the brokers did not confirm it in time: it was perhaps not accepted; {next}"),
        };
        Problem::brokers_away(detail)
    }
}

fn is_too_large(error: &ProduceError) -> bool {
    matches!(error, ProduceError::TooLarge { .. })
}

fn told(error: &ProduceError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
