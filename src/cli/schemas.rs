//! `tidings schemas`: the schemas that tidings ships, and those of a registry.
//!
//! Owns: under which subjects they belong there, and what differs. Refuses to decide whether a registry takes a schema: it says so itself, by
//! the compatibility that its operators have chosen. Neighbours: `registry` asks, core `rules::shipped` has the texts.

mod asked;
mod difference;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use tidings_core::rules::{ShippedDefinition, shipped_definitions};
use tidings_core::schema::{Definition, Format};

pub(super) use self::asked::Asked;
use super::table::table;
use crate::config::{RegistryConfig, registry_url};

/// Compare the schemas that tidings ships with those of a registry, or put them there
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Show what the registry has, and what differs; nothing is written
    Diff(Which),
    /// Register what the registry does not have or has otherwise, as the next version of its subject
    Register(Which),
}

#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// The registry, as `https://registry.example.com`; it is told the credentials of `registry` [default: `registry.urls`]
    #[arg(long, value_name = "URL", value_parser = registry_url)]
    registry: Option<String>,
    /// Only this type of event; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only schemas in this format: avro, protobuf or json-schema; may be given more than once
    #[arg(long = "format", value_name = "FORMAT", value_parser = format)]
    formats: Vec<Format>,
    /// Subjects by topic (`TOPIC-value`), which takes one --type and one --format [default: by what the record is called]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Print one JSON object with `subjects`
    #[arg(long)]
    json: bool,
}

/// What one subject is like.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    subject: String,
    #[serde(rename = "type")]
    kind: String,
    format: Format,
    state: State,
    /// The version that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// The number of the schema that is there, or that it was registered as.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// Lines: with `-` only the registry has them, with `+` only tidings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    difference: Vec<String>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Same,
    Absent,
    Differs,
    Registered,
    Refused,
}

/// Compares or registers. The exit code is 1 if something differs, or was refused.
///
/// # Errors
/// If there is no registry, it does not answer or let us in, nothing shipped is meant, or the output cannot be written.
pub async fn run(args: Args, config: &RegistryConfig) -> anyhow::Result<ExitCode> {
    let (which, is_written) = match args.command {
        Command::Diff(which) => (which, Writing::Nothing),
        Command::Register(which) => (which, Writing::WhatDiffers),
    };
    let registry = Asked::new(which.registry.as_deref(), config)?;
    let meant = meant(&which)?;
    let mut rows = Vec::with_capacity(meant.len());
    let mut failed = None;
    for (subject, shipped) in meant {
        match row(&registry, (subject, &shipped), is_written).await {
            Ok(row) => rows.push(row),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // What was done before the registry went away is done.
    if failed.is_none() || !rows.is_empty() {
        show(&rows, &which)?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let is_fine = rows.iter().all(|row| matches!(row.state, State::Same | State::Registered));
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(rows: &[Row], which: &Which) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if which.json {
        serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "subjects": rows }))?;
        writeln!(out)?;
    } else {
        print(&mut out, rows)?;
    }
    Ok(())
}

/// Whether the registry is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Nothing,
    WhatDiffers,
}

pub(super) fn format(text: &str) -> Result<Format, serde_json::Error> {
    serde_json::from_value(text.into())
}

/// What is meant of what is shipped, each with its subject.
fn meant(which: &Which) -> anyhow::Result<Vec<(String, ShippedDefinition)>> {
    let all = shipped_definitions();
    for wanted in &which.types {
        let is_there = all.iter().any(|shipped| shipped.kind == *wanted);
        anyhow::ensure!(is_there, "tidings ships no schema of `{wanted}`: see schemas/events");
    }
    let is_meant = |shipped: &ShippedDefinition| {
        (which.types.is_empty() || which.types.contains(&shipped.kind))
            && (which.formats.is_empty() || which.formats.contains(&shipped.definition.format))
    };
    let meant = all.into_iter().filter(is_meant).collect::<Vec<_>>();
    let Some(topic) = &which.topic else {
        return Ok(meant.into_iter().map(|shipped| (shipped.record.clone(), shipped)).collect());
    };
    let one = <[ShippedDefinition; 1]>::try_from(meant).ok();
    let [shipped] = one.context("a topic's subject (`--topic`) holds one schema: say which, by one --type and one --format")?;
    Ok(vec![(format!("{topic}-value"), shipped)])
}

async fn row(registry: &Asked, (subject, shipped): (String, &ShippedDefinition), writing: Writing) -> anyhow::Result<Row> {
    let row = compared(registry, subject, shipped).await?;
    if writing == Writing::WhatDiffers { registered(registry, row, &shipped.definition).await } else { Ok(row) }
}

