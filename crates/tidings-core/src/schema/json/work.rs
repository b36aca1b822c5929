//! Work: how much a validation can cost at most, known before it begins.
//!
//! Owns: counting how often one place of a value is looked at, and its text searched. A few lines of `allOf` and `$ref` ask for more steps than there is time for, with a
//! value of some bytes, and a validator follows them all. Refuses schemas that refer to themselves without a step into the value.
//! It counts too much rather than too little. Neighbour: `json`, which refuses what costs too much.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::expression;
use crate::schema::budget::LIMIT_DEPTH;

/// Looks that one validation may take: less than a second.
const LIMIT_LOOKS: u64 = 20_000_000;
/// Steps that its expressions may take, each with each byte of a value; those that go back with each step back.
const LIMIT_SEARCH: u64 = 200_000_000;
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
/// Those that need to know what the others have evaluated: validators apply all that is for the same place anew, at each level of it.
const MARKING: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];
/// What is looked at within on that way.
const MARKED: [&str; 3] = ["contains", "unevaluatedItems", "unevaluatedProperties"];
const EACH_WITHIN: [&str; 1] = ["patternProperties"];
const ONE_WITHIN: [&str; 2] = ["properties", "prefixItems"];

#[derive(Debug)]
pub(super) struct Work {
    /// By the depth of a value: how often its deepest place is looked at, with all on the way there.
    looks: Vec<u64>,
    /// The same for the steps that expressions take, by the byte.
    searches: Vec<u64>,
}

impl Work {
    pub(super) fn of(root: &Value, references: &[(&str, Value)]) -> Result<Self, String> {
        let mut survey = Survey::default();
        survey.roots.push(root);
        survey.find(root, "");
        for (name, document) in references {
            survey.roots.push(document);
            survey.find(document, last(name));
        }
        let steps = survey.steps(root)?;
        Ok(Self { looks: rows(&steps, |step| step.looks), searches: rows(&steps, |step| step.searches) })
    }

