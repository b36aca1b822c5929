//! Work: how much a validation can cost at most, known before it begins.
//!
//! Owns: counting how often one place of a value is looked at. A few lines of `allOf` and `$ref` ask for more steps than there is time for, with a
//! value of some bytes, and a validator follows them all. Refuses schemas that refer to themselves without a step into the value.
//! It counts too much rather than too little. Neighbour: `json`, which refuses what costs too much.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::schema::budget::LIMIT_DEPTH;

/// Looks that one validation may take: less than a second.
const LIMIT_LOOKS: u64 = 20_000_000;
/// How far references may lead on without a step into the value: validators follow them on the stack.
const LIMIT_CHAIN: usize = 256;

/// Keywords with a schema, or schemas, for the same place.
const HERE: [&str; 5] = ["not", "if", "then", "else", "extends"];
const ALL_HERE: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const EACH_HERE: [&str; 2] = ["dependentSchemas", "dependencies"];
/// The same for places within.
const WITHIN: [&str; 7] = [
    "additionalProperties",
    "additionalItems",
    "contains",
    "items",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
];
const EACH_WITHIN: [&str; 1] = ["patternProperties"];
const ONE_WITHIN: [&str; 2] = ["properties", "prefixItems"];

#[derive(Debug)]
pub(super) struct Work {
    /// By the depth of a value: how often its deepest place is looked at, with all on the way there.
    looks: Vec<u64>,
}

impl Work {
    pub(super) fn of(root: &Value, references: &[(&str, Value)]) -> Result<Self, String> {
        let mut survey = Survey { targets: HashMap::new(), known: HashMap::new(), chain: 0, roots: vec![root] };
        survey.find(root, "");
        for (name, document) in references {
            survey.roots.push(document);
            survey.find(document, last(name));
        }
        let mut looks = Vec::new();
        for height in 0..=LIMIT_DEPTH {
            let now = survey.looks(root, root, height)?;
            if looks.last() == Some(&now) || now > LIMIT_LOOKS {
                break;
            }
            looks.push(now);
        }
        // What is deeper than the last costs as much, if the row ended by not growing.
        let grows = survey.looks(root, root, looks.len())? > looks.last().copied().unwrap_or(0);
        if grows && looks.len() <= LIMIT_DEPTH {
            looks.push(u64::MAX);
        }
        Ok(Self { looks })
    }

    /// Whether a value, which was written in so many bytes, costs no more than there is time for.
    pub(super) fn allows(&self, value: &Value, bytes: usize) -> Result<(), String> {
        let most = self.looks.last().copied().unwrap_or(0);
        if most.saturating_mul(bytes as u64) <= LIMIT_LOOKS {
            return Ok(());
        }
        let (places, depth) = size(value);
        let looks = self.looks.get(depth).copied().unwrap_or(most);
        let all = looks.saturating_mul(places);
        if all <= LIMIT_LOOKS {
            Ok(())
        } else {
            Err(format!("its schema may take {all} steps to check it; at most {LIMIT_LOOKS} are taken"))
        }
    }
}

/// How many places a value has, and how deep it is.
fn size(value: &Value) -> (u64, usize) {
    let within: &mut dyn Iterator<Item = &Value> = match value {
        Value::Array(items) => &mut items.iter(),
        Value::Object(fields) => &mut fields.values(),
        _ => return (1, 0),
    };
    let all = within.map(size).fold((1, 0), |(places, depth), (more, below)| (places + more, depth.max(below + 1)));
    (all.0, all.1)
}

type Place = *const Value;

struct Survey<'a> {
    /// Documents by the end of their names, and parts by their anchors: each with the document it lies in.
    targets: HashMap<String, (&'a Value, &'a Value)>,
    /// Looks by place and height; none while they are being counted.
    known: HashMap<(Place, usize), Option<u64>>,
    chain: usize,
    roots: Vec<&'a Value>,
}

