//! A schema of an event's `data` (JSON Schema, draft 2020-12), with its samples and the lines where things stand.
//!
//! Owns: what a schema file must be: named after its type, valid, with samples that satisfy it. Its `title` is the type; a
//! file name cannot hold every type. Neighbours: `variants` makes other events of its samples.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Described;
use crate::rules::context::EVENT;
use crate::rules::problem::{File, Place, Problem};
use crate::schema::example;

pub(super) const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords behind which properties may hide that are not looked for.
const INDIRECT: [&str; 8] = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"];

/// Where an event may say its type, beside its data.
const TYPES: [&str; 3] = ["type", "event", "eventType"];

/// What to do about a file that is no schema.
const SCHEMA_HELP: &str = "mend the schema: draft 2020-12, its `title` the type of the events, in a file named after it";
/// What to do about an example that is none.
const SAMPLE_HELP: &str = "mend the entry in `examples`, or what the schema asks of it";

/// Of the samples of one schema no more faults than these are looked for: a file may have thousands.
const MOST_TOLD: usize = 50;

/// What to do about a schema that is not followed.
const DESCRIBED_HELP: &str =
    "say the same in keywords that draft 2020-12 knows, with all that it refers to; or check the rules with --schemas";
/// What to do where no sample can be made up.
const UNKNOWN_SAMPLE_HELP: &str = "add `examples` to the JSON Schema of the same type in the folder of --schemas";

pub(super) struct Schema<'a> {
    pub(super) file: File<'a>,
    /// The type of its events.
    pub(super) kind: String,
    /// The `examples` that satisfy it, and where they stand.
    pub(super) samples: Vec<(Value, Place)>,
    root: Value,
    validator: Validator,
    language: Language,
}

/// What the text of a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    /// JSON Schema, as what is looked up in it.
    Json,
    /// Something else.
    Other,
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
                problems.push(invalid(&place, format!("no JSON: {error}")));
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
            problems.push(invalid(&locate(&file, "/title"), message));
        }
        if root.get("$schema").is_some_and(|draft| draft != DRAFT) {
            problems.push(invalid(&locate(&file, "/$schema"), format!("`$schema` must be {DRAFT}")));
        }
        if root.get("type").is_none_or(|kind| kind != "object") {
            let message = "`type` must be `object`: it describes the `data` of an event";
            problems.push(invalid(&locate(&file, "/type"), message));
        }
        if root.pointer("/properties/event").is_some() {
            let place = locate(&file, "/properties/event");
            problems.push(invalid(&place, format!("templates cannot read a field `{EVENT}`: that name is the event itself")));
        }
        for error in jsonschema::draft202012::meta::validator().iter_errors(&root) {
            problems.push(invalid(&locate(&file, error.instance_path().as_str()), format!("no valid schema: {error}")));
        }
        if problems.len() > before {
            return None;
        }
        let validator = match jsonschema::draft202012::new(&root) {
            Ok(validator) => validator,
            Err(error) => {
                problems.push(invalid(&file.place(0), format!("no usable schema: {error}")));
                return None;
            }
        };
        let samples = samples(&file, (&root, &validator), problems);
        Some(Self { file, kind, samples, root, validator, language: Language::Json })
    }

    /// A schema in another language, with those of its own and the `others`' samples that it allows, else one that it makes up.
    pub(super) fn described((described, others): (&'a Described, &[Schema<'_>]), problems: &mut Vec<Problem>) -> Option<Self> {
        let file = File { name: &described.name, text: &described.text };
        let root = data(&described.shape);
        let validator = match jsonschema::draft202012::new(&root) {
            Ok(validator) => validator,
            Err(error) => {
                let message = format!("rules cannot be tried on what this schema describes: {error}");
                problems.push(file.place(0).problem(message).of("schema_invalid", DESCRIBED_HELP));
                return None;
            }
        };
        let own = described.shape.get("examples").and_then(Value::as_array).into_iter().flatten();
        let of_kind = others.iter().filter(|other| other.kind == described.kind).flat_map(|other| &other.samples);
        let allowed = own.chain(of_kind.map(|(data, _)| data)).filter(|data| validator.is_valid(data)).cloned();
        let mut samples = allowed.map(|data| (data, file.place(0))).collect::<Vec<_>>();
        if samples.is_empty() {
            samples.extend(Some(example(&root)).filter(|data| validator.is_valid(data)).map(|data| (data, file.place(0))));
        }
        if samples.is_empty() {
            let message = "no sample is known: there is nothing to try the rules with";
            problems.push(file.place(0).problem(message).of("sample_missing", UNKNOWN_SAMPLE_HELP));
        }
        Some(Self { file, kind: described.kind.clone(), samples, root, validator, language: Language::Other })
    }

    /// Whether it is no file of JSON Schema.
    pub(super) fn is_described(&self) -> bool {
        self.language == Language::Other
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

    /// Whether it allows an event with this data.
    pub(super) fn allows(&self, data: &Value) -> bool {
        self.validator.is_valid(data)
    }

    /// What it has against an event with this data: where, as a JSON pointer, and why.
    pub(super) fn faults(&self, data: &Value) -> Vec<(String, String)> {
        self.validator.iter_errors(data).map(|error| (error.instance_path().to_string(), error.to_string())).collect()
    }

    /// What it says of the field at `path` itself, if that stands among plain properties.
    pub(super) fn property(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.root, |schema, step| schema.get("properties")?.get(step))
    }

    /// The types that the field at `path` may have; none if the schema does not say it there.
    pub(super) fn types(&self, path: &[&str]) -> Option<BTreeSet<String>> {
        let property = self.property(path)?;
        let named = match property.get("type")? {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            kind => BTreeSet::from([kind.as_str()?.to_owned()]),
        };
        Some(named)
    }

    /// The names of the fields beside the one at `path`, and its own.
    pub(super) fn siblings(&self, path: &[&str]) -> Vec<&str> {
        let around = path.split_last().map_or(&[][..], |(_, around)| around);
        let around = if around.is_empty() { Some(&self.root) } else { self.property(around) };
        let properties = around.and_then(|around| around.get("properties")).and_then(Value::as_object);
        properties.into_iter().flat_map(|fields| fields.keys()).map(String::as_str).collect()
    }

    /// Where the field at `path` is described, or the nearest thing around it.
    pub(super) fn place(&self, path: &[&str]) -> Place {
        if self.language == Language::Other {
            let name = path.last().copied().unwrap_or_default();
            let words = |line: &str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name || camel(word) == name)
            };
            let line = self.file.text.lines().position(words).map_or(1, |line| line + 1);
            return self.file.place(0).inside(line);
        }
        let pointer = path.iter().map(|step| format!("/properties/{step}")).collect::<String>();
        locate(&self.file, &pointer)
    }
}

