//! Tests of what is folded of which record.

use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use tidings_core::delivery::stretch::Stretches;
use tidings_core::record::cursor::CursorRecord;

use super::*;

fn topics() -> Topics {
    let rungs = vec![("retry".into(), Delay(Duration::from_secs(30)))];
    let [notifications, cursors, receipts, undelivered, requests] = ["n", "c", "r", "u", "q"].map(Arc::from);
    Topics { notifications, cursors, receipts, rungs, undelivered, requests, partitions: 4, epoch: Epoch(1) }
}

#[test]
fn what_came_from_partitions_that_are_gone_is_not_folded() {
    let topics = topics();
    let mut batch = Batch::default();
    for (partition, device) in [(0, "a"), (1, "b"), (0, "c"), (2, "d")] {
        let cursor = CursorRecord {
            user_id: "1".parse().unwrap(),
            device_id: device.parse().unwrap(),
            drawn: false,
            channel: "user-1".parse().unwrap(),
            epoch: Epoch(1),
            began: None,
            offered: Stretches::new(),
            acknowledged: Stretches::new(),
        };
        let appended = Timestamp::from_millis(1);
        batch.push(Content::Cursor(Heard { record: cursor, partition, appended }), 10);
    }
    let gone = [Partition { topic: "c".into(), number: 0 }, Partition { topic: "n".into(), number: 1 }];
    batch.forget(&topics, &gone);
    let left = batch.fold().cursors.iter().map(|heard| heard.record.device_id.as_str()).collect::<Vec<_>>();
    assert_eq!(left, ["b", "d"]);

    batch.waits_since(Timestamp::from_millis(1));
    batch.forget(&topics, &[1, 2].map(|number| Partition { topic: "c".into(), number }));
    assert_eq!((batch.oldest(), batch.bytes), (None, 0), "nothing waits any more");
}

#[test]
fn notifications_and_receipts_are_read_only_from_their_channels_partition_under_its_key() {
    let topics = topics();
    let channel: Channel = "user-1".parse().unwrap();
    let notification = serde_json::json!({
        "channel": channel, "rule": "r", "origin": {"topic": "t", "partition": 0, "offset": 0},
        "notification": {"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t",
                         "createdAt": "2026-01-31T12:00:00.000Z"},
    });
    let receipt = serde_json::json!({"receipt": "state", "userId": "1", "state": "read", "items": []});
    let lying = |(topic, value): (&str, &serde_json::Value), partition: i32, key: Option<&str>| {
        let headers = OwnedHeaders::new().insert(Header { key: VERSION_HEADER, value: Some("1") });
        let (key, value) = (key.map(|key| key.as_bytes().to_vec()), value.to_string().into_bytes());
        let time = rdkafka::Timestamp::CreateTime(5);
        read(&topics, &OwnedMessage::new(Some(value), key, topic.into(), time, partition, 7, Some(headers)))
    };
    let own = channel.partition(4);
    assert!(matches!(lying(("n", &notification), own, Some("user-1")), Ok(Content::Notification(..))));
    assert!(matches!(lying(("r", &receipt), own, Some("user-1")), Ok(Content::Receipt(_))));
    for record in [("n", &notification), ("r", &receipt)] {
        for (partition, key) in [((own + 1) % 4, Some("user-1")), (own, Some("user-2")), (own, None)] {
            assert!(matches!(lying(record, partition, key), Err(Unfit::Misplaced { .. })), "{record:?} {partition} {key:?}");
        }
    }
}

