//! `tidings check`: are rules, templates and schemas right, and do they fit each other?

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tidings_core::rules::check::{Report, check};
use tidings_core::rules::{Limits, shipped, shipped_schemas};

use crate::config::CourierConfig;
use crate::config::folder::Folder;

/// Check rules, templates and schemas of events, and print every problem with file and line
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A folder of rules (*.toml) [default: the rules that tidings ships]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// A folder of schemas of events (*.json) [default: the schemas that tidings ships]
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
    /// Print a JSON object with `rules`, `schemas` and `problems`
    #[arg(long)]
    json: bool,
}

/// Prints every problem with file and line. The exit code is 1 if there is any. The ladders of rules may name the rungs of `courier`.
///
/// # Errors
/// If a folder cannot be read, or the output cannot be written.
pub fn run(args: &Args, courier: &CourierConfig) -> anyhow::Result<ExitCode> {
    let rules = Folder::or_shipped(args.rules.as_deref(), "toml", shipped())?;
    let schemas = Folder::or_shipped(args.schemas.as_deref(), "json", shipped_schemas())?;
    let report = check(&rules.files(), &schemas.files(), Limits::default(), &courier.ladder);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for problem in &report.problems {
        writeln!(out, "{problem}")?;
    }
    let counted = |count: usize, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let (rules, schemas) = (counted(report.rules, "rule"), counted(report.schemas, "schema"));
    match report.problems.len() {
        0 => writeln!(out, "{rules}, {schemas}: no problems"),
        problems => writeln!(out, "{rules}, {schemas}: {}", counted(problems, "problem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(report: &Report) -> String {
        let mut out = Vec::new();
        print(&mut out, report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_right_takes_one_line() {
        let report = Report { rules: 6, schemas: 5, problems: Vec::new() };
        insta::assert_snapshot!(printed(&report), @"6 rules, 5 schemas: no problems");
    }

    #[test]
    fn each_problem_takes_a_line_that_editors_can_follow() {
        let text = "[[rule]]\nname = \"a\"\nevent = \"payment:due\"\nuser = \"{{ user }}\"\ntype = \"t\"\n";
        let rules = [tidings_core::rules::File { name: "rules/a.toml", text }];
        let schemas: Vec<_> = shipped_schemas().iter().filter(|file| file.text.contains("payment:due")).copied().collect();
        let report = check(&rules, &schemas, Limits::default(), &[]);
        insta::assert_snapshot!(printed(&report), @r"
        rules/a.toml:4: `user` reads `user`, which schemas/events/payment.due.json does not have
        1 rule, 1 schema: 1 problem
        ");
    }
}
