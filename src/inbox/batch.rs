//! The batch: records read and not folded yet.
//!
//! Owns: decoding, and the bound of what waits. Refuses to judge what a record that does not read deserves: the projector does.
//! Long because the records of five kinds of topics are decoded here.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::Message;
use tidings_core::channel::Channel;
use tidings_core::delivery::ladder::JITTER_LIMIT;
use tidings_core::fate::Cause;
use tidings_core::position::Epoch;
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::record::retry::{Delivery, Outcome, RetryRecord, UndeliveredRecord};
use tidings_core::record::{Record as _, RecordError, VERSION_HEADER, decode};
use tidings_core::time::{Delay, Timestamp};

use crate::kafka::consumer::{Partition, header};
use crate::kafka::topic::TopicNames;
use crate::store::{Fold, Heard, Move, Notified, Ours, Received, Tried};
use crate::telemetry::Span;

/// The most that waits, in bytes of values, whatever the number of records.
const LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// Nobody waits longer for the first acknowledgement.
const FIRST_LIMIT: Duration = Duration::from_hours(1);

/// The names of the topics that are folded.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    pub(super) notifications: Arc<str>,
    pub(super) cursors: Arc<str>,
    pub(super) receipts: Arc<str>,
    /// The retry topics, with how long a delivery waits there.
    rungs: Vec<(Arc<str>, Delay)>,
    undelivered: Arc<str>,
    /// Not folded: notifications name it as where they come from.
    requests: Arc<str>,
    /// How many partitions each has.
    pub(super) partitions: i32,
    /// Their generation.
    epoch: Epoch,
}

impl Topics {
    /// Those of a cluster that has these rungs.
    pub(super) fn of_cluster(names: &TopicNames, rungs: &[Delay], epoch: &EpochRecord) -> Self {
        Self {
            notifications: names.notifications().into(),
            cursors: names.cursors().into(),
            receipts: names.receipts().into(),
            rungs: rungs.iter().map(|rung| (names.retry(rung).into(), *rung)).collect(),
            undelivered: names.undelivered().into(),
            requests: names.requests().into(),
            partitions: epoch.partitions,
            epoch: epoch.epoch,
        }
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&str> {
        self.all().map(|name| &**name).collect()
    }

    /// Whether offsets of a topic are told to others: as positions, or as what acknowledgements and marks are about.
    pub(super) fn has_positions(&self, topic: &str) -> bool {
        [&self.notifications, &self.cursors, &self.receipts].into_iter().any(|own| **own == *topic)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        let rungs = self.rungs.iter().map(|(name, _)| name);
        [&self.notifications, &self.cursors, &self.receipts].into_iter().chain(rungs).chain([&self.undelivered])
    }

    /// Which of `partitions` stand for what in the store.
    pub(super) fn ours(&self, partitions: &[Partition]) -> Ours {
        let of = |topic: &Arc<str>| {
            let ours = partitions.iter().filter(|partition| partition.topic == *topic);
            ours.map(|partition| (partition.topic.clone(), partition.number)).collect()
        };
        Ours { notifications: of(&self.notifications), cursors: of(&self.cursors), receipts: of(&self.receipts) }
    }

    /// The own name of a topic that is folded, so that it need not be copied for each record.
    pub(super) fn of<M: Message>(&self, record: &M) -> &Arc<str> {
        self.all().find(|name| ***name == *record.topic()).unwrap_or(&self.notifications)
    }
}

/// What a record holds.
#[derive(Debug)]
pub(super) enum Content {
    /// With what was tried where it lay before.
    Notification(Box<Notified>, Option<Box<Tried>>),
    Cursor(Heard),
    Receipt(Received),
    Tried(Box<Tried>),
    /// A tombstone: a device that is no more says nothing new.
    Nothing,
}

/// Why a record is not folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(transparent)]
    Unreadable(#[from] RecordError),
    /// Positions and acknowledgements of its channel would mean other records.
    #[error("a {name} that does not lie in the partition of {channel}, {own}, with this channel as key")]
    Misplaced { name: &'static str, channel: Channel, own: i32 },
}

impl Unfit {
    /// Whose fault it is.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Unreadable(why) => why.cause(),
            Self::Misplaced { .. } => Cause::Poison,
        }
    }

    /// A short name that does not change between releases.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Unreadable(why) => why.class(),
            Self::Misplaced { .. } => "misplaced",
        }
    }

    /// What is wrong, in one line.
    pub(super) fn in_full(&self) -> String {
        match self {
            Self::Unreadable(why) => why.in_full(),
            Self::Misplaced { .. } => self.to_string(),
        }
    }
}

