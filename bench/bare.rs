//! The bare counterpart: sockets, a topic, and a loop of writes. No upgrade, no protocol, nothing kept.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

/// The answer to an upgrade, as short as it can be.
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// Serves on `port`, writing each value of `topic` (one partition) as a frame to every socket.
pub(crate) fn serve(args: &[String]) -> anyhow::Result<()> {
    let [port, brokers, topic] = args else { anyhow::bail!("bare PORT BROKERS TOPIC") };
    let sockets = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    let consumer = consumer(brokers, topic)?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>()?))?;
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
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record?;
            let frame = frame(record.payload().context("a record without value")?);
            for socket in sockets.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                // What does not fit is dropped: the load is chosen so that everything fits, and the clients count.
                let _ = socket.write(&frame);
            }
        }
    }
}

fn consumer(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", brokers).set("group.id", "bare").set("enable.auto.commit", "false").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End)?;
    consumer.assign(&list)?;
    Ok(consumer)
}

/// An unmasked text frame ([RFC 6455, section 5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0x81, 126, length[0], length[1]];
    frame.extend_from_slice(payload);
    frame
}
