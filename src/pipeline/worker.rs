//! A worker: decides on the records of its partitions, in their order.
//!
//! Owns: one thread's part of the work, and what topics have refused of it until they take it. Refuses records of partitions that are no longer
//! ours. Neighbours: core `rules` decides, `publish` carries it out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tidings_core::event::{Explained, SourceHeader, SourceRecord};
use tidings_core::fate::Cause;
use tidings_core::record::RecordError;
use tidings_core::record::trace::{PARENT_HEADER, STATE_HEADER, TraceContext};
use tidings_core::rules::{Burial, Verdict};

use crate::clock::Clock;
use crate::config::{Settings, Topics};
use crate::kafka::consumer::{content, legible};
use crate::kafka::dispatch::{Awaited, Lost, News, Ruling, Source, Task};
use crate::registry::{Explanation, Registry, RegistryError};
use crate::telemetry::{Complaints, Doing, Place, Traces};

use super::flight::{Again, By, Flight, What};
use super::meters::{Meters, Tally};
use super::publish::Publisher;
use super::rulebook::Reader;

/// How often it is looked whether what was refused may be written again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a decision needs beside the record.
pub(super) struct Context {
    pub(super) rules: Reader,
    pub(super) topics: Topics,
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) traces: Traces,
    pub(super) complaints: Complaints,
}

/// Why a record is not decided on now.
enum Undecided {
    /// A later release wrote it.
    Newer(RecordError),
    /// Its schema is on its way.
    Waits(Awaited),
    /// Nobody gives us its schema.
    Forbidden(Arc<RegistryError>),
}

/// What one thread needs.
pub(super) struct Worker {
    context: Context,
    /// The settings of the topics seen so far.
    settings: HashMap<Arc<str>, Arc<Settings>>,
    publisher: Publisher,
    tally: Tally,
    /// What topics have refused, in the order in which it is to be written again.
    unwritten: VecDeque<Again>,
    /// When it is looked at next.
    look_at: Duration,
}

impl Worker {
    pub(super) fn new(context: Context, publisher: Publisher, meters: Meters) -> Self {
        let (unwritten, look_at) = (VecDeque::new(), Duration::ZERO);
        Self { context, settings: HashMap::new(), publisher, tally: Tally::new(meters), unwritten, look_at }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Receiver<Task<Again>>) {
        loop {
            let next = if self.unwritten.is_empty() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(LOOK_INTERVAL)
            };
            match next {
                Ok(Task::New(source)) => self.decide(source),
                Ok(Task::Lost(lost)) => self.lost(lost),
                Ok(Task::Again(again)) if again.by == By::Topic => self.unwritten.push_back(again),
                Ok(Task::Again(again)) => self.again(&again),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.unwritten.is_empty() {
                self.try_unwritten();
            }
        }
    }

    /// Writes again what topics have refused, where one may.
    fn try_unwritten(&mut self) {
        let now = self.context.clock.elapsed();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        for again in std::mem::take(&mut self.unwritten) {
            if again.flight.source.lease.is_over() {
                again.flight.give_up();
            } else if !self.publisher.admits(again.refused) || !self.write_again(&again) {
                self.unwritten.push_back(again);
            }
        }
    }

    /// Writes what was refused of a record once more, as it is decided now. Says whether that could be decided.
    fn write_again(&mut self, Again { flight, refused, .. }: &Again) -> bool {
        let source = &flight.source;
        if let What::DeadLetter(extent) = refused {
            source.lease.go_on();
            self.publisher.bury_again(flight, *extent);
            return true;
        }
        let Ok(verdict) = self.verdict(source) else { return false };
        source.lease.go_on();
        if let Verdict::Ignore(reason) = &verdict {
            // As a record it was counted when nobody knew yet how long it would wait.
            self.tally.ignored(reason);
            let what = "an event that waited for `notifications` is ignored now that it takes records again";
            self.context.complaints.say(place_of(source), reason.name(), what);
        }
        let burial = match verdict {
            Verdict::Ignore(_) => return self.settled(flight),
            Verdict::Bury(burial) => burial,
            Verdict::Notify(notifications) => {
                let context = self.context_of(source);
                match self.publisher.notify_again(flight, &notifications, context.as_ref()) {
                    Ok(()) => return true,
                    Err(error) => Burial::new("publish", Cause::Refused, "notification_unwritable", error.to_string()),
                }
            }
        };
        self.buried(source, burial.cause, burial.class);
        self.publisher.bury_instead(flight, burial);
        true
    }

    /// By the rules as they are now nothing follows from it any more.
    fn settled(&self, flight: &Arc<Flight>) -> bool {
        flight.renew();
        flight.settle();
        true
    }

    /// Goes on with a record of which something was too large.
    fn again(&mut self, again: &Again) {
        let source = &again.flight.source;
        if again.refused == What::Notification && self.hear(source, News::Refused) == Ruling::Leave {
            return again.flight.leave();
        }
        if let Some((cause, class)) = self.publisher.again(again) {
            self.buried(source, cause, class);
        }
    }

