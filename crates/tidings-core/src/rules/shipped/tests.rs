//! The same sample, written by each of the three schemas of its type, gives the same notifications.

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use super::super::{Limits, RuleSet, Terms, Verdict, decide_explained};
use super::*;
use crate::event::{Explained, Reading, SourceHeader, SourceRecord};
use crate::record::notified::NotificationRecord;
use crate::schema::{Framed, Schema};
use crate::time::Timestamp;

/// A whole number as Avro writes it.
fn zigzag(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(content: &[u8], out: &mut Vec<u8>) {
    zigzag(content.len() as i64, out);
    out.extend(content);
}

/// What a service has that writes `value` by a field's type; none if the type has no place for it.
fn avro(kind: &Value, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    if let Value::Array(ways) = kind {
        return ways.iter().enumerate().find_map(|(index, way)| {
            let mut tried = Vec::new();
            zigzag(index as i64, &mut tried);
            avro(way, value, &mut tried).map(|()| out.extend(tried))
        });
    }
    match kind.as_str().or_else(|| kind["logicalType"].as_str())? {
        "string" => bytes(value.as_str()?.as_bytes(), out),
        "long" | "int" => zigzag(value.as_i64()?, out),
        // Two places behind the point.
        "decimal" => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
            let unscaled: i64 = format!("{whole}{cents:0<2}").parse().ok()?;
            bytes(&unscaled.to_be_bytes(), out);
        }
        "date" => {
            let day: chrono::NaiveDate = value.as_str()?.parse().ok()?;
            zigzag((day - chrono::NaiveDate::default()).num_days(), out);
        }
        _ => return None,
    }
    Some(())
}

fn by_avro(text: &str, sample: &Value) -> Option<Vec<u8>> {
    let schema: Value = serde_json::from_str(text).unwrap();
    let mut out = vec![0, 0, 0, 0, 1];
    for field in schema["fields"].as_array().unwrap() {
        avro(&field["type"], &sample[field["name"].as_str().unwrap()], &mut out)?;
    }
    Some(out)
}

fn by_protobuf(text: &str, record: &str, sample: &Value) -> Option<Vec<u8>> {
    let file = protox::file::File::from_source("a.proto", text).unwrap();
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file.file_descriptor_proto().clone()).unwrap();
    let message = DynamicMessage::deserialize(pool.get_message_by_name(record).unwrap(), sample).ok()?;
    // A zero byte, an id, and an index that means the first message.
    Some([&[0, 0, 0, 0, 1, 0], message.encode_to_vec().as_slice()].concat())
}

fn written(shipped: &ShippedDefinition, sample: &Value) -> Option<Vec<u8>> {
    let text = &shipped.definition.text;
    match shipped.definition.format {
        Format::Avro => by_avro(text, sample),
        Format::Protobuf => by_protobuf(text, &shipped.record, sample),
        Format::JsonSchema => Some([&[0, 0, 0, 0, 1], sample.to_string().as_bytes()].concat()),
    }
}

/// What the rules make of a value that was written by its schema.
fn notified(kind: &str, value: &[u8], schema: Option<&Schema>) -> Vec<NotificationRecord> {
    let headers = [("ce_specversion", "1.0"), ("ce_id", "e-1"), ("ce_source", "/s"), ("ce_type", kind)];
    let headers = headers.map(|(name, value)| SourceHeader { name, value: Some(value.as_bytes()) });
    let now = Timestamp::from_millis(1_769_860_800_000);
    let record =
        SourceRecord { topic: "t", partition: 0, offset: 0, timestamp: now, key: None, value: Some(value), headers: &headers };
    let read = schema.map(|schema| schema.read(&Framed::of_value(value, None).unwrap()).unwrap());
    let rules = RuleSet::parse(shipped(), Limits::default()).unwrap();
    let explained = Explained { value: read, key: None };
    match decide_explained(&rules, &record, explained, &Terms { reading: &Reading::default(), max_age: None, now }) {
        Verdict::Notify(records) => records,
        other => panic!("{kind}: {other:?}"),
    }
}

#[test]
fn the_same_sample_gives_the_same_notifications_in_all_three_languages() {
    let mut tried = 0;
    let mut in_all = std::collections::BTreeMap::<(String, String), usize>::new();
    for shipped in shipped_definitions() {
        let schema = Schema::compile(&shipped.definition).unwrap();
        let file = SCHEMAS.iter().find(|file| field(file.text, "title") == shipped.kind).unwrap();
        let samples = serde_json::from_str::<Value>(file.text).unwrap()["examples"].as_array().unwrap().clone();
        let mut told = 0;
        for sample in &samples {
            // A sum that is a number in JSON is one with a fixed point here, which is not the same to who is given it as data.
            let is_sum_in_data = shipped.kind == "balance:updated" && sample["balance"].is_number();
            let Some(value) =
                written(&shipped, sample).filter(|_| !is_sum_in_data || shipped.definition.format == Format::JsonSchema)
            else {
                continue;
            };
            let plain = notified(&shipped.kind, sample.to_string().as_bytes(), None);
            assert_eq!(notified(&shipped.kind, &value, Some(&schema)), plain, "{}: {sample}", shipped.record);
            *in_all.entry((shipped.kind.clone(), sample.to_string())).or_default() += 1;
            told += 1;
        }
        assert!(told > 0, "{}: no sample can be written by it", shipped.record);
        tried += told;
    }
    assert!(tried > 15, "{tried}");
    // Not one sample in Avro and another in Protobuf.
    let compared = in_all.iter().filter(|(_, formats)| **formats == 3).map(|((kind, _), _)| kind);
    assert_eq!(compared.collect::<std::collections::BTreeSet<_>>().len(), SCHEMAS.len(), "{in_all:?}");
    assert_eq!(json!(shipped_definitions().len()), json!(3 * SCHEMAS.len()));
}
