//! The program in Rust of docs/events.md, as it stands there.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

pub(crate) async fn emit(brokers: &str, topic: &str) -> Result<(), rdkafka::error::KafkaError> {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("enable.idempotence", "true").create()?;
    let event = serde_json::json!({
        "type": "payment:due",
        "id": "e-rust",
        "data": {"userId": "alice", "paymentId": "p-1", "amount": "120.50", "dueDate": "2026-02-01"},
    });
    let value = event.to_string();
    let record = FutureRecord::to(topic).key("alice").payload(&value);
    producer.send(record, Duration::from_secs(30)).await.map(drop).map_err(|(error, _)| error)
}
