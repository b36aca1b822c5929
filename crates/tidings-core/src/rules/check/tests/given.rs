//! What people give by mistake beside rules and schemas in order: samples that fit nothing, schemas in other languages that are none.

use super::*;
use crate::schema::{Definition, Format};

const SCHEMA: &str = r#"{"title": "a", "type": "object", "properties": {"n": {"type": "string"}, "open": {"type": "object"}}, "required": ["n", "open"]}"#;

/// What is said of samples beside a rule with this title.
fn told(title: &str, samples: &[(&str, &str)]) -> (usize, String) {
    let text = rule(&format!("title = \"{title}\""));
    let rules = [File { name: "rules/a.toml", text: &text }];
    let schemas = [File { name: "new/a.json", text: SCHEMA }];
    let samples = samples.iter().map(|(name, text)| File { name, text }).collect::<Vec<_>>();
    let report = check(&Subject { rules: &rules, schemas: &schemas, samples: &samples, ..Subject::default() });
    (report.samples, shown(&report))
}

#[test]
fn samples_in_files_are_held_against_the_schema_of_their_type_and_tried_on_the_rules() {
    let fine = [
        ("s/1.json", r#"{"type": "a", "data": {"n": "1", "open": {}}}"#),
        ("s/2.json", r#"{"event": "a", "n": "1", "open": {}}"#),
        ("s/3.json", r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "a", "data": {"n": "1", "open": {"x": 1}}}"#),
    ];
    assert_eq!(told("{{ n }}", &fine), (3, String::new()));
    assert!(told("{{ n }}", &[]).1.starts_with("error sample_missing new/a.json:1: "));
    let spoiled = [
        ("s/1.json", "{\"type\": \"a\",\n \"data\": {\"open\": {},\n  \"n\": 7}}"),
        ("s/2.json", "{\n \"type\": \"a\", \"n\": \"1\",\n \"open\": []}"),
        ("s/3.json", "{\"type\": \"a\",\n \"data\": {\"n\" \"1\"}}"),
        ("s/4.json", "{\"data\": {\"n\": \"1\"}}"),
        ("s/5.json", "- type: a\n"),
        ("s/6.json", "{\"type\": \"b\", \"data\": {}}"),
        ("s/7.json", ""),
        ("s/8.json", "{\"type\": \"a\",\n \"data\": {\"n\": \"1\", \"open\": {}}}"),
    ];
    snapshot("check_samples", &told("{{ open.x }}", &spoiled).1);
}

fn described_of((format, text): (Format, &str), kind: Option<&str>) -> Result<Described, Problem> {
    let definition = Definition { format, text: text.to_owned(), references: Vec::new() };
    let shape = definition.shape();
    Described::of("new".to_owned(), definition, (kind.map(str::to_owned), shape))
}

#[test]
fn a_schema_in_another_language_that_cannot_be_read_is_a_problem_with_its_line() {
    let told = [
        (Format::Avro, "{\"type\": \"record\",\n \"name\": \"A\"\n \"fields\": []}"),
        (Format::Avro, "{\"type\": \"record\", \"name\": \"A\"}"),
        (Format::Avro, "type: record"),
        (Format::Protobuf, "syntax = \"proto3\";\nmessage A {\n  strng a = 1;\n}"),
        (Format::Protobuf, "syntax = \"proto3\";\nmessage A {\n  string a = 1\n}"),
        (Format::JsonSchema, "{\"title\": \"a\",\n \"type\": \"text\"}"),
        (Format::JsonSchema, "[]"),
        (Format::JsonSchema, "{\"type\": \"object\"}"),
        (Format::JsonSchema, ""),
    ];
    let told = told.map(|schema| {
        let problem = described_of(schema, None).unwrap_err();
        format!("{} {problem}\n  {}\n  {}", problem.class, problem.text.as_deref().unwrap_or("-"), problem.help)
    });
    snapshot("check_unreadable", &told.join("\n"));
    assert_eq!(described_of((Format::JsonSchema, "{\"type\": \"object\"}"), Some("a")).unwrap().kind, "a");
}

#[test]
fn what_cannot_be_read_is_reported_and_no_other_schema_takes_its_place() {
    let text = rule("title = \"{{ lost }}\"");
    let rules = [File { name: "rules/a.toml", text: &text }];
    let schemas = [File { name: "new/a.json", text: SCHEMA }];
    let problem = described_of((Format::Avro, "{}"), None).unwrap_err();
    let subject = Subject { rules: &rules, schemas: &schemas, undescribed: std::slice::from_ref(&problem), ..Subject::default() };
    let report = check(&subject);
    let classes = report.problems.iter().map(|problem| (problem.class, problem.text.as_deref())).collect::<Vec<_>>();
    assert_eq!(classes, [("schema_invalid", Some("{}")), ("sample_missing", Some(SCHEMA))]);
}

#[test]
fn thousands_of_samples_that_do_not_fit_are_told_by_the_first_of_them() {
    let examples = (0..3_000).map(|n| json!({"n": n, "open": {}})).collect::<Vec<_>>();
    let mut schema = serde_json::from_str::<Value>(SCHEMA).unwrap();
    schema["examples"] = examples.into();
    let report = report(&rule("title = \"t\""), &[("new/a.json", &serde_json::to_string_pretty(&schema).unwrap())], &[]);
    assert_eq!((report.problems.len(), report.samples), (51, 0));
    assert!(report.problems[50].message.contains("those from here on were not looked at"), "{}", report.problems[50]);
}
