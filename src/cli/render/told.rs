//! How a verdict is told: each notification as the frame has it, or why there is none.
//!
//! Owns: the text and the JSON. Refuses to word anything: what is shown is what core `rules` made. Neighbours: `render` asks for the verdict.

use std::io::Write;

use serde_json::{Value, json};
use tidings_core::locale::Locale;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::rules::{Burial, Verdict};

use crate::cli::shown::safe;

/// What becomes of a record.
pub(super) struct Told {
    /// By all rules.
    pub(super) verdict: Verdict,
    /// By the one that was named.
    pub(super) alone: Option<(String, Verdict)>,
}

impl Told {
    /// The notifications that were asked for.
    fn notifications(&self) -> impl Iterator<Item = &NotificationRecord> {
        let records = if let Verdict::Notify(records) = &self.verdict { records.as_slice() } else { &[] };
        records.iter().filter(|record| self.alone.as_ref().is_none_or(|(name, _)| record.rule == *name))
    }

    /// Why there is nothing of the rule that was named although the record gives notifications, or would but for another rule.
    fn silence(&self) -> Option<String> {
        let (name, alone) = self.alone.as_ref()?;
        match (alone, &self.verdict) {
            (Verdict::Ignore(reason), _) => Some(format!("the rule `{name}` says nothing: {}: {}", reason.name(), reason.told())),
            (Verdict::Notify(records), Verdict::Bury(_)) => Some(format!(
                "the rule `{name}` alone would make {} of it; but one rule that fails buries the record",
                counted(records.len())
            )),
            _ => None,
        }
    }

    pub(super) fn print(&self, out: &mut impl Write, locale: Option<&Locale>) -> anyhow::Result<()> {
        for record in self.notifications() {
            writeln!(out, "rule {} notifies {}", record.rule, safe(record.channel.as_str()))?;
            writeln!(out, "{}", serde_json::to_string_pretty(&record.notification.in_locale(locale))?)?;
            let beside = [
                (
                    "texts in other languages (--locale)",
                    record.notification.locales.keys().map(ToString::to_string).collect::<Vec<_>>(),
                ),
                ("not shown to", record.exclude.iter().map(ToString::to_string).collect()),
            ];
            for (what, list) in beside.iter().filter(|(_, list)| !list.is_empty()) {
                writeln!(out, "  {what}: {}", safe(&list.join(", ")))?;
            }
            if let Some(ladder) = &record.ladder {
                let rungs = ladder.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                writeln!(
                    out,
                    "  tried again, if nobody acknowledges it, after: {}",
                    if rungs.is_empty() { "never" } else { &rungs }
                )?;
            }
        }
        match &self.verdict {
            Verdict::Notify(_) => {}
            Verdict::Ignore(reason) => writeln!(out, "ignored: {}: {}", reason.name(), reason.told())?,
            Verdict::Bury(Burial { stage, class, message, rule, .. }) => {
                writeln!(out, "buried at {stage}: {class}: {}", safe(message))?;
                if let Some(rule) = rule {
                    writeln!(out, "  {}: rule {}", safe(&rule.line), rule.rule)?;
                }
            }
        }
        if let Some(silence) = self.silence() {
            writeln!(out, "{silence}")?;
        }
        Ok(())
    }

    pub(super) fn as_json(&self, locale: Option<&Locale>) -> Value {
        let mut told = match &self.verdict {
            Verdict::Notify(_) => {
                let shown = |record: &NotificationRecord| {
                    json!({
                        "rule": record.rule, "channel": record.channel, "notification": record.notification.in_locale(locale),
                        "locales": record.notification.locales.keys().collect::<Vec<_>>(), "exclude": record.exclude, "ladder": record.ladder,
                    })
                };
                json!({"verdict": "notify", "notifications": self.notifications().map(shown).collect::<Vec<_>>()})
            }
            Verdict::Ignore(reason) => json!({"verdict": "ignore", "reason": reason.name(), "message": reason.told()}),
            Verdict::Bury(burial) => json!({
                "verdict": "bury", "stage": burial.stage, "cause": burial.cause.name(), "class": burial.class, "message": burial.message,
                "rule": burial.rule.as_ref().map(|blamed| &blamed.rule), "line": burial.rule.as_ref().map(|blamed| &blamed.line),
            }),
        };
        if let (Some(silence), Some(told)) = (self.silence(), told.as_object_mut()) {
            told.insert("silent".to_owned(), silence.into());
        }
        told
    }
}

fn counted(notifications: usize) -> String {
    if notifications == 1 { "1 notification".to_owned() } else { format!("{notifications} notifications") }
}

#[cfg(test)]
mod tests {
    use tidings_core::event::{Reading, SourceRecord};
    use tidings_core::rules::{File, Limits, RuleSet, Terms, decide, shipped};
    use tidings_core::time::Timestamp;

    use super::*;

    const RULES: &str = r#"
[[rule]]
name = "shipped"
event = "order:shipped"
when = "weight > 1"
user = "{{ to }}"
type = "order_shipped"
title = "On its way"
message = "{{ number }}"
expires_after = "7days"
ladder = ["30s", "10m"]

[rule.locales.fr]
title = "En route"

[[rule]]
name = "city"
event = "order:*"
role = "dispatch"
type = "order"
title = "{{ city }}"
"#;

    fn told(value: &str, rule: Option<&str>) -> Told {
        let files = [&[File { name: "rules/orders.toml", text: RULES }], shipped()].concat();
        let rules = RuleSet::parse(&files, Limits::default()).unwrap();
        let timestamp = Timestamp::from_millis(1_769_860_800_000);
        let value = Some(value.as_bytes());
        let record = SourceRecord { topic: "sample", partition: 0, offset: 0, timestamp, key: None, value, headers: &[] };
        let by = |rules: &RuleSet| decide(rules, &record, &Terms { reading: &Reading::default(), max_age: None, now: timestamp });
        Told { verdict: by(&rules), alone: rule.map(|name| (name.to_owned(), by(&rules.only(name).unwrap()))) }
    }

    fn printed(value: &str, rule: Option<&str>, locale: Option<&str>) -> String {
        let mut out = Vec::new();
        let locale = locale.map(|locale| locale.parse().unwrap());
        told(value, rule).print(&mut out, locale.as_ref()).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ORDER: &str = r#"{"id":"e-1","type":"order:shipped","data":{"to":"ada","number":"o-1","weight":2,"city":"Ulm"}}"#;

    #[test]
    fn each_notification_is_shown_as_its_receivers_get_it() {
        let shown = [printed(ORDER, None, None), printed(ORDER, Some("shipped"), Some("fr-CA"))];
        insta::assert_snapshot!(shown.join("────\n"));
        insta::assert_json_snapshot!(told(ORDER, Some("shipped")).as_json(None));
    }

    #[test]
    fn what_gives_no_notification_says_why() {
        let shown = [
            printed(r#"{"type":"nothing:known","data":{}}"#, None, None),
            printed(r#"{"type":"user:logged_in","data":{"userId":42}}"#, None, None),
            printed(&ORDER.replace(":2", ":1"), Some("shipped"), None),
            printed(&ORDER.replace("city", "town"), Some("shipped"), None),
            printed(ORDER, Some("user-logged-in"), None),
            told("[", None).as_json(None).to_string() + "\n",
            told(&ORDER.replace("city", "town"), Some("shipped")).as_json(None).to_string() + "\n",
        ];
        insta::assert_snapshot!(shown.join("────\n"));
    }
}
