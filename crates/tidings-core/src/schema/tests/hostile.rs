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