#[test]
fn when_an_attempt_is_due_follows_from_its_topic_and_the_time_it_was_appended() {
    let topics = topics();
    let own = "user-1".parse::<Channel>().unwrap().partition(4);
    let retry = |next_at: &str| {
        let value = serde_json::json!({
            "channel": "user-1", "epoch": 1, "offset": 7,
            "notification": {"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t",
                             "createdAt": "2026-01-31T12:00:00.000Z"},
            "attempts": [{"at": "2026-01-31T12:00:00.000Z", "node": "n", "sink": "websocket", "outcome": "offline", "nextAt": next_at}],
        });
        let headers = OwnedHeaders::new().insert(Header { key: VERSION_HEADER, value: Some("1") });
        let (key, value) = (Some(b"user-1".to_vec()), Some(value.to_string().into_bytes()));
        let time = rdkafka::Timestamp::CreateTime(1_000);
        match read(&topics, &OwnedMessage::new(value, key, "retry".into(), time, own, 3, Some(headers))) {
            Ok(Content::Tried(tried)) => tried.next_at.as_millis(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(retry("1970-01-01T00:00:33.500Z"), 33_500);
    assert_eq!([retry("1969-01-01T00:00:00.000Z"), retry("2027-01-31T12:00:00.000Z")], [31_000, 61_000], "forged");
}

#[test]
fn a_record_that_waits_for_the_store_is_told_once() {
    let (mut batch, topics) = (Batch::default(), topics());
    let push = |batch: &mut Batch| {
        let record = serde_json::from_value(serde_json::json!({"receipt": "state", "userId": "1", "state": "read", "items": []}));
        batch.push(Content::Receipt(Received { record: record.unwrap(), partition: 0, appended: Timestamp::from_millis(1) }), 1);
    };
    push(&mut batch);
    assert_eq!([batch.begin_waiting(), batch.begin_waiting()], [1, 0]);
    push(&mut batch);
    assert_eq!(batch.begin_waiting(), 1);
    batch.forget(&topics, &[Partition { topic: "r".into(), number: 0 }]);
    push(&mut batch);
    assert_eq!(batch.begin_waiting(), 1, "another one");
}

#[test]
fn a_batch_is_full_by_records_or_by_bytes() {
    let mut batch = Batch::default();
    assert!(!batch.is_full(1));
    batch.bytes = LIMIT_BYTES;
    assert!(batch.is_full(1000));
}

/// A record of the topic, in the partition of `user-1`, under this key.
fn lying(topic: &str, key: &str, value: &serde_json::Value) -> Result<Content, Unfit> {
    let own = "user-1".parse::<Channel>().unwrap().partition(4);
    let headers = OwnedHeaders::new().insert(Header { key: VERSION_HEADER, value: Some("1") });
    let (key, value) = (key.as_bytes().to_vec(), value.to_string().into_bytes());
    let time = rdkafka::Timestamp::CreateTime(1_000);
    read(&topics(), &OwnedMessage::new(Some(value), Some(key), topic.into(), time, own, 3, Some(headers)))
}

fn notification() -> serde_json::Value {
    serde_json::json!({"id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e", "type": "t", "createdAt": "2026-01-31T12:00:00.000Z"})
}

#[test]
fn an_end_is_folded_under_its_mailboxs_key_alone_and_of_no_epoch_that_has_not_begun() {
    let ended = |epoch: u64| {
        let delivery =
            serde_json::json!({"channel": "user-1", "epoch": epoch, "offset": 7, "notification": notification(), "attempts": []});
        serde_json::json!({"delivery": delivery, "reason": "offline", "endedAt": "2026-01-31T12:00:00.000Z"})
    };
    assert!(matches!(lying("u", "user-1", &ended(1)), Ok(Content::Tried(tried)) if tried.undelivered == Some(Outcome::Offline)));
    assert!(matches!(lying("u", "user-2", &ended(1)), Err(Unfit::Misplaced { .. })));
    assert!(matches!(lying("u", "user-1", &ended(2)), Ok(Content::Nothing)));
}

#[test]
fn what_was_tried_of_a_notification_before_it_was_carried_over_is_folded_with_it_and_waits_here() {
    let notified = |attempts: serde_json::Value| {
        let origin = serde_json::json!({"topic": "n", "partition": 0, "offset": 5});
        let record = serde_json::json!({"channel": "user-1", "notification": notification(), "rule": "carried-over",
            "origin": origin, "attemptsForgotten": 2, "attempts": attempts});
        match lying("n", "user-1", &record) {
            Ok(Content::Notification(_, tried)) => tried,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(notified(serde_json::json!([])), None, "nothing was tried");
    let attempt = |next_at: &str| serde_json::json!([{"at": "1970-01-01T00:00:00.500Z", "node": "n", "sink": "websocket", "outcome": "offline", "nextAt": next_at}]);
    let tried = notified(attempt("1970-01-01T00:00:31.000Z")).unwrap();
    assert_eq!((tried.delivery.epoch, tried.delivery.offset, tried.delivery.made()), (Epoch(1), 3, 3));
    assert_eq!((tried.undelivered, tried.next_at.as_millis()), (None, 31_000));
    let forged = notified(attempt("2100-01-01T00:00:00.000Z")).unwrap();
    assert_eq!(forged.next_at.as_millis(), 1_000 + 3_600_000, "a year ahead");
}
