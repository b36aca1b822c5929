//! Forms: what values of each type look like, as a list whose parts name each other by their place, and the JSON Schema that is written of it.
//!
//! Owns: how deep it is written out. A schema of a few lines, of messages that hold each other, would take more text than there is: it
//! is followed as deep as its shape takes no more than some megabytes; what lies deeper may be anything. Neighbours: `avro` and `protobuf` make the list.

use serde_json::{Map, Value, json};

/// The place of a form.
pub(super) type FormId = usize;

/// How deep forms are followed, and how many bytes a shape may take for it.
const LIMIT_LEVELS: usize = 32;
const LIMIT_BYTES: usize = 4 << 20;
/// What is written around a part, in bytes, and in place of one that may be anything.
const AROUND_BYTES: usize = 64;
const ANYTHING_BYTES: usize = 2;

/// What values of a type look like.
pub(super) enum Form {
    /// All is said.
    Plain(Value),
    List(FormId),
    Map(FormId),
    /// One of several.
    Either(Vec<FormId>),
    Record(Vec<Part>),
}

/// A field of a record.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) form: FormId,
    pub(super) presence: Presence,
}

/// Whether a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    Perhaps,
}

/// The JSON Schema of one of them.
pub(super) fn schema(forms: &[Form], root: FormId) -> Value {
    written(forms, root, levels(forms, root))
}

/// As deep as the shape of one of them is within the limits.
fn levels(forms: &[Form], root: FormId) -> usize {
    let plain = |form: &Form| if let Form::Plain(value) = form { value.to_string().len() } else { ANYTHING_BYTES };
    let least = forms.iter().map(plain).collect::<Vec<_>>();
    let mut below = least.clone();
    for level in 1..=LIMIT_LEVELS {
        let row = forms.iter().zip(&least).map(|(form, least)| bytes(form, *least, &below)).collect::<Vec<_>>();
        if row[root] > LIMIT_BYTES {
            return level - 1;
        }
        below = row;
    }
    LIMIT_LEVELS
}

/// What a form takes whose parts take what stands in `below`.
fn bytes(form: &Form, least: usize, below: &[usize]) -> usize {
    let sum = |parts: &mut dyn Iterator<Item = usize>| parts.fold(AROUND_BYTES, usize::saturating_add);
    match form {
        Form::Plain(_) => least,
        Form::List(of) | Form::Map(of) => sum(&mut [below[*of]].into_iter()),
        Form::Either(ways) => sum(&mut ways.iter().map(|way| below[*way])),
        // A name stands among those that are required too.
        Form::Record(parts) => sum(&mut parts.iter().map(|part| below[part.form].saturating_add(2 * (part.name.len() + 4)))),
    }
}

fn written(forms: &[Form], at: FormId, levels: usize) -> Value {
    let within = |of: FormId| written(forms, of, levels.saturating_sub(1));
    match &forms[at] {
        Form::Plain(value) => value.clone(),
        _ if levels == 0 => json!({}),
        Form::List(of) => json!({"type": "array", "items": within(*of)}),
        Form::Map(of) => json!({"type": "object", "additionalProperties": within(*of)}),
        Form::Either(ways) => any_of(ways.iter().map(|way| within(*way)).collect()),
        Form::Record(parts) => {
            let properties = parts.iter().map(|part| (part.name.clone(), within(part.form))).collect::<Map<_, _>>();
            let required = parts.iter().filter(|part| part.presence == Presence::Always).map(|part| part.name.as_str());
            let required = required.collect::<Vec<_>>();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

/// One of several; in one word where that can be said.
fn any_of(ways: Vec<Value>) -> Value {
    fn plain(way: &Value) -> Option<&str> {
        way.as_object().filter(|fields| fields.len() == 1)?.get("type")?.as_str()
    }
    let Some(said) = ways.iter().map(plain).collect::<Option<Vec<_>>>() else { return json!({"anyOf": ways}) };
    // Types that are two in their own language may be one here, and a list must not name it twice.
    let mut kinds = Vec::new();
    for kind in said {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match kinds.as_slice() {
        [] => json!({"not": {}}),
        [kind] => json!({"type": kind}),
        _ => json!({"type": kinds}),
    }
}
