//! Writing for a caller who waits: a record is on the log within a limit, or not at all.
//!
//! Refuses to write later what the caller was told has failed. Only an answer of the brokers that was lost on its way leaves it open,
//! which is why callers send an idempotency key.

use std::error::Error as _;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
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
    pub(super) async fn write(&self, record: Outgoing<'_>) -> Result<(), Problem> {
        let (tell, told) = oneshot::channel();
        let outcome = match self.producer.send(record, Box::new(Told(tell))) {
            Ok(()) => told.await.map_err(|_| unwritten(None))?,
            Err((error, _)) => Err(error),
        };
        outcome.map(drop).map_err(|error| match error {
            ProduceError::TooLarge { .. } => {
                let detail = "the request is larger than its topic takes (`max.message.bytes`)";
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            error => unwritten(Some(&error)),
        })
    }
}

fn unwritten(error: Option<&ProduceError>) -> Problem {
    let why = error.map(|error| error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")));
    tracing::warn!(why, "a record of a REST caller was not written; the caller was told to come back");
    let detail = "the brokers did not take it in time: nothing was accepted; send it again, with the same `Idempotency-Key`";
    Problem::of("brokers-away", StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, HeaderValue::from_static("5"))
}
