//! One rule: which events it is for, whom it tells, and what it says.
//!
//! Owns: the fields of a rule and how they become a notification. Refuses half a notification: the first field that cannot
//! be rendered is an error that names rule, field and line. Neighbours: `parse` makes rules, `template` renders texts.
//! Long because all that a rule says becomes one notification, field by field.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use minijinja::Value;
use serde_json::Map;

use super::audience::Audience;
use super::context;
use super::own_ladder::OwnLadder;
use super::path::Path;
use super::problem::{Place, Problem};
use super::template::{TemplateError, Templates, Use};
use super::verdict::Terms;
use super::wording::Wording;
use crate::channel::Channel;
use crate::event::{Event, describe};
use crate::fate::Cause;
use crate::ids::IdError;
use crate::locale::Locale;
use crate::notification::{Notification, Priority, Texts};
use crate::record::notified::NotificationRecord;
use crate::time::Delay;

/// A rule, ready to be rendered. Its fields are those of a `[[rule]]` table.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) name: String,
    pub(super) event: String,
    /// Only if this holds.
    pub(super) when: Option<Text>,
    pub(super) audience: Audience,
    pub(super) kind: String,
    /// In the language that everybody gets for whom there is no other.
    pub(super) wording: Wording,
    /// In other languages.
    pub(super) locales: Vec<(Locale, Wording)>,
    pub(super) data: Vec<(String, Text)>,
    pub(super) priority: Priority,
    pub(super) category: Option<String>,
    pub(super) expires_after: Option<Delay>,
    /// Zero: its events may be of any age.
    pub(super) max_age: Option<Delay>,
    /// Whether it is withdrawn from a person's other devices once one has acknowledged it.
    pub(super) once: bool,
    /// On which rungs it waits in a mailbox, if not on all.
    pub(super) ladder: Option<OwnLadder>,
    /// Where its `event` stands.
    pub(super) place: Place,
}

/// A text of a rule.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) body: Body,
    /// Where its first line stands.
    pub(super) place: Place,
}

/// What a text is made of.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// The same for every event.
    Literal(String),
    /// A field of the event and nothing around it.
    Path(Path),
    /// Rendered for each, by the name it has among the templates. In `data` it is an expression.
    Template(String),
}

/// Why an event gives no notification. The template or the event's data is at fault.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A field could not be rendered.
    #[error("rule `{rule}`, field `{field}`: {source}")]
    Field {
        /// The rule's name.
        rule: String,
        /// The field; `data.x` for the field `x` of `data`.
        field: String,
        /// What went wrong.
        source: TemplateError,
    },
    /// What was rendered names nobody.
    #[error("rule `{rule}`, field `{field}`: {source}")]
    Audience {
        /// The rule's name.
        rule: String,
        /// `user`, `role` or `channel`; `users[3]` for one of a list.
        field: String,
        /// What is wrong with the name.
        source: IdError,
    },
    /// An expression gave something else than it must.
    #[error("rule `{rule}`, field `{field}`: it gives {found}, it must be {expected}")]
    WrongType {
        /// The rule's name.
        rule: String,
        /// The field, as above.
        field: String,
        /// What it gives.
        found: &'static str,
        /// What it must give.
        expected: &'static str,
    },
    /// One event would tell more receivers than is allowed.
    #[error("rule `{rule}`, field `{field}`: the event has more than {limit} receivers (`pipeline.receivers_per_event`)")]
    TooMany {
        /// The rule's name.
        rule: String,
        /// The field that came last.
        field: String,
        /// The most that are allowed.
        limit: usize,
    },
}

/// The key of a rule's condition.
pub(super) const WHEN: &str = "when";

impl RenderError {
    /// Always [`Cause::Poison`]: the same event and the same rules give the same.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Poison
    }

    /// The names of the rule and of its field, without the place in a list.
    pub(super) fn place(&self) -> (&str, &str) {
        match self {
            Self::Field { rule, field, .. }
            | Self::Audience { rule, field, .. }
            | Self::WrongType { rule, field, .. }
            | Self::TooMany { rule, field, .. } => (rule, field.split('[').next().unwrap_or(field)),
        }
    }

    /// The line of the field's text, from 1.
    fn line(&self) -> usize {
        match self {
            Self::Field { source, .. } => source.line(),
            Self::Audience { .. } | Self::WrongType { .. } | Self::TooMany { .. } => 1,
        }
    }

    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Audience { .. } => "audience_invalid",
            Self::Field { field, source: TemplateError::Unprintable { .. }, .. } if Use::of(field) == Use::Receiver => {
                "audience_invalid"
            }
            Self::WrongType { field, .. } if field == WHEN => "condition_invalid",
            Self::WrongType { .. } => "audience_invalid",
            Self::TooMany { .. } => "audience_too_large",
            Self::Field { source, .. } => source.class(),
        }
    }
}

