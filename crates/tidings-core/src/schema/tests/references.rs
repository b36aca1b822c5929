//! What a name and a number mean: types that other schemas define, in whatever order they come, and messages by the ways in which they are counted.

use super::*;

/// All orders of some references.
fn orders<'a>(references: &[(&'a str, &'a str)]) -> Vec<Vec<(&'a str, &'a str)>> {
    if references.is_empty() {
        return vec![Vec::new()];
    }
    let first = (0..references.len()).flat_map(|at| {
        let mut others = references.to_vec();
        let first = others.remove(at);
        orders(&others).into_iter().map(move |order| [vec![first], order].concat())
    });
    first.collect()
}

#[test]
fn an_avro_type_that_lies_within_a_reference_is_known_to_the_others_in_whatever_order_they_come() {
    let order = r#"{"type":"record","name":"Order","namespace":"acme.orders","fields":[
        {"name":"line","type":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"}]}},
        {"name":"buyer","type":["null","acme.people.User"]}]}"#;
    let user = r#"{"type":"record","name":"User","namespace":"acme.people","fields":[
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["GUEST","MEMBER"]}},
        {"name":"last","type":["null","acme.orders.Line"]}]}"#;
    let returned = r#"{"type":"record","name":"acme.returns.Returned","fields":[{"name":"line","type":"acme.orders.Line"},
        {"name":"kind","type":"acme.people.Kind"},{"name":"why","type":{"type":"fixed","name":"Why","size":1}}]}"#;
    let main = record(
        &[field("returned", r#""acme.returns.Returned""#), field("order", r#""acme.orders.Order""#), {
            field("why", r#"["null","acme.returns.Why"]"#)
        }]
        .join(","),
    );
    let body = [text("s1"), long(1), vec![7], text("s2"), long(1), long(0), long(1), text("s3"), long(1), vec![8]].concat();
    let expected = json!({
        "returned": {"line": {"sku": "s1"}, "kind": "MEMBER", "why": "Bw=="},
        "order": {"line": {"sku": "s2"}, "buyer": {"kind": "GUEST", "last": {"sku": "s3"}}}, "why": "CA==",
    });
    let references = [("acme.orders.Order", order), ("acme.people.User", user), ("acme.returns.Returned", returned)];
    for references in orders(&references) {
        let schema = Schema::compile(&definition(Format::Avro, main.clone(), &references)).unwrap();
        assert_eq!(read(&schema, &body).unwrap(), expected, "{references:?}");
    }
    let error = Schema::compile(&definition(Format::Avro, main, &references[1..])).unwrap_err().to_string();
    assert!(error.contains("`acme.orders."), "{error}");
}

