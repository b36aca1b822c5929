//! What values become, and that hostile ones end. Long because each format has both.

mod hostile;
mod references;
mod syntax;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn definition(format: Format, text: impl Into<String>, references: &[(&str, &str)]) -> Definition {
    let reference = |(name, text): &(&str, &str)| Reference { name: (*name).to_owned(), text: (*text).to_owned() };
    Definition { format, text: text.into(), references: references.iter().map(reference).collect() }
}

fn compiled(format: Format, text: impl Into<String>) -> Schema {
    Schema::compile(&definition(format, text, &[])).unwrap()
}

fn refused(format: Format, text: impl Into<String>) -> SchemaError {
    Schema::compile(&definition(format, text, &[])).unwrap_err()
}

/// A value behind the frame of a prefix.
fn prefixed(body: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7], body].concat()
}

fn read(schema: &Schema, body: &[u8]) -> Result<Value, SchemaError> {
    schema.read(&Framed::of_value(&prefixed(body), None).unwrap()).map(|read| read.value)
}

fn long(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while left > 0x7f {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [long(i64::try_from(text.len()).unwrap()), text.as_bytes().to_vec()].concat()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"acme","fields":[{fields}]}}"#)
}

fn field(name: &str, kind: &str) -> String {
    format!(r#"{{"name":"{name}","type":{kind}}}"#)
}

/// What one Avro type makes of some bytes.
fn avro(kind: &str, body: &[u8]) -> Result<Value, SchemaError> {
    read(&compiled(Format::Avro, record(&field("f", kind))), body).map(|mut value| value["f"].take())
}

fn logical(kind: &str, logical: &str) -> String {
    format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#)
}

#[test]
fn the_header_counts_before_the_prefix_and_both_forms_of_an_id_are_read() {
    let guid = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let header = [&[1][..], guid.as_bytes(), &[2, 4]].concat();
    let framed = Framed::of_value(b"\0\0\0\0\x01rest", Some(&header)).unwrap();
    assert_eq!((framed.id, framed.index, framed.body), (SchemaId::Guid(guid), Some(&[2, 4][..]), &b"\0\0\0\0\x01rest"[..]));
    let framed = Framed::of_value(b"\0\0\0\x01\x02rest", None).unwrap();
    assert_eq!((framed.id, framed.index, framed.body), (SchemaId::Number(258), None, &b"rest"[..]));
    let framed = Framed::of_key(b"k", Some(&[0, 0, 0, 0, 9])).unwrap();
    assert_eq!((framed.id, framed.body), (SchemaId::Number(9), &b"k"[..]));
}

#[test]
fn what_does_not_begin_like_a_frame_says_what_it_begins_with() {
    let value = |bytes: &[u8]| Framed::of_value(bytes, None).unwrap_err().to_string();
    let header = |bytes: &[u8]| Framed::of_value(b"{}", Some(bytes)).unwrap_err().to_string();
    let lines = [value(&[0, 1, 2]), value(b"{}"), value(&[1; 17]), header(&[]), header(&[1; 16]), header(&[2, 0]), {
        Framed::of_key(&[9], None).unwrap_err().to_string()
    }];
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("schema_frame_errors", lines.join("\n"));
    });
}

