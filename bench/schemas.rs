//! The pipeline on events that were written with a schema registry: Avro, Protobuf and JSON Schema, beside the same events in plain JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};

use crate::clients::SENT;
use crate::pipeline::{EVENTS, Work, event, with};
use crate::report::{Budget, Pair, Report, say};
use crate::{Size, broker};

const WORK: Work = Work { partitions: 4, rules: 7, told: 2 };

/// A real registry. Stopped when dropped.
struct Registry {
    dir: tempfile::TempDir,
    url: String,
}

/// How an event's bytes are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Avro,
    Protobuf,
    JsonSchema,
}

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let plain = crate::pipeline::backlog(size, WORK.partitions).await?;
    for (language, times) in [(Language::Avro, 1.5), (Language::Protobuf, 1.5), (Language::JsonSchema, 2.0)] {
        let source = backlog(size, &registry, language).await?;
        let (mut ours, mut json) = (Vec::new(), Vec::new());
        for run in 1..=size.runs {
            ours.push(with(size, &source, WORK, vec![("REGISTRY__URLS", registry.url.clone())]).await?);
            json.push(with(size, &plain, WORK, Vec::new()).await?);
            say(&format!("{language:?} {run}: {:?}, plain JSON {:?}", ours.last(), json.last()));
        }
        let name = format!("pipeline, events in {language:?}: CPU (bare: in plain JSON)");
        report.add(&name, "µs", Pair::of(&ours, &json, |figures| figures.event_cpu_us), Budget::Ratio(times));
    }
    Ok(())
}

/// A topic full of the same events as the pipeline's own bench.
async fn backlog(size: &Size, registry: &Registry, language: Language) -> anyhow::Result<String> {
    let source = broker::topic(&size.brokers, WORK.partitions).await?;
    let id = registry.register(&format!("{source}-value"), language).await?;
    let head = [&[0][..], &id.to_be_bytes(), language.indexes()].concat();
    broker::fill_each(&size.brokers, &source, EVENTS, |number| {
        let value = [&head[..], &language.bytes(&event(number))].concat();
        (number.to_string(), value, OwnedHeaders::new())
    })?;
    Ok(source)
}

impl Language {
    /// What a registry calls it, and the schema of an event in it.
    fn schema(self) -> (&'static str, String) {
        match self {
            Self::Avro => {
                let text = |name: &str| json!({"name": name, "type": "string"});
                let data = json!({"type": "record", "name": "Booking", "fields": [
                    text("userId"), text("bookingId"), text("vehicleName"), {"name": SENT, "type": "long"}, text("note")]});
                let fields = json!([text("id"), text("type"), text("time"), {"name": "data", "type": data}]);
                ("AVRO", json!({"type": "record", "name": "Event", "namespace": "bench", "fields": fields}).to_string())
            }
            Self::Protobuf => (
                "PROTOBUF",
                format!(
                    "syntax = \"proto3\"; package bench; message Event {{ string id = 1; string type = 2; string time = 3; Booking data = 4; }} \
                     message Booking {{ string userId = 1; string bookingId = 2; string vehicleName = 3; int64 {SENT} = 4; string note = 5; }}"
                ),
            ),
            Self::JsonSchema => {
                let text = json!({"type": "string"});
                let data = json!({"type": "object", "required": ["userId", "bookingId", "vehicleName"], "properties": {
                    "userId": text, "bookingId": text, "vehicleName": text, SENT: {"type": "integer"}, "note": text}});
                let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "Event", "type": "object",
                    "required": ["id", "type", "data"], "properties": {"id": text, "type": text, "time": text, "data": data}});
                ("JSON", schema.to_string())
            }
        }
    }

    /// What stands between a schema's number and the event: of a Protobuf file the first message is meant.
    fn indexes(self) -> &'static [u8] {
        if self == Self::Protobuf { &[0] } else { &[] }
    }

    fn bytes(self, event: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::JsonSchema => bytes = event.to_string().into_bytes(),
            Self::Avro => {
                let data = &event["data"];
                for text in ["id", "type", "time"]
                    .map(|name| &event[name])
                    .into_iter()
                    .chain(["userId", "bookingId", "vehicleName"].map(|name| &data[name]))
                {
                    avro_text(&mut bytes, text);
                }
                varint(&mut bytes, zigzag(data[SENT].as_i64().unwrap_or(0)));
                avro_text(&mut bytes, &data["note"]);
            }
            Self::Protobuf => {
                let (mut data, said) = (Vec::new(), &event["data"]);
                for (number, name) in [(1, "userId"), (2, "bookingId"), (3, "vehicleName")] {
                    protobuf_bytes(&mut data, number, text(&said[name]));
                }
                data.push(4 << 3);
                varint(&mut data, said[SENT].as_u64().unwrap_or(0));
                protobuf_bytes(&mut data, 5, text(&said["note"]));
                for (number, name) in [(1, "id"), (2, "type"), (3, "time")] {
                    protobuf_bytes(&mut bytes, number, text(&event[name]));
                }
                protobuf_bytes(&mut bytes, 4, &data);
            }
        }
        bytes
    }
}

fn text(value: &Value) -> &[u8] {
    value.as_str().unwrap_or_default().as_bytes()
}

/// Avro 1.12, "Binary encoding": a length as a zigzag number, then so many bytes.
fn avro_text(bytes: &mut Vec<u8>, value: &Value) {
    let text = text(value);
    varint(bytes, (text.len() as u64) << 1);
    bytes.extend_from_slice(text);
}

/// Protocol Buffers, "Encoding": a field of wire type 2.
fn protobuf_bytes(bytes: &mut Vec<u8>, number: u8, value: &[u8]) {
    bytes.push(number << 3 | 2);
    varint(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

impl Registry {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = Command::new(script()).arg("start").arg(dir.path()).stderr(Stdio::inherit()).output()?;
        anyhow::ensure!(output.status.success(), "dev/registry did not start one");
        Ok(Self { dir, url: String::from_utf8(output.stdout)?.trim().to_owned() })
    }

    /// The number of a language's schema.
    async fn register(&self, subject: &str, language: Language) -> anyhow::Result<u32> {
        let (kind, schema) = language.schema();
        let asked = reqwest::Client::new().post(format!("{}/subjects/{subject}/versions", self.url));
        let answer = asked.json(&json!({"schemaType": kind, "schema": schema})).send().await?;
        let told: Value = answer.error_for_status()?.json().await?;
        Ok(u32::try_from(told["id"].as_u64().context("the registry gave no id")?)?)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It ends with the machine at the latest.
        let _ = Command::new(script()).arg("stop").arg(self.dir.path()).stderr(Stdio::inherit()).status();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/registry")
}
