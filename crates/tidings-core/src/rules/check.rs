//! Checking: whether rules and schemas fit each other, before an event finds out.
//!
//! Owns: each rule beside the schemas of its events, tried on every sample and on what else a schema allows; what a new version of a schema
//! breaks. Refuses to stop at the first problem. Neighbours: `parse` finds what is wrong with rules by themselves, `cli` prints.

mod change;
mod compared;
mod domain;
mod reach;
mod samples;
mod schema;
mod trial;
mod unread;
mod variants;

use serde::Serialize;
use serde_json::{Value, json};

use super::RuleSet;
use super::parse::{self, is_glob};
use super::problem::{File, Problem, Severity};
use super::rule::Rule;
use super::template::Limits;
use crate::event::{self, Event, EventError, Reading, SourceRecord};
use crate::schema::{Definition, SchemaError, Shape};
use crate::time::{Delay, Timestamp};
use reach::Reach;
use schema::Schema;

/// A schema that is no file of JSON Schema: what its events look like once they are read ([`crate::schema::Shape`]).
#[derive(Debug, Clone)]
pub struct Described {
    /// What it is called in problems: a file, or a subject with its version.
    pub name: String,
    /// Its text, in its own language.
    pub text: String,
    /// The type of its events.
    pub kind: String,
    /// A JSON Schema of what they hold.
    pub shape: Value,
}

impl Described {
    /// A schema by what was made of it, with the type of its events unless it says that itself.
    ///
    /// # Errors
    /// If it cannot be read, or nobody says the type of its events.
    pub fn of(
        name: String,
        definition: Definition,
        (kind, shape): (Option<String>, Result<Shape, SchemaError>),
    ) -> Result<Self, Problem> {
        let file = File { name: &name, text: &definition.text };
        let shape = shape.map_err(|error| unread::unread(&file, definition.format, &error).quoting(&[file]))?;
        let Some(kind) = kind.or(shape.name) else {
            let message = "it does not say the type of its events";
            return Err(file.place(0).problem(message).of("event_unknown", "name it (--type payment:due)").quoting(&[file]));
        };
        Ok(Self { name, text: definition.text, kind, shape: shape.schema })
    }
}

/// What is checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Rule files (TOML).
    pub rules: &'a [File<'a>],
    /// Schema files (JSON Schema of an event's `data`).
    pub schemas: &'a [File<'a>],
    /// Schemas of the same events as they were: a rule that breaks by what has changed is told so.
    pub before: &'a [File<'a>],
    /// Schemas in other languages. If there are any, only rules for their events are checked; examples of the others are tried on them.
    pub described: &'a [Described],
    /// The same as they were.
    pub described_before: &'a [Described],
    /// What is wrong with those that cannot be read.
    pub undescribed: &'a [Problem],
    /// Events as services write them (JSON): each is held against the schema of its type and tried on the rules, as examples of schemas are.
    pub samples: &'a [File<'a>],
    /// What a notification may cost.
    pub limits: Limits,
    /// The rungs that a rule's own ladder may name.
    pub rungs: &'a [Delay],
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many rules there are that have no problem by themselves.
    pub rules: usize,
    /// How many schemas there are.
    pub schemas: usize,
    /// How many samples of events they have.
    pub samples: usize,
    /// How many problems are errors.
    pub errors: usize,
    /// How many may be meant.
    pub warnings: usize,
    /// All problems, by file and line.
    pub problems: Vec<Problem>,
}

/// A rule beside a schema of its events.
struct Case<'a> {
    set: &'a RuleSet,
    rule: &'a Rule,
    schema: &'a Schema<'a>,
    /// The schema as it was.
    before: Option<&'a Schema<'a>>,
}

/// Checks rules and schemas, alone, against each other, and against what was.
#[must_use]
pub fn check(subject: &Subject<'_>) -> Report {
    let (set, mut problems) = parse::parse(subject.rules, subject.limits);
    let is_whole = problems.is_empty();
    problems.extend(set.unknown_rungs(subject.rungs));
    let files: Vec<Schema<'_>> = subject.schemas.iter().filter_map(|file| Schema::read(*file, &mut problems)).collect();
    // What is wrong with a version that is replaced is nobody's concern any more.
    let mut before: Vec<Schema<'_>> = subject.before.iter().filter_map(|file| Schema::read(*file, &mut Vec::new())).collect();
    before.splice(0..0, described((subject.described_before, &files), &mut Vec::new()));
    let others = described((subject.described, &files), &mut problems);
    let of_one = !(subject.described.is_empty() && subject.undescribed.is_empty());
    let mut read = if of_one { others } else { files };
    problems.extend_from_slice(subject.undescribed);
    samples::add(&mut read, subject.samples, &mut problems);
    // A rule that does not read may be the one that is missed.
    problems.extend(read.iter().filter(|schema| is_whole && schema.is_described()).filter_map(|schema| unruled(&set, schema)));
    for rule in set.rules() {
        let schemas: Vec<&Schema<'_>> = read.iter().filter(|schema| set.is_for(rule, &schema.kind)).collect();
        // A schema file that has problems of its own is not missing.
        let is_broken = || !is_glob(rule.event()) && subject.schemas.iter().any(|file| schema::is_for(file, rule.event()));
        if !schemas.is_empty() {
            problems.extend(rule.unclimbed());
            problems.extend(beside(&set, rule, &schemas, &before));
        } else if !of_one && !is_broken() {
            problems.push(unknown_event(&set, rule, &before));
        }
    }
    problems.sort();
    problems.dedup();
    report(subject, (set.rules().len(), &read), problems)
}

