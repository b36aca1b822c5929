//! Shapes: what the values of a schema look like once they are read, as a JSON Schema.
//!
//! Owns: the counterpart of each format's reading: what is a decimal there is a text here, what may be absent there is not required here.
//! Refuses to say what it does not know: the schema then allows anything. Neighbours: `avro` and `protobuf` read values, `rules::check` asks.

mod avro;
mod protobuf;

use serde_json::{Value, json};

use super::protobuf::Protobuf;
use super::{Definition, Format, SchemaError};

/// How deep schemas are followed; what lies deeper may be anything.
const LIMIT_DEPTH: usize = 16;

/// A schema's values, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What the schema calls such values, as a record that does not say its type is called by.
    pub name: Option<String>,
    /// A JSON Schema that they satisfy.
    pub schema: Value,
}

impl Definition {
    /// What its values look like once they are read; of several messages the first.
    ///
    /// # Errors
    /// If it cannot be used to read values.
    pub fn shape(&self) -> Result<Shape, SchemaError> {
        super::Schema::compile(self)?;
        match self.format {
            Format::Avro => avro::shape(self),
            Format::Protobuf => {
                let compiled = Protobuf::compile(self)?;
                let message = compiled.first();
                let name = message.map(|message| message.full_name().to_owned());
                Ok(Shape { name, schema: message.map_or(json!({}), |message| protobuf::message(message, 0)) })
            }
            Format::JsonSchema => json_schema(self),
        }
    }
}

/// The schema itself, with what it refers to within it, so that it stands alone.
fn json_schema(definition: &Definition) -> Result<Shape, SchemaError> {
    let unusable = |error: serde_json::Error| SchemaError::unusable(definition.format, error.to_string());
    let plain = |text: &str| {
        let mut schema = serde_json::from_str::<Value>(text).map_err(unusable)?;
        // The few keywords that are looked at mean the same in every draft.
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("$schema");
            fields.remove("$id");
        }
        Ok(schema)
    };
    let mut schema = plain(&definition.text)?;
    let name = schema.get("title").and_then(Value::as_str).map(str::to_owned);
    for reference in &definition.references {
        let mut part = plain(&reference.text)?;
        if let Some(fields) = part.as_object_mut() {
            fields.insert("$id".to_owned(), reference.name.clone().into());
        }
        if let Some(parts) =
            schema.as_object_mut().and_then(|fields| fields.entry("$defs").or_insert_with(|| json!({})).as_object_mut())
        {
            parts.insert(reference.name.clone(), part);
        }
    }
    Ok(Shape { name, schema })
}

/// An example of a value; what nothing is said of is a text.
#[must_use]
pub fn example(schema: &Value) -> Value {
    example_at(schema, 0)
}

fn example_at(schema: &Value, depth: usize) -> Value {
    if depth > LIMIT_DEPTH {
        return Value::Null;
    }
    let listed = schema.get("enum").and_then(Value::as_array).and_then(|listed| listed.first()).or_else(|| schema.get("const"));
    if let Some(value) = listed {
        return value.clone();
    }
    let ways = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
    let is_null = |way: &&Value| way.get("type").is_some_and(|kind| kind == "null");
    if let Some(way) = ways.and_then(|ways| ways.iter().find(|way| !is_null(way))) {
        return example_at(way, depth + 1);
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.and_then(Value::as_str),
    };
    let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(1);
    match kind {
        Some("object") => {
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            fields.map(|(name, field)| (name.clone(), example_at(field, depth + 1))).collect()
        }
        Some("array") => json!([schema.get("items").map_or(json!("x"), |items| example_at(items, depth + 1))]),
        Some("integer") => least.into(),
        Some("number") => json!(least as f64 + 0.5),
        Some("boolean") => true.into(),
        Some("null") => Value::Null,
        _ => text(schema).into(),
    }
}

fn text(schema: &Value) -> &'static str {
    match schema.get("format").and_then(Value::as_str) {
        Some("date") => "2026-01-31",
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("time") => "12:00:00",
        Some("uuid") => "438e828e-0a38-5599-8fb1-76b0e4574c75",
        _ if schema.get("pattern").is_some_and(|pattern| pattern == DECIMAL) => "1.00",
        _ => "x",
    }
}

/// Of exact numbers, which are texts.
const DECIMAL: &str = r"^-?[0-9]+(\.[0-9]+)?$";

fn decimal() -> Value {
    json!({"type": "string", "pattern": DECIMAL})
}

/// One of several; in one word where that can be said.
fn any_of(ways: Vec<Value>) -> Value {
    let plain = |way: &Value| way.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("type")).cloned();
    match ways.iter().map(plain).collect::<Option<Vec<_>>>() {
        Some(kinds) => json!({"type": kinds}),
        None => json!({"anyOf": ways}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(format: Format, text: &str) -> Shape {
        Definition { format, text: text.to_owned(), references: Vec::new() }.shape().unwrap()
    }

    #[test]
    fn an_avro_schema_looks_like_what_its_values_are_read_as() {
        let text = r#"{"type": "record", "name": "Due", "namespace": "a.b", "fields": [
            {"name": "to", "type": ["null", "string", "long"]}, {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "next", "type": ["null", "Due"]}, {"name": "other", "type": "Kind"}]}"#;
        let shape = shape(Format::Avro, text);
        assert_eq!(shape.name.as_deref(), Some("a.b.Due"));
        insta::assert_json_snapshot!(shape.schema);
        let example = example(&shape.schema);
        assert!(jsonschema::draft202012::new(&shape.schema).unwrap().is_valid(&example), "{example}");
    }

    #[test]
    fn a_protobuf_message_looks_like_what_it_is_read_as() {
        let text = r#"syntax = "proto3"; package a.b; import "google/protobuf/timestamp.proto";
            message Due { string user_id = 1; int64 cents = 2; optional string note = 3; repeated Item items = 4; google.protobuf.Timestamp at = 5;
                map<string, double> rates = 6; Kind kind = 7; message Item { bool done = 1; } enum Kind { A = 0; B = 1; } }"#;
        let shape = shape(Format::Protobuf, text);
        assert_eq!(shape.name.as_deref(), Some("a.b.Due"));
        insta::assert_json_snapshot!(shape.schema);
        let example = example(&shape.schema);
        assert!(jsonschema::draft202012::new(&shape.schema).unwrap().is_valid(&example), "{example}");
    }
}