    /// Whether a value, which was written in so many bytes, costs no more than there is time for.
    pub(super) fn allows(&self, value: &Value, bytes: usize) -> Result<(), String> {
        let bytes = bytes as u64;
        let costs = |row: &[u64], depth: usize| row.get(depth).or(row.last()).copied().unwrap_or(0);
        let most = costs(&self.looks, LIMIT_DEPTH).saturating_mul(bytes);
        if most <= LIMIT_LOOKS && costs(&self.searches, LIMIT_DEPTH).saturating_mul(bytes) <= LIMIT_SEARCH {
            return Ok(());
        }
        let (places, depth) = size(value);
        let looks = costs(&self.looks, depth).saturating_mul(places);
        if looks > LIMIT_LOOKS {
            return Err(format!("its schema may take {looks} steps to check it; at most {LIMIT_LOOKS} are taken"));
        }
        let searches = costs(&self.searches, depth).saturating_mul(bytes);
        if searches > LIMIT_SEARCH {
            return Err(format!(
                "the expressions of its schema may take {searches} steps to search it; at most {LIMIT_SEARCH} are taken"
            ));
        }
        Ok(())
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

/// What something costs by the depth of the value. One row of all schemas follows from the one before it, so that no more than two are kept.
/// They end when the next would be the same for all schemas, and not merely for the outermost: what costs much may lie deep.
fn rows(steps: &[Step], cost: fn(&Step) -> u64) -> Vec<u64> {
    let (mut costs, mut below) = (Vec::new(), vec![0; steps.len()]);
    for _ in 0..=LIMIT_DEPTH {
        let (mut row, mut marks) = (Vec::with_capacity(steps.len()), Vec::with_capacity(steps.len()));
        for step in steps {
            // Of these a place is met by one.
            let one = step.one_within.iter().map(|of| of.iter().map(|at| below[*at]).max().unwrap_or(0));
            let within = one.fold(sum(&below, &step.within), u64::saturating_add);
            let here = sum(&row, &step.here);
            let marked = cost(step).saturating_add(sum(&below, &step.marked)).saturating_add(here);
            let marked = marked.saturating_add(sum(&marks, &step.here));
            let own = cost(step).saturating_add(step.marking.saturating_mul(marked));
            row.push(own.saturating_add(within).saturating_add(here));
            marks.push(marked);
        }
        let most = row.last().copied().unwrap_or(0);
        costs.push(most);
        if most > LIMIT_LOOKS.max(LIMIT_SEARCH) || row == below {
            break;
        }
        below = row;
    }
    costs
}

fn sum(row: &[u64], of: &[usize]) -> u64 {
    of.iter().fold(0, |sum: u64, at| sum.saturating_add(row[*at]))
}

type Place = *const Value;

/// One schema, and which others it applies, by their places in the order in which they are counted.
#[derive(Default)]
struct Step {
    /// To the same place of the value: these stand before it.
    here: Vec<usize>,
    within: Vec<usize>,
    one_within: [Vec<usize>; 2],
    /// How often what it applies to the same place is gone through once more, to know what is unevaluated; and what is then looked at within.
    marking: u64,
    marked: Vec<usize>,
    looks: u64,
    searches: u64,
}

/// A schema whose neighbours may not have been met yet.
#[derive(Default)]
struct Met {
    here: Vec<Place>,
    within: Vec<Place>,
    one_within: [Vec<Place>; 2],
    marking: u64,
    marked: Vec<Place>,
    searches: u64,
}

#[derive(Default)]
struct Survey<'a> {
    /// Documents by the end of their names, and parts by their anchors: each with the document it lies in.
    targets: HashMap<String, (&'a Value, &'a Value)>,
    /// Where each schema stands among those that were met; none while what it applies to the same place is being met.
    known: HashMap<Place, Option<usize>>,
    met: Vec<Met>,
    /// Schemas for places within, that are to be met, each with its document.
    open: Vec<(&'a Value, &'a Value)>,
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

    /// All schemas that a value may meet, each behind those that it applies to the same place; the root is the last.
    fn steps(mut self, root: &'a Value) -> Result<Vec<Step>, String> {
        self.open.push((root, root));
        while let Some((schema, document)) = self.open.pop() {
            self.meet(schema, document, 0)?;
        }
        // One that is no object, `true` for instance, is a look and leads nowhere.
        let at = |place: &Place| self.known.get(place).copied().flatten().map_or(0, |at| at + 1);
        let all = |places: &[Place]| places.iter().map(at).collect::<Vec<_>>();
        let step = |met: &Met| Step {
            here: all(&met.here),
            within: all(&met.within),
            marking: met.marking,
            marked: all(&met.marked),
            looks: 1,
            searches: met.searches,
            one_within: met.one_within.each_ref().map(|places| all(places)),
        };
        let root = Step { here: vec![at(&std::ptr::from_ref(root))], ..Step::default() };
        Ok([Step { looks: 1, ..Step::default() }].into_iter().chain(self.met.iter().map(step)).chain([root]).collect())
    }

    fn meet(&mut self, schema: &'a Value, document: &'a Value, chain: usize) -> Result<(), String> {
        let Value::Object(fields) = schema else { return Ok(()) };
        let place = std::ptr::from_ref(schema);
        match self.known.get(&place) {
            Some(Some(_)) => return Ok(()),
            Some(None) => return Err("it refers to itself without a step into the value".to_owned()),
            None => {}
        }
        if chain > LIMIT_CHAIN {
            return Err(format!("references lead on over more than {LIMIT_CHAIN} schemas"));
        }
        self.known.insert(place, None);
        let mut met = Met {
            marking: MARKING.iter().map(|keyword| u64::from(fields.contains_key(*keyword))).sum(),
            marked: MARKED.iter().filter_map(|keyword| fields.get(*keyword)).map(std::ptr::from_ref).collect(),
            searches: searches(fields),
            ..Met::default()
        };
        let references = ["$ref", "$dynamicRef", "$recursiveRef"].into_iter();
        let references = references.filter_map(|keyword| self.target(text(fields, keyword)?, document));
        let applied = references.collect::<Vec<_>>().into_iter().chain(here(fields).map(|schema| (schema, document)));
        for (schema, document) in applied {
            met.here.push(schema);
            self.meet(schema, document, chain + 1)?;
        }
        for schema in within(fields) {
            met.within.push(schema);
            self.open.push((schema, document));
        }
        for (keyword, places) in ONE_WITHIN.into_iter().zip(&mut met.one_within) {
            for schema in children(fields.get(keyword)) {
                places.push(schema);
                self.open.push((schema, document));
            }
        }
        self.known.insert(place, Some(self.met.len()));
        self.met.push(met);
        Ok(())
    }
}

/// The steps that its own expressions may take by the byte. Names that none of them knows are held against all of them once more.
fn searches(fields: &Map<String, Value>) -> u64 {
    let names = fields.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let names = names.fold(0_u64, |sum, name| sum.saturating_add(expression::steps(name).saturating_mul(2)));
    text(fields, "pattern").map_or(0, expression::steps).saturating_add(names)
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
