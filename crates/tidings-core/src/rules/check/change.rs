//! Changes: what the schema of a rule's events said before.
//!
//! Owns: whether a field was removed, may be missing now, or has got another type, compared with the version that was there before, and
//! what of that a rule would not notice although it means something else now. Neighbours: `trial` finds what breaks.

use std::collections::BTreeSet;

use super::Case;
use super::schema::{Field, Schema};
use crate::rules::problem::Problem;
use crate::rules::rule::{Text, WHEN};

/// Where a field was that is gone, as `FILE:LINE`.
pub(super) fn removed(case: &Case<'_>, path: &[&str]) -> Option<String> {
    let before = case.before.filter(|before| matches!(before.field(path), Field::Certain | Field::Uncertain))?;
    Some(before.place(path).to_string())
}

/// Where a field was said to be always there that may be missing now.
pub(super) fn made_optional(case: &Case<'_>, path: &[&str]) -> Option<String> {
    let before = case.before.filter(|before| before.field(path) == Field::Certain)?;
    Some(before.place(path).to_string())
}

/// What was said of a field's type, if it may have one now that it could not have.
pub(super) fn retyped(case: &Case<'_>, path: &[&str]) -> Option<String> {
    let before = case.before?;
    let (was, now) = (before.types(path)?, case.schema.types(path)?);
    let more = now.iter().any(|kind| !(was.contains(kind) || kind == "integer" && was.contains("number")));
    more.then(|| format!("by {} it was {}, now it is {}", before.place(path), named(&was), named(&now)))
}

/// The problem of a text that still renders with a field of another type, and may say or decide something else.
pub(super) fn silent(case: &Case<'_>, (field, text): (&str, &Text), path: &[&str]) -> Option<Problem> {
    let change = retyped(case, path)?;
    let shown = path.join(".");
    if field == WHEN {
        let message = format!(
            "`{field}` compares `{shown}`, whose type has changed ({change}): it may never hold any more, without an error"
        );
        let help = format!("compare what it is now, for instance with `{shown} | string` or `{shown} | float`; or keep the type");
        return Some(text.place.problem(message).of("field_type_changed", help));
    }
    let message = format!("`{field}` reads `{shown}`, whose type has changed ({change}): what people read may look different");
    let help = "look at what becomes of a new sample (`tidings render`), and write it by a filter if it should stay as it was";
    Some(text.place.problem(message).of("field_type_changed", help).mild())
}

/// The file in which events of a type were described that are described nowhere now.
pub(super) fn gone<'a>(before: &'a [Schema<'_>], matches: impl Fn(&str) -> bool) -> Option<&'a str> {
    before.iter().find(|schema| matches(&schema.kind)).map(|schema| schema.file.name)
}

fn named(kinds: &BTreeSet<String>) -> String {
    kinds.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}
