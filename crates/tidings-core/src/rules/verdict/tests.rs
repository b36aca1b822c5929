mod audiences;

use proptest::prelude::*;

use super::super::{File, Limits, check, shipped, shipped_schemas};
use super::*;
use crate::event::{Envelope, Written};
use crate::notification::Priority;

fn record(value: Option<&[u8]>) -> SourceRecord<'_> {
    let timestamp = Timestamp::from_millis(1_769_860_800_000);
    SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, key: None, value, headers: &[] }
}

static READING: Reading =
    Reading { envelope: Envelope::Detect, type_header: None, id: None, format: Written::Auto, key_format: Written::Auto };

/// Terms at the time of [`record`].
fn terms() -> Terms<'static> {
    Terms { reading: &READING, max_age: Some(Duration::from_secs(3600)), now: Timestamp::from_millis(1_769_860_800_000) }
}

fn rules(text: &str) -> RuleSet {
    let limits = Limits { output_bytes: 200, fuel: 20_000, receivers: 5 };
    RuleSet::parse(&[File { name: "rules/test.toml", text }], limits).unwrap()
}

fn shipped_rules() -> RuleSet {
    RuleSet::parse(shipped(), Limits::default()).unwrap()
}

fn notifications(rules: &RuleSet, value: &str) -> Vec<NotificationRecord> {
    match decide(rules, &record(Some(value.as_bytes())), &terms()) {
        Verdict::Notify(notifications) => notifications,
        other => panic!("{value}: {other:?}"),
    }
}

