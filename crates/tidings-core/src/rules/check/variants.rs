//! Variants: what else an event may look like than its samples, by its schema.
//!
//! Owns: other values for one field, and events without it. Refuses what the schema does not allow: whatever comes out of here
//! may come from a service tomorrow. Neighbours: `trial` renders with them, `reach` looks among them for one that a condition takes.

use serde_json::{Map, Value, json};

use super::schema::Schema;

/// Of a list of allowed values more than that are not tried.
const MOST_LISTED: usize = 32;

/// An event's data that differs from a sample in one field.
pub(super) struct Variant {
    /// What to call it, behind "events".
    pub(super) told: String,
    pub(super) kind: Kind,
    pub(super) data: Value,
}

/// In what it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The field, or one around it, is missing or null.
    Lacking,
    /// It is a text or a list without anything in it.
    Empty,
    /// It has another value, perhaps of another type.
    Other,
}

/// What a sample may be like in the field at `path`; `hints` are values that matter to whoever asks.
pub(super) fn variants(schema: &Schema<'_>, sample: &Value, path: &[&str], hints: &[Value]) -> Vec<Variant> {
    let mut all = lacking(sample, path);
    all.extend(replaced(schema, sample, path, hints));
    all.extend(items(sample, path));
    all.retain(|variant| schema.allows(&variant.data));
    all
}

/// The sample with each other value that the field at `path` might have, whether or not the schema allows it.
pub(super) fn replaced(schema: &Schema<'_>, sample: &Value, path: &[&str], hints: &[Value]) -> Vec<Variant> {
    let property = schema.property(path);
    let listed = property.and_then(|property| property.get("enum")).and_then(Value::as_array);
    let listed = listed.into_iter().flatten().take(MOST_LISTED).chain(property.and_then(|property| property.get("const")));
    let bound = |name: &str| property.and_then(|property| property.get(name)).and_then(Value::as_f64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|bound| bound + 1.0)).unwrap_or(0.0);
    let named = [
        (json!(""), Kind::Empty, "an empty text"),
        (json!("x"), Kind::Other, "a text"),
        (json!(least.ceil() as i64), Kind::Other, "a whole number"),
        (json!(least + 0.5), Kind::Other, "a number with a fraction"),
        (json!(true), Kind::Other, "`true`"),
        (json!(false), Kind::Other, "`false`"),
        (json!([]), Kind::Empty, "an empty list"),
        (json!({}), Kind::Other, "an object"),
    ];
    let shown = path.join(".");
    let named = named.map(|(value, kind, told)| (value, kind, told.to_owned()));
    let exact = listed.chain(hints).map(|value| (value.clone(), Kind::Other, value.to_string()));
    let made = named.into_iter().chain(exact).filter_map(|(value, kind, told)| {
        Some(Variant { told: format!("whose `{shown}` is {told}"), kind, data: with(sample, path, value)? })
    });
    made.collect()
}

/// The sample without the field, and without each one around it; and with null in their places.
fn lacking(sample: &Value, path: &[&str]) -> Vec<Variant> {
    let mut variants = Vec::new();
    for depth in 0..path.len() {
        let (steps, shown) = (&path[..=depth], path[..=depth].join("."));
        let (mut without, mut null) = (sample.clone(), sample.clone());
        if let Some(holder) = holder(&mut without, steps) {
            holder.remove(path[depth]);
            variants.push(Variant { told: format!("without `{shown}`"), kind: Kind::Lacking, data: without });
        }
        if let Some(holder) = holder(&mut null, steps) {
            holder.insert(path[depth].to_owned(), Value::Null);
            variants.push(Variant { told: format!("whose `{shown}` is null"), kind: Kind::Lacking, data: null });
        }
    }
    variants
}

/// The sample with another first item in the list at `path`.
fn items(sample: &Value, path: &[&str]) -> Vec<Variant> {
    let list = path.iter().try_fold(sample, |value, step| value.get(step)).and_then(Value::as_array);
    let Some(first) = list.and_then(|list| list.first()) else { return Vec::new() };
    let shown = path.join(".");
    let mut others = match first {
        Value::Object(fields) => fields
            .keys()
            .flat_map(|name| {
                let (mut without, mut null) = (fields.clone(), fields.clone());
                without.remove(name);
                null.insert(name.clone(), Value::Null);
                let told = [
                    format!("with an item of `{shown}` without `{name}`"),
                    format!("with an item of `{shown}` whose `{name}` is null"),
                ];
                told.into_iter().zip([without, null].map(Value::Object))
            })
            .map(|(told, item)| (item, Kind::Lacking, told))
            .collect::<Vec<_>>(),
        _ => [
            (json!(""), "an empty text"),
            (json!(0.5), "a number with a fraction"),
            (json!(true), "`true`"),
            (json!({}), "an object"),
        ]
        .map(|(item, told)| (item, Kind::Other, format!("with an item of `{shown}` that is {told}")))
        .to_vec(),
    };
    others.push((Value::Null, Kind::Lacking, format!("with an item of `{shown}` that is null")));
    let made = others.into_iter().filter_map(|(item, kind, told)| {
        let mut data = sample.clone();
        *holder(&mut data, path)?.get_mut(*path.last()?)?.as_array_mut()?.first_mut()? = item;
        Some(Variant { told, kind, data })
    });
    made.collect()
}

/// The sample with this value in the field at `path`; nothing if what would hold the field is not there.
pub(super) fn with(sample: &Value, path: &[&str], value: Value) -> Option<Value> {
    let mut data = sample.clone();
    holder(&mut data, path)?.insert((*path.last()?).to_owned(), value);
    Some(data)
}

/// The sample without the field at `path`.
pub(super) fn without(sample: &Value, path: &[&str]) -> Option<Value> {
    let mut data = sample.clone();
    holder(&mut data, path)?.remove(*path.last()?);
    Some(data)
}

/// The object that holds the last step of a path.
fn holder<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Map<String, Value>> {
    let (_, steps) = path.split_last()?;
    steps.iter().try_fold(value, |value, step| value.get_mut(step))?.as_object_mut()
}
