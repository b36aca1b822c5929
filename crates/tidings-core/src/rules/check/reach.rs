//! Reach: whether any event gets past a rule's condition.
//!
//! Owns: the search for one, among samples and what else the schema allows, led by the values that the condition itself names. Refuses to
//! judge what depends on more than the event's data. Neighbours: `variants` makes events, `check` says what is never reached.

use serde_json::Value;

use super::Case;
use super::variants::replaced;
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
    /// It depends on what is not looked at here.
    Untold,
    /// None that was tried.
    Never,
}

pub(super) fn reach(case: &Case<'_>) -> Reach {
    let Some(when) = &case.rule.when else { return Reach::BySample };
    let samples = || case.schema.samples.iter().map(|(data, _)| data);
    // One on which the condition fails is told as such.
    if samples().any(|data| case.holds(data).unwrap_or(true)) {
        return Reach::BySample;
    }
    let paths = when.variables(&case.set.templates).into_iter().collect::<Vec<_>>();
    let of_event = |path: &String| path == EVENT || path.strip_prefix(EVENT).is_some_and(|rest| rest.starts_with('.'));
    if paths.len() > MOST_FIELDS || paths.iter().any(of_event) {
        return Reach::Untold;
    }
    let hints = when.source(&case.set.templates).map(|source| literals(&source)).unwrap_or_default();
    let mut tried = samples().cloned().collect::<Vec<_>>();
    if tried.is_empty() {
        return Reach::Untold;
    }
    for path in &paths {
        let steps = path.split('.').collect::<Vec<_>>();
        let more = tried.iter().flat_map(|data| replaced(case.schema, data, &steps, &hints)).map(|variant| variant.data);
        let more = more.take(MOST_TRIED - tried.len()).collect::<Vec<_>>();
        if let Some(found) = more.iter().find(|data| case.holds(data).unwrap_or(false) && case.schema.allows(data)) {
            return Reach::ByVariant(found.clone());
        }
        tried.extend(more);
    }
    if tried.len() < MOST_TRIED { Reach::Never } else { Reach::Untold }
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
