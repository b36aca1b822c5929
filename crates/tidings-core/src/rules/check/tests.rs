//! Long because each class of problem has a test with the text that is printed.

mod given;
mod reaching;

use super::super::{shipped, shipped_schemas};
use super::*;

/// One rule for events of type `a`, with these lines beside its name.
fn rule(lines: &str) -> String {
    let audience = if ["user =", "users =", "role =", "channel =", "everyone ="].iter().any(|key| lines.contains(key)) {
        ""
    } else {
        "everyone = true\n"
    };
    format!("[[rule]]\nname = \"r\"\nevent = \"a\"\ntype = \"t\"\n{lines}\n{audience}")
}

/// A schema of `a` with these properties, all of them required but those whose name ends in `?`, and one example.
fn schema(properties: &str, example: &str) -> String {
    let all: serde_json::Map<String, Value> = serde_json::from_str(properties).unwrap();
    let required: Vec<&String> = all.keys().filter(|name| !name.ends_with('?')).collect();
    let named: serde_json::Map<String, Value> =
        all.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    let example: Value = serde_json::from_str(example).unwrap();
    serde_json::to_string_pretty(
        &json!({"title": "a", "type": "object", "properties": named, "required": required, "examples": [example]}),
    )
    .unwrap()
}

fn report(rules: &str, schemas: &[(&str, &str)], before: &[(&str, &str)]) -> Report {
    let schemas: Vec<File<'_>> = schemas.iter().map(|(name, text)| File { name, text }).collect();
    let before: Vec<File<'_>> = before.iter().map(|(name, text)| File { name, text }).collect();
    let rules = [File { name: "rules/a.toml", text: rules }];
    check(&Subject { rules: &rules, schemas: &schemas, before: &before, ..Subject::default() })
}

fn shown(report: &Report) -> String {
    let line = |problem: &Problem| {
        let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
        format!("{severity} {} {problem}\n  {}\n  {}", problem.class, problem.text.as_deref().unwrap_or("-"), problem.help)
    };
    report.problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

/// What is said of a rule with these lines, whose events are like this.
fn said(lines: &str, properties: &str, example: &str) -> String {
    shown(&report(&rule(lines), &[("new/a.json", &schema(properties, example))], &[]))
}

/// What is said of it when the events change.
fn changed(lines: &str, (before, old): (&str, &str), (now, new): (&str, &str)) -> String {
    shown(&report(&rule(lines), &[("new/a.json", &schema(now, new))], &[("old/a.json", &schema(before, old))]))
}

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
    shown(&report(rules, schemas, &[])) + "\n"
}

#[test]
fn what_is_shipped_has_no_problem() {
    let subject = Subject { rules: shipped(), schemas: shipped_schemas(), ..Subject::default() };
    let report = check(&subject);
    assert_eq!(report.problems, []);
    assert_eq!((report.rules > 0, report.schemas), (true, shipped_schemas().len()));
}

