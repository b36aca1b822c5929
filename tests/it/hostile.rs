//! What nobody could write with a common client: header names that are no text, on our own topics.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rdkafka::message::OwnedHeaders;
use tidings::cli::Role;
use tidings::config::LogFormat;

use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{World, failed, metric, ms, payment};

#[tokio::test]
async fn header_names_that_are_not_utf8_on_our_own_topics_are_buried_and_a_good_event_behind_them_gets_through() {
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(500)];
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline, Role::Inbox, Role::Courier]).await;
    world.emit(&payment("1", "absent")).await;
    world.own_records("undelivered", 1).await;
    let partition = world.own_records("retry.500ms", 1).await[0].partition;
    for topic in ["notifications", "retry.500ms", "cursors", "receipts"] {
        produce_raw(&world.log.brokers, &world.own(topic), partition, (b"\xff\xfe", b"\xc0"));
    }
    world.emit(&payment("2", "absent")).await;
    let ended = world.own_records("undelivered", 2).await;
    assert_eq!(ended.last().unwrap().json()["delivery"]["notification"]["eventId"], "2");
    eventually("three are buried by the inbox and one by the courier", async || {
        let unversioned = ("poison", "dead_letter", "unversioned");
        let buried = (running.failed("inbox", unversioned).await, running.failed("courier", unversioned).await);
        (buried == (3, 1)).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_flood_of_header_names_that_are_not_utf8_is_buried_with_a_line_for_each_topic_and_no_word_of_a_panic() {
    const FLOOD: usize = 20;
    let world = World::with(|config| {
        config.log.format = LogFormat::Json;
        config.courier.ladder = vec![ms(500)];
    })
    .await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let own = ["notifications", "cursors", "receipts", "retry.500ms"].map(|topic| world.own(topic));
    let topics = [std::slice::from_ref(&world.topic), &own[..]].concat();
    for topic in &topics {
        for _ in 0..FLOOD {
            produce_raw(&world.log.brokers, topic, 0, (b"\xff\xfe", b"\xc0"));
        }
    }
    world
        .log
        .produce_to((&world.topic, 0), "alice", payment("behind", "alice").to_string().as_bytes(), OwnedHeaders::new())
        .await;
    eventually("all are buried, and the event behind them gets through", async || {
        let buried = async |stage: &str, class: &str| failed(process.address, stage, ("poison", "dead_letter", class)).await;
        let counted = [
            buried("pipeline", "header_name_not_utf8").await,
            buried("inbox", "unversioned").await,
            buried("courier", "unversioned").await,
        ];
        let through = metric(process.address, "tidings_pipeline_written_notifications_total").await;
        (counted == [20, 60, 20] && through == 1.0).then_some(())
    })
    .await;
    let dead = world.own_records("dlq", topics.len() * FLOOD).await;
    for topic in &topics {
        let class = if *topic == world.topic { "header_name_not_utf8" } else { "unversioned" };
        let of_topic = dead.iter().filter(|dead| dead.header("tidings-original-topic") == topic);
        assert!(of_topic.clone().all(|dead| dead.header("tidings-error-class") == class));
        assert_eq!(of_topic.count(), FLOOD, "{topic}");
    }
    let logged = process.logged();
    assert!(!logged.contains("panic"), "{logged}");
    let lines = logged.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let loud = lines.filter(|line| line["level"] == "WARN" || line["level"] == "ERROR").collect::<Vec<_>>();
    let said = loud.iter().map(|line| [&line["topic"], &line["class"], &line["service"]].map(ToString::to_string));
    let told = said.clone().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(told.len(), said.count(), "each thing is said once: {logged}");
    assert!(topics.iter().all(|topic| loud.iter().any(|line| line["topic"] == **topic)), "{logged}");
}

/// Writes one record with one header as the bytes of Kafka's protocol: clients take header names as text only.
fn produce_raw(brokers: &str, topic: &str, partition: i32, header: (&[u8], &[u8])) {
    let batch = batch(&record(b"key", b"{}", header));
    let mut request = Vec::new();
    // Produce, version 3, correlation 1, no client id, no transaction, acknowledged by all, within 30 s.
    request.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30]);
    request.extend(1_i32.to_be_bytes());
    request.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    request.extend(sized(&batch));
    let mut stream = TcpStream::connect(brokers).unwrap();
    stream.write_all(&sized(&request)).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, one topic with its name, one partition with its number.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "the broker took the record");
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&i32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A batch of one record, of no producer.
fn batch(record: &[u8]) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap().to_be_bytes();
    let mut checked = Vec::new();
    // No attributes; the last offset is the first.
    checked.extend([0; 6]);
    checked.extend([now, now].concat());
    // No producer's id, epoch and sequence.
    checked.extend([0xff; 14]);
    checked.extend(1_i32.to_be_bytes());
    checked.extend(record);
    let mut behind = Vec::new();
    behind.extend((-1_i32).to_be_bytes());
    behind.push(2);
    behind.extend(crc32c(&checked).to_be_bytes());
    behind.extend(checked);
    [[0; 8].to_vec(), sized(&behind)].concat()
}

fn record(key: &[u8], value: &[u8], (name, content): (&[u8], &[u8])) -> Vec<u8> {
    // No attributes, and neither time nor offset differ from the batch's.
    let mut body = vec![0, 0, 0];
    body.extend([short(key), short(value)].concat());
    body.extend([vec![2], short(name), short(content)].concat());
    short(&body)
}

/// Bytes behind their length as a zigzag number of one byte.
fn short(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 64);
    [&[u8::try_from(bytes.len() * 2).unwrap()], bytes].concat()
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}
