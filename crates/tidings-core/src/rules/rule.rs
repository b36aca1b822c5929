//! One rule: which events it is for, whom it tells, and what it says.
//!
//! Owns: the fields of a rule and how they become a notification. Refuses half a notification: the first field that cannot
//! be rendered is an error that names rule, field and line. Neighbours: `parse` makes rules, `template` renders texts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use minijinja::Value;
use serde_json::Map;

use super::context;
use super::path::Path;
use super::problem::Place;
use super::template::{TemplateError, Templates, Use};
use super::verdict::Terms;
use super::wording::Wording;
use crate::channel::Channel;
use crate::event::Event;
use crate::fate::Cause;
use crate::ids::{IdError, UserId};
use crate::locale::Locale;
use crate::notification::{Notification, Priority, Texts};
use crate::record::notified::NotificationRecord;
use crate::time::Delay;

/// A rule, ready to be rendered. Its fields are those of a `[[rule]]` table.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) name: String,
    pub(super) event: String,
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
    /// Where its `event` stands.
    pub(super) place: Place,
}

/// Whom a rule tells.
#[derive(Debug, Clone)]
pub(super) enum Audience {
    /// One person, by id.
    User(Text),
    /// Whoever listens to a channel.
    Channel(Text),
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
        /// `user` or `channel`.
        field: &'static str,
        /// What is wrong with the name.
        source: IdError,
    },
}

impl RenderError {
    /// Always [`Cause::Poison`]: the same event and the same rules give the same.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Poison
    }

    /// A short name, stable across releases, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Audience { .. } => "audience_invalid",
            Self::Field { field, source: TemplateError::Unprintable { .. }, .. } if field == "user" || field == "channel" => {
                "audience_invalid"
            }
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
        let (Audience::User(audience) | Audience::Channel(audience)) = &self.audience;
        let audience = std::iter::once((self.audience.field().to_owned(), audience));
        let texts = self.wording.texts().map(|(key, text)| (key.to_owned(), text));
        let locales = self
            .locales
            .iter()
            .flat_map(|(locale, wording)| wording.texts().map(move |(key, text)| (locale_field(locale, key), text)));
        let data = self.data.iter().map(|(field, text)| (format!("data.{field}"), text));
        audience.chain(texts).chain(locales).chain(data)
    }

    /// What this rule makes of an event: one notification for each channel it goes to.
    pub(super) fn render(&self, pass: &Pass<'_>) -> Result<Vec<NotificationRecord>, RenderError> {
        let channel = self.channel(pass)?;
        let event = pass.event;
        let mut data = Map::new();
        for (field, text) in &self.data {
            let value = text.evaluate(pass);
            data.insert(field.clone(), value.map_err(|source| self.error(format!("data.{field}"), source))?);
        }
        let texts = self.wording.render(pass).map_err(|(key, source)| self.error(key.to_owned(), source))?;
        let notification = Notification {
            id: event.identity.notification_id(&self.name, &channel),
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
            locales: self.in_locales(pass)?,
        };
        let (rule, origin) = (self.name.clone(), event.origin.clone());
        Ok(vec![NotificationRecord { channel, notification, rule, origin, exclude: Vec::new() }])
    }

    fn channel(&self, pass: &Pass<'_>) -> Result<Channel, RenderError> {
        let field = self.audience.field();
        let name = |text: &Text| text.render(pass, Use::Receiver).map_err(|source| self.error(field.to_owned(), source));
        let channel = match &self.audience {
            Audience::User(text) => name(text)?.parse::<UserId>().map(|user| Channel::mailbox(&user)),
            Audience::Channel(text) => name(text)?.parse(),
        };
        channel.map_err(|source| RenderError::Audience { rule: self.name.clone(), field, source })
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

impl Audience {
    fn field(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Channel(_) => "channel",
        }
    }
}

/// One event on its way through the rules that match it.
pub(super) struct Pass<'a> {
    templates: &'a Templates,
    event: &'a Event,
    context: Value,
}

impl<'a> Pass<'a> {
    pub(super) fn new(templates: &'a Templates, event: &'a Event) -> Self {
        Self { templates, event, context: context::context(event) }
    }
}
