//! The bare counterparts, each a process of its own: what the same work costs with nothing promised.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::broker;

/// The answer to an upgrade, as short as it can be.
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
/// Where sockets that read nothing wait.
const POLL: Duration = Duration::from_millis(100);

/// Runs the counterpart that is named first.
pub(crate) fn serve(args: &[String]) -> anyhow::Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fanout", port, brokers, topic] => fanout(port.parse()?, brokers, topic),
        ["copy", brokers, from, to, count] => copy(brokers, from, to, count.parse()?),
        ["forward", brokers, from, to] => forward(brokers, from, to),
        _ => anyhow::bail!("bare fanout PORT BROKERS TOPIC | bare copy BROKERS FROM TO COUNT | bare forward BROKERS FROM TO"),
    }
}

/// Writes each value of `topic` (one partition) as a frame to every socket: no upgrade, no protocol, nothing kept.
fn fanout(port: u16, brokers: &str, topic: &str) -> anyhow::Result<()> {
    let sockets = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    let consumer = broker::reader(brokers, topic)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let accepted = sockets.clone();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let greeted = socket.read(&mut request).and_then(|_| socket.write_all(ACCEPTED));
            if greeted.and_then(|()| socket.set_nodelay(true)).and_then(|()| socket.set_nonblocking(true)).is_ok() {
                accepted.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
            }
        }
    });
    loop {
        if let Some(record) = consumer.poll(POLL) {
            let record = record?;
            let frame = frame(record.payload().context("a record without value")?);
            for socket in sockets.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                // What does not fit is dropped: the load is chosen so that everything fits, and the clients count.
                let _ = socket.write(&frame);
            }
        }
    }
}

/// Copies `count` records of `from`, from its beginning, to `to`: an idempotent producer that gathers for 5 ms.
fn copy(brokers: &str, from: &str, to: &str, count: u64) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(from), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().first().context("no such topic")?.partitions() {
        list.add_partition_offset(from, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let producer = producer(brokers, "5")?;
    for _ in 0..count {
        let record = loop {
            if let Some(record) = consumer.poll(POLL) {
                break record?;
            }
        };
        pass_on(&producer, &record, to)?;
    }
    producer.flush(Duration::from_secs(60))?;
    // Lives on, so that its CPU time can be read.
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Writes what comes to `from` on to `to` at once, until it is killed: an idempotent producer that gathers nothing.
fn forward(brokers: &str, from: &str, to: &str) -> anyhow::Result<()> {
    let (consumer, producer) = (broker::reader(brokers, from)?, producer(brokers, "0")?);
    loop {
        if let Some(record) = consumer.poll(POLL) {
            pass_on(&producer, &record?, to)?;
        }
    }
}

fn producer(brokers: &str, linger_ms: &str) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    Ok(config.set("linger.ms", linger_ms).set("compression.type", "lz4").create()?)
}

fn pass_on(producer: &ThreadedProducer<DefaultProducerContext>, record: &BorrowedMessage<'_>, to: &str) -> anyhow::Result<()> {
    let mut copied = BaseRecord::to(to).key(record.key().unwrap_or_default()).payload(record.payload().unwrap_or_default());
    while let Err((error, refused)) = producer.send(copied) {
        anyhow::ensure!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), error);
        std::thread::sleep(Duration::from_millis(1));
        copied = refused;
    }
    Ok(())
}

/// An unmasked text frame ([RFC 6455, section 5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0x81, 126, length[0], length[1]];
    frame.extend_from_slice(payload);
    frame
}
