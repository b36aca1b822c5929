//! Rungs: what a record on each topic means, and when it is due.
//!
//! Owns: which topic is which rung, and reading a record of it. Refuses what headers say of time and attempts: due times follow
//! from topic and append time. Neighbours: `line` holds what is read here.

use std::collections::BTreeMap;

use rdkafka::message::{BorrowedMessage, Message};
use tidings_core::delivery::ladder::{Ladder, Rung};
use tidings_core::fate::Cause;
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::retry::{Delivery, RetryRecord};
use tidings_core::record::trace::{PARENT_HEADER, STATE_HEADER, TraceContext};
use tidings_core::record::{RecordError, VERSION_HEADER, decode};
use tidings_core::rules::Burial;
use tidings_core::time::Timestamp;

use crate::telemetry::Traces;

use super::line::{Held, Pending, Work};
use crate::kafka::consumer::header;
use crate::kafka::remains::Remains;
use crate::kafka::topic::TopicNames;

/// The class of failure of a record that reads, and that nobody of ours wrote.
pub(super) const FORGED: &str = "forged";

/// The step that fails here, in `dlq`.
pub(super) const STAGE: &str = "courier";

/// The topics of the ladder.
#[derive(Debug)]
pub(super) struct Rungs {
    pub(super) ladder: Ladder,
    pub(super) epoch: EpochRecord,
    /// Where notifications are carried over to, if the epoch is over.
    pub(super) onward: Option<String>,
    topics: BTreeMap<String, Rung>,
    names: BTreeMap<Rung, String>,
    traces: Traces,
}

/// What a record asks for.
#[derive(Debug)]
pub(super) enum Read {
    /// To wait.
    Waits(Held),
    /// Nothing: it is for no mailbox, or the inbox buries it.
    Passes,
    /// To stop here: a newer release wrote it.
    Stops(RecordError),
}

impl Rungs {
    pub(super) fn new(ladder: Ladder, epoch: EpochRecord, topics: &TopicNames, traces: Traces) -> Self {
        let mut names = BTreeMap::from([(Rung::FIRST, topics.notifications())]);
        names.extend(ladder.rungs().map(|(rung, delay)| (rung, topics.retry(delay))));
        let topics = names.iter().map(|(rung, name)| (name.clone(), *rung)).collect();
        Self { ladder, epoch, onward: None, topics, names, traces }
    }

    /// The same for an epoch that is over, if there is somewhere to carry its notifications over to.
    pub(super) fn finishing(self, onward: Option<String>) -> Self {
        Self { onward, ..self }
    }

    pub(super) fn topics(&self) -> Vec<&str> {
        self.names.values().map(String::as_str).collect()
    }

    pub(super) fn of(&self, topic: &str) -> Rung {
        self.topics.get(topic).copied().unwrap_or(Rung::FIRST)
    }

    pub(super) fn topic(&self, rung: Rung) -> &str {
        self.names.get(&rung).map_or("", String::as_str)
    }

    /// Reads a record. `now` stands in for a time of appending where a broker gives none.
    pub(super) fn read(&self, record: &BorrowedMessage<'_>, now: Timestamp) -> Read {
        let Some(value) = record.payload() else {
            return Read::Passes;
        };
        let rung = self.of(record.topic());
        let written = record.timestamp().to_millis().map(Timestamp::from_millis);
        let appended = written.unwrap_or(now);
        match self.delivery(rung, record, value) {
            Ok((delivery, whole)) => match self.unfit(&delivery, record) {
                None => {
                    // In an epoch that is over nobody acknowledges any more.
                    let waits = self.onward.is_none();
                    let due = if waits { self.ladder.due(rung, appended, delivery.notification.id) } else { appended };
                    let (trace, partition) = (self.trace(record), record.partition());
                    let pending = Pending { trace, delivery, partition, whole, appended: written, said_ends: None };
                    let work = Work::Decide(Box::new(pending));
                    Read::Waits(Held { offset: record.offset(), bytes: value.len(), due, work })
                }
                // For no mailbox, or the inbox buries it.
                Some(_) if rung == Rung::FIRST => Read::Passes,
                Some(why) => Read::Waits(bury(appended, remains(record, (Cause::Poison, FORGED), why))),
            },
            Err(newer @ RecordError::Newer { .. }) => Read::Stops(newer),
            // The inbox reads the same topic and buries it.
            Err(_) if rung == Rung::FIRST => Read::Passes,
            Err(error) => {
                let why = (error.cause(), error.class());
                Read::Waits(bury(appended, remains(record, why, error.in_full())))
            }
        }
    }

    /// The trace that a record belongs to. It is passed on also when nobody here records traces.
    fn trace(&self, record: &BorrowedMessage<'_>) -> Option<TraceContext> {
        let parent = header(record, PARENT_HEADER)?;
        self.traces.context(Some(parent), header(record, STATE_HEADER))
    }

    /// The delivery that `record` asks for, and of what is to be carried over the record itself, if it is the notification's.
    fn delivery(
        &self,
        rung: Rung,
        record: &BorrowedMessage<'_>,
        value: &[u8],
    ) -> Result<(Delivery, Option<Box<NotificationRecord>>), RecordError> {
        let version = header(record, VERSION_HEADER);
        let appended_at = record.timestamp().to_millis().map(Timestamp::from_millis);
        if rung != Rung::FIRST {
            let RetryRecord(mut delivery) = decode(version, value)?;
            // What is said of a time to come would keep it on the last rung for longer than anything stays there.
            delivery.appended_at = delivery.appended_at.into_iter().chain(appended_at).min();
            return Ok((delivery, None));
        }
        let notified: NotificationRecord = decode(version, value)?;
        let whole = self.onward.is_some().then(|| Box::new(notified.clone()));
        let NotificationRecord { channel, notification, ladder, attempts_forgotten, attempts, .. } = notified;
        let (epoch, offset) = (self.epoch.epoch, record.offset());
        let delivery = Delivery { channel, notification, epoch, offset, appended_at, ladder, attempts_forgotten, attempts };
        Ok((delivery, whole))
    }

    /// Why nobody of ours can have asked with `record` for its delivery to be tried; none if one can.
    fn unfit(&self, delivery: &Delivery, record: &BorrowedMessage<'_>) -> Option<String> {
        let own = delivery.channel.partition(self.epoch.partitions);
        if delivery.channel.mailbox_user().is_none() {
            Some(format!("{} is no mailbox: nothing of it is tried again", delivery.channel))
        } else if own != record.partition() || record.key() != Some(delivery.channel.as_str().as_bytes()) {
            Some(format!("{} belongs to partition {own}, with the channel as key", delivery.channel))
        } else if delivery.epoch > self.epoch.epoch {
            Some(format!("epoch {} has not begun", delivery.epoch))
        } else if delivery.offset < 0 {
            Some(format!("no notification lies at offset {}", delivery.offset))
        } else {
            None
        }
    }
}

fn bury(due: Timestamp, remains: Box<Remains>) -> Held {
    Held { offset: remains.offset, bytes: remains.bytes(), due, work: Work::Bury(remains, None) }
}

fn remains(record: &BorrowedMessage<'_>, (cause, class): (Cause, &'static str), message: String) -> Box<Remains> {
    Box::new(Remains::of(record, Burial::new(STAGE, cause, class, message)))
}
