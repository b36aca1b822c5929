//! Publishing: carries out a verdict, by producing notifications or a dead letter.
//!
//! Owns: what the records on `notifications` and `dlq` look like as a whole, and what happens when one is too large. Refuses to
//! give up: while the producer's queue is full it waits, what a topic refuses is written again later, and nothing is burnt. Neighbours: `worker`
//! decides and keeps what was refused, `flight` counts.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use rdkafka::message::{Headers as _, OwnedHeaders};
use tidings_core::breaker::Trip;
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tidings_core::record::Header;
use tidings_core::record::context::{Context, Original};
use tidings_core::record::dead_letter::{DeadLetter, Extent};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::trace::TraceContext;
use tidings_core::record::{RecordError, encode_into};
use tidings_core::rules::Burial;

use crate::kafka::consumer::trace_of;
use crate::kafka::dispatch::{Answer, Awaited, Source};
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket as _, version_header};
use crate::kafka::refusals::Reason;
use crate::kafka::topic::TopicNames;
use crate::telemetry::{Doing, Span};

use super::flight::{Again, Flight, Passage, Way, What};

/// The longest wait between two looks at a full queue.
const BACKOFF_LIMIT: Duration = Duration::from_millis(50);

/// What the buffer of values keeps from one event to the next.
const KEPT_BYTES: usize = 256 * 1024;

/// Writes what follows from records.
pub(super) struct Publisher {
    producer: Arc<Producer<Passage>>,
    way: Arc<Way>,
    notifications: String,
    dlq: String,
    node: NodeId,
    version: [Header; 1],
    /// Used again for each value.
    buffer: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(producer: Arc<Producer<Passage>>, way: Arc<Way>, names: &TopicNames, node: NodeId) -> Self {
        Self {
            producer,
            way,
            notifications: names.notifications(),
            dlq: names.dlq(),
            node,
            version: [version_header::<NotificationRecord>()],
            buffer: Vec::with_capacity(1024),
        }
    }

    /// Nothing follows from this record.
    pub(super) fn done(&self, source: &Source) {
        self.way.tell(Answer::Done(source.done()));
    }

    /// This record is not decided: its topic is halted, or its partition stopped.
    pub(super) fn left(&self, source: &Source) {
        self.way.tell(Answer::Left(source.done()));
    }

    /// This record is not decided, nor any behind it in its partition: a later release wrote it.
    pub(super) fn stopped(&self, source: &Source, why: RecordError) {
        source.lease.halt();
        self.way.tell(Answer::Stopped { done: source.done(), offset: source.offset, why });
    }

    /// This record is not decided, nor any behind it in its partition, until what it needs is there.
    pub(super) fn waits(&self, source: &Source, awaited: Awaited) {
        source.lease.halt();
        self.way.tell(Answer::Waiting { done: source.done(), awaited });
    }

    /// What this record needs is not given to us.
    pub(super) fn forbidden(&self, source: &Source, why: String) {
        self.left(source);
        self.way.tell(Answer::Forbidden { why });
    }

    /// Too much of this record's topic was buried.
    pub(super) fn tripped(&self, source: &Source, trip: Trip) {
        self.way.tell(Answer::Tripped { topic: source.lease.topic(), trip });
    }

    /// This thread is panicking.
    pub(super) fn died(&self) {
        self.way.tell(Answer::Died);
    }

    /// Writes the notifications of a record.
    ///
    /// # Errors
    /// If one cannot be written as JSON; then none was sent.
    pub(super) fn notify(
        &mut self,
        source: Source,
        notifications: &[NotificationRecord],
        context: Option<&TraceContext>,
    ) -> Result<(), (Source, RecordError)> {
        let ends = match self.encode(notifications) {
            Ok(ends) => ends,
            Err(error) => return Err((source, error)),
        };
        let flight = Flight::new(source, &self.way);
        self.fly(&flight, (notifications, ends), context);
        Ok(())
    }

    /// The same for a record whose notifications were refused by their topic.
    ///
    /// # Errors
    /// If one cannot be written as JSON; then none was sent.
    pub(super) fn notify_again(
        &mut self,
        flight: &Arc<Flight>,
        notifications: &[NotificationRecord],
        context: Option<&TraceContext>,
    ) -> Result<(), RecordError> {
        let ends = self.encode(notifications)?;
        flight.renew();
        self.fly(flight, (notifications, ends), context);
        Ok(())
    }

    /// Writes values into the buffer. Says where each ends.
    fn encode(&mut self, notifications: &[NotificationRecord]) -> Result<Vec<usize>, RecordError> {
        self.buffer.clear();
        let mut ends = Vec::with_capacity(notifications.len());
        for notification in notifications {
            encode_into(notification, &mut self.buffer)?;
            ends.push(self.buffer.len());
        }
        Ok(ends)
    }

