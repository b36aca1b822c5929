//! What may stand in a Protobuf schema: all of proto2 and proto3 is read, and what is not is refused by its name.

use super::*;

/// Bytes of a field with a number of its own.
fn of_field(number: u32, wire: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost_reflect::prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut bytes);
    [bytes, value.to_vec()].concat()
}

/// What else stands in schemas of either language than fields.
const AROUND: &str = r#"
    import public "google/protobuf/any.proto"; import weak "google/protobuf/empty.proto"; import "google/protobuf/descriptor.proto";
    option java_package = "com.acme"; option optimize_for = SPEED; option (tag) = { names: ["a", "b"] level { deep: -1.5e3 } };
    message Tag { repeated string names = 1; optional Level level = 2; message Level { optional double deep = 1; } }
    extend google.protobuf.FileOptions { optional Tag tag = 50001; }
    extend google.protobuf.FieldOptions { optional string label = 50002; repeated int32 marks = 50003; }
    service S { option deprecated = true; rpc Do (Tag) returns (stream Tag) { option idempotency_level = IDEMPOTENT; } rpc Stream (stream Tag) returns (Tag); ; }
    ;
"#;

#[test]
fn all_of_proto2_is_read() {
    let text = format!(
        r#"/* One. */ syntax = "proto2"; package acme; {AROUND}
        message M {{
            required string needed = 1 [(label) = "x" "y", (marks) = 1, (marks) = 2, deprecated = true];
            optional int32 usual = 0x2 [default = 007]; optional bytes raw = 3 [default = "\x41\n", json_name = "RAW", ctype = CORD];
            repeated group Part = 4 {{ optional E kind = 1 [default = B]; }}
            oneof choice {{ string left = 5; group Right = 6 {{ optional bool yes = 1; }} }}
            map<sint32, .acme.M.In> ins = 7; optional float f = 8 [default = -inf]; repeated fixed64 n = 9 [packed = true];
            optional string stream = 10; optional string message = 11;
            message In {{ optional M up = 1; }} enum E {{ option allow_alias = true; A = 0; B = 1; C = 1; reserved 5 to max; reserved "D"; }}
            reserved 20, 30 to 39; reserved "old", "older"; extensions 100 to 199, 1000 to max;
            extend M {{ optional In near = 100; }}
        }}
        extend M {{ optional string far = 101; repeated int32 list = 102; optional group Extra = 103 {{ optional int32 e = 1; }} }}"#
    );
    let schema = compiled(Format::Protobuf, text);
    let body = [
        delimited(1, b"n"),
        vec![0x23, 0x24],
        vec![0x33, 0x08, 1, 0x34],
        delimited(7, &[vec![0x08, 3], delimited(2, b"")].concat()),
        of_field(100, 2, &[0]),
        of_field(101, 2, b"\x01x"),
        of_field(102, 0, &[5]),
        of_field(102, 2, &[1, 6]),
        of_field(103, 3, &[0x08, 9]),
        of_field(103, 4, &[]),
        // An extension that the schema does not have.
        of_field(150, 2, b"\x01x"),
    ];
    // The message M, which stands behind another one.
    let value = read(&schema, &[&[2, 2], body.concat().as_slice()].concat()).unwrap();
    let expected = json!({
        "needed": "n", "usual": 7, "RAW": "QQo=", "part": [{"kind": "B"}], "right": {"yes": true}, "ins": {"-2": {}}, "f": "-Infinity", "n": [],
        "[acme.M.near]": {}, "[acme.far]": "x", "[acme.list]": [5, 6], "[acme.extra]": {"e": 9},
    });
    assert_eq!(value, expected);
}

