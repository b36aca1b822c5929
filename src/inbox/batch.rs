//! The batch: records read and not folded yet.
//!
//! Owns: decoding, and the bound of what waits. Refuses to judge what a record that does not read deserves: the projector does.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::{RecordError, VERSION_HEADER, decode};
use tidings_core::time::Timestamp;

use crate::kafka::consumer::{Partition, header};
use crate::store::{Fold, Move, Notified};

/// The most that waits, in bytes of values, whatever the number of records.
const LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// The names of the topics that are folded.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    pub(super) notifications: Arc<str>,
    pub(super) cursors: Arc<str>,
}

/// What a record holds.
#[derive(Debug)]
pub(super) enum Content {
    Notification(Box<Notified>),
    Cursor(CursorRecord),
    /// A tombstone: a device that is no more says nothing new.
    Nothing,
}

/// Reads a record of one of `topics`.
pub(super) fn read(topics: &Topics, record: &BorrowedMessage<'_>) -> Result<Content, RecordError> {
    let version = header(record, VERSION_HEADER);
    let Some(value) = record.payload() else {
        return Ok(Content::Nothing);
    };
    if record.topic() == &*topics.cursors {
        return decode(version, value).map(Content::Cursor);
    }
    Ok(Content::Notification(Box::new(Notified {
        record: decode(version, value)?,
        partition: record.partition(),
        offset: record.offset(),
        appended: Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0)),
    })))
}

/// Records in the order they were read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    fold: Fold,
    /// The partition of each cursor in `fold`.
    cursor_partitions: Vec<i32>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, partition: i32, content: Content, bytes: usize) {
        match content {
            Content::Notification(notified) => self.fold.notifications.push(*notified),
            Content::Cursor(cursor) => {
                self.fold.cursors.push(cursor);
                self.cursor_partitions.push(partition);
            }
            Content::Nothing => return,
        }
        self.bytes += bytes;
    }

    pub(super) fn notifications(&self) -> usize {
        self.fold.notifications.len()
    }

    pub(super) fn cursors(&self) -> usize {
        self.fold.cursors.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notifications() + self.cursors() == 0
    }

    /// Whether it must be folded before more is read.
    pub(super) fn is_full(&self, limit_records: usize) -> bool {
        self.notifications() + self.cursors() >= limit_records || self.bytes >= LIMIT_BYTES
    }

    /// Takes out what came from partitions that are ours no more.
    pub(super) fn forget(&mut self, topics: &Topics, gone: &[Partition]) {
        let left = |topic: &Arc<str>, number: i32| gone.iter().any(|one| one.topic == *topic && one.number == number);
        self.fold.notifications.retain(|notified| !left(&topics.notifications, notified.partition));
        let mut partitions = self.cursor_partitions.iter();
        self.fold.cursors.retain(|_| partitions.next().is_some_and(|number| !left(&topics.cursors, *number)));
        self.cursor_partitions.retain(|number| !left(&topics.cursors, *number));
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
    use tidings_core::delivery::stretch::Stretches;
    use tidings_core::position::Epoch;

    use super::*;

    #[test]
    fn what_came_from_partitions_that_are_gone_is_not_folded() {
        let topics = Topics { notifications: "n".into(), cursors: "c".into() };
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
            batch.push(partition, Content::Cursor(cursor), 10);
        }
        let gone = [Partition { topic: "c".into(), number: 0 }, Partition { topic: "n".into(), number: 1 }];
        batch.forget(&topics, &gone);
        let left = batch.with(Vec::new()).cursors.iter().map(|cursor| cursor.device_id.as_str()).collect::<Vec<_>>();
        assert_eq!(left, ["b", "d"]);
        assert_eq!(batch.cursor_partitions, [1, 2]);
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes() {
        let mut batch = Batch::default();
        assert!(!batch.is_full(1));
        batch.bytes = LIMIT_BYTES;
        assert!(batch.is_full(1000));
    }
}
