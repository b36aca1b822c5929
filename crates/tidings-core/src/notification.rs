//! The notification: what a device shows.
//!
//! Owns: the fields a client sees, named as on the wire, and the texts for each locale, which only the log has. Refuses nothing:
//! whoever makes one has checked it. Neighbours: `rules` makes them, `record` carries them, `protocol` frames them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{EventId, NotificationId};
use crate::locale::Locale;
use crate::time::Timestamp;

/// What a device shows; as JSON, camelCase, with absent fields left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The same for the same event, rule and channel.
    pub id: NotificationId,
    /// The event it was made from.
    pub event_id: EventId,
    /// What it is about, for instance `booking_confirmation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the event was said.
    pub created_at: Timestamp,
    /// One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a frontend needs to act on it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    /// How much it matters.
    #[serde(default)]
    pub priority: Priority,
    /// Where a click leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_url: Option<String>,
    /// Who said the event: the topic it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A grouping of the application's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// After this instant it is no longer worth showing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether it is withdrawn from the user's other devices once one has acknowledged it. Only in mailboxes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// The same in other languages. On the log only: [`Notification::in_locale`] gives what somebody is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locales: BTreeMap<Locale, Texts>,
}

/// The texts of a notification in one locale. What is absent is looked for in the next fallback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Texts {
    /// One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where a click leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_url: Option<String>,
}

impl Notification {
    /// What somebody who reads `locale` is shown: each text from the first of the locale's fallbacks that has it, else the
    /// default. Never holds `locales`.
    #[must_use]
    pub fn in_locale(&self, locale: Option<&Locale>) -> Cow<'_, Self> {
        if self.locales.is_empty() {
            return Cow::Borrowed(self);
        }
        let texts = || locale.into_iter().flat_map(Locale::fallbacks).filter_map(|fallback| self.locales.get(fallback));
        let pick =
            |text: fn(&Texts) -> Option<&String>, default: &Option<String>| texts().find_map(text).or(default.as_ref()).cloned();
        Cow::Owned(Self {
            id: self.id,
            event_id: self.event_id.clone(),
            kind: self.kind.clone(),
            created_at: self.created_at,
            title: pick(|texts| texts.title.as_ref(), &self.title),
            message: pick(|texts| texts.message.as_ref(), &self.message),
            data: self.data.clone(),
            priority: self.priority,
            action_url: pick(|texts| texts.action_url.as_ref(), &self.action_url),
            source: self.source.clone(),
            category: self.category.clone(),
            expires_at: self.expires_at,
            once: self.once,
            locales: BTreeMap::new(),
        })
    }

    /// Whether `other`, which has the same id, says the same. Times do not count: of an event that says none they are those of its
    /// record, and differ when it is written again.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let Self {
            id,
            event_id,
            kind,
            created_at: _,
            title,
            message,
            data,
            priority,
            action_url,
            source,
            category,
            expires_at: _,
            once,
            locales,
        } = self;
        (id, event_id, kind, title, message, data)
            == (&other.id, &other.event_id, &other.kind, &other.title, &other.message, &other.data)
            && (priority, action_url, source, category, once, locales)
                == (&other.priority, &other.action_url, &other.source, &other.category, &other.once, &other.locales)
    }

    /// Whether it is no longer worth showing at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// How much a notification matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Should be seen soon.
    High,
    /// Must be seen now.
    Urgent,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_notification_has_expired_from_its_end_on_and_one_without_an_end_never() {
        let mut notification = notification();
        let end = notification.expires_at.unwrap();
        let before = Timestamp::from_millis(end.as_millis() - 1);
        let expired = |notification: &Notification| {
            [before, end, end.plus(Duration::from_millis(1))].map(|now| notification.is_expired(now))
        };
        assert_eq!(expired(&notification), [false, true, true]);
        notification.expires_at = None;
        assert_eq!(expired(&notification), [false; 3]);
    }

    #[test]
    fn the_same_said_at_another_time_agrees_and_anything_else_does_not() {
        let said = notification();
        let mut later = said.clone();
        later.created_at = Timestamp::from_millis(0);
        later.expires_at = None;
        assert!(said.agrees_with(&later));
        let fields = serde_json::to_value(&said).unwrap();
        for name in fields.as_object().unwrap().keys().filter(|name| !["createdAt", "expiresAt", "id"].contains(&name.as_str())) {
            let mut changed = fields.clone();
            changed[name] = match name.as_str() {
                "priority" => "low".into(),
                "data" => serde_json::json!({"a": 2}),
                "locales" => serde_json::json!({}),
                _ => "something else".into(),
            };
            assert!(!said.agrees_with(&serde_json::from_value(changed).unwrap()), "{name}");
        }
    }

    fn notification() -> Notification {
        serde_json::from_value(serde_json::json!({
            "id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e-1", "type": "welcome", "createdAt": "2026-01-31T12:00:00Z",
            "title": "Welcome", "message": "Welcome back, Ada.", "actionUrl": "/en", "data": {"a": 1}, "priority": "high",
            "source": "accounts", "category": "c", "expiresAt": "2026-02-01T12:00:00Z",
            "locales": {
                "fr": {"title": "Bienvenue", "actionUrl": "/fr"},
                "fr-CA": {"message": "Rebonjour, Ada."},
                "de": {"title": "Willkommen", "message": "Willkommen zurück, Ada.", "actionUrl": "/de"}
            }
        }))
        .unwrap()
    }

    fn shown(locale: Option<&str>) -> [Option<String>; 3] {
        let locale = locale.map(|locale| locale.parse().unwrap());
        let notification = notification();
        let shown = notification.in_locale(locale.as_ref()).into_owned();
        assert!(shown.locales.is_empty());
        assert_eq!(
            Notification { title: None, message: None, action_url: None, locales: BTreeMap::new(), ..notification },
            Notification { title: None, message: None, action_url: None, ..shown.clone() },
            "everything but the texts is the same"
        );
        [shown.title, shown.message, shown.action_url]
    }

    #[test]
    fn each_text_comes_from_the_nearest_locale_that_has_it() {
        let texts = |title: &str, message: &str, url: &str| [title, message, url].map(|text| Some(text.to_owned()));
        assert_eq!(shown(Some("fr-CA")), texts("Bienvenue", "Rebonjour, Ada.", "/fr"));
        assert_eq!(shown(Some("fr-BE")), texts("Bienvenue", "Welcome back, Ada.", "/fr"));
        assert_eq!(shown(Some("de-AT")), texts("Willkommen", "Willkommen zurück, Ada.", "/de"));
        for other in [None, Some("es")] {
            assert_eq!(shown(other), texts("Welcome", "Welcome back, Ada.", "/en"));
        }
    }

    #[test]
    fn without_locales_nothing_is_copied() {
        let plain = Notification { locales: BTreeMap::new(), ..notification() };
        assert!(matches!(plain.in_locale(Some(&"fr".parse().unwrap())), Cow::Borrowed(_)));
    }
}