#[test]
fn all_of_proto3_is_read() {
    let text = format!(
        r#"// One.
        syntax = 'proto3'; package acme; {AROUND}
        message M {{ optional string perhaps = 1; string text = 2 [(label) = 'x', json_name = "Text"]; repeated sint32 n = 3 [packed = false];
            map<bool, google.protobuf.Any> anys = 4; oneof o {{ option (mark) = true; string left = 5; int64 right = 6; }} E e = 7;
            enum E {{ UNKNOWN = 0; FAR = -1; }} reserved 8 to 10; reserved "gone"; }}
        extend google.protobuf.OneofOptions {{ optional bool mark = 50004; }}"#
    );
    let text = text.replace("[default", "[");
    let schema = compiled(Format::Protobuf, text);
    let body = [
        delimited(2, b"t"),
        vec![0x18, 3],
        vec![0x30, 7],
        of_field(7, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ];
    let value = read(&schema, &[&[2, 2], body.concat().as_slice()].concat()).unwrap();
    assert_eq!(value, json!({"Text": "t", "n": [-2], "anys": {}, "right": 7, "e": "FAR"}));
}

#[test]
fn a_message_without_a_field_that_is_required_is_a_misfit() {
    let schema = compiled(Format::Protobuf, "syntax = \"proto2\"; message M { required string a = 1; optional string b = 2; }");
    assert_eq!(read(&schema, &[0, 0x0a, 0]).unwrap(), json!({"a": ""}));
    let error = read(&schema, &[0, 0x12, 0]).unwrap_err();
    assert_eq!(error.class(), "schema_misfit");
    assert!(error.to_string().contains("a M has no `a`, which is required"), "{error}");
}

#[test]
fn what_is_not_read_is_refused_by_its_name() {
    let compiled_file = |file: prost_reflect::prost_types::FileDescriptorProto| {
        use base64::Engine as _;
        use prost_reflect::prost::Message as _;
        base64::prelude::BASE64_STANDARD.encode(file.encode_to_vec())
    };
    let named = |syntax: &str| prost_reflect::prost_types::FileDescriptorProto {
        name: Some("a.proto".to_owned()),
        syntax: Some(syntax.to_owned()),
        ..Default::default()
    };
    let fields = (0..200).map(|at| format!("optional int32 e{at} = {};", at + 50_000)).collect::<String>();
    let extended = |before: &str, name: &str| format!("syntax = \"proto2\"; {before} extend {name} {{ {fields} }}");
    let options = "import \"google/protobuf/descriptor.proto\"; message M { optional google.protobuf.MessageOptions o = 1; }";
    let cases = [
        ("// New.\n/* And how. */ edition = \"2023\"; message M {}".to_owned(), "edition \"2023\""),
        (compiled_file(named("editions")), "edition"),
        (compiled_file(named("proto4")), "proto4"),
        ("syntax = \"proto4\"; message M {}".to_owned(), "proto4"),
        (
            "syntax = \"proto2\"; message A { message M { option message_set_wire_format = true; extensions 4 to max; } }"
                .to_owned(),
            "`M` is a message set",
        ),
        ("syntax = \"proto3\"; message M { optional group G = 1 {} }".to_owned(), "groups are not allowed in proto3"),
        ("syntax = \"proto3\"; message M { required string a = 1; }".to_owned(), "required"),
        ("syntax = \"proto3\"; message M { string a = 1 [default = \"x\"]; }".to_owned(), "default"),
        (extended("message M { extensions 100 to max; }", "M"), "`M` is extended by 200 fields"),
        // Options are messages too, and whatever is in their package.
        (extended(options, "google.protobuf.MessageOptions"), "`google.protobuf.MessageOptions` is extended by 200 fields"),
        (
            extended("package google.protobuf; message Ours { extensions 100 to max; }", "Ours"),
            "`google.protobuf.Ours` is extended by 200 fields",
        ),
    ];
    for (text, said) in cases {
        let error = refused(Format::Protobuf, text.clone());
        assert_eq!(error.class(), "schema_unusable", "{text}");
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
    let edition = "syntax = \"proto3\"; message edition { string edition = 1; }";
    assert!(Schema::compile(&definition(Format::Protobuf, edition, &[])).is_ok(), "a name is no edition");
}
