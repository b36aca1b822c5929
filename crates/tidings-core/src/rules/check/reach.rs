//! Reach: whether any event gets past a rule's condition.
//!
//! Owns: the search for one, among samples and what else the schema allows, led by the values that the condition itself names. That there is none
//! it says only where `domain` leaves nothing out: a condition over a length or a pattern is never called unreachable. Neighbours: `variants`
//! makes events, `check` says what is never reached.

use serde_json::Value;

use super::Case;
use super::domain::{Domain, domains};
use super::variants::{replaced, with, without};
use crate::rules::context::EVENT;

/// A condition over more fields than that is only tried on samples.
const MOST_FIELDS: usize = 4;
/// So many events are tried at most.
const MOST_TRIED: usize = 4000;

/// Whether events get to a rule.
pub(super) enum Reach {
    /// Samples do.
    BySample,
    /// This one would.
    ByVariant(Value),
    /// None that was tried, and there may be others.
    Untold,
    /// None that there may be.
    Never,
}

pub(super) fn reach(case: &Case<'_>) -> Reach {
    let Some(when) = &case.rule.when else { return Reach::BySample };
    let mut samples = case.schema.samples.iter().map(|(data, _)| data);
    // One on which the condition fails is told as such.
    if samples.any(|data| case.holds(data).unwrap_or(true)) {
        return Reach::BySample;
    }
    let paths = when.variables(&case.set.templates).into_iter().collect::<Vec<_>>();
    let of_event = |path: &String| path == EVENT || path.strip_prefix(EVENT).is_some_and(|rest| rest.starts_with('.'));
    if paths.len() > MOST_FIELDS || paths.iter().any(of_event) || case.schema.samples.is_empty() {
        return Reach::Untold;
    }
    let source = when.source(&case.set.templates).unwrap_or_default();
    let steps = paths.iter().map(|path| path.split('.').collect()).collect::<Vec<Vec<&str>>>();
    if let Some(found) = near(case, &steps, &literals(&source)) {
        return Reach::ByVariant(found);
    }
    match domains(case.schema, &steps, bare(&source)) {
        Some(domains) => among(case, &steps, &domains),
        None => Reach::Untold,
    }
}

/// An expression without the braces that it is kept in.
fn bare(source: &str) -> &str {
    source.strip_prefix("{{ (").and_then(|source| source.strip_suffix(") }}")).unwrap_or(source)
}

/// An event like a sample in all but these fields that the condition takes; the hints are what it names.
fn near(case: &Case<'_>, paths: &[Vec<&str>], hints: &[Value]) -> Option<Value> {
    let mut tried = case.schema.samples.iter().map(|(data, _)| data.clone()).collect::<Vec<_>>();
    for path in paths {
        let more = tried.iter().flat_map(|data| replaced(case.schema, data, path, hints)).map(|variant| variant.data);
        let more = more.take(MOST_TRIED.saturating_sub(tried.len())).collect::<Vec<_>>();
        if let Some(found) = more.iter().find(|data| case.is_met(data)) {
            return Some(found.clone());
        }
        tried.extend(more);
    }
    None
}

/// Goes through all that can be made of the domains.
fn among(case: &Case<'_>, paths: &[Vec<&str>], domains: &[Domain]) -> Reach {
    let many = domains.iter().try_fold(1_usize, |many, domain| many.checked_mul(domain.len()));
    let Some(((base, _), many)) = case.schema.samples.first().zip(many.filter(|many| *many <= MOST_TRIED)) else {
        return Reach::Untold;
    };
    for number in 0..many {
        let (mut rest, mut data) = (number, Some(base.clone()));
        for (path, domain) in paths.iter().zip(domains) {
            let value = &domain[rest % domain.len()];
            rest /= domain.len();
            data = data.and_then(|data| match value {
                Some(value) => with(&data, path, value.clone()),
                None => without(&data, path),
            });
        }
        match data {
            // What cannot be made is not known to be none.
            None => return Reach::Untold,
            Some(data) if case.is_met(&data) => return Reach::ByVariant(data),
            Some(_) => {}
        }
    }
    Reach::Never
}

/// The texts in quotes and the numbers of an expression; beside each number its neighbours, for what is compared with it.
fn literals(source: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let behind = &rest[first.len_utf8()..];
        if first == '\'' || first == '"' {
            let end = behind.find(first).unwrap_or(behind.len());
            found.push(behind[..end].into());
            rest = behind.get(end + 1..).unwrap_or_default();
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            if let Ok(number) = rest[..end].parse::<i64>() {
                found.extend([number - 1, number, number + 1].map(Value::from));
            } else if let Ok(number) = rest[..end].parse::<f64>() {
                found.extend([number - 0.5, number, number + 0.5].map(Value::from));
            }
            rest = &rest[end..];
        } else {
            // Digits within a name are no number.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest = &rest[word.max(first.len_utf8())..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_condition_names_is_found_in_it() {
        assert_eq!(literals("a1 > 20 and b == 'x y'"), [json!(19), json!(20), json!(21), json!("x y")]);
        assert_eq!(
            literals("état == \"ü\" or c < 0.5 or 'open"),
            [json!("ü"), json!(0.0), json!(0.5), json!(1.0), json!("open")]
        );
        assert_eq!(literals(""), Vec::<Value>::new());
    }
}
