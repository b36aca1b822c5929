//! What tidings ships: the files of `rules/` and `schemas/events/` at the top of the repository, found by the build script, so
//! that a new event type touches only those folders.

use serde_json::Value;

use super::File;
use crate::schema::{Definition, Format};

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The shipped rule files.
#[must_use]
pub fn shipped() -> &'static [File<'static>] {
    RULES
}

/// The shipped schemas, one for each type of event.
#[must_use]
pub fn shipped_schemas() -> &'static [File<'static>] {
    SCHEMAS
}

/// A schema of a shipped type of events, in one language.
#[derive(Debug, Clone)]
pub struct ShippedDefinition {
    /// The type of the events.
    pub kind: String,
    /// What the schema calls its values: the full name of a record or message, the title of a JSON Schema.
    pub record: String,
    /// The schema.
    pub definition: Definition,
}

/// The schemas of shipped events in every language: Avro, Protobuf and JSON Schema of each type.
#[must_use]
pub fn shipped_definitions() -> Vec<ShippedDefinition> {
    let of_type = |schema: &File<'static>| {
        let kind = field(schema.text, "title");
        let beside = |files: &[File<'static>]| files.iter().find(|file| stem(file.name) == stem(schema.name)).copied();
        let avro = beside(AVRO)
            .map(|file| (Format::Avro, format!("{}.{}", field(file.text, "namespace"), field(file.text, "name")), file));
        let message = |file: File<'static>| format!("{}.{}", word(file.text, "package "), word(file.text, "message "));
        let protobuf = beside(PROTOBUF).map(|file| (Format::Protobuf, message(file), file));
        let json = Some((Format::JsonSchema, kind.clone(), *schema));
        let definition = move |(format, record, file): (Format, String, File<'static>)| ShippedDefinition {
            kind: kind.clone(),
            record,
            definition: Definition { format, text: file.text.to_owned(), references: Vec::new() },
        };
        [avro, protobuf, json].into_iter().flatten().map(definition)
    };
    SCHEMAS.iter().flat_map(of_type).collect()
}

/// The name of a file without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The text of a field at the top of some JSON.
fn field(json: &str, name: &str) -> String {
    let value = serde_json::from_str::<Value>(json).unwrap_or_default();
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What stands behind the first line that begins with a keyword of Protobuf.
fn word(text: &str, keyword: &str) -> String {
    let rest = text.lines().find_map(|line| line.strip_prefix(keyword)).unwrap_or_default();
    rest.trim_end_matches([';', '{', ' ']).to_owned()
}

#[cfg(test)]
mod tests;
