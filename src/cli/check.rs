//! `tidings check`: are rules, templates and schemas right, and do they fit each other?

mod registered;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tidings_core::rules::check::{Report, Subject, check};
use tidings_core::rules::{Severity, shipped, shipped_schemas};

use super::shown::safe;
use crate::config::folder::Folder;
use crate::config::{Config, RulesSource, registry_url};

/// Check rules, templates and schemas of events, and print every problem with file and line
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A folder of rules (*.toml) [default: `pipeline.rules`, else the rules that tidings ships]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// A folder of schemas of events (*.json) [default: the schemas that tidings ships]
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
    /// A folder of events as services write them (*.json), held against the schemas of their types and tried on the rules
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// A folder of the same schemas as they were: what has changed since and breaks a rule is said to have changed
    #[arg(long, value_name = "DIR")]
    before: Option<PathBuf>,
    /// A new version of a schema in any language (*.avsc, *.proto, *.json); only rules for its events are checked
    #[arg(long, value_name = "FILE", conflicts_with = "before")]
    schema: Option<PathBuf>,
    /// A subject of a registry: what --schema is compared with, else its latest version, compared with the one before
    #[arg(long, value_name = "SUBJECT", conflicts_with = "before")]
    subject: Option<String>,
    /// The registry, as `https://registry.example.com`; it is told the credentials of `registry` [default: `registry.urls`]
    #[arg(long, value_name = "URL", value_parser = registry_url, requires = "subject")]
    registry: Option<String>,
    /// What --schema refers to: a schema in a file, under the name that it is imported or called by there; may be given more than once
    #[arg(long = "reference", value_name = "NAME=FILE", value_parser = reference, requires = "schema")]
    references: Vec<(String, PathBuf)>,
    /// The type of the events of --schema or --subject [default: what the schema calls its values]
    #[arg(long = "type", value_name = "TYPE", id = "type")]
    kind: Option<String>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    /// Print a JSON object with `rules`, `schemas`, `samples`, `errors`, `warnings` and `problems`
    #[arg(long)]
    json: bool,
}

fn reference(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty());
    let (name, file) = parts.ok_or("a reference is NAME=FILE, for instance people.proto=schemas/people.proto")?;
    Ok((name.to_owned(), file.into()))
}

/// Prints every problem with file and line. The exit code is 1 if one is an error. The ladders of rules may name the rungs of `courier`.
///
/// # Errors
/// If a folder, a schema or the registry cannot be read, or the output cannot be written.
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let source = RulesSource::new(&config.pipeline, &config.courier).or_of(args.rules.clone());
    let rules = Folder::or_shipped(source.folder(), "toml", shipped())?;
    let schemas = Folder::or_shipped(args.schemas.as_deref(), "json", shipped_schemas())?;
    let samples = args.samples.as_deref().map(|folder| Folder::read(folder, "json")).transpose()?;
    let before = args.before.as_deref().map(|folder| Folder::read(folder, "json")).transpose()?;
    let versions = registered::versions(args, &config.registry).await?;
    let report = check(&Subject {
        rules: &rules.files(),
        schemas: &schemas.files(),
        before: &before.as_ref().map(Folder::files).unwrap_or_default(),
        described: versions.now.as_slice(),
        described_before: versions.before.as_slice(),
        undescribed: &versions.problems,
        samples: &samples.as_ref().map(Folder::files).unwrap_or_default(),
        limits: source.limits(),
        rungs: &config.courier.ladder,
    });
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    let failing = if args.strict { report.problems.len() } else { report.errors };
    Ok(if failing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each problem with the line that it is about, in the form that editors and CI systems follow.
fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for problem in &report.problems {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(out, "{}:{}: {severity}: {}", problem.file, problem.line, safe(&problem.message))?;
        if let Some(text) = &problem.text {
            writeln!(out, "    {}", safe(text))?;
        }
        writeln!(out, "    → {} [{}]", safe(&problem.help), problem.class)?;
    }
    let counted = |count: usize, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let [rules, schemas, samples] = [(report.rules, "rule"), (report.schemas, "schema"), (report.samples, "sample")]
        .map(|(count, what)| counted(count, what));
    let found = [(report.errors, "error"), (report.warnings, "warning")];
    let found = found.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what)).collect::<Vec<_>>();
    let found = if found.is_empty() { "no problems".to_owned() } else { found.join(", ") };
    writeln!(out, "{rules}, {schemas}, {samples}: {found}")
}

#[cfg(test)]
mod tests {
    use tidings_core::rules::File;

    use super::*;

    fn printed(report: &Report) -> String {
        let mut out = Vec::new();
        print(&mut out, report).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn of_payments(rule: &str) -> Report {
        let rules = [File { name: "rules/a.toml", text: rule }];
        let schemas: Vec<_> = shipped_schemas().iter().filter(|file| file.text.contains("payment:due")).copied().collect();
        check(&Subject { rules: &rules, schemas: &schemas, ..Subject::default() })
    }

    #[test]
    fn what_is_right_takes_one_line() {
        let report = Report { rules: 6, schemas: 5, samples: 1, errors: 0, warnings: 0, problems: Vec::new() };
        insta::assert_snapshot!(printed(&report), @"6 rules, 5 schemas, 1 sample: no problems");
    }

    #[test]
    fn each_problem_is_shown_with_its_line_and_what_to_do() {
        let report = of_payments("[[rule]]\nname = \"a\"\nevent = \"payment:due\"\nuser = \"{{ user }}\"\ntype = \"t\"\n");
        insta::assert_snapshot!(printed(&report), @r#"
        rules/a.toml:4: error: `user` reads `user`, which schemas/events/payment.due.json does not have
            user = "{{ user }}"
            → is `userId` meant? [variable_undefined]
        1 rule, 1 schema, 2 samples: 1 error
        "#);
    }

    #[test]
    fn the_same_as_json_has_one_shape() {
        let report = of_payments("[[rule]]\nname = \"a\"\nevent = \"payment:due\"\nuser = \"{{ userid }}\"\ntype = \"t\"\n");
        insta::assert_json_snapshot!(report, @r#"
        {
          "rules": 1,
          "schemas": 1,
          "samples": 2,
          "errors": 1,
          "warnings": 0,
          "problems": [
            {
              "file": "rules/a.toml",
              "line": 4,
              "severity": "error",
              "class": "variable_undefined",
              "message": "`user` reads `userid`, which schemas/events/payment.due.json does not have",
              "text": "user = \"{{ userid }}\"",
              "help": "is `userId` meant?"
            }
          ]
        }
        "#);
    }
}