/// Reads a record of one of `topics`.
pub(super) fn read<M: Message>(topics: &Topics, record: &M) -> Result<Content, Unfit> {
    let version = header(record, VERSION_HEADER);
    let Some(value) = record.payload() else {
        return Ok(Content::Nothing);
    };
    let (partition, appended) = (record.partition(), appended(record).unwrap_or(Timestamp::from_millis(0)));
    if record.topic() == &*topics.cursors {
        return Ok(Content::Cursor(Heard { record: decode(version, value)?, partition, appended }));
    }
    if record.topic() == &*topics.receipts {
        let received = Received { record: decode(version, value)?, partition, appended };
        expect_home(topics, record, received.record.home(), ReceiptRecord::NAME)?;
        return Ok(Content::Receipt(received));
    }
    if let Some((_, delay)) = topics.rungs.iter().find(|(name, _)| **name == *record.topic()) {
        let RetryRecord(delivery) = match decode(version, value) {
            Err(newer @ RecordError::Newer { .. }) => return Err(newer.into()),
            // The courier reads the same topic and buries it.
            Err(_) => return Ok(Content::Nothing),
            Ok(retry) => retry,
        };
        if expect_home(topics, record, delivery.channel.clone(), RetryRecord::NAME).is_err() {
            return Ok(Content::Nothing);
        }
        let soonest = appended.plus(delay.0);
        let said = delivery.attempts.last().and_then(|attempt| attempt.next_at).unwrap_or(soonest);
        let next_at = said.clamp(soonest, soonest.plus(JITTER_LIMIT));
        return Ok(tried(topics, record, Ending { delivery, undelivered: None, next_at }));
    }
    if record.topic() == &*topics.undelivered {
        let UndeliveredRecord { delivery, reason, .. } = decode(version, value)?;
        // How many partitions this topic has, nobody is held to.
        if record.key() != Some(delivery.channel.as_str().as_bytes()) {
            let (name, own) = (UndeliveredRecord::NAME, record.partition());
            return Err(Unfit::Misplaced { name, channel: delivery.channel, own });
        }
        return Ok(tried(topics, record, Ending { delivery, undelivered: Some(reason), next_at: appended }));
    }
    let notified = Notified { record: decode(version, value)?, partition, offset: record.offset(), appended };
    expect_home(topics, record, notified.record.channel.clone(), NotificationRecord::NAME)?;
    let tried = tried_before(topics, record, &notified);
    Ok(Content::Notification(Box::new(notified), tried))
}

/// What was tried of a notification in an earlier epoch: from here on it waits in this one.
fn tried_before<M: Message>(topics: &Topics, record: &M, notified: &Notified) -> Option<Box<Tried>> {
    let Notified {
        record: NotificationRecord { channel, notification, ladder, attempts_forgotten, attempts, .. }, offset, ..
    } = notified;
    let next_at = attempts.last()?.next_at.unwrap_or(notified.appended);
    let delivery = Delivery {
        channel: channel.clone(),
        notification: notification.clone(),
        epoch: topics.epoch,
        offset: *offset,
        appended_at: Some(notified.appended),
        ladder: ladder.clone(),
        attempts_forgotten: *attempts_forgotten,
        attempts: attempts.clone(),
    };
    let next_at = next_at.clamp(notified.appended, notified.appended.plus(FIRST_LIMIT));
    match tried(topics, record, Ending { delivery, undelivered: None, next_at }) {
        Content::Tried(tried) => Some(tried),
        _ => None,
    }
}

/// How far a delivery has come.
struct Ending {
    delivery: Delivery,
    undelivered: Option<Outcome>,
    next_at: Timestamp,
}

fn tried<M: Message>(topics: &Topics, record: &M, Ending { delivery, undelivered, next_at }: Ending) -> Content {
    // What is of a later epoch is its own inbox's to fold; of one that never began, nobody's.
    if !delivery.channel.is_mailbox() || delivery.epoch > topics.epoch {
        return Content::Nothing;
    }
    let (home, topic) = (delivery.channel.partition(topics.partitions), topics.of(record).clone());
    Content::Tried(Box::new(Tried { delivery, undelivered, next_at, home, topic, partition: record.partition() }))
}

