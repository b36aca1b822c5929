//! The examples of docs/events.md, decided as the pipeline would.

use tidings_core::event::{SourceHeader, SourceRecord};
use tidings_core::rules::{File, Limits, RuleSet, Verdict, decide, shipped};
use tidings_core::time::Timestamp;

use crate::config::Topics;

const DOCUMENT: &str = include_str!("../../docs/events.md");

/// The blocks of the document in their order, each with its language.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut parts = DOCUMENT.split("```");
    parts.next();
    let mut blocks = Vec::new();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        blocks.push(block.split_once('\n').unwrap());
    }
    blocks
}

fn in_quotes(text: &str) -> &str {
    text.strip_prefix('\'').and_then(|text| text.split('\'').next()).unwrap()
}

/// What is behind each `option` of a command, up to the next blank unless it is in quotes.
fn options<'a>(command: &'a str, option: &str) -> Vec<&'a str> {
    let behind = command.split(option).skip(1);
    behind.map(|rest| if rest.starts_with('\'') { in_quotes(rest) } else { rest.split_whitespace().next().unwrap() }).collect()
}

/// What becomes of the record that a command writes, as the document shows it.
fn decided(command: &str, rules: &RuleSet, topics: &Topics) -> String {
    let (echo, kcat) = command.split_once("|\n").unwrap();
    let value = in_quotes(echo.strip_prefix("echo ").unwrap());
    let headers = options(kcat, "-H ").into_iter().map(|header| {
        let (name, value) = header.split_once('=').unwrap();
        SourceHeader { name, value: Some(value.as_bytes()) }
    });
    let headers = headers.collect::<Vec<_>>();
    let topic = options(kcat, "-t ")[0];
    let timestamp = Timestamp::from_millis(1_769_860_800_000);
    let value = Some(value.as_bytes());
    let record = SourceRecord { topic, partition: 0, offset: 0, timestamp, key: None, value, headers: &headers };
    match decide(rules, &record, &topics.of(topic).terms(timestamp)) {
        Verdict::Notify(records) => {
            let line = |record: &tidings_core::record::notified::NotificationRecord| {
                let shown = &record.notification;
                format!("{}  {}: {}\n", record.channel, shown.title.as_ref().unwrap(), shown.message.as_ref().unwrap())
            };
            records.iter().map(line).collect()
        }
        Verdict::Ignore(reason) => format!("ignored: {}\n", reason.name()),
        Verdict::Bury(burial) => format!("buried: {}: {}\n", burial.class, burial.message),
    }
}

#[test]
fn every_example_of_the_document_becomes_what_it_says() {
    let blocks = blocks();
    let (mut files, mut configs) = (shipped().to_vec(), Vec::new());
    for (_, text) in blocks.iter().filter(|(language, _)| *language == "toml") {
        if text.contains("[[rule]]") {
            files.push(File { name: "docs/events.md", text });
        } else {
            configs.push(*text);
        }
    }
    let rules = RuleSet::parse(&files, Limits::default()).unwrap();
    let [config] = configs.try_into().expect("one block of configuration");
    let topics = Topics::new(&crate::config::load(Some(("docs/events.md", config)), &[]).unwrap().pipeline, "tidings.requests");
    let commands = blocks.iter().zip(blocks.iter().skip(1)).filter(|((language, _), _)| *language == "sh");
    let mut tried = 0;
    for ((_, command), (language, expected)) in commands {
        assert_eq!(*language, "text", "behind each command stands what comes of it: {command}");
        assert_eq!(decided(command, &rules, &topics), *expected, "{command}");
        tried += 1;
    }
    assert_eq!(tried, DOCUMENT.matches(" -P").count());
}