async fn compared(registry: &Asked, subject: String, shipped: &ShippedDefinition) -> anyhow::Result<Row> {
    let (kind, format) = (shipped.kind.clone(), shipped.definition.format);
    let absent =
        Row { subject, kind, format, state: State::Absent, version: None, id: None, difference: Vec::new(), message: None };
    let Some(there) = registry.subject(&absent.subject, None).await? else { return Ok(absent) };
    let difference = difference::lines(&there.definition, &shipped.definition);
    let state = if difference.is_empty() { State::Same } else { State::Differs };
    Ok(Row { state, version: Some(there.version), id: Some(there.id), difference, ..absent })
}

/// Twice is as good as once: what is the same is left alone.
async fn registered(registry: &Asked, row: Row, definition: &Definition) -> anyhow::Result<Row> {
    if row.state == State::Same {
        return Ok(row);
    }
    Ok(match registry.register(&row.subject, definition).await? {
        Ok(id) => Row { state: State::Registered, id: Some(id), version: None, ..row },
        Err(told) => Row { state: State::Refused, message: Some(told), ..row },
    })
}

fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let header = ["subject", "format", "state"].map(str::to_owned).to_vec();
    let shown = |row: &Row| {
        let there = row.version.zip(row.id).map(|(version, id)| format!(" (version {version}, id {id})"));
        let there = there.or_else(|| row.id.map(|id| format!(" (id {id})"))).unwrap_or_default();
        let state = match row.state {
            State::Same => "as shipped",
            State::Absent => "not there",
            State::Differs => "differs",
            State::Registered => "registered",
            State::Refused => "refused",
        };
        vec![super::shown::safe(&row.subject), row.format.to_string(), format!("{state}{there}")]
    };
    let lines = std::iter::once(header).chain(rows.iter().map(shown)).collect::<Vec<_>>();
    table(out, &lines)?;
    for row in rows.iter().filter(|row| !row.difference.is_empty() || row.message.is_some()) {
        let why = row.message.as_deref().map(|why| format!(": {}", super::shown::safe(why))).unwrap_or_default();
        writeln!(out, "\n{} ({}){why}", super::shown::safe(&row.subject), row.format)?;
        for line in &row.difference {
            writeln!(out, "  {}", super::shown::safe(line))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(types: &[&str], formats: &[Format], topic: Option<&str>) -> Which {
        let types = types.iter().map(|kind| (*kind).to_owned()).collect();
        Which { registry: None, types, formats: formats.to_vec(), topic: topic.map(str::to_owned), json: false }
    }

    fn subjects(which: &Which) -> String {
        match meant(which) {
            Ok(meant) => meant.iter().map(|(subject, _)| subject.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_subject_is_called_as_its_record_or_by_its_topic() {
        assert_eq!(
            subjects(&which(&["payment:due"], &[], None)),
            "tidings.events.PaymentDue tidings.events.v1.PaymentDue payment:due"
        );
        assert_eq!(subjects(&which(&["payment:due"], &[Format::Avro], Some("payments"))), "payments-value");
        assert!(subjects(&which(&["payment:due"], &[], Some("payments"))).contains("one --type and one --format"));
        assert!(subjects(&which(&["payment:lost"], &[], None)).contains("no schema of `payment:lost`"));
        let all = meant(&which(&[], &[], None)).unwrap();
        let names = all.iter().map(|(subject, _)| subject).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((all.len(), names.len()), (15, 15), "no two share a subject");
    }

    #[test]
    fn what_differs_is_shown_line_by_line() {
        let row = |state, version, difference: &[&str], message: Option<&str>| Row {
            subject: "payments-value".to_owned(),
            kind: "payment:due".to_owned(),
            format: Format::Avro,
            state,
            version,
            id: Some(7),
            difference: difference.iter().map(|line| (*line).to_owned()).collect(),
            message: message.map(str::to_owned),
        };
        let rows = [
            row(State::Same, Some(2), &[], None),
            row(State::Differs, Some(2), &["- \"name\": \"sum\"", "+ \"name\": \"amount\""], None),
            row(State::Refused, Some(2), &["+ \"name\": \"amount\""], Some("a reader of version 2 could not read it")),
        ];
        let mut out = Vec::new();
        print(&mut out, &rows).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        subject         format  state
        payments-value  Avro    as shipped (version 2, id 7)
        payments-value  Avro    differs (version 2, id 7)
        payments-value  Avro    refused (version 2, id 7)

        payments-value (Avro)
          - "name": "sum"
          + "name": "amount"

        payments-value (Avro): a reader of version 2 could not read it
          + "name": "amount"
        "#);
    }
}