/// Refuses what does not lie under its channel's key in its channel's partition.
fn expect_home<M: Message>(topics: &Topics, record: &M, channel: Channel, name: &'static str) -> Result<(), Unfit> {
    let own = channel.partition(topics.partitions);
    if own == record.partition() && record.key() == Some(channel.as_str().as_bytes()) {
        return Ok(());
    }
    Err(Unfit::Misplaced { name, channel, own })
}

/// When a record was appended.
pub(super) fn appended<M: Message>(record: &M) -> Option<Timestamp> {
    record.timestamp().to_millis().map(Timestamp::from_millis)
}

/// Records in the order they were read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    fold: Fold,
    /// What is shown of notifications in `fold` that belong to a trace, and their partitions. Over with the batch.
    spans: Vec<(i32, Span)>,
    bytes: usize,
    oldest: Option<Timestamp>,
    /// Records that were told to wait for the store.
    told_waiting: usize,
}

impl Batch {
    pub(super) fn push(&mut self, content: Content, bytes: usize) {
        match content {
            Content::Notification(notified, tried) => {
                self.fold.notifications.push(*notified);
                self.fold.attempts.extend(tried.map(|tried| *tried));
            }
            Content::Cursor(heard) => self.fold.cursors.push(heard),
            Content::Receipt(received) => self.fold.receipts.push(received),
            Content::Tried(tried) => self.fold.attempts.push(*tried),
            Content::Nothing => return,
        }
        self.bytes += bytes;
    }

    /// A notification of this partition belongs to a trace.
    pub(super) fn show(&mut self, partition: i32, span: Span) {
        if span.is_shown() {
            self.spans.push((partition, span));
        }
    }

    /// Something that was appended at `appended` waits to be folded.
    pub(super) fn waits_since(&mut self, appended: Timestamp) {
        self.oldest = Some(self.oldest.map_or(appended, |oldest| oldest.min(appended)));
    }

    /// When the oldest record that waits was appended.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    pub(super) fn notifications(&self) -> usize {
        self.fold.notifications.len()
    }

    pub(super) fn cursors(&self) -> usize {
        self.fold.cursors.len()
    }

    pub(super) fn receipts(&self) -> usize {
        self.fold.receipts.len()
    }

    pub(super) fn attempts(&self) -> usize {
        self.fold.attempts.len()
    }

    pub(super) fn records(&self) -> usize {
        self.notifications() + self.cursors() + self.receipts() + self.attempts()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records() == 0
    }

    /// Whether it must be folded before more is read.
    pub(super) fn is_full(&self, limit_records: usize) -> bool {
        self.records() >= limit_records || self.bytes >= LIMIT_BYTES
    }

    /// How many records have begun to wait for the store since the last time.
    pub(super) fn begin_waiting(&mut self) -> usize {
        let waiting = self.records();
        waiting.saturating_sub(std::mem::replace(&mut self.told_waiting, waiting))
    }

    /// Takes out what came from partitions that are ours no more.
    pub(super) fn forget(&mut self, topics: &Topics, gone: &[Partition]) {
        let left = |topic: &Arc<str>, number: i32| gone.iter().any(|one| one.topic == *topic && one.number == number);
        self.fold.notifications.retain(|notified| !left(&topics.notifications, notified.partition));
        self.spans.retain(|(number, _)| !left(&topics.notifications, *number));
        self.fold.cursors.retain(|heard| !left(&topics.cursors, heard.partition));
        self.fold.receipts.retain(|received| !left(&topics.receipts, received.partition));
        self.fold.attempts.retain(|tried| !left(&tried.topic, tried.partition));
        // Else nothing would ever be folded that ends the wait of what went.
        if self.is_empty() {
            self.clear();
        }
    }

    /// It brings partitions so far.
    pub(super) fn moves(&mut self, topics: &Topics, moves: Vec<Move>) {
        (self.fold.moves, self.fold.requests) = (moves, topics.requests.clone());
    }

    /// What the store is to fold.
    pub(super) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What was read behind it comes to it.
    pub(super) fn append(&mut self, mut later: Self) {
        self.fold.notifications.append(&mut later.fold.notifications);
        self.fold.cursors.append(&mut later.fold.cursors);
        self.fold.receipts.append(&mut later.fold.receipts);
        self.fold.attempts.append(&mut later.fold.attempts);
        self.spans.append(&mut later.spans);
        self.bytes += later.bytes;
        self.oldest = self.oldest.into_iter().chain(later.oldest).min();
    }

    /// The batch is stored, or will be read again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
