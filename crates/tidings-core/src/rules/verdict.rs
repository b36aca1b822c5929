//! The verdict: what becomes of one record. The whole decision of the pipeline, as one pure function.

use std::time::Duration;

use super::{Rendered, RuleSet};
use crate::event::{self, Event, EventError, Explained, Reading, SourceRecord};
use crate::fate::Cause;
use crate::record::context::{Blamed, Failure, LIMIT_MESSAGE_BYTES};
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
    /// The condition of each rule for it is false.
    ConditionFalse,
    /// Whom its rules tell is nobody.
    AudienceEmpty,
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
            Self::ConditionFalse => "condition_false",
            Self::AudienceEmpty => "audience_empty",
        }
    }

    /// The same as a sentence.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::NoRule => "no rule is for events of this type",
            Self::Tombstone => "the record has no value",
            Self::EmptyPayload => "the record's value is empty",
            Self::NobodyLeft => "the request leaves out everybody it is for",
            Self::TooOld => "it happened longer ago than `max_age`",
            Self::ConditionFalse => "the condition (`when`) does not hold",
            Self::AudienceEmpty => "the list of users whom it tells is empty",
        }
    }

    /// Of the reasons of several rules the first is shown, and any counts more than that there is no rule.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::NoRule { other } else { self }
    }
}

/// Why a record is buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// The step that failed: `decode` or `render` here; whoever carries a verdict out has names of its own.
    pub stage: &'static str,
    /// The kind of failure.
    pub cause: Cause,
    /// A short name of the failure, stable across releases.
    pub class: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The rule that it went wrong in, if it was one.
    pub rule: Option<Blamed>,
}

impl Burial {
    /// A burial whose message is cut after [`LIMIT_MESSAGE_BYTES`], at a character's end: a template engine may quote whatever it was
    /// given.
    #[must_use]
    pub fn new(stage: &'static str, cause: Cause, class: &'static str, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(LIMIT_MESSAGE_BYTES));
        Self { stage, cause, class, message, rule: None }
    }

    /// The burial of a record of which a header's name cannot be read.
    #[must_use]
    pub fn illegible() -> Self {
        let message = "the name of a header is not UTF-8, as the names of Kafka's headers are".to_owned();
        Self::new("decode", Cause::Poison, "header_name_not_utf8", message)
    }

    /// The burial of a record of which a notification does not fit.
    #[must_use]
    pub fn too_large() -> Self {
        let message = "a notification of it is larger than `max.message.bytes` of its topic allows".to_owned();
        Self::new("publish", Cause::Refused, "notification_too_large", message)
    }

    /// The same for headers.
    #[must_use]
    pub fn failure(&self) -> Failure<'_> {
        Failure { stage: self.stage, cause: self.cause, class: self.class, message: &self.message, rule: self.rule.as_ref() }
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
    decide_explained(rules, record, Explained::default(), terms)
}

/// The same of a record whose value or key has a schema.
#[must_use]
pub fn decide_explained(rules: &RuleSet, record: &SourceRecord<'_>, explained: Explained, terms: &Terms<'_>) -> Verdict {
    if let Some(reason) = nothing_said(record) {
        return Verdict::Ignore(reason);
    }
    match event::decode_explained(record, explained, terms.reading) {
        Ok(event) => by_rules(rules, &event, terms),
        Err(error) if error.is_empty() => Verdict::Ignore(IgnoreReason::EmptyPayload),
        Err(error) => Verdict::Bury(unread(&error)),
    }
}

/// The same of a record of which only some events are meant; none if its event is not, or it has none. What cannot be read as an event
/// is taken to be meant.
///
/// # Errors
/// What `is_meant` says.
pub fn decide_if<E>(
    rules: &RuleSet,
    (record, explained): (&SourceRecord<'_>, Explained),
    terms: &Terms<'_>,
    is_meant: impl FnOnce(&Event) -> Result<bool, E>,
) -> Result<Option<Verdict>, E> {
    if nothing_said(record).is_some() {
        return Ok(None);
    }
    match event::decode_explained(record, explained, terms.reading) {
        Ok(event) => Ok(is_meant(&event)?.then(|| by_rules(rules, &event, terms))),
        Err(error) if error.is_empty() => Ok(None),
        Err(error) => Ok(Some(Verdict::Bury(unread(&error)))),
    }
}

fn unread(error: &EventError) -> Burial {
    Burial::new("decode", error.cause(), error.class(), error.to_string())
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
        Err(error) => {
            let burial = Burial::new("render", error.cause(), error.class(), error.to_string());
            Verdict::Bury(Burial { rule: rules.blamed(&error), ..burial })
        }
    }
}

#[cfg(test)]
mod tests;