fn invalid(place: &Place, message: impl Into<String>) -> Problem {
    place.problem(message).of("schema_invalid", SCHEMA_HELP)
}

/// The schema of an event's data: of what stands in `data` where the type stands beside it, else of the whole value.
fn data(shape: &Value) -> Value {
    let properties = shape.get("properties").and_then(Value::as_object);
    let data =
        properties.filter(|fields| TYPES.iter().any(|name| fields.contains_key(*name))).and_then(|fields| fields.get("data"));
    let Some(data) = data.filter(|data| data.get("type").is_some_and(|kind| kind == "object")) else { return shape.clone() };
    let mut data = data.clone();
    for key in ["$defs", "definitions"] {
        if let (Some(fields), Some(parts)) = (data.as_object_mut(), shape.get(key)) {
            fields.entry(key).or_insert_with(|| parts.clone());
        }
    }
    data
}

/// As Protobuf names a field in JSON.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        name + &letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    })
}

fn allows_null(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
        Some(kind) => kind == "null",
        None => false,
    }
}

/// The `examples` that satisfy the schema.
fn samples(file: &File<'_>, (root, validator): (&Value, &Validator), problems: &mut Vec<Problem>) -> Vec<(Value, Place)> {
    let examples = root.get("examples").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if examples.is_empty() {
        let message = "no `examples`: there is nothing to try the rules with";
        problems.push(file.place(0).problem(message).of("sample_missing", "add `examples` with at least one event's data"));
    }
    let mut samples = Vec::new();
    let first = problems.len();
    for (index, example) in examples.iter().enumerate() {
        let pointer = format!("/examples/{index}");
        let before = problems.len();
        if before - first >= MOST_TOLD {
            let message = "more samples do not satisfy the schema: those from here on were not looked at";
            problems.push(locate(file, &pointer).problem(message).of("sample_invalid", SAMPLE_HELP));
            break;
        }
        for error in validator.iter_errors(example) {
            let place = locate(file, &format!("{pointer}{}", error.instance_path().as_str()));
            let message = format!("this sample does not satisfy the schema: {error}");
            problems.push(place.problem(message).of("sample_invalid", SAMPLE_HELP));
        }
        if problems.len() == before {
            samples.push((example.clone(), locate(file, &pointer)));
        }
    }
    samples
}

/// The place of the value that a JSON pointer names, or of the nearest one around it.
pub(super) fn locate(file: &File<'_>, pointer: &str) -> Place {
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
