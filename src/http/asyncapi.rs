//! `/asyncapi.json`: the contract of everything that is not a question and its answer: the WebSocket, and what lies on topics.
//!
//! Owns: the document as a whole, in AsyncAPI 3, from the point of view of tidings: it *receives* what clients and services send. It is the same for
//! every process of a release. Neighbours: `shapes` has the schemas, which lie in `schemas/` and are held there against the types.

mod shapes;

use std::sync::LazyLock;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tidings_core::protocol::close::{CloseCode, Comeback};
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::{Delay, Timestamp};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use self::shapes::{Frames, frames, pointer};
use super::document;
use super::openapi::Description;
use crate::kafka::topic::TopicNames;

const PATH: &str = "/asyncapi.json";
const ABOUT: &str = "Notifications of tidings: what services write to Kafka, what tidings keeps there, and what it says to devices over a WebSocket. \
    Frames and records are JSON; fields and types may be added to a version, never changed. `/openapi.json` has what is asked over HTTP.";
/// The rung that stands for all of them in the name of a topic.
const RUNG: Delay = Delay(Duration::from_secs(30));
/// What lies on `dlq`, which is no record of ours.
const DEAD_LETTER: &str = "deadLetter";
/// Services that keep their schemas in a registry: what their events are then.
const EVENTS_ABOUT: &str = "Events of services. JSON as it is described here, in CloudEvents or other envelopes, or Avro, Protobuf and JSON Schema by a registry \
    (docs/events.md); the shipped types, to which any may be added by rules and schemas.";

/// The document, or why there is none.
static DOCUMENT: LazyLock<document::Made> = LazyLock::new(|| Ok(all()?.to_string()));

/// `GET /asyncapi.json`.
pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path!("asyncapi.json").and(warp::get()).map(|| document::answer(&DOCUMENT)).boxed()
}

/// What it says of itself.
pub(super) fn described() -> Description {
    Description::open(Method::GET, PATH, "The document of the WebSocket and of topics").gives_json(StatusCode::OK, "AsyncAPI 3.")
}

/// The parts of the document, as they are put together.
#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
}

/// Whether tidings reads what lies in a channel, or writes it.
#[derive(Clone, Copy)]
enum Action {
    Receive,
    Send,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Send => "send",
        }
    }
}

fn all() -> Result<Value, serde_json::Error> {
    let mut parts = Parts::default();
    parts.socket()?;
    parts.events()?;
    parts.topics()?;
    shapes::referred(&mut parts.schemas)?;
    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {"title": "tidings", "version": "v1", "description": ABOUT, "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}},
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{host}", "protocol": "wss", "description": "Any node; `ws` where TLS ends before it.",
                "variables": {"host": {"default": "localhost:3007", "description": "`gateway.port`."}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            },
            "kafka": {
                "host": "{brokers}", "protocol": "kafka", "description": "The cluster of `kafka.brokers`.",
                "variables": {"brokers": {"default": "localhost:9092"}},
            },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {
            "messages": parts.messages,
            "schemas": parts.schemas,
            "securitySchemes": {"bearer": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "In the header, as subprotocol `bearer.<token>` beside `tidings.v1`, as the parameter `token`, or in the first frame (docs/protocol.md).",
            }},
        },
    }))
}

impl Parts {
    fn socket(&mut self) -> Result<(), serde_json::Error> {
        let parameter = |description: &str| json!({"type": "string", "description": description});
        let query = json!({
            "type": "object",
            "properties": {
                "token": parameter("A JWT; there are better places for it."),
                "userId": parameter("Must be the token's user, if it is given."),
                "deviceId": parameter("Names this device of the user; without it the server draws one, and nobody will know it again."),
                "since": parameter("Where this device stopped: a JSON object with a position for each channel."),
                "locale": parameter("What the user reads, such as `fr-CA`."),
                "ack": {"enum": ["client", "written"], "default": "written", "description": "What counts as handled."},
            },
        });
        let closes = CloseCode::ALL.map(|code| json!({"code": code.code(), "reason": code.reason(), "comeBack": comeback(code)}));
        let mut messages = Map::new();
        for (frames, action, operation, summary) in [
            (Frames::Client, Action::Receive, "receiveFrames", "What a client says"),
            (Frames::Server, Action::Send, "sendFrames", "What the server says"),
        ] {
            let mut named = Vec::new();
            for (name, message) in frames_of(frames, &mut self.schemas)? {
                messages.insert(name.clone(), reference(&format!("components/messages/{name}")));
                named.push(reference(&format!("channels/connection/messages/{name}")));
                self.messages.insert(name, message);
            }
            self.operate("connection", (operation, action), summary, named);
        }
        let channel = json!({
            "address": "{path}",
            "title": "WebSocket",
            "description": "One connection of one device. Its first frame is `connected`.",
            "servers": [reference("servers/gateway")],
            "parameters": {"path": {"default": "/ws", "description": "`gateway.path`."}},
            "messages": messages,
            "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
            "x-close-codes": closes,
        });
        self.channels.insert("connection".into(), channel);
        Ok(())
    }

