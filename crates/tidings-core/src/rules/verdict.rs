//! The verdict: what becomes of one record. The whole decision of the pipeline, as one pure function.

use std::time::Duration;

use super::{Rendered, RuleSet};
use crate::event::{self, Event, Reading, SourceRecord};
use crate::fate::Cause;
use crate::record::notified::NotificationRecord;
use crate::time::Timestamp;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These go to `notifications`; at least one.
    Notify(Vec<NotificationRecord>),
    /// Nothing is to be told.
    Ignore(IgnoreReason),
    /// It goes to `dlq`.
    Bury(Burial),
}

/// Why a record gives no notification though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IgnoreReason {
    /// No rule is for events of this type.
    NoRule,
    /// A record without a value, as compacted topics have.
    Tombstone,
    /// A value of no bytes.
    EmptyPayload,
    /// A request that leaves out everybody it is for.
    NobodyLeft,
    /// The event was said too long ago.
    TooOld,
}

impl IgnoreReason {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Tombstone => "tombstone",
            Self::EmptyPayload => "empty_payload",
            Self::NobodyLeft => "nobody_left",
            Self::TooOld => "too_old",
        }
    }
}

/// The longest message of a burial, in bytes: it becomes headers, and a template engine may quote whatever it was given.
const MESSAGE_BYTES: usize = 4096;

/// Why a record is buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// The step that failed: `decode` or `render`.
    pub stage: &'static str,
    /// The kind of failure.
    pub cause: Cause,
    /// A short name of the failure, stable across releases.
    pub class: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl Burial {
    /// A burial whose message is cut after 4 KiB, at a character's end.
    #[must_use]
    pub fn new(stage: &'static str, cause: Cause, class: &'static str, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        Self { stage, cause, class, message }
    }
}

/// Under which terms a record is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// How its envelope is read.
    pub reading: &'a Reading,
    /// How long ago an event may have been said, unless a rule says otherwise; none: any time.
    pub max_age: Option<Duration>,
    /// The time of the decision.
    pub now: Timestamp,
}

/// Decides what becomes of a record. One verdict for one record: if any rule fails on it, it is buried as a whole.
#[must_use]
pub fn decide(rules: &RuleSet, record: &SourceRecord<'_>, terms: &Terms<'_>) -> Verdict {
    if let Some(reason) = nothing_said(record) {
        return Verdict::Ignore(reason);
    }
    match event::decode(record, terms.reading) {
        Ok(event) => by_rules(rules, &event, terms),
        Err(error) if error.is_empty() => Verdict::Ignore(IgnoreReason::EmptyPayload),
        Err(error) => Verdict::Bury(Burial::new("decode", error.cause(), error.class(), error.to_string())),
    }
}

/// Why a record without a payload is ignored.
pub(super) fn nothing_said(record: &SourceRecord<'_>) -> Option<IgnoreReason> {
    match record.value {
        None => Some(IgnoreReason::Tombstone),
        Some([]) => Some(IgnoreReason::EmptyPayload),
        Some(_) => None,
    }
}

/// What the rules make of an event.
pub(super) fn by_rules(rules: &RuleSet, event: &Event, terms: &Terms<'_>) -> Verdict {
    match rules.render(event, terms) {
        Ok(Rendered::Notifications(notifications)) => Verdict::Notify(notifications),
        Ok(Rendered::Nothing(reason)) => Verdict::Ignore(reason),
        Err(error) => Verdict::Bury(Burial::new("render", error.cause(), error.class(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{File, Limits, check, shipped, shipped_schemas};
    use super::*;
    use crate::event::Envelope;
    use crate::notification::Priority;

    fn record(value: Option<&[u8]>) -> SourceRecord<'_> {
        let timestamp = Timestamp::from_millis(1_769_860_800_000);
        SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, key: None, value, headers: &[] }
    }

    static READING: Reading = Reading { envelope: Envelope::Detect, type_header: None, id: None };

    /// Terms at the time of [`record`].
    fn terms() -> Terms<'static> {
        Terms { reading: &READING, max_age: Some(Duration::from_secs(3600)), now: Timestamp::from_millis(1_769_860_800_000) }
    }

    fn rules(text: &str) -> RuleSet {
        let limits = Limits { output_bytes: 200, fuel: 20_000 };
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
            insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, description => &value}, {
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
        let unknown = br#"{"type":"booking:seen","data":{}}"#;
        assert_eq!(decide(&rules, &record(Some(unknown)), &terms()), Verdict::Ignore(IgnoreReason::NoRule));
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
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
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
}
