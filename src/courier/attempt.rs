//! Attempts: the records that carry a decision out.
//!
//! Owns: what is written for an attempt (the word to the gateways and the next rung, which belong together), for an end without
//! success, and for a burial. Refuses to decide. Neighbours: `round` asks for them, one transaction writes them.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tidings_core::delivery::decide::Decision;
use tidings_core::delivery::ladder::Rung;
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::RecordError;
use tidings_core::record::dead_letter::Extent;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::{Attempt, Outcome, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::trace::TraceContext;
use tidings_core::rules::Burial;
use tidings_core::time::Timestamp;

use super::line::{Held, Pending, Work};
use super::rung::{FORGED, Rungs, STAGE};
use crate::kafka::consumer::Partition;
use crate::kafka::made::Made;
use crate::kafka::remains::Remains;
use crate::telemetry::{Complaints, Doing, Place, Traces};

/// The class of failure of a delivery that no topic takes for its size.
pub(super) const TOO_LARGE: &str = "too_large";

/// What is left to do about a record that no topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Less is to be written of it now.
    Smaller,
    /// Nothing can be left out any more.
    Bare,
}

/// Whoever carries decisions out.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) node: NodeId,
    pub(super) signals: String,
    pub(super) undelivered: String,
    pub(super) dlq: String,
    pub(super) traces: Traces,
    pub(super) complaints: Complaints,
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
        let notified = (rungs.topic(Rung::FIRST), pending.partition);
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
                let next_at = Some(rungs.ladder.due(next, now, delivery.notification.id));
                delivery.tell(Attempt { at: now, node: self.node.clone(), sink: Sink::Websocket, outcome, next_at, by: None });
                let channel = delivery.channel.clone();
                let traced = within.map(TraceContext::headers).unwrap_or_default();
                let context = delivery.context(notified, outcome, within, &self.node).headers();
                let signal = SignalRecord::Redeliver { delivery: Box::new(delivery.clone()), redelivery };
                Ok(vec![
                    Made::of(&self.signals, channel.as_str(), &signal, traced)?,
                    Made::of(rungs.topic(next), channel.as_str(), &RetryRecord(delivery), context)?,
                ])
            }
            Decision::CarryOver => {
                let Some(onward) = &rungs.onward else { return Ok(Vec::new()) };
                let traced = trace.map(TraceContext::headers).unwrap_or_default();
                let next_at = rungs.ladder.due(Rung::FIRST, now, delivery.notification.id);
                Ok(vec![Made::of(onward, delivery.channel.as_str(), &carried(pending, notified, next_at), traced)?])
            }
            Decision::Undelivered { reason } => {
                let context = delivery.context(notified, reason, trace, &self.node).headers();
                let end = UndeliveredRecord { delivery: delivery.clone(), reason, ended_at: now, refused: None };
                Ok(vec![Made::of(&self.undelivered, delivery.channel.as_str(), &end, context)?])
            }
        }
    }

    /// The records that bury `remains` and end the delivery that it was, if it was one.
    pub(super) fn bury(
        &self,
        rungs: &Rungs,
        remains: &Remains,
        ended: Option<&UndeliveredRecord>,
    ) -> Result<Vec<Made>, RecordError> {
        let mut made = vec![Made::burying(&self.dlq, remains, &self.node)];
        if let Some(end) = ended {
            let (delivery, channel) = (&end.delivery, end.delivery.channel.as_str());
            let notified = (rungs.topic(Rung::FIRST), delivery.channel.partition(rungs.epoch.partitions));
            let context = delivery.context(notified, end.reason, remains.trace.as_ref(), &self.node).headers();
            made.push(Made::of(&self.undelivered, channel, end, context)?);
        }
        Ok(made)
    }

    /// `held` is a retry of a notification that is not there: no projection ever passes it, and it would hold up all behind it.
    pub(super) fn refuse(&self, held: &mut Held, partition: &Partition) {
        let Work::Decide(pending) = &held.work else {
            return;
        };
        let message = format!("`notifications` does not reach to offset {}", pending.delivery.offset);
        self.complaints.say(place(partition, held.offset), FORGED, "a retry of what is not there was buried in dlq");
        let burial = Burial::new(STAGE, Cause::Poison, FORGED, message);
        held.work = Work::Bury(Box::new(remains(pending, (partition, held.offset), burial, Extent::Whole)), None);
    }

    /// No topic takes what `held` asked to be written: its ladder ends in `dlq`, with the beginning of its delivery, and on `undelivered`, where
    /// it is told in part for this `reason`.
    pub(super) fn give_up(&self, held: &mut Held, partition: &Partition, (reason, now): (Outcome, Timestamp)) -> Fit {
        if let Work::Bury(remains, ended) = &held.work
            && remains.extent == Extent::Bare
            && ended.as_ref().is_none_or(|end| end.delivery.attempts.is_empty())
        {
            return Fit::Bare;
        }
        let message = "the broker does not take a record of this size; `max.message.bytes` of our topics is too small";
        let what = "a record is larger than `max.message.bytes` of our topics allows, and was buried in part";
        self.complaints.say(place(partition, held.offset), TOO_LARGE, what);
        match &mut held.work {
            Work::Decide(pending) => {
                let burial = Burial::new(STAGE, Cause::Refused, TOO_LARGE, message.to_owned());
                let buried = remains(pending, (partition, held.offset), burial, Extent::Stub);
                let (delivery, refused) = (pending.delivery.in_part(), Some(TOO_LARGE.to_owned()));
                let end = UndeliveredRecord { delivery, reason, ended_at: now, refused };
                held.work = Work::Bury(Box::new(buried), Some(Box::new(end)));
            }
            Work::Bury(remains, ended) => {
                remains.extent = remains.extent.less().unwrap_or(Extent::Bare);
                if let Some(end) = ended {
                    end.delivery.forget_attempts();
                }
            }
        }
        Fit::Smaller
    }
}

