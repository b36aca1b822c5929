//! `tidings render`: what would a record become? A preview of the pipeline's verdict, without Kafka.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};
use tidings_core::event::{Envelope, Reading, SourceHeader, SourceRecord};
use tidings_core::locale::Locale;
use tidings_core::rules::{self, Limits, RuleSet, Terms, Verdict, shipped, shipped_schemas};

use super::produce::header;
use crate::clock::Clock;
use crate::config::folder::Folder;

/// Show what a record would become: its notifications, or why there are none
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A file with the value of one record, as a service would write it to Kafka; `-` reads standard input
    #[arg(value_name = "EVENT.json", required_unless_present = "type")]
    event: Option<PathBuf>,
    /// Take the first sample of this type of event from the schemas instead, for instance payment:due
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "event", id = "type")]
    kind: Option<String>,
    /// A folder of rules (*.toml) [default: the rules that tidings ships]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// A folder of schemas of events (*.json), for --type [default: the schemas that tidings ships]
    #[arg(long, value_name = "DIR", requires = "type", conflicts_with = "event")]
    schemas: Option<PathBuf>,
    /// The topic that the record is taken to lie on
    #[arg(long, default_value = "sample")]
    topic: String,
    /// A header of the record, for instance ce_type=payment:due; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The envelope that the record is in: detect, cloudevents, outbox, plain or flat
    #[arg(long, default_value = "detect", value_parser = envelope)]
    envelope: Envelope,
    /// Show what somebody who reads this locale is shown, for instance fr-CA [default: what lies on Kafka, with all locales]
    #[arg(long)]
    locale: Option<Locale>,
    /// Print the verdict as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what becomes of the record. The exit code is 1 if it would be buried.
///
/// # Errors
/// If a file cannot be read, the rules have problems, there is no sample of the type, or the output cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = Folder::or_shipped(args.rules.as_deref(), "toml", shipped())?;
    let rules = RuleSet::parse(&folder.files(), Limits::default()).map_err(|problems| {
        let lines: String = problems.iter().map(|problem| format!("\n{problem}")).collect();
        anyhow::anyhow!("the rules have problems:{lines}")
    })?;
    let value = value(&args)?;
    let timestamp = Clock::start().now();
    let headers =
        args.headers.iter().map(|(name, value)| SourceHeader { name, value: Some(value.as_bytes()) }).collect::<Vec<_>>();
    let record = SourceRecord {
        topic: &args.topic,
        partition: 0,
        offset: 0,
        timestamp,
        key: None,
        value: Some(&value),
        headers: &headers,
    };
    let reading = Reading { envelope: args.envelope, ..Reading::default() };
    let mut verdict = rules::decide(&rules, &record, &Terms { reading: &reading, max_age: None, now: timestamp });
    if let (Some(locale), Verdict::Notify(records)) = (&args.locale, &mut verdict) {
        for record in records {
            record.notification = record.notification.in_locale(Some(locale)).into_owned();
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&verdict))?;
        writeln!(out)?;
    } else {
        print(&mut out, &verdict)?;
    }
    Ok(if matches!(verdict, Verdict::Bury(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn envelope(text: &str) -> Result<Envelope, serde_json::Error> {
    serde_json::from_value(text.into())
}

fn value(args: &Args) -> anyhow::Result<Vec<u8>> {
    if let Some(kind) = &args.kind {
        let schemas = Folder::or_shipped(args.schemas.as_deref(), "json", shipped_schemas())?;
        let sample = rules::check::sample(&schemas.files(), kind);
        return sample
            .with_context(|| format!("no schema of `{kind}` with a sample; `tidings check` says what is wrong with one"));
    }
    let path = args.event.as_deref().unwrap_or(Path::new("-"));
    if path == Path::new("-") {
        let mut value = Vec::new();
        io::stdin().lock().read_to_end(&mut value).context("could not read standard input")?;
        return Ok(value);
    }
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn print(out: &mut impl Write, verdict: &Verdict) -> anyhow::Result<()> {
    match verdict {
        Verdict::Notify(records) => {
            for record in records {
                writeln!(out, "rule {} notifies {}", record.rule, record.channel)?;
                writeln!(out, "{}", serde_json::to_string_pretty(&record.notification)?)?;
            }
        }
        Verdict::Ignore(reason) => writeln!(out, "ignored: {}", reason.name())?,
        Verdict::Bury(burial) => writeln!(out, "buried at {}: {}: {}", burial.stage, burial.class, burial.message)?,
    }
    Ok(())
}

fn as_json(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Notify(records) => json!({ "verdict": "notify", "notifications": records }),
        Verdict::Ignore(reason) => json!({ "verdict": "ignore", "reason": reason.name() }),
        Verdict::Bury(burial) => json!({
            "verdict": "bury",
            "stage": burial.stage,
            "cause": burial.cause.name(),
            "class": burial.class,
            "message": burial.message,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tidings_core::time::Timestamp;

    use super::*;

    fn verdict(value: &str) -> Verdict {
        let rules = RuleSet::parse(shipped(), Limits::default()).unwrap();
        let timestamp = Timestamp::from_millis(1_769_860_800_000);
        let value = Some(value.as_bytes());
        let record = SourceRecord { topic: "sample", partition: 0, offset: 0, timestamp, key: None, value, headers: &[] };
        rules::decide(&rules, &record, &Terms { reading: &Reading::default(), max_age: None, now: timestamp })
    }

    fn printed(value: &str) -> String {
        let mut out = Vec::new();
        print(&mut out, &verdict(value)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_record_comes_from_a_file_or_from_a_sample_but_not_from_both() {
        let parse = |words: &str| Line::try_parse_from(words.split(' ')).map(|line| line.args);
        assert_eq!(value(&parse("render --type user:logged_in").unwrap()).unwrap().first(), Some(&b'{'));
        assert_eq!(parse("render -").unwrap().event, Some(PathBuf::from("-")));
        for refused in ["render", "render --type a -", "render --schemas b -", "render --schemas b"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
        let error = value(&parse("render --type user:unknown").unwrap()).unwrap_err();
        insta::assert_snapshot!(error, @"no schema of `user:unknown` with a sample; `tidings check` says what is wrong with one");
    }

    #[test]
    fn each_notification_is_shown_with_its_rule_and_channel() {
        let value = r#"{"id":"e-1","type":"user:logged_in","data":{"userId":42,"name":"Ada"}}"#;
        insta::assert_snapshot!(printed(value), @r#"
        rule user-logged-in notifies user-42
        {
          "id": "76895cb4-2342-5bdd-81f3-cdf9e7fe8593",
          "eventId": "e-1",
          "type": "welcome",
          "createdAt": "2026-01-31T12:00:00.000Z",
          "title": "Welcome",
          "message": "Welcome back, Ada.",
          "priority": "medium",
          "source": "sample"
        }
        "#);
    }

    #[test]
    fn a_verdict_without_notifications_gives_its_reason() {
        insta::assert_snapshot!(printed(r#"{"type":"nothing:known","data":{}}"#), @"ignored: no_rule");
        insta::assert_snapshot!(printed(r#"{"type":"user:logged_in","data":{"userId":42}}"#),
            @"buried at render: template_undefined: rule `user-logged-in`, field `message`: `name` is undefined, line 1 of the template");
        insta::assert_snapshot!(as_json(&verdict("[")),
            @r#"{"cause":"poison","class":"not_json","message":"the value is not JSON: EOF while parsing a list at line 1 column 1","stage":"decode","verdict":"bury"}"#);
    }
}
