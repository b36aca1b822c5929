//! Shapes: what the values of a schema look like once they are read, as a JSON Schema.
//!
//! Owns: the counterpart of each format's reading: what is a decimal there is a text here, what may be absent there is not required here.
//! Refuses to say what it does not know: the schema then allows anything. Neighbours: `avro` and `protobuf` read values, `rules::check` asks.

mod avro;
mod forms;
mod protobuf;

use serde_json::{Value, json};

use super::{Definition, Inner, Schema, SchemaError};

/// How deep a schema is followed for an example, and from where on lists are empty and what may be absent is: recursive ones have no end.
const LIMIT_DEPTH: usize = 128;
const LIMIT_FULL_DEPTH: usize = 8;

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
        match Schema::compile(self)?.0 {
            Inner::Avro(avro) => {
                let schema = forms::schema(&avro::forms(&avro.nodes), avro.root);
                Ok(Shape { name: avro.name.as_deref().map(str::to_owned), schema })
            }
            Inner::Protobuf(protobuf) => {
                let Some(message) = protobuf.first() else { return Ok(Shape { name: None, schema: json!({}) }) };
                let schema = forms::schema(&protobuf::forms(message), 0);
                Ok(Shape { name: Some(message.full_name().to_owned()), schema })
            }
            Inner::Json(_) => json_schema(self),
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
    if depth >= LIMIT_FULL_DEPTH && ways.is_some_and(|ways| ways.iter().any(|way| is_null(&way))) {
        return Value::Null;
    }
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
            let required = schema.get("required").and_then(Value::as_array);
            let is_required = |name: &str| required.is_some_and(|required| required.iter().any(|one| one == name));
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let fields = fields.filter(|(name, _)| depth < LIMIT_FULL_DEPTH || is_required(name));
            fields.map(|(name, field)| (name.clone(), example_at(field, depth + 1))).collect()
        }
        Some("array") if depth >= LIMIT_FULL_DEPTH && schema.get("minItems").is_none() => json!([]),
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

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn shape(format: Format, text: &str) -> Shape {
        Definition { format, text: text.to_owned(), references: Vec::new() }.shape().unwrap()
    }

    #[test]
    fn an_avro_schema_looks_like_what_its_values_are_read_as() {
        let text = r#"{"type": "record", "name": "Due", "namespace": "a.b", "fields": [
            {"name": "to", "type": ["null", "string", "long"]}, {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "other", "type": "Kind"}]}"#;
        let shape = shape(Format::Avro, text);
        assert_eq!(shape.name.as_deref(), Some("a.b.Due"));
        insta::assert_json_snapshot!(shape.schema);
        has_an_example(&shape.schema);
    }

    #[test]
    fn a_protobuf_message_looks_like_what_it_is_read_as() {
        let text = r#"syntax = "proto3"; package a.b; import "google/protobuf/timestamp.proto";
            message Due { string user_id = 1; int64 cents = 2; optional string note = 3; repeated Item items = 4; google.protobuf.Timestamp at = 5;
                map<string, double> rates = 6; Kind kind = 7; message Item { bool done = 1; } enum Kind { A = 0; B = 1; } }"#;
        let shape = shape(Format::Protobuf, text);
        assert_eq!(shape.name.as_deref(), Some("a.b.Due"));
        insta::assert_json_snapshot!(shape.schema);
        has_an_example(&shape.schema);
    }

    #[test]
    fn an_avro_type_with_a_logical_type_that_does_not_go_with_it_looks_like_what_it_is_read_as() {
        let kinds = [
            (r#"{"type": "string", "logicalType": "date"}"#, json!({"type": "string"})),
            (r#"{"type": "long", "logicalType": "date"}"#, json!({"type": "integer"})),
            (r#"{"type": "string", "logicalType": "decimal", "precision": 4}"#, json!({"type": "string"})),
            (r#"{"type": "bytes", "logicalType": "decimal", "precision": 0}"#, json!({"type": "string"})),
            (r#"{"type": "fixed", "name": "D", "size": 11, "logicalType": "duration"}"#, json!({"type": "string"})),
            (r#"{"type": "fixed", "name": "U", "size": 15, "logicalType": "uuid"}"#, json!({"type": "string"})),
            (r#"{"type": "int", "logicalType": "timestamp-millis"}"#, json!({"type": "integer"})),
            (r#"{"type": {"type": "int"}, "logicalType": "date"}"#, json!({"type": "string", "format": "date"})),
            (r#"{"type": "bytes", "logicalType": "big-decimal"}"#, decimal()),
        ];
        for (kind, expected) in kinds {
            assert_eq!(shape(Format::Avro, kind).schema, expected, "{kind}");
        }
    }

    #[test]
    fn a_union_of_types_that_look_alike_names_each_once() {
        let unions = [
            (r#"["null", "int", "long"]"#, json!({"type": ["null", "integer"]})),
            (r#"["float", "double"]"#, json!({"type": "number"})),
            (r#"["string", "bytes"]"#, json!({"type": "string"})),
            (r#"["bytes", "null", "string"]"#, json!({"type": ["string", "null"]})),
            ("[]", json!({"not": {}})),
        ];
        for (union, expected) in unions {
            let schema = shape(Format::Avro, union).schema;
            assert_eq!(schema, expected, "{union}");
            assert!(jsonschema::meta::is_valid(&schema), "{union}");
        }
    }

    #[test]
    fn what_is_always_read_of_a_message_is_always_there() {
        let text = r#"syntax = "proto2"; message M { extensions 100 to 199;
            required string needed = 1; optional int32 usual = 2 [default = 7]; optional int32 perhaps = 3; repeated string tags = 4;
            optional group Part = 5 { optional string p = 1; } }
            extend M { optional string note = 100; }"#;
        let schema = shape(Format::Protobuf, text).schema;
        assert_eq!(schema["required"], json!(["needed", "usual", "tags"]));
        let names = schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names, ["[note]", "needed", "part", "perhaps", "tags", "usual"]);
        has_an_example(&schema);
    }

    #[test]
    fn types_that_hold_each_other_are_followed_as_deep_as_there_is_room() {
        let fields = |of: &str, count: usize| {
            (0..count).map(|at| format!(r#"{{"name": "f{at}", "type": ["null", "{of}"]}}"#)).collect::<Vec<_>>().join(",")
        };
        let list = format!(r#"{{"type": "record", "name": "L", "fields": [{}]}}"#, fields("L", 1));
        let tree = format!(r#"{{"type": "record", "name": "T", "fields": [{}]}}"#, fields("T", 40));
        let messages = (0..60).map(|at| format!("message M{at} {{ M{0} a = 1; M{0} b = 2; M{0} c = 3; }}", (at + 1) % 60));
        let messages = format!("syntax = \"proto3\"; {}", messages.collect::<String>());
        for (format, text, least) in [(Format::Avro, &list, 10), (Format::Avro, &tree, 2), (Format::Protobuf, &messages, 6)] {
            let schema = shape(format, text).schema;
            assert!(schema.to_string().len() < 8 << 20, "{format}");
            has_an_example(&schema);
            let mut deep = Some(&schema);
            for _ in 0..least {
                let next = deep.unwrap().get("properties").and_then(|fields| fields.as_object()?.values().next());
                deep = next.map(|field| field.get("anyOf").map_or(field, |ways| &ways[1]));
                assert!(deep.is_some_and(|deep| deep.get("properties").is_some()), "{format} is said {least} levels deep");
            }
        }
    }

    /// One that is not large, and that the schema itself allows.
    fn has_an_example(schema: &Value) {
        let example = example(schema);
        assert!(jsonschema::draft202012::new(schema).unwrap().is_valid(&example), "{example}");
        assert!(example.to_string().len() < 1 << 20);
    }
}