/// The notification of `pending`, which lies in the partition `at`, as it is written again in the next epoch.
fn carried(pending: &Pending, at: (&str, i32), next_at: Timestamp) -> NotificationRecord {
    let mut record = pending.whole.as_deref().cloned().unwrap_or_else(|| pending.delivery.notified(at));
    // It waits for an acknowledgement as if it were sent for the first time.
    record.attempts.last_mut().into_iter().for_each(|last| last.next_at = Some(next_at));
    record
}

pub(super) fn place(partition: &Partition, offset: i64) -> Place<'_> {
    Place { topic: &partition.topic, partition: partition.number, offset }
}

/// What is buried of a delivery that was read at `offset` of `partition`: as it would lie on a rung.
fn remains(pending: &Pending, (partition, offset): (&Partition, i64), burial: Burial, extent: Extent) -> Remains {
    let delivery = &pending.delivery;
    Remains {
        topic: partition.topic.to_string(),
        partition: partition.number,
        offset,
        timestamp: pending.appended,
        key: Some(delivery.channel.as_str().as_bytes().to_vec()),
        value: serde_json::to_vec(delivery).ok(),
        carried: None,
        trace: pending.trace.clone(),
        attempt: Some(delivery.made()),
        burial,
        extent,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_core::delivery::ladder::Ladder;
    use tidings_core::record::decode;
    use tidings_core::record::meta::EpochRecord;
    use tidings_core::record::retry::Delivery;
    use tidings_core::time::Delay;

    use super::*;
    use crate::clock::Clock;
    use crate::kafka::topic::TopicNames;

    fn rungs() -> Rungs {
        let delays = [30, 120].map(|seconds| Delay(Duration::from_secs(seconds))).to_vec();
        let epoch = EpochRecord::first(4, Timestamp::from_millis(0));
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
            complaints: Complaints::new("courier", Clock::start()),
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
        Pending { trace, delivery: delivery(), partition: 0, whole: None, appended: None, said_ends: None }
    }

    #[test]
    fn an_attempt_is_a_word_to_the_gateways_and_the_next_rung_with_one_attempt_more() {
        let decision = Decision::Attempt { redelivery: 1, next: Rung(1), outcome: Outcome::Offline };
        let made = hand().carry_out(&rungs(), &pending(), &decision, Timestamp::from_millis(5)).unwrap();
        assert_eq!(made.iter().map(|made| made.topic.as_str()).collect::<Vec<_>>(), ["t.signals", "t.retry.30s"]);
        assert!(made.iter().all(|made| made.key.as_deref() == Some(b"user-1")));
        let said = |made: &Made, name: &str| {
            let found = made.headers.iter().rev().find(|(header, _)| header == name)?;
            Some(String::from_utf8(found.1.clone().unwrap()).unwrap())
        };
        assert!(made.iter().all(|made| said(made, "traceparent").is_some()), "the trace goes on");
        let shown =
            ["tidings-version", "tidings-original-topic", "tidings-original-offset", "tidings-attempt", "tidings-error-class"];
        let expected = ["1", "t.notifications", "7", "1", "offline"].map(|value| Some(value.to_owned()));
        assert_eq!(shown.map(|name| said(&made[1], name)), expected);
        assert_eq!(said(&made[0], "tidings-attempt"), None, "a signal is no failure");
        let RetryRecord(retry) = decode(Some(b"1"), made[1].value.as_deref().unwrap()).unwrap();
        let attempt = &retry.attempts[0];
        assert_eq!((attempt.at, attempt.node.as_str(), attempt.outcome), (Timestamp::from_millis(5), "node-1", Outcome::Offline));
        assert!(attempt.next_at.is_some_and(|next| next >= Timestamp::from_millis(30_005)), "{attempt:?}");
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
        assert!(made[0].headers.contains(&("tidings-error-class".to_owned(), Some(b"unacknowledged".to_vec()))));
        let record: UndeliveredRecord = decode(Some(b"1"), made[0].value.as_deref().unwrap()).unwrap();
        assert_eq!((record.reason, record.delivery), (Outcome::Unacknowledged, delivery()));
        let dropped = Decision::Drop(tidings_core::delivery::decide::Dropped::Delivered);
        assert!(hand().carry_out(&rungs(), &pending(), &dropped, Timestamp::from_millis(5)).unwrap().is_empty());
    }

    #[test]
    fn what_is_carried_over_takes_along_what_was_tried_and_waits_for_a_first_acknowledgement() {
        let rungs = rungs().finishing(Some("t.notifications.e2".into()));
        let (mut pending, at) = (pending(), Timestamp::from_millis(1));
        let (node, sink, outcome) = ("node-1".parse().unwrap(), Sink::Websocket, Outcome::Offline);
        pending.delivery.tell(Attempt { at, node, sink, outcome, next_at: Some(Timestamp::from_millis(9)), by: None });
        let made = hand().carry_out(&rungs, &pending, &Decision::CarryOver, Timestamp::from_millis(5)).unwrap();
        let record: NotificationRecord = decode(Some(b"1"), made[0].value.as_deref().unwrap()).unwrap();
        assert_eq!((made.len(), made[0].topic.as_str(), record.rule.as_str()), (1, "t.notifications.e2", "carried-over"));
        let tried = record.attempts.iter().map(|attempt| (attempt.at, attempt.next_at)).collect::<Vec<_>>();
        assert_eq!(tried, [(at, Some(Timestamp::from_millis(30_005)))]);
    }
}
