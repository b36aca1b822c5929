//! Trials: what a rule makes of events that its schema allows, text by text.
//!
//! Owns: whether a text can be rendered for an event, by the code that renders in production, and which problem it is if not. A rule whose
//! condition does not hold is not rendered, so it protects what it guards. Neighbours: `variants` makes events, `change` says what was before.

use std::borrow::Cow;

use serde_json::Value;

use super::change;
use super::reach::Reach;
use super::schema::{Field, Schema};
use super::variants::{Kind, Variant, variants};
use super::{Case, event};
use crate::rules::audience;
use crate::rules::context::{EVENT, EVENT_FIELDS};
use crate::rules::problem::{Place, Problem, Severity};
use crate::rules::rule::{Pass, RenderError, Text, WHEN};

/// So many samples are changed field by field; all are tried as they are.
const MOST_BASES: usize = 100;

/// What becomes of one text for one event.
enum Outcome {
    /// It is rendered.
    Fine,
    /// The condition does not hold, or another text of the rule is at fault.
    Spared,
    /// Whom it names is nobody.
    Nobody,
    /// It cannot be rendered.
    Failed(RenderError),
}

impl Case<'_> {
    /// Whether the rule's condition holds for an event.
    pub(super) fn holds(&self, data: &Value) -> Result<bool, RenderError> {
        // An event that is none is the sample's fault, which is told as such.
        let Ok(event) = event(&self.schema.kind, data) else { return Ok(false) };
        self.rule.holds(&Pass::new(&self.set.templates, &event))
    }

    /// Whether it holds for an event that the schema allows.
    pub(super) fn is_met(&self, data: &Value) -> bool {
        self.holds(data).unwrap_or(false) && self.schema.allows(data)
    }

    /// The problems of all texts, by what else than the samples there may be.
    pub(super) fn tried(&self, reach: &Reach) -> Vec<Problem> {
        let witness = if let Reach::ByVariant(data) = reach { Some(data) } else { None };
        let bases = self.schema.samples.iter().map(|(data, _)| data).take(MOST_BASES).chain(witness).collect::<Vec<_>>();
        let mut problems = Vec::new();
        for (field, text) in self.rule.texts() {
            for path in text.variables(&self.set.templates) {
                let read = Read { case: self, field: &field, text, path: &path, steps: path.split('.').collect() };
                problems.extend(read.problems(&bases));
            }
        }
        problems
    }

    /// The problems of samples, but for those that are another problem's already.
    pub(super) fn samples(&self, known: &[Problem]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (data, place) in &self.schema.samples {
            let tried = match event(&self.schema.kind, data) {
                Err(error) => Some((None, error.to_string())),
                Ok(event) => {
                    let pass = Pass::new(&self.set.templates, &event);
                    let failed = match self.rule.holds(&pass) {
                        Ok(true) => self.rule.render(&pass).err(),
                        Ok(false) => None,
                        Err(error) => Some(error),
                    };
                    failed.map(|error| (Some(self.rule.place_of(&error)), error.to_string()))
                }
            };
            let Some((at, message)) = tried else { continue };
            let is_known = |at: Place| {
                known
                    .iter()
                    .any(|problem| problem.severity == Severity::Error && (&problem.file, problem.line) == (&at.file, at.line))
            };
            if !at.is_some_and(is_known) {
                let help = "mend the rule; or the sample, if no service says such a thing";
                problems.push(place.problem(format!("this sample would be buried: {message}")).of("sample_buried", help));
            }
        }
        problems
    }

    fn outcome(&self, (field, text): (&str, &Text), data: &Value) -> Outcome {
        let Ok(event) = event(&self.schema.kind, data) else { return Outcome::Spared };
        let pass = Pass::new(&self.set.templates, &event);
        let holds = self.rule.holds(&pass);
        if field == WHEN {
            return holds.map_or_else(Outcome::Failed, |_| Outcome::Fine);
        }
        if !holds.unwrap_or(false) {
            return Outcome::Spared;
        }
        if !is_audience(field) {
            let rule = self.rule.name().to_owned();
            let failed = |source| Outcome::Failed(RenderError::Field { rule, field: field.to_owned(), source });
            return text.try_as(field, &pass).map_or_else(failed, |()| Outcome::Fine);
        }
        match self.rule.audience.channels(self.rule.name(), &pass) {
            Ok(channels) if channels.is_empty() => Outcome::Nobody,
            Ok(_) => Outcome::Fine,
            Err(error) if error.place().1 == bare(field) => Outcome::Failed(error),
            Err(_) => Outcome::Spared,
        }
    }
}