#[test]
fn what_avro_counts_from_1970_is_the_time_that_people_write() {
    let days = long(20_485);
    let fixed = [1_u32, 2, 3_004].map(u32::to_le_bytes).concat();
    let lines = [
        avro(&logical("int", "date"), &days),
        avro(&logical("int", "time-millis"), &long(30_600_250)),
        avro(&logical("long", "time-micros"), &long(30_600_000_000)),
        avro(&logical("long", "timestamp-millis"), &long(1_769_934_600_000)),
        avro(&logical("long", "timestamp-micros"), &long(1_769_934_600_250_000)),
        avro(&logical("long", "timestamp-nanos"), &long(1_769_934_600_000_000_001)),
        avro(&logical("long", "timestamp-millis"), &long(-1)),
        avro(&logical("long", "local-timestamp-millis"), &long(1_769_934_600_250)),
        avro(r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#, &fixed),
        avro(&logical("string", "uuid"), &text("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        avro(r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#, &[0x6b; 16]),
    ];
    let lines = lines.map(|line| line.unwrap().as_str().unwrap().to_owned());
    insta::assert_snapshot!(lines.join("\n"), @r"
    2026-02-01
    08:30:00.250
    08:30:00
    2026-02-01T08:30:00Z
    2026-02-01T08:30:00.250Z
    2026-02-01T08:30:00.000000001Z
    1969-12-31T23:59:59.999Z
    2026-02-01T08:30:00.250
    P1M2DT3.004S
    6ba7b810-9dad-11d1-80b4-00c04fd430c8
    6b6b6b6b-6b6b-6b6b-6b6b-6b6b6b6b6b6b
    ");
    for (kind, bytes) in [("time-millis", long(86_400_000)), ("date", long(i64::from(i32::MAX)))] {
        assert_eq!(avro(&logical("int", kind), &bytes).unwrap_err().class(), "schema_misfit", "{kind}");
    }
}

#[test]
fn money_is_exact_text() {
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}"#;
    assert_eq!(avro(decimal, &[4, 0x04, 0xd2]).unwrap(), json!("12.34"));
    let fixed = r#"{"type":"fixed","name":"M","size":8,"logicalType":"decimal","precision":18,"scale":4}"#;
    assert_eq!(avro(fixed, &(-1_234_567_890_123_456_789_i64).to_be_bytes()).unwrap(), json!("-123456789012345.6789"));
    let big = [long(4), text("\x04"), vec![0x7f], long(3)].concat();
    // A length of 4: the number's own length and its 2 bytes, and the scale.
    let big = {
        let inner = [vec![4, 0x04, 0xd2], long(3)].concat();
        drop(big);
        [long(inner.len().try_into().unwrap()), inner].concat()
    };
    assert_eq!(avro(&logical("bytes", "big-decimal"), &big).unwrap(), json!("1.234"));
}

#[test]
fn nested_types_unions_enums_maps_and_defaults_are_plain_json() {
    let fields = [
        field("union", r#"["null","string",{"type":"record","name":"In","fields":[{"name":"n","type":"int"}]}]"#),
        field("other", r#"["null","string","In"]"#),
        field("none", r#"["null","string"]"#),
        field("kind", r#"{"type":"enum","name":"K","symbols":["A","B"]}"#),
        field("map", r#"{"type":"map","values":"long"}"#),
        field("list", r#"{"type":"array","items":"float"}"#),
        field("bytes", r#""bytes""#),
        field("nan", r#""double""#),
        field("flag", r#""boolean""#),
    ];
    let body = [
        [long(1), text("x")].concat(),
        [long(2), long(5)].concat(),
        long(0),
        long(1),
        [long(1), text("a"), long(-7), long(0)].concat(),
        // A block with its length in bytes, then one without.
        [long(-1), long(4), 1.1_f32.to_le_bytes().to_vec(), long(1), 2.5_f32.to_le_bytes().to_vec(), long(0)].concat(),
        vec![4, 0xff, 0x00],
        f64::NAN.to_le_bytes().to_vec(),
        vec![1],
    ];
    let schema = compiled(Format::Avro, record(&fields.join(",")));
    let value = read(&schema, &body.concat()).unwrap();
    let expected = json!({
        "union": "x", "other": {"n": 5}, "none": null, "kind": "B", "map": {"a": -7}, "list": [1.1, 2.5], "bytes": "/wA=", "nan": "NaN",
        "flag": true,
    });
    assert_eq!(value, expected);
    let named = schema.read(&Framed::of_value(&prefixed(&body.concat()), None).unwrap()).unwrap().name;
    assert_eq!(named.as_deref(), Some("acme.R"));
}

#[test]
fn an_avro_type_may_lie_in_a_schema_that_is_referred_to_and_those_in_circles() {
    let user = r#"{"type":"record","name":"User","namespace":"acme.people","fields":[{"name":"id","type":"string"},{"name":"boss","type":["null","acme.people.Boss"]}]}"#;
    let boss = r#"{"type":"record","name":"Boss","namespace":"acme.people","fields":[{"name":"of","type":["null","User"]}]}"#;
    let main = record(&field("user", r#""acme.people.User""#));
    let schema =
        Schema::compile(&definition(Format::Avro, main, &[("acme.people.User", user), ("acme.people.Boss", boss)])).unwrap();
    let body = [text("ada"), long(1), long(1), text("bob"), long(0)].concat();
    assert_eq!(read(&schema, &body).unwrap(), json!({"user": {"id": "ada", "boss": {"of": {"id": "bob", "boss": null}}}}));
    let missing = refused(Format::Avro, record(&field("user", r#""acme.people.User""#)));
    assert_eq!(missing.class(), "schema_unusable");
}

#[test]
fn truncated_and_hostile_avro_ends_with_a_reason() {
    let whole = [text("ada"), long(7)].concat();
    let schema = compiled(Format::Avro, record(&[field("a", r#""string""#), field("b", r#""long""#)].join(",")));
    assert!(read(&schema, &whole).is_ok());
    for end in 0..whole.len() {
        assert_eq!(read(&schema, &whole[..end]).unwrap_err().class(), "schema_misfit", "{end} bytes");
    }
    assert!(read(&schema, &[&whole[..], &[0]].concat()).is_err(), "a byte too many");
    let list = r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#;
    let deep = compiled(Format::Avro, list);
    let error = read(&deep, &vec![2; 1 << 20]).unwrap_err().to_string();
    assert!(error.contains("deeper"), "{error}");
    let itself = compiled(Format::Avro, r#"{"type":"record","name":"N","fields":[{"name":"n","type":"N"}]}"#);
    assert!(read(&itself, &[]).is_err(), "a record within itself without end");
    let nulls = avro(r#"{"type":"array","items":"null"}"#, &[long(i64::MAX), long(0)].concat()).unwrap_err().to_string();
    assert!(nulls.contains("values"), "{nulls}");
    for (kind, body) in [
        (r#""string""#, long(i64::MAX)),
        (r#""string""#, long(-1)),
        (r#""string""#, vec![2, 0xff]),
        (r#""int""#, long(1 << 40)),
        (r#""long""#, vec![0xff; 11]),
        (r#""boolean""#, vec![2]),
        (r#"["null","int"]"#, long(2)),
        (r#"{"type":"enum","name":"K","symbols":["A"]}"#, long(-1)),
        (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, [long(4096), vec![1; 4096]].concat()),
    ] {
        assert_eq!(avro(kind, &body).unwrap_err().class(), "schema_misfit", "{kind}");
    }
}

const PROTO: &str = r#"syntax = "proto3"; package acme;
import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto"; import "confluent/type/decimal.proto"; import "people.proto";
message First { message Inner { string only = 1; } string text = 1; }
enum Kind { UNKNOWN = 0; BOOKED = 1; }
message Booking {
  int64 user_id = 1; confluent.type.Decimal amount = 2; google.protobuf.Timestamp at = 3; google.protobuf.Duration took = 4;
  google.protobuf.Int64Value maybe = 5; google.protobuf.Struct more = 6; Kind kind = 7; repeated string tags = 8; map<string, int32> counts = 9;
  bytes raw = 10; optional string note = 11; people.User user = 12; oneof choice { string left = 13; string right = 14; } float rate = 15;
}"#;
const PEOPLE: &str = r#"syntax = "proto3"; package people; message User { string name = 1; User boss = 2; }"#;

fn proto() -> Schema {
    Schema::compile(&definition(Format::Protobuf, PROTO, &[("people.proto", PEOPLE)])).unwrap()
}

fn message(index: &[u8], bytes: &[u8]) -> Result<Value, SchemaError> {
    read(&proto(), &[index, bytes].concat())
}

/// A field of a length and bytes.
fn delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

#[test]
fn a_message_is_json_as_protobuf_has_it_and_its_numbers_stay_numbers() {
    let body = [
        vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        delimited(2, &[delimited(1, &[0x04, 0xd2]), vec![0x18, 0x02]].concat()),
        delimited(3, &[0x08, 0x88, 0x9e, 0xfc, 0xcb, 0x06]),
        delimited(4, &[0x08, 0x03]),
        delimited(5, &[0x08, 0x07]),
        delimited(6, &delimited(1, &[delimited(1, b"a"), delimited(2, &[0x20, 0x01])].concat())),
        vec![0x38, 0x01],
        delimited(8, b"x"),
        delimited(9, &[delimited(1, b"k"), vec![0x10, 0x05]].concat()),
        delimited(10, &[0xff]),
        delimited(12, &delimited(1, b"ada")),
        delimited(14, b"r"),
        [vec![0x7d], 1.1_f32.to_le_bytes().to_vec()].concat(),
        // A field that the schema does not have.
        vec![0x9a, 0x01, 0x03, b'n', b'e', b'w'],
    ];
    let value = message(&[2, 2], &body.concat()).unwrap();
    let expected = json!({
        "userId": i64::MAX, "amount": "12.34", "at": "2026-02-01T08:30:00Z", "took": "3s", "maybe": 7, "more": {"a": true}, "kind": "BOOKED",
        "tags": ["x"], "counts": {"k": 5}, "raw": "/w==", "user": {"name": "ada"}, "right": "r", "rate": 1.1,
    });
    assert_eq!(value, expected);
    let empty = message(&[2, 2], &[]).unwrap();
    assert_eq!(empty, json!({"userId": 0, "kind": "UNKNOWN", "tags": [], "counts": {}, "raw": "", "rate": 0.0}));
}

#[test]
fn the_message_index_leads_into_messages_and_may_stand_in_the_header() {
    assert_eq!(message(&[0], &delimited(1, b"a")).unwrap(), json!({"text": "a"}));
    assert_eq!(message(&[4, 0, 0], &delimited(1, b"a")).unwrap(), json!({"only": "a"}));
    let header = [0, 0, 0, 0, 7, 4, 0, 0];
    let body = delimited(1, b"a");
    let read = proto().read(&Framed::of_value(&body, Some(&header)).unwrap()).unwrap();
    assert_eq!((read.value, read.name.as_deref()), (json!({"only": "a"}), Some("acme.First.Inner")));
    let none = proto().read(&Framed::of_value(&body, Some(&header[..5])).unwrap()).unwrap();
    assert_eq!(none.value, json!({"text": "a"}));
}

#[test]
fn an_index_out_of_range_and_truncated_messages_are_misfits() {
    for index in [&[2, 9][..], &[4, 0, 9], &[1], &[2, 1], &[0x7f], &[0xff; 9], &[]] {
        assert_eq!(message(index, &[]).unwrap_err().class(), "schema_misfit", "{index:?}");
    }
    for body in [&[0x0a][..], &[0x0a, 5, b'a'], &[0x08], &[0xff; 11]] {
        assert_eq!(message(&[0], body).unwrap_err().class(), "schema_misfit", "{body:?}");
    }
    // A user's boss's boss, without end: each within the one before it.
    let mut bytes = Vec::new();
    for _ in 0..3_000 {
        let mut length = Vec::new();
        prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut length);
        bytes = [vec![0x12], length, bytes].concat();
    }
    let recursive = compiled(Format::Protobuf, PEOPLE);
    assert_eq!(read(&recursive, &[&[0], &bytes[..]].concat()).unwrap_err().class(), "schema_misfit");
}

#[test]
fn protobuf_schemas_that_nothing_can_be_made_of_are_refused() {
    let nested = format!("syntax = \"proto3\"; {}{}", "message A {".repeat(100_000), "}".repeat(100_000));
    for text in ["", "message {", "syntax = \"proto3\"; import \"/etc/passwd\"; message A {}", &nested] {
        match Schema::compile(&definition(Format::Protobuf, text, &[])) {
            // An empty file is one, without any message.
            Ok(schema) => assert_eq!(read(&schema, &[0]).unwrap_err().class(), "schema_misfit"),
            Err(error) => assert_eq!(error.class(), "schema_unusable", "{error}"),
        }
    }
    let circle =
        [("a.proto", "syntax = \"proto3\"; import \"b.proto\";"), ("b.proto", "syntax = \"proto3\"; import \"a.proto\";")];
    let main = "syntax = \"proto3\"; import \"a.proto\"; message M {}";
    let error = Schema::compile(&definition(Format::Protobuf, main, &circle)).unwrap_err();
    assert_eq!(error.class(), "schema_unusable");
    let in_texts = "syntax = \"proto3\"; // {{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{\nmessage A { string a = 1; }";
    assert!(Schema::compile(&definition(Format::Protobuf, in_texts, &[])).is_ok(), "brackets in comments nest nothing");
}

fn json_schema(schema: Value) -> Schema {
    compiled(Format::JsonSchema, schema.to_string())
}

#[test]
fn json_is_validated_and_what_is_wrong_names_the_place_and_not_the_value() {
    let schema = json_schema(
        json!({"title": "Paid", "type": "object", "required": ["userId"], "properties": {"userId": {"type": "string"}}}),
    );
    let framed = prefixed(br#"{"userId":"ada"}"#);
    let fine = schema.read(&Framed::of_value(&framed, None).unwrap()).unwrap();
    assert_eq!((fine.value, fine.name.as_deref()), (json!({"userId": "ada"}), Some("Paid")));
    let error = read(&schema, br#"{"userId":4711}"#).unwrap_err();
    assert_eq!(error.class(), "schema_invalid_value");
    let told = error.to_string();
    assert!(told.contains("/userId") && !told.contains("4711"), "{told}");
    assert_eq!(read(&schema, b"{").unwrap_err().class(), "schema_misfit");
}

#[test]
fn a_ref_leads_to_what_is_referred_to_and_never_elsewhere() {
    let user = r##"{"$id":"https://acme.example/user.json","type":"object","required":["id"],"definitions":{"id":{"type":"string"}},"properties":{"id":{"$ref":"#/definitions/id"}}}"##;
    for (name, reference) in [("user.json", "user.json"), ("https://acme.example/user.json", "https://acme.example/user.json")] {
        let main = json!({"type": "object", "properties": {"user": {"$ref": reference}}}).to_string();
        let schema = Schema::compile(&definition(Format::JsonSchema, main, &[(name, user)])).unwrap();
        assert!(read(&schema, br#"{"user":{"id":"a"}}"#).is_ok(), "{name}");
        assert_eq!(read(&schema, br#"{"user":{"id":1}}"#).unwrap_err().class(), "schema_invalid_value", "{name}");
    }
    for target in ["http://127.0.0.1:1/x.json", "file:///etc/passwd", "other.json", "#/definitions/none"] {
        let error = refused(Format::JsonSchema, json!({"$ref": target}).to_string());
        assert_eq!(error.class(), "schema_unusable", "{target}: {error}");
    }
}

#[test]
fn a_recursive_json_schema_is_one_and_one_that_never_steps_into_the_value_is_refused() {
    let tree = json_schema(json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": false}));
    assert!(read(&tree, br#"{"next":{"next":{}}}"#).is_ok());
    assert!(read(&tree, br#"{"next":{"nest":{}}}"#).is_err());
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"definitions": {"a": {"anyOf": [{"$ref": "#/definitions/b"}]}, "b": {"not": {"$ref": "#/definitions/a"}}}, "$ref": "#/definitions/a"}),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {"$anchor": "x", "allOf": [{"$ref": "#x"}]}}, "$ref": "#x"}),
    ] {
        let text = schema.to_string();
        assert_eq!(refused(Format::JsonSchema, text.clone()).class(), "schema_unusable", "{text}");
    }
}

#[test]
fn a_schema_of_a_few_lines_that_asks_for_more_steps_than_there_is_time_for_is_not_followed() {
    let wide = json_schema(json!({"definitions": hostile::doubling(), "properties": {"a": {"$ref": "#/definitions/d59"}}}));
    assert_eq!(read(&wide, br#"{"a":"x"}"#).unwrap_err().class(), "schema_misfit");
    let twice = json!({"properties": {"a": {"$ref": "#"}}});
    let deep = json_schema(json!({"allOf": [twice, twice]}));
    let nested = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert_eq!(read(&deep, nested.as_bytes()).unwrap_err().class(), "schema_misfit");
    assert!(read(&deep, br#"{"a":{"a":{"a":1}}}"#).is_ok(), "what is shallow is fine");
}

#[test]
fn a_hostile_expression_gives_up_early() {
    let schema =
        json_schema(json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?=(a+)+$)(a+)+\\1$"}}}));
    let body = format!("{{\"a\":\"{}!\"}}", "a".repeat(5_000));
    assert_eq!(read(&schema, body.as_bytes()).unwrap_err().class(), "schema_invalid_value");
    let huge = json!({"pattern": "((((a{1,100}){1,100}){1,100}){1,100})"}).to_string();
    assert_eq!(refused(Format::JsonSchema, huge).class(), "schema_unusable");
}

#[test]
fn schemas_of_megabytes_are_read_or_refused() {
    let fields = (0..60_000).map(|number| field(&format!("field_{number}"), r#"{"type":"array","items":["null","string"]}"#));
    let wide = record(&fields.collect::<Vec<_>>().join(","));
    assert!(wide.len() > 4 << 20);
    assert_eq!(read(&compiled(Format::Avro, wide), &[0; 10]).unwrap_err().class(), "schema_misfit");
    let deep = format!("{}\"string\"{}", r#"{"type":"array","items":"#.repeat(200_000), "}".repeat(200_000));
    assert_eq!(refused(Format::Avro, deep).class(), "schema_unusable");
    let deep = format!("{}true{}", r#"{"not":"#.repeat(200_000), "}".repeat(200_000));
    assert_eq!(refused(Format::JsonSchema, deep).class(), "schema_unusable");
}

proptest! {
    #[test]
    fn whatever_bytes_come_reading_them_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let fields = [field("a", r#"["null","string",{"type":"array","items":"R"}]"#), field("b", r#"{"type":"map","values":"bytes"}"#)];
        let schemas = [compiled(Format::Avro, record(&fields.join(","))), proto(), json_schema(json!({"type": "object"}))];
        for schema in &schemas {
            if let Err(error) = read(schema, &bytes) {
                prop_assert!(!error.to_string().is_empty() && error.to_string().len() < 1024);
            }
        }
    }

    #[test]
    fn a_long_reads_back_whatever_it_is(number in any::<i64>()) {
        prop_assert_eq!(avro(r#""long""#, &long(number)).unwrap(), json!(number));
    }
}