    fn events(&mut self) -> Result<(), serde_json::Error> {
        let (mut messages, mut named) = (Map::new(), Vec::new());
        for event in shapes::events()? {
            let name = format!("event.{}", event.file);
            messages.insert(name.clone(), reference(&format!("components/messages/{name}")));
            named.push(reference(&format!("channels/events/messages/{name}")));
            self.schemas.insert(name.clone(), event.data);
            let message = json!({
                "name": event.kind, "title": event.kind, "summary": event.summary, "contentType": "application/json",
                "payload": {
                    "type": "object",
                    "properties": {
                        "type": {"const": event.kind},
                        "id": {"type": ["string", "integer"], "description": "Makes it the same event when it is written again."},
                        "time": {"type": "string", "format": "date-time", "description": "When it happened; else the record's timestamp counts."},
                        "data": reference(&format!("components/schemas/{name}")),
                    },
                    "required": ["type", "data"],
                },
                "examples": event.samples.iter().map(|data| json!({"payload": {"type": event.kind, "data": data}})).collect::<Vec<_>>(),
            });
            self.messages.insert(name, message);
        }
        let channel = json!({
            "address": "{topic}", "title": "Domain topics", "description": EVENTS_ABOUT, "servers": [reference("servers/kafka")],
            "parameters": {"topic": {"description": "One of `pipeline.topics`."}}, "messages": messages,
        });
        self.channels.insert("events".into(), channel);
        self.operate("events", ("receiveEvents", Action::Receive), "Events that rules turn into notifications", named);
        Ok(())
    }

    fn topics(&mut self) -> Result<(), serde_json::Error> {
        let epoch = EpochRecord { suffix: "{epoch}".into(), ..EpochRecord::first(1, Timestamp::from_millis(0)) };
        let names = TopicNames::new("{prefix}").of_epoch(&epoch);
        let rung = names.retry(&RUNG).replace(&RUNG.to_string(), "{rung}");
        let topics = [
            ("requests", names.requests(), Action::Receive, "request", "Notifications that are asked for"),
            ("notifications", names.notifications(), Action::Send, "notification", "Rendered notifications"),
            ("cursors", names.cursors(), Action::Send, "cursor", "What devices have acknowledged"),
            ("receipts", names.receipts(), Action::Send, "receipt", "What users did with notifications"),
            ("retry", rung, Action::Send, "retry", "Deliveries that wait for their next attempt"),
            ("undelivered", names.undelivered(), Action::Send, "undelivered", "Deliveries that ended without success"),
            ("deadLetters", names.dlq(), Action::Send, DEAD_LETTER, "Records that could not become notifications"),
            ("audit", names.audit(), Action::Send, "audit", "What operators did"),
            ("signals", names.signals(), Action::Send, "signal", "Short words between the nodes"),
            ("meta", names.meta(), Action::Send, "epoch", "The epoch of the other topics"),
        ];
        for (key, address, action, record, summary) in topics {
            let message = format!("record.{record}");
            let said = if record == DEAD_LETTER {
                shapes::dead_letter(&mut self.schemas)?
            } else {
                shapes::record(record, &mut self.schemas)?
            };
            self.messages.insert(message.clone(), said);
            let channel = json!({
                "parameters": parameters(&address), "address": address, "title": summary, "servers": [reference("servers/kafka")],
                "messages": {message.clone(): reference(&format!("components/messages/{message}"))},
            });
            self.channels.insert(key.into(), channel);
            let operation = format!("{}{}", action.name(), capital(key));
            self.operate(key, (&operation, action), summary, vec![reference(&format!("channels/{key}/messages/{message}"))]);
        }
        Ok(())
    }

    fn operate(&mut self, channel: &str, (name, action): (&str, Action), summary: &str, messages: Vec<Value>) {
        let operation = json!({
            "action": action.name(), "channel": reference(&format!("channels/{channel}")), "summary": summary, "messages": messages,
        });
        self.operations.insert(name.to_owned(), operation);
    }
}

/// The messages of a side of the WebSocket, by name.
fn frames_of(side: Frames, schemas: &mut Map<String, Value>) -> Result<Vec<(String, Value)>, serde_json::Error> {
    let message = |frame: shapes::Frame| {
        let message = json!({
            "name": frame.kind, "title": frame.kind, "summary": frame.summary, "contentType": "application/json",
            "payload": reference(&pointer(&frame.schema)),
        });
        (frame.schema, message)
    };
    Ok(frames(side, schemas)?.into_iter().map(message).collect())
}

/// What stands in braces in the name of a topic.
fn parameters(address: &str) -> Value {
    let known = [
        ("prefix", json!({"default": "tidings.", "description": "`kafka.topic_prefix`."})),
        ("epoch", json!({"default": "", "description": "Nothing in the first epoch, `.e2` in the second (docs/growing.md)."})),
        ("rung", json!({"default": RUNG.to_string(), "description": "One of `courier.ladder`."})),
    ];
    known
        .into_iter()
        .filter(|(name, _)| address.contains(&format!("{{{name}}}")))
        .map(|(name, said)| (name.to_owned(), said))
        .collect()
}

fn comeback(code: CloseCode) -> &'static str {
    match code.comes_back() {
        Comeback::Never => "never",
        Comeback::FreshToken => "withFreshToken",
        Comeback::WithBackoff => "withBackoff",
    }
}

fn reference(target: &str) -> Value {
    json!({"$ref": format!("#/{target}")})
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_the_websocket_are_those_of_its_document() {
        let document = include_str!("../../docs/protocol.md").split("## Positions").next().unwrap();
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect::<Vec<_>>();
        let made = all().unwrap();
        let said = made["channels"]["connection"]["bindings"]["ws"]["query"]["properties"].as_object().unwrap();
        let (mut rows, mut said) = (rows, said.keys().map(String::as_str).collect::<Vec<_>>());
        rows.sort_unstable();
        said.sort_unstable();
        assert_eq!(said, rows);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let made = all().unwrap();
        let text = made.to_string();
        let targets = text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let mut held = 0;
        for target in targets {
            let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} leads out of the document"));
            assert!(made.pointer(pointer).is_some(), "{target}");
            held += 1;
        }
        assert!(held > 100, "{held}");
    }
}
