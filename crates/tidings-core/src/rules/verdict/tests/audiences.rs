//! Whom rules tell.

use super::*;

const AUDIENCES: &str = r#"
        rule = [
            { name = "user", event = "user", user = ["{{ a }}", "{{ b }}", "1"], type = "t" },
            { name = "users", event = "users", users = "{{ list }}", type = "t", title = "{{ list | length }}" },
            { name = "members", event = "members", users = "team | map(attribute='id') | list", type = "t" },
            { name = "role", event = "role", role = ["{{ a }}", "admin"], type = "t" },
            { name = "all", event = "all", everyone = true, channel = "news", user = "{{ a }}", users = "list", type = "t" },
        ]
    "#;

#[test]
fn an_audience_is_each_receiver_once_in_the_order_of_its_keys() {
    let rules = rules(AUDIENCES);
    let said = |kind: &str, data: &str| told(&rules, &format!(r#"{{"type":"{kind}","data":{data}}}"#));
    assert_eq!(said("user", r#"{"a":"x","b":"y"}"#), "user-x user-y user-1");
    assert_eq!(said("user", r#"{"a":1,"b":"1"}"#), "user-1");
    assert_eq!(said("users", r#"{"list":["x",7,"x"]}"#), "user-x user-7");
    assert_eq!(said("users", r#"{"list":[1,2,3,4,5]}"#), "user-1 user-2 user-3 user-4 user-5", "as many as there may be");
    assert_eq!(said("users", r#"{"list":[]}"#), "audience_empty");
    assert_eq!(said("members", r#"{"team":[{"id":"x"},{"id":2}]}"#), "user-x user-2");
    assert_eq!(said("role", r#"{"a":"ops"}"#), "role-ops role-admin");
    assert_eq!(said("all", r#"{"a":"x","list":["y","x"]}"#), "user-x news user-y system-announcements");
    assert_eq!(said("all", r#"{"a":"x","list":[]}"#), "user-x news system-announcements");
}

#[test]
fn receivers_of_one_event_have_the_same_words_and_ids_of_their_own() {
    let records = notifications(&rules(AUDIENCES), r#"{"type":"users","data":{"list":["x","y","z"]}}"#);
    assert!(records.iter().all(|record| record.notification.title.as_deref() == Some("3")));
    let ids: std::collections::HashSet<_> = records.iter().map(|record| record.notification.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn every_audience_that_cannot_be_told_is_a_burial_with_rule_and_field() {
    let rules = rules(AUDIENCES);
    let values = [
        ("users", r#"{}"#),
        ("users", r#"{"list":"x"}"#),
        ("users", r#"{"list":{"a":1}}"#),
        ("users", r#"{"list":["x",null]}"#),
        ("users", r#"{"list":["x",1.5]}"#),
        ("users", r#"{"list":["x",""]}"#),
        ("users", r#"{"list":["1","2","3","4","5","6"]}"#),
        ("members", r#"{"team":[{"id":"x"},{}]}"#),
        ("members", r#"{"team":7}"#),
        ("role", r#"{"a":null}"#),
        ("role", r#"{"a":" "}"#),
        ("user", r#"{"a":"x","b":[]}"#),
        ("all", r#"{"a":"x","list":["1","2","3"]}"#),
    ];
    let lines = values.map(|(kind, data)| {
        let value = format!(r#"{{"type":"{kind}","data":{data}}}"#);
        format!("{value}\n  {}", told(&rules, &value))
    });
    insta::with_settings!({snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("audience_burials", lines.join("\n"));
    });
}

#[test]
fn a_list_of_receivers_may_be_longer_than_a_text_up_to_the_limit_of_an_event() {
    let text = "rule = [{ name = 'r', event = 'a', users = 'list', type = 't' }, { name = 's', event = 'a', users = \"list | reverse | list\", type = 't' }]";
    let limits = Limits { receivers: 2000, ..Limits::default() };
    let rules = RuleSet::parse(&[File { name: "rules/test.toml", text }], limits).unwrap();
    let value = |count: usize| {
        let list: Vec<String> = (0..count).map(|number| format!("{number:0>120}")).collect();
        serde_json::json!({ "type": "a", "data": { "list": list } }).to_string()
    };
    assert_eq!(notifications(&rules, &value(1000)).len(), 2000);
    assert_eq!(burial(&rules, &value(1001)).class, "audience_too_large", "over both rules");
}
