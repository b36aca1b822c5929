//! The shape of what Avro's values are read as: exact numbers and times are texts, bytes are Base64.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{LIMIT_DEPTH, Shape, any_of, decimal};
use crate::schema::{Definition, SchemaError};

pub(super) fn shape(definition: &Definition) -> Result<Shape, SchemaError> {
    let unusable = |error: serde_json::Error| SchemaError::unusable(definition.format, error.to_string());
    let references = definition.references.iter().map(|reference| serde_json::from_str::<Value>(&reference.text));
    let references = references.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    let root = serde_json::from_str::<Value>(&definition.text).map_err(unusable)?;
    let mut named = Named::default();
    references.iter().chain([&root]).for_each(|schema| named.learn(schema, "", 0));
    let name = root.get("name").and_then(Value::as_str).map(|name| full(name, space(&root, "")));
    Ok(Shape { name, schema: named.shape(&root, "", &mut Vec::new()) })
}

/// The most bytes of names that are known; types beyond that may be anything.
const LIMIT_NAMES_BYTES: usize = 64 << 20;

/// The types that are called by a name, each with the namespace that it stands in.
#[derive(Default)]
struct Named<'a> {
    types: HashMap<String, (&'a Value, &'a str)>,
    names_bytes: usize,
}

impl<'a> Named<'a> {
    fn learn(&mut self, schema: &'a Value, around: &'a str, depth: usize) {
        if depth > LIMIT_DEPTH * 4 || self.names_bytes > LIMIT_NAMES_BYTES {
            return;
        }
        match schema {
            Value::Array(ways) => ways.iter().for_each(|way| self.learn(way, around, depth + 1)),
            Value::Object(fields) => {
                let within = space(schema, around);
                if let Some(name) = fields.get("name").and_then(Value::as_str).filter(|_| fields.contains_key("type")) {
                    let name = full(name, within);
                    self.names_bytes += name.len();
                    self.types.insert(name, (schema, around));
                }
                for inner in
                    ["type", "items", "values"].iter().filter_map(|key| fields.get(*key)).filter(|inner| !inner.is_string())
                {
                    self.learn(inner, within, depth + 1);
                }
                for field in fields.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    self.learn(field.get("type").unwrap_or(&Value::Null), within, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn shape(&self, schema: &Value, around: &str, within: &mut Vec<String>) -> Value {
        if within.len() > LIMIT_DEPTH {
            return json!({});
        }
        match schema {
            Value::String(name) => self.called(name, around, within),
            Value::Array(ways) => any_of(ways.iter().map(|way| self.shape(way, around, within)).collect()),
            Value::Object(fields) => {
                let kind = fields.get("type").unwrap_or(&Value::Null);
                let Some(kind) = kind.as_str() else { return self.shape(kind, around, within) };
                if let Some(logical) = fields.get("logicalType").and_then(Value::as_str).and_then(logical) {
                    return logical;
                }
                self.built(kind, schema, (space(schema, around), within))
            }
            _ => json!({}),
        }
    }

    fn built(&self, kind: &str, schema: &Value, (around, within): (&str, &mut Vec<String>)) -> Value {
        let mut inner = |key: &str| schema.get(key).map_or(json!({}), |inner| self.shape(inner, around, within));
        match kind {
            "array" => json!({"type": "array", "items": inner("items")}),
            "map" => json!({"type": "object", "additionalProperties": inner("values")}),
            "enum" => json!({"enum": schema.get("symbols")}),
            "fixed" => json!({"type": "string"}),
            "record" | "error" => {
                within.push(full(schema.get("name").and_then(Value::as_str).unwrap_or_default(), around));
                let fields = schema.get("fields").and_then(Value::as_array).into_iter().flatten();
                let field = |field: &Value| {
                    let kind = field.get("type").unwrap_or(&Value::Null);
                    Some((field.get("name")?.as_str()?.to_owned(), self.shape(kind, around, within)))
                };
                let properties = fields.filter_map(field).collect::<Map<_, _>>();
                within.pop();
                let required = properties.keys().cloned().collect::<Vec<_>>();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }
            name => self.called(name, around, within),
        }
    }

    fn called(&self, name: &str, around: &str, within: &mut Vec<String>) -> Value {
        let plain = match name {
            "null" | "boolean" | "string" => name,
            "int" | "long" => "integer",
            "float" | "double" => "number",
            "bytes" => "string",
            _ => {
                let name = if name.contains('.') { name.to_owned() } else { full(name, around) };
                let known = self.types.get(&name).filter(|_| !within.contains(&name));
                return known.map_or(json!({}), |(schema, around)| self.shape(schema, around, within));
            }
        };
        json!({"type": plain})
    }
}

fn logical(name: &str) -> Option<Value> {
    Some(match name {
        "decimal" | "big-decimal" => decimal(),
        "uuid" => json!({"type": "string", "format": "uuid"}),
        "date" => json!({"type": "string", "format": "date"}),
        "timestamp-millis" | "timestamp-micros" | "timestamp-nanos" => json!({"type": "string", "format": "date-time"}),
        "time-millis"
        | "time-micros"
        | "local-timestamp-millis"
        | "local-timestamp-micros"
        | "local-timestamp-nanos"
        | "duration" => {
            json!({"type": "string"})
        }
        _ => return None,
    })
}

/// The namespace of what stands in a schema.
fn space<'a>(schema: &'a Value, around: &'a str) -> &'a str {
    let name = schema.get("name").and_then(Value::as_str).and_then(|name| name.rsplit_once('.')).map(|(space, _)| space);
    name.or_else(|| schema.get("namespace").and_then(Value::as_str)).unwrap_or(around)
}

fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}