/// The name of a field without its place in a list.
fn bare(field: &str) -> &str {
    field.split('[').next().unwrap_or(field)
}

fn is_audience(field: &str) -> bool {
    audience::KEYS.contains(&bare(field))
}

/// A text that reads a variable.
struct Read<'a> {
    case: &'a Case<'a>,
    field: &'a str,
    text: &'a Text,
    path: &'a str,
    steps: Vec<&'a str>,
}

impl Read<'_> {
    fn schema(&self) -> &Schema<'_> {
        self.case.schema
    }

    fn problems(&self, bases: &[&Value]) -> Vec<Problem> {
        if let [EVENT, rest @ ..] = self.steps.as_slice() {
            let known = rest.first().is_none_or(|step| EVENT_FIELDS.contains(step));
            return if known { Vec::new() } else { vec![self.no_such_field_of_event()] };
        }
        let says = self.schema().field(&self.steps);
        if says == Field::Absent {
            return vec![self.undefined()];
        }
        let usable = bases.iter().filter(|data| !matches!(self.outcome(data), Outcome::Failed(_) | Outcome::Spared));
        let variants = usable.flat_map(|data| variants(self.schema(), data, &self.steps, &[])).collect::<Vec<_>>();
        let mut problems = Vec::<Problem>::new();
        for variant in &variants {
            let found = match self.outcome(&variant.data) {
                Outcome::Fine | Outcome::Spared => None,
                Outcome::Nobody => Some(self.nobody(variant)),
                Outcome::Failed(error) => Some(self.buried(variant, &error, says)),
            };
            // One event of a kind is enough.
            problems.extend(found.filter(|found| problems.iter().all(|problem| problem.class != found.class)));
        }
        if problems.is_empty() {
            problems.extend(change::silent(self.case, (self.field, self.text), &self.steps));
        }
        problems
    }

    fn outcome(&self, data: &Value) -> Outcome {
        self.case.outcome((self.field, self.text), data)
    }

    fn no_such_field_of_event(&self) -> Problem {
        let (field, path, fields) = (self.field, self.path, EVENT_FIELDS.join(", "));
        let message = format!("`{field}` reads `{path}`; the fields of `{EVENT}` are {fields}");
        self.text
            .place
            .problem(message)
            .of("variable_undefined", format!("read one of those; a field of the event's data stands without `{EVENT}.`"))
    }

    fn undefined(&self) -> Problem {
        let (field, path, file) = (self.field, self.path, self.schema().file.name);
        if let Some(gone) = change::removed(self.case, &self.steps) {
            let message = format!("`{field}` reads `{path}`, which {file} does not have any more ({gone} had it)");
            let help = format!("keep `{path}` in the events, or have a rule in force that does without it before they lose it");
            return self.text.place.problem(message).of("field_removed", help);
        }
        let known = self.schema().siblings(&self.steps);
        let wanted = self.steps.last().copied().unwrap_or_default();
        let help = match known.iter().find(|name| is_like(name, wanted)) {
            Some(like) => format!("is `{like}` meant?"),
            None if known.is_empty() => format!("describe `{path}` in {file}, or do without it"),
            None => format!("it has {} there; describe `{path}` in {file}, or do without it", known.join(", ")),
        };
        let message = format!("`{field}` reads `{path}`, which {file} does not have");
        self.text.place.problem(message).of("variable_undefined", help)
    }

    fn nobody(&self, variant: &Variant) -> Problem {
        let (field, path, file) = (self.field, self.path, self.schema().file.name);
        let told = &variant.told;
        let message = format!(
            "`{field}` reads `{path}`, and {file} allows events {told}; they would tell nobody and be ignored (audience_empty)"
        );
        let help = format!("give `{path}` a `minItems` of 1 in {file}; or leave it, if that is meant");
        self.text.place.problem(message).of("audience_empty", help).mild()
    }

    fn buried(&self, variant: &Variant, error: &RenderError, says: Field) -> Problem {
        let (field, path, file, told) = (self.field, self.path, self.schema().file.name, &variant.told);
        let reason = reason(error);
        let problem = |history: &str| {
            self.text.place.problem(format!(
                "`{field}` reads `{path}`, but {file} allows events {told}{history}; they would be buried: {reason}"
            ))
        };
        let lacks = || match variant.told.strip_prefix("with an item of ") {
            Some(_) => {
                format!("make it required in the items of `{path}` in {file}, or say by `default` what stands in its place")
            }
            None => format!(
                "make `{path}` required in {file}; or say what stands in its place (`{path} | default('…')`), or that it must be there \
                 (`when = \"{path} is defined\"`)"
            ),
        };
        match variant.kind {
            Kind::Lacking if says == Field::Untold => {
                let help = format!("describe `{path}` in {file}, or say what stands in its place: `{path} | default('…')`");
                problem(", for it does not say").of("variable_untold", help).mild()
            }
            Kind::Lacking => match change::made_optional(self.case, &self.steps) {
                Some(before) => problem(&format!(" (by {before} it was always there)")).of("field_made_optional", lacks()),
                None => problem("").of("variable_missing", lacks()),
            },
            Kind::Empty if matches!(error, RenderError::Audience { .. }) => {
                let help = format!("give `{path}` a `minLength` of 1 in {file}, so that who writes such an event learns of it");
                problem("").of("audience_empty", help).mild()
            }
            Kind::Empty | Kind::Other => {
                let help = format!("narrow `{path}` in {file} to what can stand here, or make that of it by a filter");
                match change::retyped(self.case, &self.steps) {
                    Some(change) => problem(&format!(" ({change})")).of("field_type_changed", help),
                    None => problem("").of("wrong_type", help),
                }
            }
        }
    }
}

