//! Checking: whether rules and schemas fit each other, before an event finds out.
//!
//! Owns: the comparison of each rule's variables with the schema of its events, and trying every rule on every sample.
//! Refuses to stop at the first problem. Neighbours: `parse` finds what is wrong with rules by themselves, `cli` prints.

mod schema;

use serde::Serialize;
use serde_json::{Value, json};

use super::RuleSet;
use super::context::{EVENT, EVENT_FIELDS};
use super::parse::{self, is_glob};
use super::problem::{File, Problem};
use super::rule::{Pass, Rule, Text};
use super::template::Limits;
use crate::event::{self, Event, EventError, Reading, SourceRecord};
use crate::time::{Delay, Timestamp};
use schema::{Field, Schema};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many rules there are that have no problem by themselves.
    pub rules: usize,
    /// How many schemas there are.
    pub schemas: usize,
    /// All problems, by file and line.
    pub problems: Vec<Problem>,
}

/// Checks rule files (TOML) and schema files (JSON Schema of an event's `data`), alone, against each other and against the `rungs` that there are.
#[must_use]
pub fn check(rules: &[File<'_>], schemas: &[File<'_>], limits: Limits, rungs: &[Delay]) -> Report {
    let (set, mut problems) = parse::parse(rules, limits);
    problems.extend(set.unknown_rungs(rungs));
    let read: Vec<Schema<'_>> = schemas.iter().filter_map(|file| Schema::read(*file, &mut problems)).collect();
    for rule in set.rules() {
        let mut matching = read.iter().filter(|schema| set.select(&schema.kind).any(|selected| selected.name() == rule.name()));
        let mut found = Vec::new();
        match matching.next() {
            Some(first) => {
                for schema in std::iter::once(first).chain(matching) {
                    found.extend(compare(&set, rule, schema));
                }
            }
            // A schema file that has problems of its own is not missing.
            None if is_glob(rule.event()) || !schemas.iter().any(|file| schema::is_for(file, rule.event())) => {
                let file = schema::file_name(rule.event());
                let wanted = if is_glob(rule.event()) { "whose type it matches".to_owned() } else { format!("in {file}") };
                found.push(rule.place.problem(format!("no schema for `{}`; there should be one {wanted}", rule.event())));
            }
            None => {}
        }
        problems.extend(found);
    }
    problems.sort();
    problems.dedup();
    Report { rules: set.rules().len(), schemas: read.len(), problems }
}

