//! Samples in files of their own: events as services write them.
//!
//! Owns: which schema each belongs to, and that it satisfies it. Refuses what no service could write: a sample is read as a record is.
//! Neighbours: `schema` has the samples that stand in schemas, `trial` tries the rules on both.

use serde_json::Value;

use super::decoded;
use super::schema::{self, Schema, locate};
use crate::rules::problem::{File, Problem};

/// What to do about a file that is no event.
const EVENT_HELP: &str = "write it as a service does: a JSON object with `type` and `data`, or in an envelope of docs/events.md";
/// What to do about an event that its schema does not allow.
const MISFIT_HELP: &str = "mend the sample; or the schema, if services do write such events";

/// Gives each sample to the schema of its type.
pub(super) fn add(schemas: &mut [Schema<'_>], files: &[File<'_>], problems: &mut Vec<Problem>) {
    // Who asks about one schema may have samples of all.
    let of_one = schemas.iter().all(Schema::is_described);
    for file in files {
        let event = match decoded(file.text.as_bytes()) {
            Ok(event) => event,
            Err(error) => {
                let line = serde_json::from_str::<serde::de::IgnoredAny>(file.text).err().map_or(1, |error| error.line());
                let message = format!("this sample is no event: {error}");
                problems.push(file.place(0).inside(line).problem(message).of("sample_invalid", EVENT_HELP));
                continue;
            }
        };
        match schemas.iter_mut().find(|schema| schema.kind == event.kind) {
            Some(schema) => problems.extend(taken(schema, *file, Value::Object((*event.data).clone()))),
            None if of_one => {}
            None => {
                let message = format!("this sample is of the type `{}`, and there is no schema for it", event.kind);
                let help = format!("add {}, or mend the type", schema::file_name(&event.kind));
                problems.push(file.place(0).problem(message).of("event_unknown", help));
            }
        }
    }
    let has_samples = |name: &str| schemas.iter().any(|schema| schema.file.name == name && !schema.samples.is_empty());
    problems.retain(|problem| problem.class != "sample_missing" || !has_samples(&problem.file));
}

/// What the schema has against the sample, which is one of its own if that is nothing.
fn taken(schema: &mut Schema<'_>, file: File<'_>, data: Value) -> Vec<Problem> {
    let is_flat = serde_json::from_str::<Value>(file.text).is_ok_and(|value| value.get("data").is_none());
    let around = if is_flat { "" } else { "/data" };
    let name = schema.file.name;
    let told = |(pointer, why): (String, String)| {
        let message = format!("this sample does not satisfy {name}: {why}");
        locate(&file, &format!("{around}{pointer}")).problem(message).of("sample_invalid", MISFIT_HELP)
    };
    let problems = schema.faults(&data).into_iter().map(told).collect::<Vec<_>>();
    if problems.is_empty() {
        schema.samples.push((data, locate(&file, around)));
    }
    problems
}
