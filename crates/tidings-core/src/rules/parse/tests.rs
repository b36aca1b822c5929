use super::*;

const WRONG: &str = r#"colour = "red"
[[rule]]
name = "first"
event = "a"
user = "{{ userId }}"
type = "t"
titel = "T"

[[rule]]
name = "first"
event = "a"
user = "1"
channel = "b"
type = 7

[[rule]]
name = "a/b"
event = "a[b"
user = " 1"
type = ""
priority = "loud"
expires_after = "soon"
message = """
Hello
{{ name | }}"""
data = { x = "a +", y = 1 }

[[rule]]
data = "x"
locales = "fr"

[[rule]]
name = "speaks"
event = "a"
user = "1"
type = "t"
title = "T"

[rule.locales.FR-ca]
title = "{{ t + }}"

[rule.locales.fr-CA]
titre = "T"
message = "M"

[rule.locales.fr_BE]
title = "T"

[[rule]]
name = "tells"
event = "a"
when = "a >"
user = ["{{ a", " 1", 7]
users = ["a"]
role = []
channel = ["user-", ""]
everyone = false
type = "t"
max_age = "old"
once = "yes"

[[rule]]
name = "shouts"
event = "a"
everyone = true
once = true
type = "t"
"#;

#[test]
fn every_problem_of_every_file_has_its_line_and_says_what_is_allowed() {
    let rules = File { name: "rules/a.toml", text: WRONG };
    let broken = File { name: "rules/b.toml", text: "[[rule]]\nname = \n[[rule]\n" };
    let empty = File { name: "rules/c.toml", text: "# nothing\n" };
    let single = File { name: "rules/d.toml", text: "\n[rule]\nname = \"x\"\n" };
    let problems = RuleSet::parse(&[rules, broken, empty, single], Limits::default()).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("rule_problems", lines.join("\n"));
    });
}

#[test]
fn a_name_has_one_to_a_hundred_bytes() {
    for (bytes, allowed) in [(0, false), (1, true), (LIMIT_NAME_BYTES, true), (LIMIT_NAME_BYTES + 1, false)] {
        let text = format!("rule = [{{ name = '{}', event = 'a', user = '1', type = 't' }}]", "n".repeat(bytes));
        let parsed = RuleSet::parse(&[File { name: "rules/a.toml", text: &text }], Limits::default());
        assert_eq!(parsed.is_ok(), allowed, "{bytes} bytes");
    }
}

#[test]
fn an_expression_cannot_leave_its_brackets() {
    let text = r#"rule = [{ name = "a", event = "a", user = "1", type = "t", data = { x = "a) }}{{ (b" } }]"#;
    let problems = RuleSet::parse(&[File { name: "a.toml", text }], Limits::default()).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
}
