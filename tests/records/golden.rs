//! Golden files: values as released versions wrote them, which this release must read.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidings_core::record::RecordError;
use tidings_core::record::context::CONTEXT_VERSION;

use crate::headers;
use crate::kinds::{KINDS, Kind, files, json, top};

/// The golden files of a version, with what they hold.
pub(crate) fn golden(kind: &Kind, version: u32) -> Vec<(String, Value)> {
    let files = files(&format!("tests/golden/{}/v{version}", kind.name));
    assert!(!files.is_empty(), "{} {version} has no golden file", kind.name);
    files.into_iter().map(|path| (path.display().to_string(), json(&path))).collect()
}

/// Objects whose keys are data, not fields.
const FREE: [&str; 2] = ["data", "locales"];

/// The same with a field more in every object.
fn with_unknown_fields(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let grown = fields.iter().map(|(name, value)| {
                let value = if FREE.contains(&name.as_str()) { value.clone() } else { with_unknown_fields(value) };
                (name.clone(), value)
            });
            Value::Object(grown.chain([("addedLater".to_owned(), json!({"by": ["a", "later", "release"]}))]).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(with_unknown_fields).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_released_value_is_read_and_written_as_it_was() {
    for kind in &KINDS {
        for version in 1..=kind.version {
            for (file, value) in golden(kind, version) {
                let again = (kind.again)(version, &value).unwrap_or_else(|error| panic!("{file}: {}", error.in_full()));
                // An older version is written as the newest: only its own must come out the same.
                if version == kind.version {
                    assert_eq!(again, value, "{file}");
                }
            }
        }
    }
}

/// What a request may say of its audience beside `users` and `channel`, as one of which it is written.
const READ_ONLY: [&str; 3] = ["user", "role", "everyone"];

/// The names of all fields that a schema knows.
fn in_schema(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::Object(parts) => {
            let fields = parts.get("properties").and_then(Value::as_object);
            let names = fields.into_iter().flat_map(|fields| fields.keys().cloned());
            names.chain(parts.values().flat_map(in_schema)).collect()
        }
        Value::Array(items) => items.iter().flat_map(in_schema).collect(),
        _ => BTreeSet::new(),
    }
}

fn in_value(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields.keys().cloned().chain(fields.values().flat_map(in_value)).collect(),
        Value::Array(items) => items.iter().flat_map(in_value).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn every_field_that_is_written_is_in_some_golden_file() {
    let newest = KINDS.iter().map(|kind| (kind.name, kind.version)).chain([(headers::NAME, CONTEXT_VERSION)]);
    for (name, version) in newest {
        let known = in_schema(&json(&top().join(format!("schemas/records/{name}.v{version}.json"))));
        let golden = files(&format!("tests/golden/{name}/v{version}")).iter().flat_map(|file| in_value(&json(file))).collect();
        let missing = known.difference(&golden).filter(|field| !READ_ONLY.contains(&field.as_str())).collect::<Vec<_>>();
        assert!(missing.is_empty(), "no golden file of {name} has {missing:?}");
    }
}

#[test]
fn readers_ignore_fields_they_do_not_know() {
    for kind in &KINDS {
        for (file, value) in golden(kind, kind.version) {
            let again = (kind.again)(kind.version, &with_unknown_fields(&value));
            assert_eq!(again.unwrap_or_else(|error| panic!("{file}: {}", error.in_full())), value, "{file}");
        }
    }
}

#[test]
fn a_newer_version_is_an_error_of_its_own_whatever_the_value_is() {
    for kind in &KINDS {
        for (_, value) in golden(kind, kind.version).into_iter().chain([("no record".to_owned(), json!(["of", "any", "kind"]))]) {
            let error = (kind.again)(kind.version + 1, &value).unwrap_err();
            let RecordError::Newer { name, found, known } = error else { panic!("{error}") };
            assert_eq!((name, found, known), (kind.name, kind.version + 1, kind.version));
        }
    }
}

#[test]
fn no_folder_is_of_a_type_or_version_that_does_not_exist() {
    for folder in files("tests/golden").into_iter().filter(|folder| !folder.ends_with(headers::NAME)) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("no record is called {name}"));
        let versions = files(&format!("tests/golden/{name}")).len();
        assert_eq!(versions, kind.version as usize, "versions of {name}");
    }
}
