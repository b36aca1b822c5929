//! The verdict on a request: what becomes of a record on `requests`.
//!
//! Owns: the ids of what was asked for, which follow from the request's id, and who is left out. Refuses to judge what a later
//! release wrote. Neighbours: `record::request` reads requests, `verdict` decides on domain events, `pipeline` carries both out.

use super::RuleSet;
use super::verdict::{Burial, IgnoreReason, Terms, Verdict, by_rules, nothing_said};
use crate::channel::Channel;
use crate::event::{self, Event, Identity, SourceRecord};
use crate::fate::Cause;
use crate::ids::{EventId, UserId};
use crate::notification::Notification;
use crate::record::notified::NotificationRecord;
use crate::record::request::{self, Asked, Audience, RequestRecord, Words};
use crate::record::{RecordError, VERSION_HEADER, expect_known};

/// Stands where a rule's name does, and is none.
const NO_RULE: &str = "(request)";

/// Decides what becomes of a request. An event that it carries is decided on as if it had come from a domain topic. Services that
/// write plain JSON name no version: theirs is the first.
///
/// # Errors
/// If a later release wrote it: only that one can say what is asked for, so the record is to be left where it is.
pub fn decide_request(rules: &RuleSet, record: &SourceRecord<'_>, terms: &Terms<'_>) -> Result<Verdict, RecordError> {
    match record.header(VERSION_HEADER).map_or(Ok(()), expect_known::<RequestRecord>) {
        Ok(()) => Ok(decided(rules, record, terms)),
        Err(newer @ RecordError::Newer { .. }) => Err(newer),
        Err(error) => Ok(Verdict::Bury(Burial::new("decode", Cause::Poison, error.class(), error.in_full()))),
    }
}

fn decided(rules: &RuleSet, record: &SourceRecord<'_>, terms: &Terms<'_>) -> Verdict {
    if let Some(reason) = nothing_said(record) {
        return Verdict::Ignore(reason);
    }
    let value = record.value.unwrap_or_default();
    let RequestRecord { id, exclude, asked } = match request::read(value) {
        Ok(request) => request,
        Err(error) => return Verdict::Bury(Burial::new("decode", Cause::Poison, error.class(), error.to_string())),
    };
    // An event keeps its own id, so that asking twice in different requests is still one event.
    let id = match &asked {
        Asked::Event { event } => event.id.clone().or(id),
        Asked::Words(_) => id,
    };
    let asking = match Asking::of(record, value, id) {
        Ok(asking) => asking,
        Err(error) => return Verdict::Bury(Burial::new("decode", error.cause(), error.class(), error.to_string())),
    };
    let verdict = match asked {
        Asked::Words(words) => Verdict::Notify(asking.notifications(*words)),
        Asked::Event { event } => by_rules(rules, &asking.event(event), terms),
    };
    match verdict {
        Verdict::Notify(notifications) => without(notifications, exclude),
        verdict => verdict,
    }
}

/// A request's own identity and place.
struct Asking<'a> {
    record: &'a SourceRecord<'a>,
    identity: Identity,
    event_id: EventId,
}

impl<'a> Asking<'a> {
    fn of(record: &'a SourceRecord<'a>, value: &[u8], id: Option<EventId>) -> Result<Self, event::EventError> {
        let (identity, event_id) = event::identify(record, value, id)?;
        Ok(Self { record, identity, event_id })
    }

    fn event(self, asked: request::AskedEvent) -> Event {
        let (origin, time) = (self.record.origin(), asked.time.unwrap_or(self.record.timestamp));
        Event {
            kind: asked.kind,
            data: asked.data.into(),
            identity: self.identity,
            event_id: self.event_id,
            time,
            origin,
            key: None,
        }
    }

    fn notifications(&self, words: Words) -> Vec<NotificationRecord> {
        let Words { to, kind, title, message, data, priority, action_url, source, category, expires_at, locales } = words;
        let channels = match to {
            Audience::Channel(channel) => vec![channel],
            Audience::Users(users) => users.iter().map(Channel::mailbox).collect(),
        };
        let notification = |channel: &Channel| Notification {
            id: self.identity.notification_id(NO_RULE, channel),
            event_id: self.event_id.clone(),
            kind: kind.clone(),
            created_at: self.record.timestamp,
            title: title.clone(),
            message: message.clone(),
            data: data.clone(),
            priority,
            action_url: action_url.clone(),
            source: source.clone(),
            category: category.clone(),
            expires_at,
            once: false,
            locales: locales.clone(),
        };
        let told = channels.into_iter().map(|channel| NotificationRecord {
            notification: notification(&channel),
            channel,
            rule: NO_RULE.to_owned(),
            origin: self.record.origin(),
            exclude: Vec::new(),
            ladder: None,
            attempts_forgotten: 0,
            attempts: Vec::new(),
        });
        told.collect()
    }
}

