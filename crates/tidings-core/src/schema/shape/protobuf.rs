//! The shape of what messages are read as: fields without presence are always there, the others may be absent.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{LIMIT_DEPTH, decimal};

pub(super) fn message(message: &MessageDescriptor, depth: usize) -> Value {
    if depth > LIMIT_DEPTH {
        return json!({});
    }
    let fields = message.fields().map(|field| (field.json_name().to_owned(), of_field(&field, depth)));
    let required = message.fields().filter(|field| !field.supports_presence());
    let required = required.map(|field| field.json_name().to_owned()).collect::<Vec<_>>();
    json!({"type": "object", "properties": fields.collect::<Map<_, _>>(), "required": required, "additionalProperties": false})
}

fn of_field(field: &FieldDescriptor, depth: usize) -> Value {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        return json!({"type": "object", "additionalProperties": of_kind(&entry.map_entry_value_field().kind(), depth + 1)});
    }
    let one = of_kind(&field.kind(), depth + 1);
    if field.is_list() { json!({"type": "array", "items": one}) } else { one }
}

fn of_kind(kind: &Kind, depth: usize) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Double | Kind::Float => json!({"type": "number"}),
        Kind::String | Kind::Bytes => json!({"type": "string"}),
        Kind::Enum(kind) => json!({"enum": kind.values().map(|value| value.name().to_owned()).collect::<Vec<_>>()}),
        Kind::Message(kind) => known(kind.full_name()).unwrap_or_else(|| message(kind, depth)),
        _ => json!({"type": "integer"}),
    }
}

/// Types that have a form of their own in JSON.
fn known(name: &str) -> Option<Value> {
    Some(match name {
        "confluent.type.Decimal" => decimal(),
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration"
        | "google.protobuf.FieldMask"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => {
            json!({"type": "string"})
        }
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => json!({"type": "number"}),
        "google.protobuf.BoolValue" => json!({"type": "boolean"}),
        "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value" => {
            json!({"type": "integer"})
        }
        "google.protobuf.Struct" | "google.protobuf.Empty" => json!({"type": "object"}),
        "google.protobuf.ListValue" => json!({"type": "array"}),
        "google.protobuf.Value" | "google.protobuf.Any" => json!({}),
        _ => return None,
    })
}
