//! The audience: whom a rule tells about an event.
//!
//! Owns: how the keys `user`, `users`, `role`, `channel` and `everyone` become channels, each once. Nobody is an answer too.
//! Refuses names that name nobody, and more receivers for one event than is allowed. Neighbours: `parse` reads the keys, `rule`
//! writes a notification for each channel.

use std::collections::HashSet;

use serde_json::Value;

use super::rule::{Pass, RenderError, Text};
use super::template::{TemplateError, Use};
use crate::channel::Channel;
use crate::event::describe;
use crate::ids::{IdError, UserId};

/// The keys of a rule that say whom it tells.
pub(super) const KEYS: [&str; 5] = ["user", "users", "role", "channel", "everyone"];

/// A part of an audience.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// One person, by id.
    User(Text),
    /// Several people: an expression that gives a list of ids.
    Users(Text),
    /// Everyone who has a role.
    Role(Text),
    /// Whoever listens to a channel.
    Channel(Text),
    /// Every connection.
    Everyone,
}

/// Whom a rule tells: the parts with what they are called in problems and burials, `user`, or `user[1]` in a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Audience(pub(super) Vec<(String, Target)>);

impl Audience {
    /// The texts it is made of, by what they are called.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &Text)> {
        self.0.iter().filter_map(|(field, target)| match target {
            Target::User(text) | Target::Users(text) | Target::Role(text) | Target::Channel(text) => Some((field.as_str(), text)),
            Target::Everyone => None,
        })
    }

    /// The channels for an event, each once, in their order. What is over is taken from the room that the event has.
    pub(super) fn channels(&self, rule: &str, pass: &Pass<'_>) -> Result<Vec<Channel>, RenderError> {
        let mut channels = Vec::with_capacity(1);
        for (field, target) in &self.0 {
            let call = Call { rule, field, pass };
            match target {
                Target::User(text) => channels.push(call.named(text, |name| name.parse().map(|user| Channel::mailbox(&user)))?),
                Target::Role(text) => channels.push(call.named(text, Channel::role)?),
                Target::Channel(text) => channels.push(call.named(text, str::parse)?),
                Target::Everyone => channels.push(Channel::everyone()),
                Target::Users(text) => call.mailboxes(text, &mut channels)?,
            }
        }
        if channels.len() > 1 {
            let mut seen = HashSet::with_capacity(channels.len());
            channels.retain(|channel| seen.insert(channel.clone()));
        }
        let field = self.0.last().map_or("", |(field, _)| field);
        if pass.take(channels.len()) { Ok(channels) } else { Err(Call { rule, field, pass }.too_many()) }
    }
}

/// One part on its way to its channels.
struct Call<'a> {
    rule: &'a str,
    field: &'a str,
    pass: &'a Pass<'a>,
}

impl Call<'_> {
    fn named(&self, text: &Text, channel: impl Fn(&str) -> Result<Channel, IdError>) -> Result<Channel, RenderError> {
        let name = text.render(self.pass, Use::Receiver).map_err(|source| self.failed(source))?;
        channel(&name).map_err(|source| self.nobody(self.field.to_owned(), source))
    }

    fn mailboxes(&self, text: &Text, channels: &mut Vec<Channel>) -> Result<(), RenderError> {
        let members = text.members(self.pass).map_err(|source| self.failed(source))?;
        let Value::Array(members) = &*members else {
            return Err(self.wrong(self.field.to_owned(), &members, "a list of users"));
        };
        // Before anything is made of them: a name may stand there a million times.
        if members.len() > self.pass.most() {
            return Err(self.too_many());
        }
        for (index, member) in members.iter().enumerate() {
            let field = || format!("{}[{index}]", self.field);
            let user: Result<UserId, IdError> = match member {
                Value::String(name) => name.parse(),
                Value::Number(number) if !number.is_f64() => number.to_string().parse(),
                other => return Err(self.wrong(field(), other, "a string or an integer, which names a user")),
            };
            channels.push(Channel::mailbox(&user.map_err(|source| self.nobody(field(), source))?));
        }
        Ok(())
    }

    fn failed(&self, source: TemplateError) -> RenderError {
        RenderError::Field { rule: self.rule.to_owned(), field: self.field.to_owned(), source }
    }

    fn nobody(&self, field: String, source: IdError) -> RenderError {
        RenderError::Audience { rule: self.rule.to_owned(), field, source }
    }

    fn wrong(&self, field: String, found: &Value, expected: &'static str) -> RenderError {
        RenderError::WrongType { rule: self.rule.to_owned(), field, found: describe(found), expected }
    }

    fn too_many(&self) -> RenderError {
        RenderError::TooMany { rule: self.rule.to_owned(), field: self.field.to_owned(), limit: self.pass.most() }
    }
}
