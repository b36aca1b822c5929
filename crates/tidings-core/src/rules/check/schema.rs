//! A schema of an event's `data` (JSON Schema, draft 2020-12), with its samples and the lines where things stand.
//!
//! Owns: what a schema file must be: named after its type, valid, with samples that satisfy it. Its `title` is the type; a
//! file name cannot hold every type.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::rules::context::EVENT;
use crate::rules::problem::{File, Place, Problem};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords behind which properties may hide that are not looked for.
const INDIRECT: [&str; 8] = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"];

pub(super) struct Schema<'a> {
    pub(super) file: File<'a>,
    /// The type of its events.
    pub(super) kind: String,
    /// The `examples` that satisfy it, and where they stand.
    pub(super) samples: Vec<(Value, Place)>,
    root: Value,
}

/// What a schema says of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// It is there and not null.
    Certain,
    /// It may be missing or null.
    Uncertain,
    /// There is none.
    Absent,
    /// The schema does not say it in a way that is followed here.
    Untold,
}

/// The name of the file for the schema of events of type `kind`.
pub(super) fn file_name(kind: &str) -> String {
    format!("{}.json", kind.replace([':', '/', '\\'], "."))
}

/// Whether a file, by its name, is the one for `kind`.
pub(super) fn is_for(file: &File<'_>, kind: &str) -> bool {
    file.name.rsplit(['/', '\\']).next() == Some(file_name(kind).as_str())
}

impl<'a> Schema<'a> {
    /// Reads a schema file; nothing if it is none, with the reasons among `problems`.
    pub(super) fn read(file: File<'a>, problems: &mut Vec<Problem>) -> Option<Self> {
        let root: Value = match serde_json::from_str(file.text) {
            Ok(root) => root,
            Err(error) => {
                let place = file.place(0).inside(error.line());
                problems.push(place.problem(format!("no JSON: {error}")));
                return None;
            }
        };
        let before = problems.len();
        let kind = root.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !is_for(&file, &kind) {
            let message = match kind.as_str() {
                "" => "`title` must be the type of the events".to_owned(),
                kind => format!("the schema of `{kind}` (its `title`) belongs into {}", file_name(kind)),
            };
            problems.push(locate(&file, "/title").problem(message));
        }
        if root.get("$schema").is_some_and(|draft| draft != DRAFT) {
            problems.push(locate(&file, "/$schema").problem(format!("`$schema` must be {DRAFT}")));
        }
        if root.get("type").is_none_or(|kind| kind != "object") {
            problems.push(locate(&file, "/type").problem("`type` must be `object`: it describes the `data` of an event"));
        }
        if root.pointer("/properties/event").is_some() {
            let place = locate(&file, "/properties/event");
            problems.push(place.problem(format!("templates cannot read a field `{EVENT}`: that name is the event itself")));
        }
        for error in jsonschema::draft202012::meta::validator().iter_errors(&root) {
            problems.push(locate(&file, error.instance_path().as_str()).problem(format!("no valid schema: {error}")));
        }
        if problems.len() > before {
            return None;
        }
        let samples = samples(&file, &root, problems)?;
        Some(Self { file, kind, samples, root })
    }

    /// What the schema says of the field at `path`.
    pub(super) fn field(&self, path: &[&str]) -> Field {
        let (mut schema, mut answer) = (&self.root, Field::Certain);
        for step in path {
            let properties = schema.get("properties").and_then(Value::as_object);
            let indirect = INDIRECT.iter().any(|keyword| schema.get(keyword).is_some());
            match properties.and_then(|properties| properties.get(*step)) {
                None if indirect || (properties.is_none() && schema != &self.root) => return Field::Untold,
                None => return Field::Absent,
                Some(property) => {
                    let names = schema.get("required").and_then(Value::as_array);
                    let required = names.is_some_and(|names| names.iter().any(|name| name == step));
                    if !required || allows_null(property) {
                        answer = Field::Uncertain;
                    }
                    schema = property;
                }
            }
        }
        answer
    }

    /// The first sample without the field at `path`, and with null in its place: those of them that the schema allows, and what
    /// to call them.
    pub(super) fn lacking(&self, path: &[&str]) -> Vec<(String, Value)> {
        let Ok(validator) = jsonschema::draft202012::new(&self.root) else { return Vec::new() };
        let Some((sample, _)) = self.samples.first() else { return Vec::new() };
        let mut variants = Vec::new();
        for depth in 0..path.len() {
            let (steps, shown) = (&path[..=depth], path[..=depth].join("."));
            let (mut without, mut null) = (sample.clone(), sample.clone());
            if let Some(parent) = parent(&mut without, steps) {
                parent.remove(path[depth]);
                variants.push((format!("without `{shown}`"), without));
            }
            if let Some(parent) = parent(&mut null, steps) {
                parent.insert(path[depth].to_owned(), Value::Null);
                variants.push((format!("whose `{shown}` is null"), null));
            }
        }
        variants.retain(|(_, data)| validator.is_valid(data));
        variants
    }
}

fn allows_null(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
        Some(kind) => kind == "null",
        None => false,
    }
}

/// The object that holds the last step of a path.
fn parent<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut serde_json::Map<String, Value>> {
    let (_, steps) = path.split_last()?;
    steps.iter().try_fold(value, |value, step| value.get_mut(step))?.as_object_mut()
}

/// The `examples` that satisfy the schema; nothing if the schema cannot be used at all.
fn samples(file: &File<'_>, root: &Value, problems: &mut Vec<Problem>) -> Option<Vec<(Value, Place)>> {
    let validator = match jsonschema::draft202012::new(root) {
        Ok(validator) => validator,
        Err(error) => {
            problems.push(file.place(0).problem(format!("no usable schema: {error}")));
            return None;
        }
    };
    let examples = root.get("examples").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if examples.is_empty() {
        problems.push(file.place(0).problem("no `examples`: there is nothing to try the rules with"));
    }
    let mut samples = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        let pointer = format!("/examples/{index}");
        let before = problems.len();
        for error in validator.iter_errors(example) {
            let place = locate(file, &format!("{pointer}{}", error.instance_path().as_str()));
            problems.push(place.problem(format!("this sample does not satisfy the schema: {error}")));
        }
        if problems.len() == before {
            samples.push((example.clone(), locate(file, &pointer)));
        }
    }
    Some(samples)
}

/// The place of the value that a JSON pointer names, or of the nearest one around it.
fn locate(file: &File<'_>, pointer: &str) -> Place {
    let mut found = file.text;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match serde_json::from_str::<BTreeMap<String, &RawValue>>(found) {
            Ok(fields) => fields.get(&step).map(|value| value.get()),
            Err(_) => serde_json::from_str::<Vec<&RawValue>>(found)
                .ok()
                .and_then(|items| step.parse::<usize>().ok().and_then(|index| items.get(index).map(|value| value.get()))),
        };
        let Some(next) = next else { break };
        found = next;
    }
    file.place(found.as_ptr().addr() - file.text.as_ptr().addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n \"a/b\": [\n  1,\n  {\"c\":\n   2}\n ]\n}";

    #[test]
    fn a_pointer_leads_to_its_line_or_the_nearest_one_around_it() {
        let file = File { name: "a.json", text: TEXT };
        for (pointer, line) in [("", 1), ("/a~1b", 2), ("/a~1b/0", 3), ("/a~1b/1", 4), ("/a~1b/1/c", 5), ("/a~1b/1/d", 4)] {
            assert_eq!(locate(&file, pointer).line, line, "{pointer}");
        }
    }
}
