//! Wording: what a rule says, in one language.
//!
//! Owns: the three texts that people read, and their names in problems and burials. Refuses nothing: a text that cannot be
//! rendered is an error of its template. Neighbours: `parse` reads them, `rule` has one wording and one more for each locale.

use super::rule::{Pass, Text};
use super::template::{TemplateError, Use};
use crate::notification::Texts;

/// The names of the texts, as keys of a rule and of its locales.
pub(super) const KEYS: [&str; 3] = ["title", "message", "action_url"];

/// The texts of a rule in one language.
#[derive(Debug, Clone, Default)]
pub(super) struct Wording {
    pub(super) title: Option<Text>,
    pub(super) message: Option<Text>,
    pub(super) action_url: Option<Text>,
}

impl Wording {
    /// The texts that are there, by the names of [`KEYS`].
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        let all = [self.title.as_ref(), self.message.as_ref(), self.action_url.as_ref()];
        KEYS.into_iter().zip(all).filter_map(|(key, text)| Some((key, text?)))
    }

    /// The words for an event, or which text could not be rendered and why.
    pub(super) fn render(&self, pass: &Pass<'_>) -> Result<Texts, (&'static str, TemplateError)> {
        let [title, message, action_url] = KEYS;
        let words = |key: &'static str, text: Option<&Text>| {
            text.map(|text| text.render(pass, Use::Text)).transpose().map_err(|source| (key, source))
        };
        Ok(Texts {
            title: words(title, self.title.as_ref())?,
            message: words(message, self.message.as_ref())?,
            action_url: words(action_url, self.action_url.as_ref())?,
        })
    }
}
