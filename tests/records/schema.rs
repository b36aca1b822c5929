//! The schemas, against golden files and whatever the code encodes.

use jsonschema::{Registry, Validator};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_core::record::Record;
use tidings_core::record::context::CONTEXT_VERSION;

use crate::any;
use crate::golden::golden;
use crate::headers;
use crate::kinds::{KINDS, Kind, files, json, json_of};
use crate::strict::strict;

const BASE: &str = "tidings:///";

fn validator(kind: &Kind, version: u32, change: fn(&Value) -> Value) -> Validator {
    named(kind.name, version, change)
}

/// The schema of the version of whatever is called so.
pub(crate) fn named(name: &str, version: u32, change: fn(&Value) -> Value) -> Validator {
    let mut registry = Registry::new();
    for path in files("schemas/records") {
        let file = path.file_name().unwrap().to_str().unwrap();
        registry = registry.add(format!("{BASE}{file}"), change(&json(&path))).unwrap();
    }
    let registry = registry.prepare().unwrap();
    let schema =
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": format!("{BASE}{name}.v{version}.json")});
    jsonschema::options().should_validate_formats(true).with_registry(&registry).build(&schema).unwrap()
}

pub(crate) fn fits(validator: &Validator, what: &str, value: &Value) {
    let faults = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>();
    assert!(faults.is_empty(), "{what}: {}\n{value:#}", faults.join("\n"));
}

#[test]
fn every_version_of_every_record_has_a_sound_schema_and_no_other_is_there() {
    let mut expected = KINDS.iter().flat_map(|kind| (1..=kind.version).map(|version| format!("{}.v{version}.json", kind.name)));
    let mut expected = expected.by_ref().chain([format!("{}.v{CONTEXT_VERSION}.json", headers::NAME)]).collect::<Vec<_>>();
    expected.sort();
    let found = files("schemas/records");
    let names = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names, expected);
    for path in found {
        let schema = json(&path);
        assert!(jsonschema::draft202012::meta::validate(&schema).is_ok(), "{}", path.display());
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}

#[test]
fn golden_files_fit_their_schema_which_names_every_field() {
    for kind in &KINDS {
        for version in 1..=kind.version {
            let validator = validator(kind, version, strict);
            for (file, value) in golden(kind, version) {
                fits(&validator, &file, &value);
            }
        }
    }
}

#[test]
fn a_schema_refuses_what_lacks_a_field_that_readers_need() {
    for kind in &KINDS {
        let validator = validator(kind, kind.version, Value::clone);
        for (file, value) in golden(kind, kind.version) {
            let mut refused = 0;
            for name in value.as_object().unwrap().keys() {
                let mut less = value.clone();
                less.as_object_mut().unwrap().remove(name);
                let readable = (kind.again)(kind.version, &less).is_ok();
                assert!(readable || !validator.is_valid(&less), "{file} without {name} does not read, and its schema takes it");
                refused += usize::from(!readable);
            }
            assert!(refused > 0, "{file}: nothing in it is needed");
        }
    }
}

fn holds<R: Record + std::fmt::Debug>(records: impl Strategy<Value = R>) {
    let kind = KINDS.iter().find(|kind| kind.name == R::NAME).unwrap();
    let validator = validator(kind, kind.version, strict);
    proptest!(|(record in records)| {
        fits(&validator, R::NAME, &json_of(&record));
    });
}

#[test]
fn whatever_notification_is_written_fits_its_schema() {
    holds(any::notification_record());
}

#[test]
fn whatever_cursor_is_written_fits_its_schema() {
    holds(any::cursor());
}

#[test]
fn whatever_receipt_is_written_fits_its_schema() {
    holds(any::receipt());
}

#[test]
fn whatever_retry_is_written_fits_its_schema() {
    holds(any::retry());
}

#[test]
fn whatever_end_without_success_is_written_fits_its_schema() {
    holds(any::undelivered());
}

#[test]
fn whatever_signal_is_written_fits_its_schema() {
    holds(any::signal());
}

#[test]
fn whatever_epoch_is_written_fits_its_schema() {
    holds(any::epoch());
}

#[test]
fn whatever_request_is_written_fits_its_schema() {
    holds(any::request());
}

#[test]
fn whatever_act_is_written_fits_its_schema() {
    holds(any::act());
}
