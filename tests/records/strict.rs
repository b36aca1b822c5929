//! Schemas that take nothing which they do not name. Also for `tests/it`, which holds against them what a server sends.

use serde_json::{Value, json};

/// The schema's text with every field that it does not name forbidden, so that none is forgotten in it.
pub(crate) fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut grown: serde_json::Map<_, _> = fields.iter().map(|(name, value)| (name.clone(), strict(value))).collect();
            if fields.contains_key("properties") && fields.get("type") == Some(&json!("object")) {
                grown.insert("unevaluatedProperties".into(), json!(false));
            }
            Value::Object(grown)
        }
        Value::Array(items) => Value::Array(items.iter().map(strict).collect()),
        other => other.clone(),
    }
}
