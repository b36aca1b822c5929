//! The shipped events in three languages of schemas: JSON Schema, Avro and Protobuf name the same fields, of types that mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kinds::{files, json};

/// The files with this ending, by what comes before it.
fn of_format(extension: &str) -> BTreeMap<String, PathBuf> {
    let ends = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    let named = |path: PathBuf| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path);
    files("schemas/events").into_iter().filter(ends).map(named).collect()
}

/// The fields of a JSON Schema, with the types that each may have.
fn in_json(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let schema = json(path);
    let required = schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect::<BTreeSet<_>>();
    let field = |(name, field): (&String, &Value)| {
        assert!(required.contains(name.as_str()), "{}: `{name}` is optional, which nothing here compares", path.display());
        let types = field["type"].as_array().cloned().unwrap_or_else(|| vec![field["type"].clone()]);
        (name.clone(), types.iter().map(|kind| kind.as_str().unwrap().to_owned()).collect())
    };
    schema["properties"].as_object().unwrap().iter().map(field).collect()
}

/// The type in JSON of what an Avro type is decoded to; what is logical is decoded to a text.
fn of_avro(kind: &Value) -> BTreeSet<String> {
    if let Value::Array(ways) = kind {
        return ways.iter().flat_map(of_avro).collect();
    }
    let name = kind.as_str().or_else(|| kind["logicalType"].as_str()).unwrap();
    let json = match name {
        "string" | "decimal" | "date" => "string",
        "int" | "long" => "integer",
        "double" => "number",
        other => panic!("{other} is no type that shipped events have"),
    };
    BTreeSet::from([json.to_owned()])
}

fn in_avro(path: &Path) -> (String, BTreeMap<String, BTreeSet<String>>) {
    let schema = json(path);
    assert_eq!((schema["type"].as_str(), schema["namespace"].as_str()), (Some("record"), Some("tidings.events")));
    let fields = schema["fields"].as_array().unwrap().iter();
    let fields = fields.map(|field| (field["name"].as_str().unwrap().to_owned(), of_avro(&field["type"]))).collect();
    (schema["name"].as_str().unwrap().to_owned(), fields)
}

/// As Protobuf names a field in JSON.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

fn in_protobuf(path: &Path) -> (String, BTreeMap<String, BTreeSet<String>>) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("package tidings.events.v1;"), "{}", path.display());
    let (_, message) = text.split_once("\nmessage ").unwrap();
    let (name, body) = message.split_once(" {").unwrap();
    let fields = body.lines().map(str::trim).filter(|line| line.ends_with(';')).map(|line| {
        let (kind, rest) = line.split_once(' ').unwrap();
        let json = match kind {
            "string" => "string",
            "int32" => "integer",
            other => panic!("{other} is no type that shipped events have"),
        };
        (camel(rest.split(" = ").next().unwrap()), BTreeSet::from([json.to_owned()]))
    });
    (name.to_owned(), fields.collect())
}

/// `payment.due` is `PaymentDue`.
fn message_name(stem: &str) -> String {
    stem.split(['.', '_']).map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

#[test]
fn every_event_is_described_in_three_languages_that_agree() {
    let (in_json_schema, avro, protobuf) = (of_format("json"), of_format("avsc"), of_format("proto"));
    assert!(!in_json_schema.is_empty());
    for other in [&avro, &protobuf] {
        assert_eq!(other.keys().collect::<Vec<_>>(), in_json_schema.keys().collect::<Vec<_>>());
    }
    for (stem, path) in &in_json_schema {
        let said = in_json(path);
        for (name, fields) in [in_avro(&avro[stem]), in_protobuf(&protobuf[stem])] {
            assert_eq!(name, message_name(stem));
            assert_eq!(fields.keys().collect::<Vec<_>>(), said.keys().collect::<Vec<_>>(), "{stem}");
            for (field, types) in &fields {
                assert!(types.is_subset(&said[field]), "{stem}: `{field}` is {types:?}, by the JSON Schema {:?}", said[field]);
            }
        }
    }
}