/// What is wrong, without rule and field.
fn reason(error: &RenderError) -> Cow<'static, str> {
    match error {
        RenderError::Field { source, .. } => source.to_string().into(),
        RenderError::Audience { source, .. } => source.to_string().into(),
        RenderError::WrongType { found, expected, .. } => format!("it gives {found}, it must be {expected}").into(),
        RenderError::TooMany { .. } => error.to_string().into(),
    }
}

/// Whether a name may have been written for another: up to two slips, or only spelled in the other case.
fn is_like(name: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (name, wanted) = (plain(name), plain(wanted));
    if name == wanted {
        return true;
    }
    let mut row = (0..=wanted.len()).collect::<Vec<_>>();
    for (at, letter) in name.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in wanted.iter().enumerate() {
            let changed = corner + usize::from(letter != other);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row.last().is_some_and(|slips| *slips <= 2 && *slips < wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        for (name, wanted) in [("userId", "user_id"), ("userId", "userid"), ("amount", "ammount"), ("dueDate", "duedat")] {
            assert!(is_like(name, wanted), "{name} {wanted}");
        }
        for (name, wanted) in [("amount", "userId"), ("id", "no"), ("a", "bc"), ("name", "")] {
            assert!(!is_like(name, wanted), "{name} {wanted}");
        }
    }
}
