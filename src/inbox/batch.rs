//! The batch: records read and not folded yet.
//!
//! Owns: decoding, and the bound of what waits. Refuses to judge what a record that does not read deserves: the projector does.

use std::sync::Arc;

use rdkafka::message::Message;
use tidings_core::channel::Channel;
use tidings_core::fate::Cause;
use tidings_core::record::{RecordError, VERSION_HEADER, decode};
use tidings_core::time::Timestamp;

use crate::kafka::consumer::{Partition, header};
use crate::store::{Fold, Heard, Move, Notified};
use crate::telemetry::Span;

/// The most that waits, in bytes of values, whatever the number of records.
const LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// The names of the topics that are folded.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    pub(super) notifications: Arc<str>,
    pub(super) cursors: Arc<str>,
    /// How many partitions each has.
    pub(super) partitions: i32,
}

/// What a record holds.
#[derive(Debug)]
pub(super) enum Content {
    Notification(Box<Notified>),
    Cursor(Heard),
    /// A tombstone: a device that is no more says nothing new.
    Nothing,
}

/// Why a record is not folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(transparent)]
    Unreadable(#[from] RecordError),
    /// Positions and acknowledgements of its channel would mean other records.
    #[error("a notification of {channel} that does not lie in its partition, {own}, with the channel as key")]
    Misplaced { channel: Channel, own: i32 },
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
    let notified = Notified { record: decode(version, value)?, partition, offset: record.offset(), appended };
    let channel = &notified.record.channel;
    let own = channel.partition(topics.partitions);
    if own != notified.partition || record.key() != Some(channel.as_str().as_bytes()) {
        return Err(Unfit::Misplaced { channel: channel.clone(), own });
    }
    Ok(Content::Notification(Box::new(notified)))
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
}

impl Batch {
    pub(super) fn push(&mut self, content: Content, bytes: usize) {
        match content {
            Content::Notification(notified) => self.fold.notifications.push(*notified),
            Content::Cursor(heard) => self.fold.cursors.push(heard),
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

    pub(super) fn records(&self) -> usize {
        self.notifications() + self.cursors()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records() == 0
    }

    /// Whether it must be folded before more is read.
    pub(super) fn is_full(&self, limit_records: usize) -> bool {
        self.records() >= limit_records || self.bytes >= LIMIT_BYTES
    }

    /// Takes out what came from partitions that are ours no more.
    pub(super) fn forget(&mut self, topics: &Topics, gone: &[Partition]) {
        let left = |topic: &Arc<str>, number: i32| gone.iter().any(|one| one.topic == *topic && one.number == number);
        self.fold.notifications.retain(|notified| !left(&topics.notifications, notified.partition));
        self.spans.retain(|(number, _)| !left(&topics.notifications, *number));
        self.fold.cursors.retain(|heard| !left(&topics.cursors, heard.partition));
        // Else nothing would ever be folded that ends the wait of what went.
        if self.is_empty() {
            self.clear();
        }
    }

    /// What the store is to fold: all records, and `moves`.
    pub(super) fn with(&mut self, moves: Vec<Move>) -> &Fold {
        self.fold.moves = moves;
        &self.fold
    }

    /// The batch is stored, or will be read again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
    use tidings_core::delivery::stretch::Stretches;
    use tidings_core::position::Epoch;
    use tidings_core::record::cursor::CursorRecord;

    use super::*;

    #[test]
    fn what_came_from_partitions_that_are_gone_is_not_folded() {
        let topics = Topics { notifications: "n".into(), cursors: "c".into(), partitions: 4 };
        let mut batch = Batch::default();
        for (partition, device) in [(0, "a"), (1, "b"), (0, "c"), (2, "d")] {
            let cursor = CursorRecord {
                user_id: "1".parse().unwrap(),
                device_id: device.parse().unwrap(),
                channel: "user-1".parse().unwrap(),
                epoch: Epoch(1),
                offered: Stretches::new(),
                acknowledged: Stretches::new(),
            };
            let appended = Timestamp::from_millis(1);
            batch.push(Content::Cursor(Heard { record: cursor, partition, appended }), 10);
        }
        let gone = [Partition { topic: "c".into(), number: 0 }, Partition { topic: "n".into(), number: 1 }];
        batch.forget(&topics, &gone);
        let left = batch.with(Vec::new()).cursors.iter().map(|heard| heard.record.device_id.as_str()).collect::<Vec<_>>();
        assert_eq!(left, ["b", "d"]);

        batch.waits_since(Timestamp::from_millis(1));
        batch.forget(&topics, &[1, 2].map(|number| Partition { topic: "c".into(), number }));
        assert_eq!((batch.oldest(), batch.bytes), (None, 0), "nothing waits any more");
    }

    #[test]
    fn a_notification_is_read_only_from_its_channels_partition_under_its_channels_key() {
        let topics = Topics { notifications: "n".into(), cursors: "c".into(), partitions: 4 };
        let channel: Channel = "user-1".parse().unwrap();
        let value = serde_json::json!({
            "channel": channel, "rule": "r", "origin": {"topic": "t", "partition": 0, "offset": 0},
            "notification": {"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t",
                             "createdAt": "2026-01-31T12:00:00.000Z"},
        });
        let lying = |partition: i32, key: Option<&str>| {
            let headers = OwnedHeaders::new().insert(Header { key: VERSION_HEADER, value: Some("1") });
            let (key, value) = (key.map(|key| key.as_bytes().to_vec()), value.to_string().into_bytes());
            let time = rdkafka::Timestamp::CreateTime(5);
            read(&topics, &OwnedMessage::new(Some(value), key, "n".into(), time, partition, 7, Some(headers)))
        };
        let own = channel.partition(4);
        assert!(matches!(lying(own, Some("user-1")), Ok(Content::Notification(_))));
        for (partition, key) in [((own + 1) % 4, Some("user-1")), (own, Some("user-2")), (own, None)] {
            assert!(matches!(lying(partition, key), Err(Unfit::Misplaced { .. })), "{partition} {key:?}");
        }
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes() {
        let mut batch = Batch::default();
        assert!(!batch.is_full(1));
        batch.bytes = LIMIT_BYTES;
        assert!(batch.is_full(1000));
    }
}
