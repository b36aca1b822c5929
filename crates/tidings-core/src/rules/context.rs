//! What templates see: the fields of an event's data as variables, and `event` with its type, id, time and key. Nothing else.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use serde_json::Map;

use crate::event::Event;
use crate::ids::EventId;
use crate::time::Timestamp;

/// The variable that stands for the event itself; it hides a field of the same name.
pub(super) const EVENT: &str = "event";
/// The fields of [`EVENT`].
pub(super) const EVENT_FIELDS: [&str; 4] = ["type", "id", "time", "key"];

/// The context in which all templates of one event are rendered. Values are made when a template asks for them.
pub(super) fn context(event: &Event) -> Value {
    Value::from_object(Variables {
        data: Arc::clone(&event.data),
        kind: event.kind.clone(),
        id: event.event_id.clone(),
        time: event.time,
        key: event.key.clone(),
    })
}

#[derive(Debug)]
struct Variables {
    data: Arc<Map<String, serde_json::Value>>,
    kind: String,
    id: EventId,
    time: Timestamp,
    key: Option<serde_json::Value>,
}

impl Variables {
    fn event(&self) -> Value {
        let texts = [self.kind.clone(), self.id.to_string(), self.time.to_string()].map(Value::from);
        let values = texts.into_iter().chain(self.key.as_ref().map(convert));
        Value::from_pairs(EVENT_FIELDS.into_iter().zip(values))
    }
}

impl Object for Variables {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == EVENT { Some(self.event()) } else { self.data.get(key).map(convert) }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.data.keys().map(|key| Value::from(key.as_str())).collect())
    }
}

/// A JSON value as templates see it. Recursion is bounded by the depth that the decoder allows.
pub(super) fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::from))
            .unwrap_or_default(),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(convert).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), convert(value))))
        }
    }
}