    fn fly(
        &mut self,
        flight: &Arc<Flight>,
        (notifications, ends): (&[NotificationRecord], Vec<usize>),
        context: Option<&TraceContext>,
    ) {
        let mut from = 0;
        for (notification, to) in notifications.iter().zip(ends) {
            let span = self.way.traces.follow(context, || Doing {
                name: "produce",
                kind: SpanKind::Producer,
                attributes: vec![KeyValue::new("messaging.destination.name", self.notifications.clone())],
            });
            let traced = span.context(context.cloned()).map(|context| [&self.version[..], &context.headers()].concat());
            let record = Outgoing {
                topic: &self.notifications,
                partition: None,
                key: Some(notification.channel.as_str().as_bytes()),
                value: self.buffer.get(from..to),
                headers: traced.as_deref().unwrap_or(&self.version),
            };
            self.send(flight, flight.ticket(What::Notification, span), record, None);
            from = to;
        }
        flight.settle();
        // What an event for thousands needed is not kept for the next one.
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
    }

    /// Writes a record to `dlq`, as it came, with the reason.
    pub(super) fn bury(&self, source: Source, burial: Burial) {
        self.bury_flight(&Flight::new(source, &self.way), burial);
    }

    /// Goes on with a record of which something was refused as too large. Gives the reason if it is buried for it now.
    pub(super) fn again(&self, again: &Again) -> Option<(Cause, &'static str)> {
        let Again { flight, refused, .. } = again;
        flight.renew();
        match refused {
            What::Notification => {
                let message = format!("a notification of it is larger than `max.message.bytes` of {} allows", self.notifications);
                let burial = Burial::new("publish", Cause::Refused, "notification_too_large", message);
                let why = (burial.cause, burial.class);
                self.bury_flight(flight, burial);
                return Some(why);
            }
            What::DeadLetter(extent) => match extent.less() {
                Some(less) => self.bury_as(flight, less),
                None => {
                    flight.refused_at(What::DeadLetter(Extent::Bare), Reason::Size);
                    flight.settle();
                }
            },
        }
        None
    }

    /// Whether something may be written where it was refused.
    pub(super) fn admits(&self, what: What) -> bool {
        self.way.admits(what)
    }

    /// Writes as much of a record to `dlq` as it did not take before.
    pub(super) fn bury_again(&self, flight: &Arc<Flight>, extent: Extent) {
        flight.renew();
        self.bury_as(flight, extent);
    }

    /// Buries a record whose notifications were refused by their topic: they are not made any more.
    pub(super) fn bury_instead(&self, flight: &Arc<Flight>, burial: Burial) {
        flight.renew();
        self.bury_flight(flight, burial);
    }

    fn bury_flight(&self, flight: &Arc<Flight>, burial: Burial) {
        flight.burial.get_or_init(|| burial);
        self.bury_as(flight, Extent::Whole);
    }

    /// Writes as much of a record to `dlq` as `extent` says.
    fn bury_as(&self, flight: &Arc<Flight>, extent: Extent) {
        let source = &flight.source;
        let Some(burial) = flight.burial.get() else { return flight.settle() };
        let partition = source.lease.partition();
        let original = Original {
            topic: &partition.topic,
            partition: partition.number,
            offset: source.offset,
            timestamp: Some(source.timestamp),
            key: source.key.as_deref(),
        };
        let trace = source.headers.as_ref().and_then(trace_of);
        let context = Context { original, failure: burial.failure(), attempt: None, trace: trace.as_ref(), node: &self.node };
        let headers = source.headers.as_ref().map_or(0, |headers| headers.count());
        let dead = DeadLetter { context, value: source.value.as_deref(), headers }.record(extent);
        let record = Outgoing { topic: &self.dlq, partition: None, key: dead.key, value: dead.value, headers: &dead.headers };
        let carried = source.headers.as_ref().filter(|_| extent.keeps_headers());
        self.send(flight, flight.ticket(What::DeadLetter(extent), Span::default()), record, carried);
        flight.settle();
    }

    /// Hands a record to the producer. While its queue is full this waits, unless the partition is no longer ours.
    fn send(&self, flight: &Arc<Flight>, mut ticket: Box<Passage>, record: Outgoing<'_>, carried: Option<&OwnedHeaders>) {
        let mut wait = Duration::from_millis(1);
        loop {
            match self.producer.send_carrying(record, carried, ticket) {
                Ok(()) => return,
                // The record is read again by whoever has the partition next; showing it as done is ignored by now.
                Err((ProduceError::QueueFull, _)) if flight.source.lease.is_over() => return flight.settle(),
                Err((ProduceError::QueueFull, returned)) => ticket = returned,
                Err((error, ticket)) => return ticket.settled(Err(error)),
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(BACKOFF_LIMIT);
        }
    }
}
