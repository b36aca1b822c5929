//! Values with a schema, and schemas with what they refer to and a value: the first byte picks which. `definitions` makes schemas that are sound.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidings_core::schema::{Definition, Format, Framed, Reference, Schema};

const AVRO: &str = r#"{"type":"record","name":"R","fields":[
{"name":"next","type":["null","R","string",{"type":"array","items":"R"}]},
{"name":"money","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
{"name":"big","type":{"type":"bytes","logicalType":"big-decimal"}},
{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
{"name":"day","type":{"type":"int","logicalType":"date"}},
{"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}},
{"name":"map","type":{"type":"map","values":["double","float","bytes","boolean"]}}]}"#;
const PROTOBUF: &str = r#"syntax = "proto3"; package p; import "google/protobuf/timestamp.proto"; import "google/protobuf/struct.proto";
import "google/protobuf/any.proto"; import "confluent/type/decimal.proto";
message M { M next = 1; repeated M more = 2; map<string, M> map = 3; google.protobuf.Timestamp at = 4; google.protobuf.Struct free = 5;
google.protobuf.Any any = 6; confluent.type.Decimal money = 7; oneof o { string s = 8; bytes b = 9; } repeated int64 n = 10; message In { double d = 1; } }"#;
const JSON: &str = r##"{"type":"object","properties":{"next":{"$ref":"#"},"text":{"type":"string","pattern":"^(?=a)(a|b)*$"}},
"patternProperties":{"^x":{"type":"integer"}},"anyOf":[{"required":["next"]},{"minProperties":0}]}"##;

static SCHEMAS: LazyLock<[Schema; 3]> = LazyLock::new(|| {
    [(Format::Avro, AVRO), (Format::Protobuf, PROTOBUF), (Format::JsonSchema, JSON)]
        .map(|(format, text)| compile(format, text).expect("a sound schema"))
});

/// What lies between a schema, those that it refers to, and a value; and between the name of one that is referred to and its text.
const PARTS: u8 = 0x1e;
const NAME: char = '\u{1f}';

fn compile(format: Format, text: &str) -> Option<Schema> {
    Schema::compile(&Definition { format, text: text.to_owned(), references: Vec::new() }).ok()
}

/// A schema that is written out with all that it refers to, and a value.
fn whole(format: Format, bytes: &[u8]) -> Option<(Definition, &[u8])> {
    let mut parts = bytes.split(|byte| *byte == PARTS);
    let (text, body) = (std::str::from_utf8(parts.next()?).ok()?, parts.next_back().unwrap_or(b"{}"));
    let references = parts.filter_map(|part| std::str::from_utf8(part).ok()?.split_once(NAME));
    let references = references.map(|(name, text)| Reference { name: name.to_owned(), text: text.to_owned() });
    Some((Definition { format, text: text.to_owned(), references: references.collect() }, body))
}

fn read(schema: &Schema, framed: &Framed<'_>) {
    match schema.read(framed) {
        Ok(read) => {
            let text = serde_json::to_string(&read.value).expect("what is read is JSON");
            assert_eq!(schema.read(framed).expect("the same again").value, read.value, "{text}");
        }
        Err(error) => assert!(!error.to_string().is_empty() && error.to_string().len() < 2048),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let number = usize::from(*first);
    match number / 3 % 3 {
        // A value behind a prefix.
        0 => {
            let framed = [&[0, 0, 0, 0, 1], rest].concat();
            read(&SCHEMAS[number % 3], &Framed::of_value(&framed, None).expect("a frame"));
        }
        // A header of up to 32 bytes, then the value.
        1 => {
            let (header, value) = rest.split_at(rest.len().min(32));
            if let Ok(framed) = Framed::of_value(value, Some(header)) {
                read(&SCHEMAS[number % 3], &framed);
            }
        }
        // A schema, and something to read with it.
        _ => {
            let format = [Format::Avro, Format::Protobuf, Format::JsonSchema][number % 3];
            let Some((definition, body)) = whole(format, rest) else { return };
            if let Ok(schema) = Schema::compile(&definition) {
                for body in [body, b"\0", b"\x02\x02\x02\x02"] {
                    let framed = [&[0, 0, 0, 0, 1], body].concat();
                    read(&schema, &Framed::of_value(&framed, None).expect("a frame"));
                }
            }
        }
    }
});