#[test]
fn every_problem_of_rules_with_their_schemas_is_found() {
    snapshot("check_problems", &lines(RULES, &[("schemas/events/a.json", SCHEMA)]));
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
    snapshot("schema_problems", &lines(rules, &schemas));
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

const ANY: (&str, &str) = (r#"{"n": {"type": "string"}}"#, r#"{"n": "1"}"#);

#[test]
fn a_variable_that_is_not_there_is_named_with_what_may_be_meant() {
    let properties = r#"{"userId": {"type": "string", "minLength": 1}, "place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}"#;
    let example = r#"{"userId": "1", "place": {"city": "Ulm"}}"#;
    let lines = "user = \"{{ user_id }}\"\ntitle = \"{{ place.citi }} {{ place.zip }}\"\nmessage = \"{{ event.kind }}\"";
    snapshot("check_undefined", &said(lines, properties, example));
}

#[test]
fn what_cannot_be_printed_or_name_anybody_is_a_wrong_type() {
    let properties = r#"{"user": {"type": ["string", "number"], "minLength": 1}, "tags": {"type": ["array", "string"]}, "on": {"type": ["boolean", "string"]},
        "all": {"type": "array", "minItems": 1, "items": {"type": ["string", "boolean"], "minLength": 1}}}"#;
    let example = r#"{"user": "1", "tags": "a", "on": true, "all": ["1"]}"#;
    snapshot(
        "check_wrong_types",
        &said("when = \"on\"\nuser = \"{{ user }}\"\nusers = \"all\"\ntitle = \"{{ tags }}\"", properties, example),
    );
}

#[test]
fn an_item_of_a_list_is_tried_too() {
    let properties = r#"{"items": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}}"#;
    let lines = "title = \"{% for item in items %}{{ item.name }}{% endfor %}\"";
    snapshot("check_items", &said(lines, properties, r#"{"items": [{"name": "a"}]}"#));
}

#[test]
fn an_audience_that_can_be_empty_is_a_warning() {
    let properties =
        r#"{"watchers": {"type": "array", "items": {"type": "string", "minLength": 1}}, "user": {"type": "string"}}"#;
    let example = r#"{"watchers": ["1"], "user": "1"}"#;
    let report = report(&rule("users = \"watchers\"\ntitle = \"t\""), &[("new/a.json", &schema(properties, example))], &[]);
    assert_eq!((report.errors, report.warnings), (0, 1));
    snapshot("check_nobody", &shown(&report));
    snapshot("check_nobody_named", &said("user = \"{{ user }}\"", properties, example));
    // With somebody else beside them nobody is left out of it.
    assert_eq!(said("users = \"watchers\"\nrole = \"ops\"", properties, example), "");
}

#[test]
fn a_condition_protects_what_it_guards() {
    let properties = r#"{"note?": {"type": "string"}, "n": {"type": "string"}}"#;
    for when in ["note is defined", "note is defined and n == 'x'"] {
        assert_eq!(said(&format!("when = \"{when}\"\ntitle = \"{{{{ note }}}}\""), properties, r#"{"note": "a", "n": "x"}"#), "");
    }
    assert_eq!(said("title = \"{{ note | default('-') }}\"", properties, r#"{"note": "a", "n": "x"}"#), "");
    let guarded_by_another = said("when = \"n == 'x'\"\ntitle = \"{{ note }}\"", properties, r#"{"note": "a", "n": "y"}"#);
    assert!(
        guarded_by_another.contains("variable_missing"),
        "found behind a condition that no sample meets: {guarded_by_another}"
    );
}

#[test]
fn a_rule_that_no_event_reaches_is_named() {
    let properties = r#"{"kind": {"enum": ["new", "old"]}, "weight": {"type": "number", "minimum": 0, "maximum": 50}}"#;
    let example = r#"{"kind": "new", "weight": 5}"#;
    for reached in ["kind == 'old'", "weight > 20", "kind == 'old' and weight > 49.5", "kind != 'new'", "event.time > '2020'"] {
        assert_eq!(said(&format!("when = \"{reached}\""), properties, example), "", "{reached}");
    }
    let never = ["kind == 'lost'", "weight > 60", "kind == 'old' and kind == 'new'", "1 == 2"];
    let told = never.map(|when| said(&format!("when = \"{when}\""), properties, example));
    snapshot("check_unreachable", &told.join("\n"));
}

#[test]
fn a_rung_behind_the_end_of_a_notification_is_named() {
    let (properties, example) = (r#"{"user": {"type": "string", "minLength": 1}}"#, r#"{"user": "1"}"#);
    let ladder = |end: &str| format!("user = \"{{{{ user }}}}\"\nladder = [\"30s\", \"10m\"]\nexpires_after = \"{end}\"");
    let told = |end: &str| {
        let rules = rule(&ladder(end));
        let rules = [File { name: "rules/a.toml", text: &rules }];
        let schema = schema(properties, example);
        let schemas = [File { name: "new/a.json", text: &schema }];
        let rungs = ["30s", "10m"].map(|rung| rung.parse().unwrap());
        shown(&check(&Subject { rules: &rules, schemas: &schemas, rungs: &rungs, ..Subject::default() }))
    };
    assert_eq!(told("1h"), "");
    snapshot("check_rungs", &told("5m"));
}

#[test]
fn a_field_that_is_removed_breaks_each_rule_that_reads_it() {
    let before = (r#"{"n": {"type": "string"}, "city": {"type": "string"}}"#, r#"{"n": "1", "city": "Ulm"}"#);
    let lines =
        "when = \"city == 'Ulm'\"\ntitle = \"{{ city }}\"\nrole = \"dispatch-{{ city }}\"\ndata = { to = \"city\", n = \"n\" }";
    snapshot("check_removed", &changed(lines, before, ANY));
    assert_eq!(changed("title = \"{{ n }}\"", before, ANY), "", "who does not read it does not care");
}

#[test]
fn a_field_that_is_made_optional_breaks_who_relies_on_it() {
    let before = (r#"{"n": {"type": "string"}, "user": {"type": "string", "minLength": 1}}"#, r#"{"n": "1", "user": "1"}"#);
    let now = (r#"{"n?": {"type": "string"}, "user?": {"type": "string", "minLength": 1}}"#, r#"{"n": "1", "user": "1"}"#);
    snapshot("check_made_optional", &changed("user = \"{{ user }}\"\ntitle = \"{{ n }}\"", before, now));
    assert_eq!(changed("title = \"{{ n | default('-') }}\"", before, now), "");
}

#[test]
fn a_field_of_another_type_breaks_who_cannot_print_or_compare_it() {
    let now = |kind: &str, example: &str| (format!(r#"{{"n": {{"type": {kind}}}}}"#), format!(r#"{{"n": {example}}}"#));
    let told = |lines: &str, (kind, example): (&str, &str)| {
        let (properties, example) = now(kind, example);
        changed(lines, ANY, (&properties, &example))
    };
    let list = told("title = \"{{ n }}\"", ("[\"string\", \"array\"]", "\"1\""));
    let compared = told("when = \"n == '1'\"", ("[\"string\", \"number\"]", "\"1\""));
    let printed = told("title = \"{{ n }}\"", ("\"number\"", "1"));
    snapshot("check_retyped", &[list, compared, printed].join("\n"));
    let (number, integer) = ((r#"{"n": {"type": "number"}}"#, r#"{"n": 1}"#), (r#"{"n": {"type": "integer"}}"#, r#"{"n": 1}"#));
    assert_eq!(changed("title = \"{{ n }}\"", number, integer), "", "what could be said before is no change");
}

#[test]
fn events_that_are_described_no_more_leave_their_rules_behind() {
    let (old, other) = (schema(ANY.0, ANY.1), schema(ANY.0, ANY.1).replace("\"a\"", "\"b\""));
    snapshot("check_event_removed", &shown(&report(&rule("title = \"t\""), &[("new/b.json", &other)], &[("old/a.json", &old)])));
}

fn described(name: &str, (format, text): (crate::schema::Format, &str)) -> Described {
    let definition = crate::schema::Definition { format, text: text.to_owned(), references: Vec::new() };
    Described { name: name.to_owned(), text: text.to_owned(), kind: "a".to_owned(), shape: definition.shape().unwrap().schema }
}

#[test]
fn a_schema_in_another_language_is_checked_by_what_its_values_are_read_as() {
    use crate::schema::Format;
    let avro = |fields: &str| format!("{{\"type\": \"record\", \"name\": \"A\", \"fields\": [\n{fields}\n]}}");
    let user = "{\"name\": \"user_id\", \"type\": \"string\"}";
    let amount =
        "{\"name\": \"amount\", \"type\": {\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 9, \"scale\": 2}}";
    let (before, gone) = (avro(&format!("{user},\n{amount}")), avro(user));
    let optional = avro(&format!("{user},\n{}", "{\"name\": \"amount\", \"type\": [\"null\", \"double\"]}"));
    let text = rule("user = \"{{ user_id }}\"\ntitle = \"${{ amount }}\"");
    let rules = [File { name: "rules/a.toml", text: &text }];
    let told = |now: &str| {
        let (now, before) =
            (described("new.avsc", (Format::Avro, now)), described("payments-value version 1", (Format::Avro, &before)));
        let subject = Subject { rules: &rules, described: &[now], described_before: &[before], ..Subject::default() };
        let report = check(&subject);
        shown(&Report {
            problems: report.problems.into_iter().filter(|problem| problem.class != "audience_empty").collect(),
            ..report
        })
    };
    assert_eq!(told(&before), "");
    snapshot("check_avro", &[told(&gone), told(&optional)].join("\n"));
}

fn with_described(one: &Described) -> String {
    let text = rule("user = \"{{ user_id }}\"\ntitle = \"{{ amount }}\"");
    let rules = [File { name: "rules/a.toml", text: &text }];
    let report = check(&Subject { rules: &rules, described: std::slice::from_ref(one), ..Subject::default() });
    report
        .problems
        .iter()
        .filter(|problem| problem.class != "audience_empty")
        .map(|problem| format!("{} {problem}\n", problem.class))
        .collect()
}

#[test]
fn a_schema_that_is_not_followed_or_that_no_rule_is_for_is_not_taken_for_a_good_one() {
    use crate::schema::{Definition, Format, Reference};
    let fields = r#"{"name": "user_id", "type": "string"}, {"name": "amount", "type": "int"}"#;
    let avro = format!(r#"{{"type": "record", "name": "A", "fields": [{fields}]}}"#);
    let one = described("a.avsc", (Format::Avro, &avro));
    assert_eq!(with_described(&one), "");
    let other = Described { kind: "acme.A".to_owned(), ..one };
    assert_eq!(with_described(&other), "rule_missing a.avsc:1: no rule is for events of the type `acme.A`\n");

    // The data of an event may stand beside its type.
    let beside = format!(
        r#"{{"type": "record", "name": "E", "fields": [{{"name": "type", "type": "string"}}, {{"name": "data", "type": {avro}}}]}}"#
    );
    assert_eq!(with_described(&described("e.avsc", (Format::Avro, &beside))), "");

    // What a schema of a registry refers to goes with it, and what is not there is not fetched.
    let text = r#"{"type": "object", "required": ["user_id", "amount"], "properties": {"user_id": {"$ref": "user.json"}, "amount": {"type": "string"}},
        "examples": [{"user_id": "alice", "amount": "1.00"}]}"#;
    let user = Reference {
        name: "user.json".to_owned(),
        text: r#"{"$id": "elsewhere", "type": "string", "pattern": "^al"}"#.to_owned(),
    };
    let definition = Definition { format: Format::JsonSchema, text: text.to_owned(), references: vec![user] };
    let shape = definition.shape().unwrap().schema;
    let told =
        |shape| with_described(&Described { name: "a.json".to_owned(), text: text.to_owned(), kind: "a".to_owned(), shape });
    assert_eq!(told(shape.clone()), "");
    let mut without = shape.clone();
    without.as_object_mut().unwrap().remove("examples");
    assert!(told(without.clone()).starts_with("sample_missing a.json:1: "), "{}", told(without));
    let alone = serde_json::from_str::<Value>(text).unwrap();
    assert!(told(alone.clone()).starts_with("schema_invalid a.json:1: "), "{}", told(alone));
}
