//! Schemas that are sound, made of what is drawn, and values of any bytes: what the parsers of the three languages let through is read, however it is
//! built. `schemas` draws the texts themselves.

#![no_main]

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use tidings_core::schema::{Definition, Format, Framed, Schema};

/// How deep what is made nests.
const DEPTH: usize = 6;

/// Makes schemas.
struct Maker<'a> {
    drawn: Unstructured<'a>,
    /// Types that have names.
    named: usize,
}

impl Maker<'_> {
    /// One of `0..count`; the first when nothing is left to draw from.
    fn pick(&mut self, count: usize) -> usize {
        self.drawn.choose_index(count).unwrap_or(0)
    }

    fn several<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.pick(4);
        (0..count).map(|_| make(self)).collect()
    }

    fn avro(&mut self, depth: usize) -> Value {
        let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
        match self.pick(if depth == 0 { 17 } else { 22 }) {
            at @ 0..8 => json!(["null", "boolean", "int", "long", "float", "double", "bytes", "string"][at]),
            8 => json!({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": self.pick(20)}),
            at @ 9..16 => {
                let kinds = [
                    ("int", "date"),
                    ("int", "time-millis"),
                    ("long", "timestamp-nanos"),
                    ("long", "local-timestamp-micros"),
                    ("string", "uuid"),
                    ("bytes", "big-decimal"),
                    ("long", "time-micros"),
                ];
                logical(kinds[at - 9].0, kinds[at - 9].1)
            }
            16 if self.named > 0 => json!(format!("ns.T{}", self.pick(self.named))),
            16 | 17 => json!({"type": "fixed", "name": self.name(), "size": self.pick(20), "logicalType": "duration"}),
            18 => json!({"type": "array", "items": self.avro(depth - 1)}),
            19 => json!({"type": "map", "values": self.avro(depth - 1)}),
            20 => Value::Array(self.several(|maker| within_a_union(maker.avro(depth - 1)))),
            _ => {
                let name = self.name();
                let kinds = self.several(|maker| maker.avro(depth - 1));
                let field = |(at, kind): (usize, Value)| json!({"name": format!("f{at}"), "type": kind});
                json!({"type": "record", "name": name, "fields": kinds.into_iter().enumerate().map(field).collect::<Vec<_>>()})
            }
        }
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("ns.T{}", self.named - 1)
    }

    fn json(&mut self, depth: usize) -> Value {
        if depth == 0 {
            return json!(true);
        }
        let mut schema = Map::new();
        for _ in 0..=self.pick(3) {
            let (keyword, value) = match self.pick(16) {
                0 => ("type", json!(["string", "object", "array", "integer", "null"][self.pick(5)])),
                1 => ("$ref", json!(format!("#/$defs/d{}", self.pick(4)))),
                2 => ("allOf", self.more(depth)),
                3 => ("anyOf", self.more(depth)),
                4 => ("oneOf", self.more(depth)),
                5 => ("not", self.json(depth - 1)),
                6 => ("properties", json!({"a": self.json(depth - 1), "b": self.json(depth - 1)})),
                7 => ("items", self.json(depth - 1)),
                8 => ("prefixItems", self.more(depth)),
                9 => ("unevaluatedProperties", self.json(depth - 1)),
                10 => ("unevaluatedItems", self.json(depth - 1)),
                11 => ("pattern", json!(["^a+$", "^(?=a)(a|b)*$", "(a*)*\\1", "\\p{L}{1,50}"][self.pick(4)])),
                12 => ("if", self.json(depth - 1)),
                13 => ("then", self.json(depth - 1)),
                14 => ("patternProperties", json!({"^a": self.json(depth - 1)})),
                _ => ("maxLength", json!(self.pick(9))),
            };
            schema.insert(keyword.to_owned(), value);
        }
        Value::Object(schema)
    }

    fn more(&mut self, depth: usize) -> Value {
        let mut schemas = self.several(|maker| maker.json(depth - 1));
        schemas.push(json!(true));
        Value::Array(schemas)
    }

    fn message(&mut self, name: &str, depth: usize) -> String {
        let mut text = format!("message {name} {{ ");
        for number in 1..=self.pick(6) + 1 {
            let field = match self.pick(if depth == 0 { 8 } else { 10 }) {
                0 => format!("repeated sint64 f{number} = {number};"),
                1 => format!("map<string, M> f{number} = {number};"),
                2 => format!("optional M f{number} = {number};"),
                3 => format!("oneof o{number} {{ bytes f{number} = {number}; }}"),
                4 => format!("google.protobuf.Any f{number} = {number};"),
                5 => format!("repeated google.protobuf.Value f{number} = {number};"),
                6 => format!("confluent.type.Decimal f{number} = {number};"),
                7 => format!("repeated K f{number} = {number};"),
                _ => format!("{} In{number} f{number} = {number};", self.message(&format!("In{number}"), depth - 1)),
            };
            text.push_str(&field);
        }
        text + " }"
    }
}

/// A union holds no union directly.
fn within_a_union(branch: Value) -> Value {
    if branch.is_array() { json!({"type": "array", "items": branch}) } else { branch }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, drawn)) = input.split_first() else { return };
    // The schema is made of the first half, and the value is the other one.
    let (drawn, body) = drawn.split_at(drawn.len() / 2);
    let mut maker = Maker { drawn: Unstructured::new(drawn), named: 0 };
    let (format, text) = match first % 3 {
        0 => (Format::Avro, maker.avro(DEPTH).to_string()),
        1 => {
            let imports = ["google/protobuf/any.proto", "google/protobuf/struct.proto", "confluent/type/decimal.proto"];
            let imports = imports.map(|file| format!("import \"{file}\"; ")).concat();
            (Format::Protobuf, format!("syntax = \"proto3\"; {imports} {} enum K {{ A = 0; B = -1; }}", maker.message("M", DEPTH)))
        }
        _ => {
            let parts = (0..4).map(|at| (format!("d{at}"), maker.json(DEPTH))).collect::<Map<_, _>>();
            let root = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": parts, "allOf": [maker.json(DEPTH)]});
            (Format::JsonSchema, root.to_string())
        }
    };
    let schema = match Schema::compile(&Definition { format, text: text.clone(), references: Vec::new() }) {
        Ok(schema) => schema,
        // Parts that refer to each other without a step into the value.
        Err(_) if format == Format::JsonSchema => return,
        Err(error) => panic!("{text}: {error}"),
    };
    let framed = [&[0, 0, 0, 0, 1], &[0][..usize::from(format == Format::Protobuf)], body].concat();
    let framed = Framed::of_value(&framed, None).expect("a frame");
    match schema.read(&framed) {
        Ok(read) => assert_eq!(schema.read(&framed).expect("the same again"), read),
        Err(error) => assert!(!error.to_string().is_empty() && error.to_string().len() < 2048),
    }
});