fn described<'a>((all, files): (&'a [Described], &[Schema<'_>]), problems: &mut Vec<Problem>) -> Vec<Schema<'a>> {
    all.iter().filter_map(|one| Schema::described((one, files), problems)).collect()
}

/// Who asks what a schema means for rules is not told "nothing" because no rule is for it.
fn unruled(set: &RuleSet, schema: &Schema<'_>) -> Option<Problem> {
    if set.rules().iter().any(|rule| set.is_for(rule, &schema.kind)) {
        return None;
    }
    let message = format!("no rule is for events of the type `{}`", schema.kind);
    let help = "if services write another type in a header or a field, name that one (--type payment:due); else add a rule";
    Some(schema.file.place(0).problem(message).of("rule_missing", help))
}

fn report(subject: &Subject<'_>, (rules, schemas): (usize, &[Schema<'_>]), problems: Vec<Problem>) -> Report {
    let described = subject.described.iter().map(|one| File { name: &one.name, text: &one.text });
    let files = subject.rules.iter().chain(subject.schemas).chain(subject.samples).copied();
    let files: Vec<File<'_>> = files.chain(described).collect();
    let problems: Vec<Problem> = problems.into_iter().map(|problem| problem.quoting(&files)).collect();
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let samples = schemas.iter().map(|schema| schema.samples.len()).sum();
    Report { rules, schemas: schemas.len(), samples, errors, warnings: problems.len() - errors, problems }
}

/// The value of a record with the first sample of the events of type `kind`, if there is one without problems.
#[must_use]
pub fn sample(schemas: &[File<'_>], kind: &str) -> Option<Vec<u8>> {
    let mut read = schemas.iter().filter_map(|file| Schema::read(*file, &mut Vec::new()));
    let schema = read.find(|schema| schema.kind == kind)?;
    schema.samples.first().map(|(data, _)| value(kind, data))
}

fn value(kind: &str, data: &Value) -> Vec<u8> {
    json!({ "type": kind, "data": data }).to_string().into_bytes()
}

fn event(kind: &str, data: &Value) -> Result<Event, EventError> {
    decoded(&value(kind, data))
}

/// What a record with this value says.
fn decoded(value: &[u8]) -> Result<Event, EventError> {
    let timestamp = Timestamp::from_millis(0);
    event::decode(
        &SourceRecord { topic: "samples", partition: 0, offset: 0, timestamp, key: None, value: Some(value), headers: &[] },
        &Reading::default(),
    )
}

/// The problems of a rule with the schemas of its events.
fn beside(set: &RuleSet, rule: &Rule, schemas: &[&Schema<'_>], before: &[Schema<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut is_reached = false;
    for schema in schemas {
        let case = Case { set, rule, schema, before: before.iter().find(|before| before.kind == schema.kind) };
        let reach = reach::reach(&case);
        let mut found = case.tried(&reach);
        // What a condition reads and nobody says is a problem of its own.
        is_reached |= !matches!(reach, Reach::Never) || found.iter().any(|problem| problem.severity == Severity::Error);
        found.extend(case.samples(&found));
        problems.extend(found);
    }
    problems.extend(rule.when.as_ref().filter(|_| !is_reached).map(|when| {
        let files: Vec<&str> = schemas.iter().map(|schema| schema.file.name).collect();
        let files = files.join(", ");
        let message = format!(
            "no event gets to the rule `{}`: `when` holds for no sample and nothing else that {files} allows",
            rule.name()
        );
        let help = format!("mend the condition; or add an example to {files} for which it holds");
        let problem = when.place.problem(message).of("rule_unreachable", help);
        if when.variables(&set.templates).is_empty() { problem } else { problem.mild() }
    }));
    problems
}

fn unknown_event(set: &RuleSet, rule: &Rule, before: &[Schema<'_>]) -> Problem {
    let event = rule.event();
    if let Some(file) = change::gone(before, |kind| set.is_for(rule, kind)) {
        let message = format!("no schema for `{event}` any more ({file} was one): no event gets to the rule `{}`", rule.name());
        return rule
            .place
            .problem(message)
            .of("event_removed", "keep the schema as long as services write such events, or remove the rule");
    }
    let file = schema::file_name(event);
    let wanted = if is_glob(event) { "whose type it matches".to_owned() } else { format!("in {file}") };
    let message = format!("no schema for `{event}`; there should be one {wanted}");
    let help = "add it, or mend the type: without it nobody knows whether any event gets to the rule, and what it says";
    rule.place.problem(message).of("event_unknown", help)
}

#[cfg(test)]
mod tests;
