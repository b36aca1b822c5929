//! Domains: for each field that a condition reads some values, such that if any event met the condition one with these would.
//!
//! Owns: for which conditions and schemas there are such values: fields compared with what stands beside them, and fields that have only so many
//! values. Refuses to guess: where a filter, a pattern or another field may matter, it gives none, and nothing is claimed. Neighbours: `reach`
//! tries what comes out of here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::compared::Compared;
use super::schema::{Field, Schema};
use super::variants::with;

/// A field with more listed values is not gone through.
const MOST_LISTED: usize = 256;
/// What may be said of an object around a field without making the field depend on others.
const AROUND: [&str; 13] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "examples",
    "default",
];
/// What may be said of a field itself so that values show all there is to know.
const PLAIN: [&str; 15] = [
    "$comment",
    "title",
    "description",
    "type",
    "examples",
    "default",
    "deprecated",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
];
/// Words of expressions that are no fields.
const LANGUAGE: [&str; 20] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "defined",
    "undefined",
    "default",
    "lower",
    "upper",
    "trim",
    "length",
];
/// Beyond it numbers are not exact any more.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// The values of a field; none stands for an event without it.
pub(super) type Domain = Vec<Option<Value>>;

/// The domains of these fields, in their order, or nothing if they cannot be told.
pub(super) fn domains(schema: &Schema<'_>, paths: &[Vec<&str>], source: &str) -> Option<Vec<Domain>> {
    let nested = |path: &[&str]| paths.iter().any(|other| other.len() > path.len() && other.starts_with(path));
    if paths.iter().any(|path| nested(path)) {
        return None;
    }
    let compared = Compared::of(source);
    if compared.is_none() && !reads_only(source, paths) {
        return None;
    }
    paths.iter().map(|path| domain(schema, path, compared.as_ref())).collect()
}

/// Whether each name in an expression is one of the fields, or of the language: the engine does not list what it reads by a slice.
fn reads_only(source: &str, paths: &[Vec<&str>]) -> bool {
    let parts = source.split(['\'', '"']);
    // What stands in quotes is no name; where quotes may stand in quotes that is not sure.
    let code = parts.step_by(2).collect::<Vec<_>>().join(" ");
    let is_known = |word: &str| LANGUAGE.contains(&word) || paths.iter().any(|path| path.join(".") == word);
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let names = code.split(|c: char| !is_word(c)).filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let has = |c: char| source.contains(c);
    let is_tangled = has('\\') || (has('"') && has('\''));
    !is_tangled && names.filter(|word| !word.is_empty()).all(is_known)
}

fn domain(schema: &Schema<'_>, path: &[&str], compared: Option<&Compared>) -> Option<Domain> {
    if !stands_alone(schema, path) {
        return None;
    }
    let property = schema.property(path)?.as_object()?;
    let listed = property.get("enum").and_then(Value::as_array).cloned();
    let listed = listed.or_else(|| property.get("const").map(|only| vec![only.clone()]));
    let values = match listed {
        Some(listed) => Some(listed).filter(|listed| listed.len() <= MOST_LISTED),
        None => unlisted(schema, path, compared),
    };
    Some(values?.into_iter().map(Some).chain([None]).collect())
}

/// Whether nothing but the property says which values the field may have.
fn stands_alone(schema: &Schema<'_>, path: &[&str]) -> bool {
    (0..path.len()).all(|depth| {
        let around = &path[..depth];
        let is_there = depth == 0
            || (schema.field(around) == Field::Certain && schema.types(around) == Some(BTreeSet::from(["object".to_owned()])));
        let keywords = schema.property(around).and_then(Value::as_object);
        is_there && keywords.is_some_and(|keywords| keywords.keys().all(|keyword| AROUND.contains(&keyword.as_str())))
    })
}

/// The values of a field that has more than can be listed.
fn unlisted(schema: &Schema<'_>, path: &[&str], compared: Option<&Compared>) -> Option<Vec<Value>> {
    let property = schema.property(path)?.as_object()?;
    let plain = property.keys().all(|keyword| PLAIN.contains(&keyword.as_str()));
    let types = schema.types(path).filter(|_| plain)?;
    let mut values = Vec::new();
    for kind in &types {
        match kind.as_str() {
            "boolean" => values.extend([json!(true), json!(false)]),
            "null" => values.push(Value::Null),
            "string" => values.extend(texts(schema, path, compared?)?),
            "number" | "integer" => values.extend(numbers(property, compared?.with(path)?)?),
            _ => return None,
        }
    }
    Some(values)
}

/// Those it is compared with, and one that is none of them.
fn texts(schema: &Schema<'_>, path: &[&str], compared: &Compared) -> Option<Vec<Value>> {
    if compared.is_text_ordered(path) {
        return None;
    }
    let beside = compared.with(path)?;
    let of_samples = schema.samples.iter().filter_map(|(data, _)| path.iter().try_fold(data, |value, step| value.get(step)));
    let made = ["x", "", "xxxxxxxx"].map(Value::from);
    let (sample, _) = schema.samples.first()?;
    let is_other = |value: &Value| {
        value.is_string() && !beside.contains(value) && with(sample, path, value.clone()).is_some_and(|data| schema.allows(&data))
    };
    let other = of_samples.cloned().chain(made).find(is_other)?;
    Some(beside.iter().filter(|value| value.is_string()).cloned().chain([other]).collect())
}

/// Each point at which a comparison or the schema changes its mind, and one between each two of them.
fn numbers(property: &serde_json::Map<String, Value>, beside: &[Value]) -> Option<Vec<Value>> {
    let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].into_iter().filter_map(|name| property.get(name));
    let point = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(|is| f64::from(u8::from(is))));
    let mut points = beside.iter().chain(bounds).filter_map(point).chain([0.0]).collect::<Vec<_>>();
    points.sort_by(f64::total_cmp);
    if points.iter().any(|point| point.abs() > MOST_EXACT) {
        return None;
    }
    let between = points.windows(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect::<Vec<_>>();
    let whole = points.iter().flat_map(|point| [point.floor() - 1.0, point.floor(), point.floor() + 1.0]).collect::<Vec<_>>();
    let number = |point: f64| if point.fract() == 0.0 { json!(point as i64) } else { json!(point) };
    Some(points.iter().copied().chain(between).chain(whole).map(number).collect())
}
