//! One rule: which events it is for, whom it tells, and what it says.
//!
//! Owns: the fields of a rule and how they become a notification. Refuses half a notification: the first field that cannot
//! be rendered is an error that names rule, field and line. Neighbours: `parse` makes rules, `template` renders texts.

use std::collections::BTreeSet;

use minijinja::Value;
use serde_json::Map;

use super::context;
use super::path::Path;
use super::problem::Place;
use super::template::{TemplateError, Templates, Use};
use crate::channel::Channel;
use crate::event::Event;
use crate::fate::Cause;
use crate::ids::{IdError, UserId};
use crate::notification::{Notification, Priority};
use crate::record::notified::NotificationRecord;
use crate::time::Delay;

/// A rule, ready to be rendered. Its fields are those of a `[[rule]]` table.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) name: String,
    pub(super) event: String,
    pub(super) audience: Audience,
    pub(super) kind: String,
    pub(super) title: Option<Text>,
    pub(super) message: Option<Text>,
    pub(super) data: Vec<(String, Text)>,
    pub(super) priority: Priority,
    pub(super) action_url: Option<Text>,
    pub(super) category: Option<String>,
    pub(super) expires_after: Option<Delay>,
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

    /// Its texts with the names of their fields, `data.x` for the field `x` of `data`.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, &Text)> {
        let (Audience::User(audience) | Audience::Channel(audience)) = &self.audience;
        let single = [
            (self.audience.field(), Some(audience)),
            ("title", self.title.as_ref()),
            ("message", self.message.as_ref()),
            ("action_url", self.action_url.as_ref()),
        ];
        let single = single.into_iter().filter_map(|(field, text)| text.map(|text| (field.to_owned(), text)));
        single.chain(self.data.iter().map(|(field, text)| (format!("data.{field}"), text)))
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
        let notification = Notification {
            id: event.identity.notification_id(&self.name, &channel),
            event_id: event.event_id.clone(),
            kind: self.kind.clone(),
            created_at: event.time,
            title: self.optional("title", self.title.as_ref(), pass)?,
            message: self.optional("message", self.message.as_ref(), pass)?,
            data,
            priority: self.priority,
            action_url: self.optional("action_url", self.action_url.as_ref(), pass)?,
            source: Some(event.origin.topic.clone()),
            category: self.category.clone(),
            expires_at: self.expires_after.map(|delay| event.time.plus(delay.0)),
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

    fn optional(&self, field: &str, text: Option<&Text>, pass: &Pass<'_>) -> Result<Option<String>, RenderError> {
        let rendered = text.map(|text| text.render(pass, Use::Text)).transpose();
        rendered.map_err(|source| self.error(field.to_owned(), source))
    }

    fn error(&self, field: String, source: TemplateError) -> RenderError {
        RenderError::Field { rule: self.name.clone(), field, source }
    }
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