#[test]
fn an_avro_type_that_is_there_twice_is_refused() {
    let one = r#"{"type":"record","name":"acme.A","fields":[{"name":"k","type":{"type":"enum","name":"K","symbols":["X"]}}]}"#;
    let other = r#"{"type":"record","name":"acme.B","fields":[{"name":"k","type":{"type":"enum","name":"K","symbols":["Y"]}}]}"#;
    let error =
        Schema::compile(&definition(Format::Avro, record(&field("a", r#""acme.A""#)), &[("a", one), ("b", other)])).unwrap_err();
    assert!(error.to_string().contains("`acme.K` is there twice"), "{error}");
    assert!(
        refused(Format::Avro, record(&[field("a", r#""int""#), field("a", r#""int""#)].join(",")))
            .to_string()
            .contains("two fields")
    );
}

#[test]
fn an_avro_name_without_points_stands_in_the_namespace_around_it() {
    let main = r#"{"type":"record","name":"Outer","namespace":"a","fields":[
        {"name":"x","type":{"type":"record","name":"In","namespace":"b","fields":[
            {"name":"e","type":{"type":"enum","name":"E","symbols":["IN_B"]}},{"name":"f","type":"E"}]}},
        {"name":"y","type":{"type":"enum","name":"E","symbols":["IN_A"]}},{"name":"z","type":"b.E"},
        {"name":"none","type":{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"again","type":".F"}]}"#;
    let value = read(&compiled(Format::Avro, main), &[0, 0, 0, 0, 1, 2]).unwrap();
    assert_eq!(value, json!({"x": {"e": "IN_B", "f": "IN_B"}, "y": "IN_A", "z": "IN_B", "none": "AQ==", "again": "Ag=="}));
}

#[test]
fn an_avro_type_of_no_namespace_is_found_from_within_one_that_has_none_of_its_name() {
    let plain = r#"{"type":"enum","name":"E","symbols":["PLAIN"]}"#;
    let own = r#"{"type":"enum","name":"E","symbols":["OWN"]}"#;
    // As Java writes a schema whose types are partly in the default package.
    let around = |fields: &[String]| record(&fields.join(","));
    let main = around(&[
        field("e", r#""E""#),
        field("list", r#"{"type":"array","items":"E"}"#),
        field("map", r#"{"type":"map","values":["null","E"]}"#),
    ]);
    let body = [long(0), long(1), long(0), long(0), long(1), text("k"), long(1), long(0), long(0)].concat();
    let referred = Schema::compile(&definition(Format::Avro, main, &[("E", plain)])).unwrap();
    assert_eq!(read(&referred, &body).unwrap(), json!({"e": "PLAIN", "list": ["PLAIN"], "map": {"k": "PLAIN"}}));

    let inner =
        format!(r#"{{"type":"record","name":"N.In","fields":[{},{}]}}"#, field("first", r#""Outer""#), field("e", r#""E""#));
    let outer = format!(
        r#"{{"type":"record","name":"Outer","fields":[{},{}]}}"#,
        field("e", plain),
        field("in", &format!(r#"["null",{}]"#, inner.replace("\"Outer\"", "[\"null\",\"Outer\"]")))
    );
    let body = [long(0), long(1), long(1), long(0), long(0), long(0)].concat();
    let expected = json!({"e": "PLAIN", "in": {"first": {"e": "PLAIN", "in": null}, "e": "PLAIN"}});
    assert_eq!(read(&compiled(Format::Avro, outer), &body).unwrap(), expected);

    // The namespace around counts first, wherever its type is defined.
    for fields in [[field("e", r#""E""#), field("own", own)], [field("own", own), field("e", r#""E""#)]] {
        let schema = Schema::compile(&definition(Format::Avro, around(&fields), &[("E", plain)])).unwrap();
        assert_eq!(read(&schema, &[0, 0]).unwrap(), json!({"e": "OWN", "own": "OWN"}));
    }
    // Who says a namespace means that one.
    let in_full = around(&[field("e", r#""acme.E""#)]);
    let error = Schema::compile(&definition(Format::Avro, in_full, &[("E", plain)])).unwrap_err().to_string();
    assert!(error.contains("`acme.E` is not there"), "{error}");
}

#[test]
fn what_a_logical_type_says_of_a_type_that_it_does_not_go_with_changes_nothing() {
    assert_eq!(avro(&logical("string", "date"), &text("soon")).unwrap(), json!("soon"));
    assert_eq!(avro(&logical("int", "no-such"), &long(7)).unwrap(), json!(7));
    let unscaled = r#"{"type":"bytes","logicalType":"decimal","precision":0,"scale":2}"#;
    assert_eq!(avro(unscaled, &[2, 7]).unwrap(), json!("Bw=="));
    let around = r#"{"type":{"type":"int"},"logicalType":"date"}"#;
    assert_eq!(avro(around, &long(20_485)).unwrap(), json!("2026-02-01"));
    let size = r#"{"type":"fixed","name":"U","size":15,"logicalType":"uuid"}"#;
    assert_eq!(avro(size, &[0; 15]).unwrap(), json!("AAAAAAAAAAAAAAAAAAAA"));
}

/// A message with a map before two others. As people write it.
const WRITTEN: &str = r#"syntax = "proto3"; package acme; message Outer {
    map<string, int32> counts = 1; message A { string a = 1; } message B { string b = 1; } A one = 2; B two = 3; }"#;
/// The same as Confluent's registry makes it of a compiled file.
const MADE: &str = r#"syntax = "proto3"; package acme; message Outer {
    repeated .acme.Outer.CountsEntry counts = 1; .acme.Outer.A one = 2; .acme.Outer.B two = 3;
    message CountsEntry { option map_entry = true; string key = 1; int32 value = 2; }
    message A { string a = 1; } message B { string b = 1; } }"#;

/// The same as a compiled file.
fn file() -> String {
    use base64::Engine as _;
    use prost_reflect::prost::Message as _;
    base64::prelude::BASE64_STANDARD
        .encode(protox::file::File::from_source("acme.proto", WRITTEN).unwrap().file_descriptor_proto().encode_to_vec())
}

/// What the message is called that an index within the first one means.
fn called(schema: &Schema, within: u8) -> Option<String> {
    let framed = prefixed(&[4, 0, within * 2]);
    schema.read(&Framed::of_value(&framed, None).unwrap()).ok().and_then(|read| read.name).map(|name| name.to_string())
}

#[test]
fn messages_are_counted_with_map_entries_where_the_schema_has_them_among_its_messages() {
    for schema in [compiled(Format::Protobuf, MADE), compiled(Format::Protobuf, file())] {
        assert_eq!(called(&schema, 1).as_deref(), Some("acme.Outer.A"));
        assert_eq!(called(&schema, 2).as_deref(), Some("acme.Outer.B"));
        let map = [vec![0], delimited(1, &[delimited(1, b"k"), vec![0x10, 5]].concat())].concat();
        assert_eq!(read(&schema, &map).unwrap(), json!({"counts": {"k": 5}}));
    }
}

#[test]
fn messages_of_a_text_that_people_have_written_are_counted_as_they_are_declared() {
    let schema = compiled(Format::Protobuf, WRITTEN);
    assert_eq!(called(&schema, 0).as_deref(), Some("acme.Outer.A"));
    assert_eq!(called(&schema, 1).as_deref(), Some("acme.Outer.B"));
}

#[test]
fn where_no_message_is_by_one_way_of_counting_the_one_by_the_other_is_meant_and_never_a_map_entry() {
    // Of a text: by those that count entries; of a compiled file: by those that do not.
    assert_eq!(called(&compiled(Format::Protobuf, WRITTEN), 2).as_deref(), Some("acme.Outer.B"));
    for schema in [compiled(Format::Protobuf, MADE), compiled(Format::Protobuf, file())] {
        assert_eq!(called(&schema, 0).as_deref(), Some("acme.Outer.A"));
        assert_eq!(called(&schema, 3), None);
    }
}

#[test]
fn a_group_is_counted_like_a_map_entry() {
    let text = r#"syntax = "proto2"; message Outer { optional group Part = 1 { optional string p = 1; } message A { optional string a = 1; } message B {} }"#;
    let schema = compiled(Format::Protobuf, text);
    assert_eq!([0, 1, 2].map(|at| called(&schema, at)), ["Outer.A", "Outer.B", "Outer.B"].map(|name| Some(name.to_owned())));
    let value = read(&schema, &[0, 0x0b, 0x0a, 1, b'x', 0x0c]).unwrap();
    assert_eq!(value["part"]["p"], "x", "{value}");
}

#[test]
fn a_group_of_an_extension_is_counted_like_one_of_a_field() {
    let text = r#"syntax = "proto2";
        extend Outer { optional group Far = 101 { optional string f = 1; } }
        message Outer { extensions 100 to 199; extend Outer { optional group Near = 100 { optional string n = 1; } }
            message A { optional string a = 1; } message B {} }
        message Last { optional string l = 1; }"#;
    let schema = compiled(Format::Protobuf, text);
    assert_eq!([0, 1].map(|at| called(&schema, at)), ["Outer.A", "Outer.B"].map(|name| Some(name.to_owned())));
    let last = schema.read(&Framed::of_value(&prefixed(&[2, 2]), None).unwrap()).unwrap();
    assert_eq!(last.name.as_deref(), Some("Last"));
}