/// Leaves users out: their mailboxes get nothing, and other channels say who is not shown it.
fn without(notifications: Vec<NotificationRecord>, exclude: Vec<UserId>) -> Verdict {
    let left = notifications.into_iter().filter_map(|mut record| {
        match record.channel.mailbox_user() {
            Some(user) if exclude.contains(&user) => return None,
            Some(_) => {}
            None => record.exclude.clone_from(&exclude),
        }
        Some(record)
    });
    let left = left.collect::<Vec<_>>();
    if left.is_empty() { Verdict::Ignore(IgnoreReason::NobodyLeft) } else { Verdict::Notify(left) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Limits, shipped};
    use super::*;
    use crate::event::{Reading, SourceHeader};
    use crate::time::Timestamp;

    fn decided(offset: i64, value: &Value) -> Verdict {
        of_version(None, offset, value).unwrap()
    }

    fn of_version(version: Option<&str>, offset: i64, value: &Value) -> Result<Verdict, RecordError> {
        let header = version.map(|version| SourceHeader { name: VERSION_HEADER, value: Some(version.as_bytes()) });
        let headers = header.as_slice();
        let (value, timestamp) = (value.to_string(), Timestamp::from_millis(1_769_860_800_000));
        let place = SourceRecord { topic: "tidings.requests", partition: 1, offset, timestamp, key: None, value: None, headers };
        let record = SourceRecord { value: Some(value.as_bytes()), ..place };
        let terms = Terms { reading: &Reading::default(), max_age: None, now: timestamp };
        decide_request(&RuleSet::parse(shipped(), Limits::default()).unwrap(), &record, &terms)
    }

    fn told(value: &Value) -> Vec<NotificationRecord> {
        match decided(5, value) {
            Verdict::Notify(notifications) => notifications,
            other => panic!("{value}: {other:?}"),
        }
    }

    fn channels(value: &Value) -> Vec<String> {
        told(value).iter().map(|record| record.channel.to_string()).collect()
    }

    #[test]
    fn a_request_of_a_later_release_is_not_judged_and_one_without_a_version_is_of_the_first() {
        let value = json!({"to": {"user": "a"}, "message": "m"});
        let verdict = |version| of_version(version, 5, &value);
        assert_eq!(verdict(None).unwrap(), verdict(Some("1")).unwrap());
        let newer = verdict(Some("2")).unwrap_err();
        assert_eq!(newer.to_string(), "request record of version 2, this release reads up to 1: upgrade this process");
        assert!(of_version(Some("99"), 5, &Value::Null).is_err(), "whatever the value is");
        let Verdict::Bury(burial) = verdict(Some("one")).unwrap() else { panic!() };
        assert_eq!((burial.stage, burial.cause, burial.class), ("decode", Cause::Poison, "unversioned"));
    }

    #[test]
    fn each_audience_becomes_its_channels() {
        let to = |to: Value| channels(&json!({"to": to, "message": "m"}));
        assert_eq!(to(json!({"user": "a"})), ["user-a"]);
        assert_eq!(to(json!({"users": ["a", "b", "a"]})), ["user-a", "user-b"]);
        assert_eq!(to(json!({"role": "r"})), ["role-r"]);
        assert_eq!(to(json!({"channel": "booking-updates"})), ["booking-updates"]);
        assert_eq!(to(json!({"everyone": true})), ["system-announcements"]);
    }

    #[test]
    fn who_is_excluded_gets_no_mail_and_is_named_to_other_channels() {
        let value = json!({"to": {"users": ["a", "b"]}, "exclude": ["a", "c"], "message": "m"});
        assert_eq!(channels(&value), ["user-b"]);
        assert!(told(&value)[0].exclude.is_empty());
        let [record] = told(&json!({"to": {"role": "r"}, "exclude": ["a"], "message": "m"})).try_into().unwrap();
        assert_eq!(record.exclude, ["a".parse().unwrap()]);
        for to in [json!({"user": "a"}), json!({"channel": "user-a"})] {
            let nobody = decided(5, &json!({"to": to, "exclude": ["a"], "message": "m"}));
            assert_eq!(nobody, Verdict::Ignore(IgnoreReason::NobodyLeft));
        }
    }

    #[test]
    fn the_same_id_gives_the_same_notification_wherever_it_lies_and_without_one_the_place_counts() {
        let id = |offset: i64, value: &Value| match decided(offset, value) {
            Verdict::Notify(notifications) => notifications[0].notification.id,
            other => panic!("{other:?}"),
        };
        let named = json!({"id": "r-1", "to": {"user": "a"}, "message": "m"});
        assert_eq!(id(5, &named), id(6, &named));
        let nameless = json!({"to": {"user": "a"}, "message": "m"});
        assert_eq!(id(5, &nameless), id(5, &nameless));
        assert_ne!(id(5, &nameless), id(6, &nameless));
    }

    #[test]
    fn an_event_is_told_to_whom_the_rules_say_and_keeps_its_own_id() {
        let data = json!({"userId": "a", "bookingId": "b-1", "vehicleName": "v"});
        let event = json!({"type": "booking:confirmed", "data": data, "id": "e-1"});
        let records = told(&json!({"id": "r-1", "event": event, "exclude": ["x"]}));
        let channels = records.iter().map(|record| (record.channel.as_str(), record.exclude.len())).collect::<Vec<_>>();
        assert_eq!(channels, [("user-a", 0), ("booking-updates", 1)]);
        let again = told(&json!({"id": "r-2", "event": event}));
        assert_eq!(records[0].notification, again[0].notification);
        let unknown = json!({"event": {"type": "nobody:cares", "data": {}}});
        assert_eq!(decided(5, &unknown), Verdict::Ignore(IgnoreReason::NoRule));
    }

    #[test]
    fn every_word_reaches_the_notification() {
        let value = json!({
            "id": "r-1", "to": {"user": "a"}, "type": "t", "title": "T", "message": "M", "data": {"n": 1.5}, "priority": "urgent",
            "actionUrl": "/a", "source": "s", "category": "c", "expiresAt": "2026-02-01T08:00:00Z", "locales": {"fr": {"title": "F"}}
        });
        insta::assert_json_snapshot!(told(&value));
    }

    #[test]
    fn what_is_no_request_is_buried_with_every_fault() {
        let Verdict::Bury(burial) = decided(5, &json!({"to": {}, "title": 7})) else { panic!() };
        assert_eq!((burial.stage, burial.cause, burial.class), ("decode", Cause::Poison, "request_invalid"));
        assert!(burial.message.contains("/to") && burial.message.contains("/title"), "{}", burial.message);
    }
}
