//! Attempts: the records that carry a decision out.
//!
//! Owns: what is written for an attempt (the word to the gateways and the next rung, which belong together), for an end without
//! success, and for a burial. Refuses to decide. Neighbours: `round` asks for them, one transaction writes them.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tidings_core::delivery::decide::Decision;
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::dead_letter::{DeadLetter, Header, STUB_BYTES};
use tidings_core::record::retry::{Attempt, Delivery, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::trace::TraceContext;
use tidings_core::record::{Record, RecordError, encode};
use tidings_core::time::Timestamp;

use super::line::{Held, Pending, Remains, Work};
use super::rung::{FORGED, Rungs};
use crate::kafka::consumer::Partition;
use crate::kafka::producer::{Outgoing, version_header};
use crate::telemetry::{Doing, Traces};

/// A record to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<Header>,
}

impl Made {
    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            partition: None,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }

    fn of<R: Record>(topic: &str, delivery: &Delivery, record: &R, trace: Option<&TraceContext>) -> Result<Self, RecordError> {
        let traced = trace.map(TraceContext::headers).unwrap_or_default();
        Ok(Self {
            topic: topic.to_owned(),
            key: Some(delivery.channel.as_str().as_bytes().to_vec()),
            value: Some(encode(record)?),
            headers: std::iter::once(version_header::<R>()).chain(traced).collect(),
        })
    }
}

/// Whoever carries decisions out.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) node: NodeId,
    pub(super) signals: String,
    pub(super) undelivered: String,
    pub(super) dlq: String,
    pub(super) traces: Traces,
}