/// The value of a record with the first sample of the events of type `kind`, if there is one without problems.
#[must_use]
pub fn sample(schemas: &[File<'_>], kind: &str) -> Option<Vec<u8>> {
    let mut read = schemas.iter().filter_map(|file| Schema::read(*file, &mut Vec::new()));
    let schema = read.find(|schema| schema.kind == kind)?;
    schema.samples.first().map(|(data, _)| value(kind, data))
}

fn value(kind: &str, data: &Value) -> Vec<u8> {
    json!({ "type": kind, "data": data }).to_string().into_bytes()
}

fn event(kind: &str, data: &Value) -> Result<Event, EventError> {
    let timestamp = Timestamp::from_millis(0);
    let value = value(kind, data);
    event::decode(
        &SourceRecord { topic: "samples", partition: 0, offset: 0, timestamp, key: None, value: Some(&value), headers: &[] },
        &Reading::default(),
    )
}

/// The problems of a rule with a schema; of its samples only if its variables have none.
fn compare(set: &RuleSet, rule: &Rule, schema: &Schema<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (field, text) in rule.texts() {
        for path in text.variables(&set.templates) {
            let problem = variable(set, (&field, text), schema, &path);
            problems.extend(problem.map(|message| text.place.problem(message)));
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    for (data, place) in &schema.samples {
        let tried = event(&schema.kind, data)
            .map_err(|error| error.to_string())
            .and_then(|event| rule.render(&Pass::new(&set.templates, &event)).map_err(|error| error.to_string()));
        problems.extend(tried.err().map(|message| place.problem(format!("this sample would be buried: {message}"))));
    }
    problems
}

/// What is wrong with a text that reads the variable `path`.
fn variable(set: &RuleSet, (field, text): (&str, &Text), schema: &Schema<'_>, path: &str) -> Option<String> {
    let steps: Vec<&str> = path.split('.').collect();
    if let [EVENT, rest @ ..] = steps.as_slice() {
        let known = rest.first().is_none_or(|step| EVENT_FIELDS.contains(step));
        let fields = EVENT_FIELDS.join(", ");
        return (!known).then(|| format!("`{field}` reads `{path}`; the fields of `{EVENT}` are {fields}"));
    }
    match schema.field(&steps) {
        Field::Certain | Field::Untold => None,
        Field::Absent => Some(format!("`{field}` reads `{path}`, which {} does not have", schema.file.name)),
        Field::Uncertain => schema.lacking(&steps).into_iter().find_map(|(lacking, data)| {
            let event = event(&schema.kind, &data).ok()?;
            let pass = Pass::new(&set.templates, &event);
            let error = text.try_as(field, &pass).err()?;
            let file = schema.file.name;
            Some(format!("`{field}` reads `{path}`, but {file} allows events {lacking}; they would be buried: {error}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{shipped, shipped_schemas};
    use super::*;

    const RULES: &str = r#"
[[rule]]
name = "reads-what-may-be-missing"
event = "a"
user = "{{ userId }}"
type = "t"
title = "{{ note }}"
message = "{% if note is defined and note %}{{ note }}{% endif %}{{ maybe | default('', true) }}{{ place.city }}"
data = { x = "maybe", y = "place.city", z = "open.anything" }

[[rule]]
name = "reads-what-is-not-there"
event = "a"
user = "{{ user_id }}"
type = "t"
title = "{{ event.type }} {{ event.kind }} {{ place.town }}"

[[rule]]
name = "fails-on-a-sample"
event = "a"
user = "{{ userId }}"
type = "t"
title = "{{ userId | nope }}"

[[rule]]
name = "has-no-schema"
event = "b:c"
user = "1"
type = "t"

[[rule]]
name = "matches-no-schema"
event = "b:*"
user = "1"
type = "t"
"#;
    const SCHEMA: &str = r#"{
  "title": "a",
  "type": "object",
  "properties": {
    "userId": { "type": "string" },
    "note": { "type": "string" },
    "maybe": { "type": ["string", "null"] },
    "place": {
      "type": "object",
      "properties": { "city": { "type": "string" } }
    },
    "open": { "type": "object" }
  },
  "required": ["userId", "maybe", "open"],
  "examples": [
    { "userId": "1", "note": "n", "maybe": "m", "place": { "city": "c" }, "open": { "anything": 1 } },
    { "userId": 1,
      "maybe": "m", "open": {} },
    { "userId": "", "maybe": null, "open": {} }
  ]
}"#;

    fn lines(rules: &str, schemas: &[(&str, &str)]) -> String {
        let schemas: Vec<File<'_>> = schemas.iter().map(|(name, text)| File { name, text }).collect();
        let report = check(&[File { name: "rules/a.toml", text: rules }], &schemas, Limits::default(), &[]);
        report.problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn what_is_shipped_has_no_problem() {
        let report = check(shipped(), shipped_schemas(), Limits::default(), &[]);
        assert_eq!(report.problems, []);
        assert_eq!((report.rules > 0, report.schemas), (true, shipped_schemas().len()));
    }

    #[test]
    fn every_problem_of_rules_with_their_schemas_is_found() {
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("check_problems", lines(RULES, &[("schemas/events/a.json", SCHEMA)]));
        });
    }

    #[test]
    fn every_problem_of_schemas_is_found() {
        let rules = "rule = [{ name = 'a', event = 'a', user = '1', type = 't' }]";
        let schemas = [
            ("s/a.json", "{\n  \"title\": \n}"),
            ("s/b.json", "{\n  \"title\": \"c\",\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\"\n}"),
            (
                "s/d.json",
                "{\n  \"title\": \"d\", \"type\": \"object\",\n  \"properties\": {\n    \"x\": { \"type\": \"text\" },\n    \"event\": {}\n  }\n}",
            ),
            ("s/e.json", "{ \"title\": \"e\", \"type\": \"object\" }"),
            ("s/f.json", "{ \"title\": \"f\", \"type\": \"object\", \"$ref\": \"https://example.org/f.json\" }"),
            ("s/g.json", "[]"),
        ];
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("schema_problems", lines(rules, &schemas));
        });
    }

    #[test]
    fn a_text_of_a_field_that_may_be_null_is_tried_with_null() {
        let rules = "rule = [{ name = 'a', event = 'a', user = '1', type = 't', title = '{{ x }}' }]";
        let schema = |kind: &str| {
            format!(
                r#"{{ "title": "a", "type": "object", "properties": {{ "x": {{ "type": {kind} }} }}, "required": ["x"], "examples": [{{ "x": "1" }}] }}"#
            )
        };
        for (kind, told) in [(r#""string""#, false), (r#"["string", "null"]"#, true)] {
            let lines = lines(rules, &[("schemas/events/a.json", &schema(kind))]);
            assert_eq!(lines.contains("whose `x` is null"), told, "{kind}: {lines}");
        }
    }

    #[test]
    fn a_sample_is_a_whole_event() {
        let value = sample(shipped_schemas(), "user:logged_in").unwrap();
        assert_eq!(String::from_utf8(value).unwrap(), r#"{"data":{"name":"Ada","userId":"42"},"type":"user:logged_in"}"#);
        assert_eq!(sample(shipped_schemas(), "user:unknown"), None);
    }
}
