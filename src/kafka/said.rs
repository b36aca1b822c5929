//! What librdkafka says by itself.
//!
//! Owns: how loud its lines are here. It reports every failed attempt to connect, several a second while brokers are away; who
//! waits for them says so once. So those are whispered, and what nobody else would say is not.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Statistics};

use super::statistics::Gauges;

/// The facility of lines about connections that failed.
const CONNECTIONS: &str = "FAIL";

/// A line for librdkafka's own log.
pub(super) fn line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error if facility != CONNECTIONS => tracing::warn!(target: "librdkafka", facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// An error that belongs to no call.
pub(super) fn error(error: &KafkaError, reason: &str) {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    match error.rdkafka_error_code() {
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve) => {
            tracing::debug!(target: "librdkafka", %error, reason);
        }
        _ => tracing::warn!(target: "librdkafka", %error, reason),
    }
}

/// The context of a client that has no other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn stats(&self, _: Statistics) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// The context of a client that has no other and stays: it tells what it measures.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured(pub(super) Gauges);

impl ClientContext for Measured {
    fn stats(&self, said: Statistics) {
        self.0.note(&said);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl ConsumerContext for Measured {}
