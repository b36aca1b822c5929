//! That what strangers write ends, and takes no more memory than there is: some bytes, of a record or a schema, that ask for much.

use super::*;

/// Texts of a schema that are copied into each of some thousand values of some bytes would be a gigabyte.
const COPIES: usize = 10_000;

fn long_name() -> String {
    "n".repeat(100_000)
}

fn why(result: Result<Value, SchemaError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.class(), "schema_misfit", "{error}");
    error.to_string()
}

#[test]
fn a_few_bytes_of_avro_do_not_become_gigabytes_of_names_and_symbols() {
    let name = long_name();
    let named = format!(r#"{{"type":"record","name":"E","fields":[{{"name":"{name}","type":"null"}}]}}"#);
    let count = i64::try_from(COPIES).unwrap();
    let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    let told = why(avro(&array(&named), &[long(count), long(0)].concat()));
    assert!(told.contains("names, symbols and defaults"), "{told}");
    assert!(avro(&array(&named), &[long(100), long(0)].concat()).is_ok(), "what is little is fine");
    let symbols = format!(r#"{{"type":"enum","name":"K","symbols":["{name}"]}}"#);
    let told = why(avro(&array(&symbols), &[long(count), vec![0; COPIES], long(0)].concat()));
    assert!(told.contains("names, symbols and defaults"), "{told}");
}

#[test]
fn a_draft_that_nobody_knows_is_no_schema() {
    let told = refused(Format::JsonSchema, r#"{"$schema": "https://example.com/ours", "type": "object"}"#).to_string();
    assert!(told.contains("https://example.com/ours") && told.contains("no draft"), "{told}");
}

#[test]
fn a_union_directly_within_a_union_is_no_schema() {
    // Each value of such a type would be read a hundred calls deep, and hold others.
    for (before, behind) in [("[", "]"), (r#"{"type":["#, "]}")] {
        let unions = format!(r#"{}"A"{}"#, before.repeat(30), behind.repeat(30));
        let schema = format!(r#"{{"type":"record","name":"A","fields":[{{"name":"x","type":{unions}}}]}}"#);
        let told = refused(Format::Avro, schema).to_string();
        assert!(told.contains("a union lies directly within a union"), "{told}");
    }
}

#[test]
fn a_few_bytes_of_protobuf_do_not_become_gigabytes_of_names_and_defaults() {
    let name = long_name();
    let empty = [&[0][..], &[0x0a, 0].repeat(COPIES)[..]].concat();
    for (text, body) in [
        (format!("syntax = \"proto3\"; message M {{ repeated E e = 1; }} message E {{ string {name} = 1; }}"), &empty),
        (
            format!(
                "syntax = \"proto2\"; message M {{ repeated E e = 1; }} message E {{ optional string s = 1 [default = \"{name}\"]; }}"
            ),
            &empty,
        ),
        (
            format!("syntax = \"proto3\"; message M {{ repeated K k = 1; }} enum K {{ {name} = 0; }}"),
            &[&[0][..], &[0x08, 0].repeat(COPIES)[..]].concat(),
        ),
    ] {
        let told = why(read(&compiled(Format::Protobuf, text), body));
        assert!(told.contains("names, symbols and defaults"), "{told}");
    }
}

/// Sixty lines that ask for 2^59 steps: each definition applies the one before it twice.
pub(super) fn doubling() -> serde_json::Map<String, Value> {
    let mut definitions = serde_json::Map::new();
    definitions.insert("d0".to_owned(), json!({"type": "string"}));
    for level in 1..60 {
        let below = json!({"$ref": format!("#/definitions/d{}", level - 1)});
        definitions.insert(format!("d{level}"), json!({"allOf": [below, below]}));
    }
    definitions
}

#[test]
fn what_costs_much_is_found_behind_places_that_cost_the_same_at_two_depths() {
    // At the first depths the most expensive property is `pad`, so that the numbers do not grow.
    let far = json!({"properties": {"c": {"properties": {"d": {"$ref": "#/definitions/d59"}}}}});
    let schema = json!({"definitions": doubling(), "properties": {"pad": {"allOf": [true, true, true]}, "b": far}});
    let told = why(read(&json_schema(schema), br#"{"b":{"c":{"d":"x"}}}"#));
    assert!(told.contains("steps"), "{told}");
}

#[test]
fn a_recursive_schema_with_all_the_properties_that_a_megabyte_has_is_read() {
    let mut properties = (0..80_000).map(|number| (format!("p{number}"), json!({}))).collect::<serde_json::Map<_, _>>();
    properties.insert("next".to_owned(), json!({"$ref": "#"}));
    let wide = json_schema(json!({"properties": properties}));
    assert!(read(&wide, br#"{"next":{"next":{"p7":1}}}"#).is_ok());
}

#[test]
fn what_is_unevaluated_is_counted_with_all_that_is_gone_through_to_know_it() {
    let draft = "https://json-schema.org/draft/2020-12/schema";
    let nested = |levels: usize| {
        (0..levels).fold(json!({"properties": {"b": true}}), |below, _| json!({"anyOf": [below], "unevaluatedProperties": false}))
    };
    let schema =
        |levels| json!({"$schema": draft, "$defs": {"deep": nested(levels)}, "properties": {"v": {"$ref": "#/$defs/deep"}}});
    assert!(read(&json_schema(schema(3)), br#"{"v":{"b":1}}"#).is_ok(), "some levels are fine");
    assert_eq!(read(&json_schema(schema(3)), br#"{"v":{"a":1}}"#).unwrap_err().class(), "schema_invalid_value");
    let refused = Schema::compile(&definition(Format::JsonSchema, schema(40).to_string(), &[]));
    let told = refused.and_then(|schema| read(&schema, br#"{"v":{"a":1}}"#)).unwrap_err().to_string();
    assert!(told.contains("steps"), "{told}");
}

#[test]
fn expressions_that_go_back_are_counted_by_the_text_that_they_search() {
    let pattern = json!({"type": "string", "pattern": "^(?=(a+)+$)(a+)+\\1$"});
    let schema = json_schema(json!({"type": "array", "items": {"allOf": vec![pattern; 20]}}));
    let body = |count: usize| format!("[{}]", vec![format!("\"{}!\"", "a".repeat(200)); count].join(","));
    assert_eq!(read(&schema, body(1).as_bytes()).unwrap_err().class(), "schema_invalid_value", "a little is searched");
    let told = why(read(&schema, body(1_000).as_bytes()));
    assert!(told.contains("expressions") && told.contains("steps"), "{told}");
    let plain = json!({"type": "array", "items": {"pattern": "^[a-z]{1,200}!$"}});
    assert!(read(&json_schema(plain), body(1_000).as_bytes()).is_ok(), "what goes through a text once is not refused");
}

/// A field of a length and bytes, however many.
fn of_length(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    [&field, bytes].concat()
}

#[test]
fn messages_of_any_type_are_read_with_the_same_limits() {
    let name = long_name();
    let text = |field: &str| {
        format!(
            "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; import \"google/protobuf/duration.proto\";
             message M {{ repeated google.protobuf.Any a = 1; }} message E {{ int64 {field} = 1; }}"
        )
    };
    let any = |kind: &str, bytes: &[u8]| [of_length(1, format!("t/{kind}").as_bytes()), of_length(2, bytes)].concat();
    let body = |items: &[Vec<u8>]| [vec![0_u8], items.iter().flat_map(|item| of_length(1, item)).collect()].concat();
    let few = body(&[any("E", &[8, 7]), any("google.protobuf.Duration", &[8, 3])]);
    let expected = json!({"a": [{"@type": "t/E", "n": 7}, {"@type": "t/google.protobuf.Duration", "value": "3s"}]});
    assert_eq!(read(&compiled(Format::Protobuf, text("n")), &few).unwrap(), expected);
    let told = why(read(&compiled(Format::Protobuf, text(&name)), &body(&vec![any("E", &[]); COPIES])));
    assert!(told.contains("names, symbols and defaults"), "{told}");
    let deep = (0..3_000).fold(any("E", &[]), |within, _| any("google.protobuf.Any", &within));
    let told = why(read(&compiled(Format::Protobuf, text("n")), &body(&[deep])));
    assert!(told.contains("deeper") || told.contains("names, symbols and defaults"), "{told}");
    let told = why(read(&compiled(Format::Protobuf, text("n")), &body(&[any("Other", &[])])));
    assert!(told.contains("Other"), "{told}");
}

/// A name of half a megabyte, which some thousand others stand in.
fn far() -> String {
    "n".repeat(500_000)
}

#[test]
fn names_that_stand_in_a_long_namespace_take_no_more_than_their_text() {
    let fields = (0..10_000)
        .map(|number| field(&format!("f{number}"), &format!(r#"{{"type":"enum","name":"e{number}","symbols":["A"]}}"#)));
    let fields = fields.collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"type":"record","name":"R","namespace":"{}","fields":[{fields}]}}"#, far());
    let value = read(&compiled(Format::Avro, text), &vec![0; 10_000]).unwrap();
    assert_eq!((value["f0"].as_str(), value["f9999"].as_str()), (Some("A"), Some("A")));
}

#[test]
fn protobuf_names_that_would_take_gigabytes_written_out_are_refused() {
    let fields = (1..=5_000).map(|number| format!("string f{number} = {number};")).collect::<String>();
    let nested = (0..3_000).map(|number| format!("enum E{number} {{ V{number} = 0; }}")).collect::<String>();
    let used = (1..=5_000).map(|number| format!("M f{number} = {number};")).collect::<String>();
    for (package, within) in [(far(), &fields), (far(), &nested), ("p.".repeat(5_000) + "p", &used)] {
        let error = refused(Format::Protobuf, format!("syntax = \"proto3\"; package {package}; message M {{ {within} }}"));
        assert!(error.to_string().contains("written out in full"), "{error}");
    }
    let alone = format!("syntax = \"proto3\"; package {}; message M {{ {fields} }}", "p.".repeat(20) + "p");
    assert!(Schema::compile(&definition(Format::Protobuf, alone, &[])).is_ok(), "what is long and not hostile is read");
    let imported = format!("syntax = \"proto3\"; package {}; message M {{ {fields} }}", far());
    let main = "syntax = \"proto3\"; import \"far.proto\"; message A {}";
    let error = Schema::compile(&definition(Format::Protobuf, main, &[("far.proto", &imported)])).unwrap_err();
    assert!(error.to_string().contains("written out in full"), "{error}");
}

#[test]
fn json_paths_that_would_take_gigabytes_written_out_are_refused() {
    let properties = (0..10_000).map(|number| (format!("p{number}"), json!({"type": "string"})));
    let many = json!({"properties": properties.collect::<serde_json::Map<_, _>>()});
    let lies = |id: &str| {
        let mut lies = many.clone();
        lies["$id"] = format!("https://{id}/s.json").into();
        lies
    };
    for hostile in [json!({"properties": {far(): many}}), lies(&far()), json!({"definitions": {"a": lies(&far())}})] {
        let error = refused(Format::JsonSchema, hostile.to_string());
        assert!(error.to_string().contains("written out in full"), "{error}");
    }
    assert!(Schema::compile(&definition(Format::JsonSchema, lies("acme.example").to_string(), &[])).is_ok());
}

#[test]
fn thousands_of_expressions_that_take_a_megabyte_each_are_refused_and_as_many_small_ones_are_not() {
    let of = |pattern: fn(usize) -> String| {
        let properties = (0..1_000).map(|number| (format!("p{number}"), json!({"pattern": pattern(number)})));
        json!({"properties": properties.collect::<serde_json::Map<_, _>>()}).to_string()
    };
    assert_eq!(refused(Format::JsonSchema, of(|number| format!("^\\p{{L}}{{20,30}}{number}$"))).class(), "schema_unusable");
    let small = compiled(Format::JsonSchema, of(|number| format!("^[A-Z]{{3}}-{number}$")));
    assert!(read(&small, br#"{"p7":"ABC-7"}"#).is_ok());
    assert_eq!(read(&small, br#"{"p7":"ABC-8"}"#).unwrap_err().class(), "schema_invalid_value");
    let around = json!({"pattern": "(?=\\p{L}{20})".repeat(2_000)}).to_string();
    assert_eq!(refused(Format::JsonSchema, around).class(), "schema_unusable");
}