fn burial(rules: &RuleSet, value: &str) -> Burial {
    match decide(rules, &record(Some(value.as_bytes())), &terms()) {
        Verdict::Bury(burial) => burial,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn each_shipped_event_gives_the_notifications_of_the_design() {
    let rules = shipped_rules();
    for file in shipped_schemas() {
        let schema: serde_json::Value = serde_json::from_str(file.text).unwrap();
        let kind = schema["title"].as_str().unwrap();
        let sample = String::from_utf8(check::sample(shipped_schemas(), kind).unwrap()).unwrap();
        let value = sample.replacen('{', r#"{"id":"e-1","#, 1);
        let name = format!("shipped_{}", kind.replace(':', "_"));
        insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false, description => &value}, {
            insta::assert_json_snapshot!(name, notifications(&rules, &value));
        });
    }
}

#[test]
fn what_is_for_everybody_who_watches_names_nobody() {
    let value = r#"{"type":"booking:confirmed","data":{"userId":"u-secret","bookingId":"b-1","vehicleName":"a-secret"}}"#;
    let update = notifications(&shipped_rules(), value).pop().unwrap();
    assert_eq!(update.channel.as_str(), "booking-updates");
    assert!(!serde_json::to_string(&update).unwrap().contains("secret"));
}

#[test]
fn nothing_to_tell_is_ignored_with_its_reason() {
    let rules = shipped_rules();
    assert_eq!(decide(&rules, &record(None), &terms()), Verdict::Ignore(IgnoreReason::Tombstone));
    assert_eq!(decide(&rules, &record(Some(b"")), &terms()), Verdict::Ignore(IgnoreReason::EmptyPayload));
    let wrapped_tombstone = br#"{"schema":{"type":"struct"},"payload":null}"#;
    assert_eq!(decide(&rules, &record(Some(wrapped_tombstone)), &terms()), Verdict::Ignore(IgnoreReason::EmptyPayload));
    let unknown = br#"{"type":"booking:seen","data":{}}"#;
    assert_eq!(decide(&rules, &record(Some(unknown)), &terms()), Verdict::Ignore(IgnoreReason::NoRule));
}

#[test]
fn bytes_that_are_no_event_are_buried() {
    let burial = burial(&shipped_rules(), "no event");
    assert_eq!((burial.stage, burial.cause, burial.class), ("decode", Cause::Poison, "not_json"));
}

#[test]
fn a_text_shows_numbers_and_booleans_as_people_write_them() {
    let rules =
        rules("rule = [{ name = 'a', event = 'a', user = '1', type = 't', title = '{{ a }} {{ b }} {{ c | default(d) }}' }]");
    let said = notifications(&rules, r#"{"type":"a","data":{"a":true,"b":1.5,"d":false}}"#);
    assert_eq!(said[0].notification.title.as_deref(), Some("true 1.5 false"));
}

#[test]
fn every_field_of_a_rule_reaches_the_notification_and_data_keeps_its_types() {
    let rules = rules(
        r#"
            [[rule]]
            name = "all"
            event = "a"
            channel = "team-{{ team.id }}"
            type = "t"
            title = "{{ event.type }} {{ event.id }}"
            message = "at {{ event.time }}"
            priority = "urgent"
            action_url = "/a/{{ team.id }}"
            category = "c"
            expires_after = "1h"
            data = { team = "team", id = "team.id", sum = "team.id + 1", all = "[team.id, flag, nil]", html = "'<&>' | safe" }
            "#,
    );
    let value = r#"{"id":"e","type":"a","data":{"team":{"id":7,"x":1.5},"flag":true,"nil":null}}"#;
    let [record] = notifications(&rules, value).try_into().unwrap();
    assert_eq!(record.channel.as_str(), "team-7");
    let shown = record.notification;
    assert_eq!((shown.title.as_deref(), shown.action_url.as_deref()), (Some("a e"), Some("/a/7")));
    assert_eq!(shown.message.as_deref(), Some("at 2026-01-31T12:00:00.000Z"));
    assert_eq!((shown.priority, shown.category.as_deref()), (Priority::Urgent, Some("c")));
    assert_eq!(shown.expires_at.unwrap().to_string(), "2026-01-31T13:00:00.000Z");
    let expected = r#"{"team":{"id":7,"x":1.5},"id":7,"sum":8,"all":[7,true,null],"html":"<&>"}"#;
    assert_eq!(serde_json::Value::from(shown.data), serde_json::from_str::<serde_json::Value>(expected).unwrap());
}

#[test]
fn once_is_said_of_what_lies_in_a_mailbox_and_of_nothing_else() {
    let rules = rules(
        "rule = [{ name = 'a', event = 'a', user = '1', channel = 'c', type = 't', once = true },
                 { name = 'b', event = 'a', user = '2', type = 't' }]",
    );
    let told = notifications(&rules, r#"{"type":"a","data":{}}"#);
    let once = told.iter().map(|record| (record.channel.as_str(), record.notification.once)).collect::<Vec<_>>();
    assert_eq!(once, [("user-1", true), ("c", false), ("user-2", false)]);
}

#[test]
fn an_event_said_too_long_ago_is_ignored_unless_its_rule_says_otherwise() {
    let rules = rules(
        r#"
            rule = [
                { name = "default", event = "*", user = "1", type = "t" },
                { name = "long", event = "long", user = "2", type = "t", max_age = "2h" },
                { name = "short", event = "short", user = "3", type = "t", max_age = "1s" },
                { name = "any", event = "any", user = "4", type = "t", max_age = "0s" },
            ]
            "#,
    );
    let told = |kind: &str, time: &str| {
        let value = format!(r#"{{"type":"{kind}","time":"{time}","data":{{}}}}"#);
        match decide(&rules, &record(Some(value.as_bytes())), &terms()) {
            Verdict::Notify(records) => records.iter().map(|record| record.channel.to_string()).collect::<Vec<_>>().join(" "),
            Verdict::Ignore(reason) => reason.name().to_owned(),
            Verdict::Bury(burial) => panic!("{burial:?}"),
        }
    };
    // It is 12:00.
    assert_eq!(told("a", "2026-01-31T11:00:00Z"), "user-1");
    assert_eq!(told("a", "2026-01-31T10:59:59.999Z"), "too_old");
    assert_eq!(told("long", "2026-01-31T10:30:00Z"), "user-2");
    assert_eq!(told("short", "2026-01-31T11:59:50Z"), "user-1");
    assert_eq!(told("any", "1970-01-01T00:00:00Z"), "user-4");
    assert_eq!(told("any", "2030-01-01T00:00:00Z"), "user-4 user-1", "what is said of the future is not old");
}

/// The channels of the notifications, or the reason why there are none.
fn told(rules: &RuleSet, value: &str) -> String {
    match decide(rules, &record(Some(value.as_bytes())), &terms()) {
        Verdict::Notify(records) => records.iter().map(|record| record.channel.to_string()).collect::<Vec<_>>().join(" "),
        Verdict::Ignore(reason) => reason.name().to_owned(),
        Verdict::Bury(burial) => format!("{}: {}", burial.class, burial.message),
    }
}

#[test]
fn a_rule_whose_condition_is_false_says_nothing_and_one_without_an_answer_buries() {
    let rules = rules(
        r#"
            rule = [
                { name = "large", event = "a", when = "amount > 100 and kind != 'test'", user = "1", type = "t" },
                { name = "flag", event = "a", when = "flag", user = "2", type = "t" },
                { name = "text", event = "b", when = "kind", user = "3", type = "t" },
                { name = "old", event = "c", when = "nowhere", user = "4", type = "t", max_age = "1ms" },
            ]
            "#,
    );
    let said = |data: &str| told(&rules, &format!(r#"{{"type":"a","data":{data}}}"#));
    assert_eq!(said(r#"{"amount":101,"kind":"x","flag":true}"#), "user-1 user-2");
    assert_eq!(said(r#"{"amount":100,"kind":"x","flag":true}"#), "user-2");
    assert_eq!(said(r#"{"amount":101,"kind":"test","flag":false}"#), "condition_false");
    insta::assert_snapshot!(said(r#"{"amount":101,"kind":"x"}"#), @"template_undefined: rule `flag`, field `when`: `flag` is undefined, line 1 of the template");
    insta::assert_snapshot!(said(r#"{"kind":"x","flag":true}"#), @"template_undefined: rule `large`, field `when`: `amount` is undefined, line 1 of the template");
    insta::assert_snapshot!(told(&rules, r#"{"type":"b","data":{"kind":"x"}}"#), @"condition_invalid: rule `text`, field `when`: it gives a string, it must be true or false");
    let old = r#"{"type":"c","time":"2026-01-31T11:59:00Z","data":{}}"#;
    assert_eq!(told(&rules, old), "too_old", "a rule that is not for it is not asked");
}

#[test]
fn every_locale_is_rendered_into_the_record() {
    let rules = rules(
        r#"
            [[rule]]
            name = "welcome"
            event = "a"
            user = "1"
            type = "t"
            title = "Welcome"
            message = "Welcome back, {{ name }}."
            [rule.locales.fr]
            title = "Bienvenue"
            [rule.locales.fr-CA]
            message = "Rebonjour, {{ name }}."
            title = "Rebonjour"
            "#,
    );
    let [record] = notifications(&rules, r#"{"type":"a","data":{"name":"Ada"}}"#).try_into().unwrap();
    let expected = r#"{"fr":{"title":"Bienvenue"},"fr-CA":{"message":"Rebonjour, Ada.","title":"Rebonjour"}}"#;
    assert_eq!(
        serde_json::to_value(record.notification.locales).unwrap(),
        serde_json::from_str::<serde_json::Value>(expected).unwrap()
    );
}

#[test]
fn a_long_message_is_cut_where_a_character_ends() {
    let cut = |message: &str| Burial::new("render", Cause::Poison, "test", message.to_owned()).message;
    assert_eq!(cut("short"), "short");
    assert_eq!(cut(&"x".repeat(4096)).len(), 4096);
    assert_eq!(cut(&"x".repeat(5000)).len(), 4096);
    let euros = "€".repeat(2000);
    assert_eq!(cut(&euros), "€".repeat(4096 / 3));
}

#[test]
fn rules_are_selected_by_type_and_by_glob() {
    let rules = rules(
        r#"
            rule = [
                { name = "all", event = "*", channel = "audit", type = "t" },
                { name = "exact", event = "booking:confirmed", channel = "a", type = "t" },
                { name = "some", event = "booking:{confirmed,seen}", channel = "b", type = "t" },
            ]
            "#,
    );
    let names = |kind: &str| rules.select(kind).map(|rule| rule.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names("booking:confirmed"), ["exact", "all", "some"]);
    assert_eq!(names("booking:seen"), ["all", "some"]);
    assert_eq!(names("payment:due"), ["all"]);
}

#[test]
fn a_record_that_one_rule_cannot_render_is_buried_as_a_whole() {
    let value = r#"{"type":"booking:confirmed","data":{"userId":1,"bookingId":2}}"#;
    let burial = burial(&shipped_rules(), value);
    assert_eq!((burial.stage, burial.cause), ("render", Cause::Poison));
}

#[test]
fn every_burial_names_rule_field_and_reason() {
    let rules = rules(
        r#"
            rule = [
                { name = "user", event = "user", user = "{{ id }}", type = "t" },
                { name = "text", event = "text", user = "1", type = "t", message = """
Dear {{ a }},
your {{ b.c }}""" },
                { name = "loop", event = "loop", user = "1", type = "t", title = "{% for a in range(9999) %}{% if a > 9999 %}{{ a }}{% endif %}{% endfor %}" },
                { name = "long", event = "long", user = "1", type = "t", title = "{% for a in range(9999) %}{{ a }}{% endfor %}" },
                { name = "filter", event = "filter", user = "1", type = "t", title = "{{ 'a' | nope }}" },
                { name = "data", event = "data", user = "1", type = "t", data = { x = "a.b" } },
                { name = "locale", event = "locale", user = "1", type = "t", title = "T", locales = { fr = { title = "{{ a }}" } } },
            ]
            "#,
    );
    let values = [
        r#"{"type":"user","data":{}}"#,
        r#"{"type":"user","data":{"id":null}}"#,
        r#"{"type":"user","data":{"id":{"a":1}}}"#,
        r#"{"type":"user","data":{"id":["a"]}}"#,
        r#"{"type":"user","data":{"id":1.5}}"#,
        r#"{"type":"user","data":{"id":true}}"#,
        r#"{"type":"user","data":{"id":""}}"#,
        r#"{"type":"user","data":{"id":" a"}}"#,
        r#"{"type":"text","data":{"a":1,"b":{}}}"#,
        r#"{"type":"text","data":{"a":1,"b":2}}"#,
        r#"{"type":"text","data":{"a":1}}"#,
        r#"{"type":"text","data":{"a":null}}"#,
        r#"{"type":"text","data":{"a":[],"b":{"c":1}}}"#,
        r#"{"type":"loop","data":{}}"#,
        r#"{"type":"long","data":{}}"#,
        r#"{"type":"filter","data":{}}"#,
        r#"{"type":"data","data":{"a":{}}}"#,
        r#"{"type":"locale","data":{}}"#,
    ];
    let lines = values.map(|value| {
        let burial = burial(&rules, value);
        format!("{value}\n  {}: {}", burial.class, burial.message)
    });
    insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("burials", lines.join("\n"));
    });
}

proptest! {
    #[test]
    fn the_same_event_gives_the_same_ids_wherever_it_lies(id in "[a-z0-9-]{1,20}", offset in 0..i64::MAX, partition in 0..99_i32) {
        let rules = shipped_rules();
        let value = format!(r#"{{"id":"{id}","type":"user:logged_in","data":{{"userId":"{id}","name":"Ada"}}}}"#);
        let again = SourceRecord { offset, partition, ..record(Some(value.as_bytes())) };
        let Verdict::Notify(again) = decide(&rules, &again, &terms()) else { panic!() };
        prop_assert_eq!(again[0].notification.id, notifications(&rules, &value)[0].notification.id);
    }

    #[test]
    fn no_data_makes_a_shipped_rule_panic(user in any::<Option<f64>>(), name: String) {
        let data = serde_json::json!({ "userId": user, "name": name, "vehicleName": name, "bookingId": user });
        for kind in ["booking:confirmed", "user:logged_in", "balance:updated"] {
            let value = serde_json::json!({ "type": kind, "data": data }).to_string();
            let _ = decide(&shipped_rules(), &record(Some(value.as_bytes())), &terms());
        }
    }
}

#[test]
fn a_rule_that_cannot_be_rendered_is_named_with_the_line_to_go_to() {
    let text = "[[rule]]\nname = \"a\"\nevent = \"t\"\nusers = \"who\"\ntype = \"t\"\n\
                message = \"\"\"\nOne\n{{ two }}\n\"\"\"\n";
    let rules = RuleSet::parse(&[File { name: "rules/a.toml", text }], Limits::default()).unwrap();
    let line = |value| burial(&rules, value).rule.map(|blamed| format!("{} at {}", blamed.rule, blamed.line));
    assert_eq!(line(r#"{"type":"t","data":{"who":["ada"]}}"#).as_deref(), Some("a at rules/a.toml:8"));
    assert_eq!(line(r#"{"type":"t","data":{"who":[{}]}}"#).as_deref(), Some("a at rules/a.toml:4"));
    assert_eq!(line("no event"), None);
}

#[test]
fn a_rule_alone_says_what_it_says_among_others() {
    let text = "[[rule]]\nname = \"exact\"\nevent = \"a:b\"\nuser = \"1\"\ntype = \"t\"\n\
                [[rule]]\nname = \"glob\"\nevent = \"a:*\"\nuser = \"2\"\ntype = \"t\"\n\
                [[rule]]\nname = \"wide\"\nevent = \"*\"\nuser = \"3\"\ntype = \"t\"\n";
    let rules = RuleSet::parse(&[File { name: "rules/a.toml", text }], Limits::default()).unwrap();
    let names = |rules: &RuleSet, kind: &str| rules.select(kind).map(|rule| rule.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&rules, "a:b"), ["exact", "glob", "wide"]);
    for name in ["exact", "glob", "wide"] {
        let only = rules.only(name).unwrap();
        assert_eq!(names(&only, "a:b"), [name]);
        assert_eq!(names(&only, "c").len(), usize::from(name == "wide"));
    }
    assert!(rules.only("other").is_none());
}
