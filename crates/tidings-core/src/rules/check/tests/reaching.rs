//! Which rules are called unreachable: those that are, and no others.

use proptest::prelude::*;

use super::*;

/// Whether a rule with this condition is called unreachable.
fn is_claimed(when: &str, properties: &str, example: &str) -> bool {
    let said = said(&format!("when = \"\"\"{when}\"\"\""), properties, example);
    assert!(!said.contains("error "), "{when}: {said}");
    said.contains("rule_unreachable")
}

#[test]
fn a_condition_that_may_be_met_is_never_called_unreachable() {
    for (when, properties, example) in [
        ("code[1:] == '999'", r#"{"code": {"type": "string", "pattern": "^A[0-9]{3}$"}}"#, r#"{"code": "A123"}"#),
        (
            "kind == 'old' or code[1:] == '999'",
            r#"{"kind": {"enum": ["new"]}, "code": {"type": "string", "pattern": "^A[0-9]{3}$"}}"#,
            r#"{"kind": "new", "code": "A123"}"#,
        ),
        ("code is endingwith('9')", r#"{"code": {"type": "string", "pattern": "^A[0-9]{3}$"}}"#, r#"{"code": "A123"}"#),
        ("name | length > 10", r#"{"name": {"type": "string"}}"#, r#"{"name": "Ada"}"#),
        ("name | length > 10", r#"{"name": {"type": "string", "minLength": 3, "maxLength": 12}}"#, r#"{"name": "Ada"}"#),
        ("tags | length > 2", r#"{"tags": {"type": "array", "items": {"type": "string"}}}"#, r#"{"tags": ["a"]}"#),
        ("'vip' in tags", r#"{"tags": {"type": "array", "items": {"type": "string"}}}"#, r#"{"tags": ["a"]}"#),
        ("day > '2030'", r#"{"day": {"type": "string", "pattern": "^[0-9]{4}$"}}"#, r#"{"day": "2020"}"#),
        (
            "amount | replace('.', '') == '999'",
            r#"{"amount": {"type": "string", "pattern": "^[0-9].[0-9]{2}$"}}"#,
            r#"{"amount": "1.00"}"#,
        ),
        (
            "a == b",
            r#"{"a": {"type": "string", "pattern": "^x"}, "b": {"type": "string", "pattern": "y$"}}"#,
            r#"{"a": "x", "b": "y"}"#,
        ),
        ("n % 7 == 3", r#"{"n": {"type": "integer", "minimum": 5}}"#, r#"{"n": 5}"#),
        ("n > 2.25 and n < 2.5", r#"{"n": {"type": "number"}}"#, r#"{"n": 1}"#),
        ("n > 7", r#"{"n": {"type": "integer", "multipleOf": 5}}"#, r#"{"n": 5}"#),
        ("s != 'x' and s != ''", r#"{"s": {"type": "string", "pattern": "^[xy]?$"}}"#, r#"{"s": "x"}"#),
        (
            "place is defined and place.city == 'Ulm'",
            r#"{"place?": {"type": "object", "required": ["city"], "properties": {"city": {"enum": ["Ulm", "Bonn"]}}}}"#,
            "{}",
        ),
    ] {
        assert!(!is_claimed(when, properties, example), "{when} with {properties}");
    }
    // A field that only comes together with another one.
    let schema = json!({
        "title": "a", "type": "object", "examples": [{"kind": "new"}], "required": ["kind"],
        "properties": {"kind": {"enum": ["new", "old"]}, "since": {"type": "string"}},
        "if": {"properties": {"kind": {"const": "old"}}}, "then": {"required": ["since"]},
    });
    assert_eq!(shown(&report(&rule("when = \"kind == 'old'\""), &[("new/a.json", &schema.to_string())], &[])), "");
}

#[test]
fn a_condition_that_nothing_meets_is_called_unreachable_though_values_are_without_number() {
    for (when, properties, example) in [
        ("kind == 'Old'", r#"{"kind": {"type": "string", "pattern": "^[a-z]+$"}}"#, r#"{"kind": "new"}"#),
        ("s in ['abcd', 'efgh']", r#"{"s": {"type": "string", "maxLength": 3}}"#, r#"{"s": "abc"}"#),
        ("n > 2 and n < 3", r#"{"n": {"type": "integer"}}"#, r#"{"n": 5}"#),
        ("n < 1 or n == 4.5", r#"{"n": {"type": "integer", "minimum": 1}}"#, r#"{"n": 5}"#),
        ("on", r#"{"on": {"const": false}}"#, r#"{"on": false}"#),
        ("on == false and n == 1", r#"{"on": {"const": true}, "n": {"type": "integer"}}"#, r#"{"on": true, "n": 2}"#),
        (
            "place.city == 'Rome'",
            r#"{"place": {"type": "object", "required": ["city"], "properties": {"city": {"enum": ["Ulm"]}}}}"#,
            r#"{"place": {"city": "Ulm"}}"#,
        ),
    ] {
        assert!(is_claimed(when, properties, example), "{when} with {properties}");
    }
}

const PROPERTIES: &str = r#"{"n": {"type": "integer", "minimum": 0, "maximum": 5}, "s": {"type": "string", "pattern": "^[xy]?$"}, "b?": {"type": "boolean"}}"#;

fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let atom = prop_oneof![
        (operator, -1_i64..8).prop_map(|(operator, number)| format!("n {operator} {number}")),
        (-1_i64..8, -1_i64..8).prop_map(|(one, other)| format!("n in [{one}, {other}]")),
        prop::sample::select(vec![
            "s == 'x'",
            "s != 'y'",
            "s in ['', 'z']",
            "s | length > 1",
            "b is defined",
            "b is undefined",
            "(b | default(false))",
            "n % 3 == 2"
        ])
        .prop_map(str::to_owned),
    ];
    atom.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} and {other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} or {other})")),
            inner.prop_map(|one| format!("(not {one})")),
        ]
    })
}

/// Whether any event that the schema allows meets the condition, by going through all of them.
fn is_met_by_any(when: &str) -> bool {
    let condition = crate::rules::Condition::parse(when).unwrap();
    let events = (0..=5).flat_map(|n| {
        ["", "x", "y"].map(|s| [json!({"n": n, "s": s}), json!({"n": n, "s": s, "b": true}), json!({"n": n, "s": s, "b": false})])
    });
    events.flatten().any(|data| condition.holds(&event("a", &data).unwrap()).unwrap_or(false))
}

proptest! {
    #[test]
    fn what_is_called_unreachable_is_met_by_no_event_at_all(when in condition()) {
        let is_met = is_met_by_any(&when);
        prop_assert!(!is_met || !is_claimed(&when, PROPERTIES, r#"{"n": 3, "s": "y"}"#), "{}", when);
    }
}