    fn decide(&mut self, source: Source) {
        if source.lease.is_over() {
            return self.publisher.done(&source);
        }
        if source.lease.is_halted() || !source.lease.gate().admits() {
            return self.publisher.left(&source);
        }
        let partition = source.lease.partition().clone();
        let _span =
            tracing::debug_span!("record", topic = %partition.topic, partition = partition.number, offset = source.offset)
                .entered();
        let above = self.context_of(&source);
        let mut span = self.context.traces.begin(above.as_ref(), || deciding(&source));
        let began = source.is_timed().then(|| self.context.clock.elapsed());
        let verdict = match self.verdict(&source) {
            Ok(verdict) => verdict,
            Err(undecided) => return self.leave(&source, undecided),
        };
        if let Some(began) = began {
            self.tally.decided_within(self.context.clock.elapsed() - began);
        }
        let ruling = self.hear(&source, news_of(&verdict));
        if ruling == Ruling::Leave && matches!(verdict, Verdict::Bury(_)) {
            return self.publisher.left(&source);
        }
        self.tally.verdict(&partition.topic, &verdict);
        match verdict {
            Verdict::Ignore(reason) => {
                tracing::debug!(reason = reason.name(), "ignored");
                self.publisher.done(&source);
            }
            Verdict::Notify(notifications) => {
                tracing::debug!(notifications = notifications.len(), "notified");
                span.note("tidings.notifications", notifications.len() as u64);
                let context = span.context(above);
                if let Err((source, error)) = self.publisher.notify(source, &notifications, context.as_ref()) {
                    let burial = Burial::new("publish", Cause::Refused, "notification_unwritable", error.to_string());
                    if self.hear(&source, News::Refused) == Ruling::Leave {
                        return self.publisher.left(&source);
                    }
                    self.bury(source, burial);
                }
            }
            Verdict::Bury(burial) => self.bury(source, burial),
        }
    }

    fn leave(&mut self, source: &Source, undecided: Undecided) {
        match undecided {
            Undecided::Newer(newer) => {
                self.tally.failed(newer.cause(), newer.class());
                self.publisher.stopped(source, newer);
            }
            Undecided::Waits(awaited) => self.publisher.waits(source, awaited),
            Undecided::Forbidden(error) => {
                self.tally.failed(error.cause(), error.class());
                self.publisher.forbidden(source, error.in_full());
            }
        }
    }

    /// Tells the gate of its topic what becomes of a record, unless the record's partition is no longer read.
    fn hear(&self, source: &Source, news: News) -> Ruling {
        if source.lease.is_over() {
            return Ruling::GoOn;
        }
        if source.lease.is_halted() {
            return Ruling::Leave;
        }
        let ruling = source.lease.gate().hear(news);
        if let Ruling::Trip(trip) = ruling {
            self.publisher.tripped(source, trip);
        }
        ruling
    }

    /// The trace that the record belongs to, if its headers name one.
    fn context_of(&self, source: &Source) -> Option<TraceContext> {
        let headers = source.headers.as_ref()?;
        self.context.traces.context(content(headers, PARENT_HEADER), content(headers, STATE_HEADER))
    }

    /// What becomes of a record, unless that cannot be said now.
    fn verdict(&mut self, source: &Source) -> Result<Verdict, Undecided> {
        let Self { context, settings, .. } = self;
        let partition = source.lease.partition();
        let settings = match settings.get(&partition.topic) {
            Some(settings) => settings,
            None => settings.entry(Arc::clone(&partition.topic)).or_insert_with(|| context.topics.of(&partition.topic)),
        };
        let Some(headers) = source.headers.as_ref().map_or_else(|| Some(Vec::new()), legible) else {
            return Ok(Verdict::Bury(Burial::illegible()));
        };
        let headers = headers.iter().map(|header| SourceHeader { name: header.key, value: header.value }).collect::<Vec<_>>();
        let record = SourceRecord {
            topic: &partition.topic,
            partition: partition.number,
            offset: source.offset,
            timestamp: source.timestamp,
            key: source.key.as_deref(),
            value: source.value.as_deref(),
            headers: &headers,
        };
        let explained = match explain(&context.registry, settings, &record) {
            Explanation::Ready(explained) => explained,
            Explanation::Wait(awaited) => return Err(Undecided::Waits(awaited)),
            Explanation::Bury(burial) => return Ok(Verdict::Bury(burial)),
            Explanation::Forbidden(error) => return Err(Undecided::Forbidden(error)),
        };
        settings.decide(context.rules.rules(), (&record, explained), context.clock.now()).map_err(Undecided::Newer)
    }

    fn lost(&mut self, Lost { source, last }: Lost) {
        let message = format!("retention removed offsets {} to {last} before they were read", source.offset);
        self.bury(source, Burial::new("read", Cause::Refused, "records_lost", message));
    }

    fn bury(&mut self, source: Source, burial: Burial) {
        self.buried(&source, burial.cause, burial.class);
        self.publisher.bury(source, burial);
    }

    fn buried(&mut self, source: &Source, cause: Cause, class: &'static str) {
        self.tally.failed(cause, class);
        self.context.complaints.say(place_of(source), class, "a record was buried in dlq");
    }
}

fn place_of(source: &Source) -> Place<'_> {
    let partition = source.lease.partition();
    Place { topic: &partition.topic, partition: partition.number, offset: source.offset }
}

/// Requests are in plain JSON, whoever writes them.
fn explain(registry: &Registry, settings: &Settings, record: &SourceRecord<'_>) -> Explanation {
    if settings.has_events() { registry.explain(record, settings.reading()) } else { Explanation::Ready(Explained::default()) }
}

fn news_of(verdict: &Verdict) -> News {
    match verdict {
        Verdict::Ignore(_) => News::Fine,
        Verdict::Notify(_) => News::Sent,
        Verdict::Bury(_) => News::Buried,
    }
}

fn deciding(source: &Source) -> Doing {
    let partition = source.lease.partition();
    let attributes = vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.destination.name", partition.topic.to_string()),
        KeyValue::new("messaging.destination.partition.id", partition.number.to_string()),
        KeyValue::new("messaging.kafka.offset", source.offset),
    ];
    Doing { name: "decide", kind: SpanKind::Consumer, attributes }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.publisher.died();
        }
    }
}