impl Text {
    /// The variables it reads, with their paths.
    pub(super) fn variables(&self, templates: &Templates) -> BTreeSet<String> {
        match &self.body {
            Body::Literal(_) => BTreeSet::new(),
            Body::Path(path) => BTreeSet::from([path.written()]),
            Body::Template(name) => templates.variables(name),
        }
    }

    /// What it says where it is not the same for every event.
    pub(super) fn source(&self, templates: &Templates) -> Option<String> {
        match &self.body {
            Body::Literal(_) => None,
            Body::Path(path) => Some(path.written()),
            Body::Template(name) => templates.source(name),
        }
    }

    /// Its words for an event.
    pub(super) fn render(&self, pass: &Pass<'_>, purpose: Use) -> Result<String, TemplateError> {
        match &self.body {
            Body::Literal(text) => Ok(text.clone()),
            Body::Path(path) => path.render(&pass.event.data, purpose, pass.templates.limits()),
            Body::Template(name) => pass.templates.render(name, &pass.context),
        }
    }

    /// Its value for an event, where it is an expression.
    pub(super) fn evaluate(&self, pass: &Pass<'_>) -> Result<serde_json::Value, TemplateError> {
        match &self.body {
            Body::Literal(text) => Ok(text.as_str().into()),
            Body::Path(path) => path.evaluate(&pass.event.data, pass.templates.limits()),
            Body::Template(name) => pass.templates.evaluate(name, &pass.context),
        }
    }

    /// The same where it names receivers, of which there may be many.
    pub(super) fn members<'p>(&self, pass: &Pass<'p>) -> Result<Cow<'p, serde_json::Value>, TemplateError> {
        match &self.body {
            Body::Path(path) => path.find(&pass.event.data).map(Cow::Borrowed),
            Body::Literal(_) | Body::Template(_) => self.evaluate(pass).map(Cow::Owned),
        }
    }

    /// Whether it can be rendered or evaluated for an event, as the field that it is.
    pub(super) fn try_as(&self, field: &str, pass: &Pass<'_>) -> Result<(), TemplateError> {
        match Use::of(field) {
            Use::Value => self.evaluate(pass).map(drop),
            purpose => self.render(pass, purpose).map(drop),
        }
    }
}

impl Rule {
    /// The name, unique among the rules.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the events it is for, or a glob that matches such types.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// How long ago its events may have been said.
    pub(super) fn max_age(&self, terms: &Terms<'_>) -> Option<Duration> {
        self.max_age.map_or(terms.max_age, |age| Some(age.0).filter(|age| !age.is_zero()))
    }