impl Hand {
    /// The records that carry out `decision` about `pending` at `now`.
    pub(super) fn carry_out(
        &self,
        rungs: &Rungs,
        pending: &Pending,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<Vec<Made>, RecordError> {
        let delivery = &pending.delivery;
        let trace = pending.trace.as_ref();
        match *decision {
            Decision::Drop(_) => Ok(Vec::new()),
            Decision::Attempt { redelivery, next, outcome } => {
                let doing = || Doing {
                    name: "attempt",
                    kind: SpanKind::Producer,
                    attributes: vec![KeyValue::new("tidings.redelivery", i64::from(redelivery))],
                };
                let span = self.traces.follow(trace, doing);
                let within = span.context(trace.cloned());
                let within = within.as_ref();
                let mut delivery = delivery.clone();
                delivery.attempts.push(Attempt { at: now, node: self.node.clone(), sink: Sink::Websocket, outcome });
                let signal = SignalRecord::Redeliver { delivery: Box::new(delivery.clone()), redelivery };
                let signal = Made::of(&self.signals, &delivery, &signal, within)?;
                let retry = RetryRecord(delivery);
                Ok(vec![signal, Made::of(rungs.topic(next), &retry.0, &retry, within)?])
            }
            Decision::Undelivered { reason } => {
                let end = UndeliveredRecord { delivery: delivery.clone(), reason, ended_at: now };
                Ok(vec![Made::of(&self.undelivered, delivery, &end, trace)?])
            }
        }
    }

    /// The record that buries `remains`.
    pub(super) fn bury(&self, remains: &Remains) -> Made {
        Made { topic: self.dlq.clone(), key: remains.key.clone(), value: remains.value.clone(), headers: remains.headers.clone() }
    }

    /// `held` is a retry of a notification that is not there: no projection ever passes it, and it would hold up all behind it.
    pub(super) fn refuse(&self, held: &mut Held, partition: &Partition) {
        let Work::Decide(pending) = &held.work else {
            return;
        };
        let message = format!("`notifications` does not reach to offset {}", pending.delivery.offset);
        tracing::error!(topic = %partition.topic, partition = partition.number, offset = held.offset, dlq = self.dlq, "a retry of what is not there: {message}; buried");
        let headers = self.letter(partition, held.offset, (Cause::Poison, FORGED, &message));
        let value = serde_json::to_vec(&pending.delivery).ok();
        let own_headers = headers.len();
        held.work = Work::Bury(Box::new(Remains { key: Some(key(pending)), value, headers, own_headers }));
    }

    /// No topic takes what `held` asked to be written: its ladder ends in `dlq`, with the beginning of its value.
    pub(super) fn give_up(&self, held: &mut Held, partition: &Partition) {
        let message = "the broker does not take a record of this size; `max.message.bytes` of our topics is too small";
        tracing::error!(topic = %partition.topic, partition = partition.number, offset = held.offset, dlq = self.dlq, "{message}; buried as a stub");
        let stub = |mut value: Vec<u8>| {
            value.truncate(STUB_BYTES);
            value
        };
        let remains = match &mut held.work {
            Work::Decide(pending) => {
                let headers = self.letter(partition, held.offset, (Cause::Refused, "too_large", message));
                let (value, own_headers) = (serde_json::to_vec(&pending.delivery.notification).ok().map(stub), headers.len());
                Remains { key: Some(key(pending)), value, headers, own_headers }
            }
            Work::Bury(remains) => remains.smaller(),
        };
        held.work = Work::Bury(Box::new(remains));
    }

    fn letter(&self, partition: &Partition, offset: i64, (cause, class, message): (Cause, &'static str, &str)) -> Vec<Header> {
        DeadLetter {
            topic: &partition.topic,
            partition: partition.number,
            offset,
            timestamp: None,
            stage: "courier",
            cause,
            class,
            message,
            node: &self.node,
        }
        .headers()
    }
}

fn key(pending: &Pending) -> Vec<u8> {
    pending.delivery.channel.as_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_core::delivery::ladder::{Ladder, Rung};
    use tidings_core::position::Epoch;
    use tidings_core::record::decode;
    use tidings_core::record::meta::EpochRecord;
    use tidings_core::record::retry::Outcome;
    use tidings_core::time::Delay;

    use super::*;
    use crate::kafka::topic::TopicNames;

    fn rungs() -> Rungs {
        let delays = [30, 120].map(|seconds| Delay(Duration::from_secs(seconds))).to_vec();
        let epoch = EpochRecord { epoch: Epoch(1), partitions: 4, created_at: Timestamp::from_millis(0) };
        Rungs::new(Ladder::new(Duration::from_secs(30), delays, 20), epoch, &TopicNames::new("t."), Traces::default())
    }

    fn hand() -> Hand {
        let node = "node-1".parse().unwrap();
        Hand {
            node,
            signals: "t.signals".into(),
            undelivered: "t.undelivered".into(),
            dlq: "t.dlq".into(),
            traces: Traces::default(),
        }
    }

    fn delivery() -> Delivery {
        let value = serde_json::json!({
            "channel": "user-1", "epoch": 1, "offset": 7, "attempts": [],
            "notification": {"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t",
                             "createdAt": "2026-01-31T12:00:00.000Z"},
        });
        serde_json::from_value(value).unwrap()
    }

    fn pending() -> Pending {
        let trace = TraceContext::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).ok();
        Pending { trace, delivery: delivery(), partition: 0, cursors_end: None }
    }

    #[test]
    fn an_attempt_is_a_word_to_the_gateways_and_the_next_rung_with_one_attempt_more() {
        let decision = Decision::Attempt { redelivery: 1, next: Rung(1), outcome: Outcome::Offline };
        let made = hand().carry_out(&rungs(), &pending(), &decision, Timestamp::from_millis(5)).unwrap();
        assert_eq!(made.iter().map(|made| made.topic.as_str()).collect::<Vec<_>>(), ["t.signals", "t.retry.30s"]);
        assert!(made.iter().all(|made| made.key.as_deref() == Some(b"user-1")));
        assert!(made.iter().all(|made| made.headers.iter().any(|(name, _)| name == "traceparent")), "the trace goes on");
        let RetryRecord(retry) = decode(Some(b"1"), made[1].value.as_deref().unwrap()).unwrap();
        let attempt = &retry.attempts[0];
        assert_eq!((attempt.at, attempt.node.as_str(), attempt.outcome), (Timestamp::from_millis(5), "node-1", Outcome::Offline));
        let SignalRecord::Redeliver { delivery, redelivery } = decode(Some(b"1"), made[0].value.as_deref().unwrap()).unwrap()
        else {
            panic!("another signal");
        };
        assert_eq!((*delivery, redelivery), (retry, 1));
    }

    #[test]
    fn the_end_is_one_record_and_a_dropped_delivery_none() {
        let end = Decision::Undelivered { reason: Outcome::Unacknowledged };
        let made = hand().carry_out(&rungs(), &pending(), &end, Timestamp::from_millis(5)).unwrap();
        assert_eq!(made.len(), 1);
        let record: UndeliveredRecord = decode(Some(b"1"), made[0].value.as_deref().unwrap()).unwrap();
        assert_eq!((record.reason, record.delivery), (Outcome::Unacknowledged, delivery()));
        let dropped = Decision::Drop(tidings_core::delivery::decide::Dropped::Delivered);
        assert!(hand().carry_out(&rungs(), &pending(), &dropped, Timestamp::from_millis(5)).unwrap().is_empty());
    }
}
