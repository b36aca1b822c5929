//! The program in Rust of docs/events.md that has a schema registry, as it stands there.

use std::error::Error;
use std::time::Duration;

use apache_avro::Decimal;
use apache_avro::types::Value;
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schema_registry_converter::async_impl::avro::AvroEncoder;
use schema_registry_converter::async_impl::json::JsonEncoder;
use schema_registry_converter::async_impl::proto_raw::ProtoRawEncoder;
use schema_registry_converter::async_impl::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::SubjectNameStrategy;
use serde_json::json;

#[derive(prost::Message)]
struct PaymentDue {
    #[prost(string, tag = "1")]
    user_id: String,
    #[prost(string, tag = "2")]
    payment_id: String,
    #[prost(string, tag = "3")]
    amount: String,
    #[prost(string, tag = "4")]
    due_date: String,
}

async fn serialized(format: &str, registry: &str, topic: &str) -> Result<Vec<u8>, SRCError> {
    let registry = SrSettings::new(registry.to_owned());
    let latest = SubjectNameStrategy::TopicNameStrategy(topic.to_owned(), false);
    let data = json!({"userId": "alice", "paymentId": "p-1", "amount": "120.50", "dueDate": "2026-02-01"});
    let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
    match format {
        "avro" => {
            let amount = Value::Decimal(Decimal::from(12_050_i64.to_be_bytes()));
            // The first of the two types that an id may have.
            let id = |field| (field, Value::Union(0, Box::new(Value::String(text(field)))));
            let rest = [("amount", amount), ("dueDate", Value::Date(20_485))];
            AvroEncoder::new(registry).encode([id("userId"), id("paymentId")].into_iter().chain(rest).collect(), latest).await
        }
        "protobuf" => {
            let [user_id, payment_id, amount, due_date] = ["userId", "paymentId", "amount", "dueDate"].map(text);
            let due = PaymentDue { user_id, payment_id, amount, due_date };
            ProtoRawEncoder::new(registry).encode(&due.encode_to_vec(), "tidings.events.v1.PaymentDue", latest).await
        }
        _ => JsonEncoder::new(registry).encode(&data, latest).await,
    }
}

pub(crate) async fn emit(format: &str, (brokers, registry): (&str, &str), topic: &str) -> Result<(), Box<dyn Error>> {
    let value = serialized(format, registry, topic).await?;
    let headers = [("ce_specversion", "1.0"), ("ce_id", "e-rust"), ("ce_source", "/payments"), ("ce_type", "payment:due")];
    let headers =
        headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("enable.idempotence", "true").create()?;
    let record = FutureRecord::to(topic).key("alice").payload(&value).headers(headers);
    producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
    Ok(())
}