impl<'a> Survey<'a> {
    /// Notes what a document is called, and its parts.
    fn find(&mut self, document: &'a Value, name: &str) {
        if !name.is_empty() {
            self.targets.insert(name.to_owned(), (document, document));
        }
        let mut open = vec![document];
        while let Some(part) = open.pop() {
            match part {
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => {
                    for keyword in ["$anchor", "$dynamicAnchor"] {
                        if let Some(anchor) = text(fields, keyword) {
                            self.targets.insert(format!("#{anchor}"), (part, document));
                        }
                    }
                    for id in ["$id", "id"].into_iter().filter_map(|keyword| text(fields, keyword)) {
                        self.targets.insert(last(id.trim_end_matches('#')).to_owned(), (part, part));
                    }
                    open.extend(fields.values());
                }
                _ => {}
            }
        }
    }

    /// Where a `$ref` in `document` leads, and in which document that is.
    fn target(&self, reference: &str, document: &'a Value) -> Option<(&'a Value, &'a Value)> {
        let (name, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let home = if name.is_empty() { document } else { self.targets.get(last(name))?.0 };
        if fragment.is_empty() {
            return Some((home, home));
        }
        if !fragment.starts_with('/') {
            return self.targets.get(&format!("#{fragment}")).copied();
        }
        let pointer = fragment.replace("%25", "%").replace("%22", "\"").replace("%5E", "^");
        let homes = [home].into_iter().chain(self.roots.iter().copied());
        homes.filter_map(|home| Some((home.pointer(&pointer)?, home))).next()
    }

    /// How often a place is looked at by a schema, and on one way of `height` steps below it, all places together.
    fn looks(&mut self, schema: &'a Value, document: &'a Value, height: usize) -> Result<u64, String> {
        let Value::Object(fields) = schema else { return Ok(1) };
        let place = (std::ptr::from_ref(schema), height);
        match self.known.get(&place) {
            Some(Some(looks)) => return Ok(*looks),
            Some(None) => return Err("it refers to itself without a step into the value".to_owned()),
            None => {}
        }
        self.chain += 1;
        if self.chain > LIMIT_CHAIN * 4 {
            return Err(format!("references lead on over more than {LIMIT_CHAIN} schemas"));
        }
        self.known.insert(place, None);
        let mut looks = 1_u64;
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let target = text(fields, keyword).and_then(|reference| self.target(reference, document));
            if let Some((target, document)) = target {
                looks = looks.saturating_add(self.looks(target, document, height)?);
            }
        }
        for schema in here(fields) {
            looks = looks.saturating_add(self.looks(schema, document, height)?);
        }
        if let Some(below) = height.checked_sub(1) {
            for schema in within(fields) {
                looks = looks.saturating_add(self.looks(schema, document, below)?);
            }
            // Of these a place is met by one.
            for keyword in ONE_WITHIN {
                let mut most = 0;
                for schema in children(fields.get(keyword)) {
                    most = most.max(self.looks(schema, document, below)?);
                }
                looks = looks.saturating_add(most);
            }
        }
        self.chain -= 1;
        self.known.insert(place, Some(looks));
        Ok(looks)
    }
}

fn here(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let single = HERE.iter().filter_map(|keyword| fields.get(*keyword));
    let several = ALL_HERE.iter().chain(&EACH_HERE).flat_map(|keyword| children(fields.get(*keyword)));
    single.chain(several)
}

fn within(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let single = WITHIN.iter().filter_map(|keyword| fields.get(*keyword));
    // Older drafts have a list of schemas at `items`.
    let listed = children(fields.get("items").filter(|items| items.is_array()));
    let several = EACH_WITHIN.iter().flat_map(|keyword| children(fields.get(*keyword)));
    single.chain(listed).chain(several)
}

fn children(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Object(fields)) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, keyword: &str) -> Option<&'a str> {
    fields.get(keyword).and_then(Value::as_str)
}

/// The last part of a name: by that a document is known, wherever it is taken to lie.
fn last(name: &str) -> &str {
    name.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(name)
}
