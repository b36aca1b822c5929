//! Schemas that cannot be read: what is wrong with them, at the line that has it as far as that can be told.
//!
//! Owns: looking for the line where a library names none. Neighbours: core `schema` reads, `check` says it.

use serde_json::Value;

use super::schema::{DRAFT, locate};
use crate::rules::problem::{File, Problem};
use crate::schema::{Format, SchemaError};

/// What to do about a schema in any language that cannot be read.
const LANGUAGE_HELP: &str = "mend it: .avsc is Avro, .proto is Protobuf and .json is JSON Schema; what it refers to lies in the registry (--subject) or in files (--reference NAME=FILE)";
/// The problem of a schema that cannot be read, at its line as far as that is known.
pub(super) fn unread(file: &File<'_>, format: Format, error: &SchemaError) -> Problem {
    let syntax = serde_json::from_str::<Value>(file.text);
    let (place, message) = match (format, syntax) {
        (Format::Protobuf, _) => (file.place(0).inside(line_of_name(file.text, &error.to_string())), error.to_string()),
        (_, Err(syntax)) => (file.place(0).inside(syntax.line()), format!("the {format} schema is no JSON: {syntax}")),
        (Format::Avro, Ok(_)) => (file.place(0), error.to_string()),
        (Format::JsonSchema, Ok(root)) => {
            let is_of_draft = root.get("$schema").is_none_or(|draft| draft == DRAFT);
            match jsonschema::draft202012::meta::validator().iter_errors(&root).next().filter(|_| is_of_draft) {
                Some(fault) => (locate(file, fault.instance_path().as_str()), format!("no valid schema: {fault}")),
                None => (file.place(0), error.to_string()),
            }
        }
    };
    place.problem(message).of("schema_invalid", LANGUAGE_HELP)
}

/// The line of a schema that has what a message names in quotes, else the first.
fn line_of_name(text: &str, message: &str) -> usize {
    let is_name = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    let name = message.split('\'').skip(1).step_by(2).find(is_name);
    let has =
        |line: &str| name.is_some_and(|name| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name));
    text.lines().position(has).map_or(1, |line| line + 1)
}