    /// Its texts with the names of their fields, `data.x` for the field `x` of `data`.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, &Text)> {
        let when = self.when.iter().map(|text| (WHEN.to_owned(), text));
        let audience = self.audience.texts().map(|(field, text)| (field.to_owned(), text));
        let texts = self.wording.texts().map(|(key, text)| (key.to_owned(), text));
        let locales = self
            .locales
            .iter()
            .flat_map(|(locale, wording)| wording.texts().map(move |(key, text)| (locale_field(locale, key), text)));
        let data = self.data.iter().map(|(field, text)| (format!("data.{field}"), text));
        when.chain(audience).chain(texts).chain(locales).chain(data)
    }

    /// The line to go to, as `FILE:LINE`.
    pub(super) fn line_of(&self, error: &RenderError) -> String {
        self.place_of(error).to_string()
    }

    /// The line to go to.
    pub(super) fn place_of(&self, error: &RenderError) -> Place {
        let field = self.texts().find(|(field, _)| field == error.place().1);
        field.map_or_else(|| self.place.clone(), |(_, text)| text.place.inside(error.line()))
    }

    /// The problems of rungs that lie behind the end of its notifications.
    pub(super) fn unclimbed(&self) -> Vec<Problem> {
        let ladder = self.ladder.as_ref().zip(self.expires_after);
        ladder.map(|(ladder, end)| ladder.behind(end).collect()).unwrap_or_default()
    }

    /// Whether its condition holds for an event.
    pub(super) fn holds(&self, pass: &Pass<'_>) -> Result<bool, RenderError> {
        let Some(when) = &self.when else { return Ok(true) };
        match when.evaluate(pass).map_err(|source| self.error(WHEN.to_owned(), source))? {
            serde_json::Value::Bool(holds) => Ok(holds),
            other => {
                let (rule, field) = (self.name.clone(), WHEN.to_owned());
                Err(RenderError::WrongType { rule, field, found: describe(&other), expected: "true or false" })
            }
        }
    }

    /// What this rule makes of an event: one notification for each channel it goes to.
    pub(super) fn render(&self, pass: &Pass<'_>) -> Result<Vec<NotificationRecord>, RenderError> {
        let mut channels = self.audience.channels(&self.name, pass)?;
        let Some(last) = channels.pop() else { return Ok(Vec::new()) };
        let event = pass.event;
        let mut data = Map::new();
        for (field, text) in &self.data {
            let value = text.evaluate(pass);
            data.insert(field.clone(), value.map_err(|source| self.error(format!("data.{field}"), source))?);
        }
        let texts = self.wording.render(pass).map_err(|(key, source)| self.error(key.to_owned(), source))?;
        let notification = Notification {
            id: event.identity.notification_id(&self.name, &last),
            event_id: event.event_id.clone(),
            kind: self.kind.clone(),
            created_at: event.time,
            title: texts.title,
            message: texts.message,
            data,
            priority: self.priority,
            action_url: texts.action_url,
            source: Some(event.origin.topic.clone()),
            category: self.category.clone(),
            expires_at: self.expires_after.map(|delay| event.time.plus(delay.0)),
            once: self.once && last.is_mailbox(),
            locales: self.in_locales(pass)?,
        };
        let record = |channel: Channel, notification| NotificationRecord {
            ladder: self.ladder.as_ref().filter(|_| channel.is_mailbox()).map(OwnLadder::delays),
            channel,
            notification,
            rule: self.name.clone(),
            origin: event.origin.clone(),
            exclude: Vec::new(),
            attempts_forgotten: 0,
            attempts: Vec::new(),
        };
        let mut records = Vec::with_capacity(channels.len() + 1);
        for channel in channels {
            let id = event.identity.notification_id(&self.name, &channel);
            let once = self.once && channel.is_mailbox();
            records.push(record(channel, Notification { id, once, ..notification.clone() }));
        }
        records.push(record(last, notification));
        Ok(records)
    }

    fn in_locales(&self, pass: &Pass<'_>) -> Result<BTreeMap<Locale, Texts>, RenderError> {
        let render = |(locale, wording): &(Locale, Wording)| {
            let texts = wording.render(pass).map_err(|(key, source)| self.error(locale_field(locale, key), source))?;
            Ok((locale.clone(), texts))
        };
        self.locales.iter().map(render).collect()
    }

    fn error(&self, field: String, source: TemplateError) -> RenderError {
        RenderError::Field { rule: self.name.clone(), field, source }
    }
}

/// What a text of a locale is called in problems and burials.
pub(super) fn locale_field(locale: &Locale, key: &str) -> String {
    format!("locales.{locale}.{key}")
}

/// One event on its way through the rules that match it.
pub(super) struct Pass<'a> {
    templates: &'a Templates,
    event: &'a Event,
    context: Value,
    /// How many receivers the event may still have.
    room: Cell<usize>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(templates: &'a Templates, event: &'a Event) -> Self {
        Self { templates, event, context: context::context(event), room: Cell::new(templates.limits().receivers) }
    }
    /// Takes room for this many receivers; false if the event has no more.
    pub(super) fn take(&self, receivers: usize) -> bool {
        self.room.get().checked_sub(receivers).map(|left| self.room.set(left)).is_some()
    }

    /// The most receivers that an event may have.
    pub(super) fn most(&self) -> usize {
        self.templates.limits().receivers
    }
}
