//! Records of domain topics: envelope, identity, rules, notifications.
//!
//! The first byte picks the envelope. The header lines `name: value` follow, then an empty line, then the value.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tidings_core::event::{Envelope, Reading, SourceHeader, SourceRecord};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::{self, Record as _};
use tidings_core::rules::{File, Limits, RuleSet, Terms, Verdict, decide, shipped};
use tidings_core::time::Timestamp;

const ENVELOPES: [Envelope; 5] = [Envelope::Detect, Envelope::CloudEvents, Envelope::Outbox, Envelope::Plain, Envelope::Flat];
/// Every key of a rule, for the type `a`.
const RULE: &str = r#"
[[rule]]
name = "all"
event = "a*"
when = "flag | default(true)"
user = ["{{ userId }}"]
users = "list | default([])"
role = "r-{{ userId | lower }}"
everyone = true
type = "t"
title = "{{ event.type }} {{ event.id }}"
message = "{% for item in list | default([]) %}{{ item }}{% endfor %}"
data = { list = "list | default(none)", user = "userId" }
locales = { fr = { title = "{{ userId }}" } }
"#;

static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let mut files = shipped().to_vec();
    files.push(File { name: "fuzz.toml", text: RULE });
    let limits = Limits { output_bytes: 4096, fuel: 5_000, receivers: 100 };
    RuleSet::parse(&files, limits).expect("the rules have no problem")
});

fn headers<'a>(text: &'a [u8]) -> Vec<SourceHeader<'a>> {
    let named = |line: &'a [u8]| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
        Some(SourceHeader { name, value: Some(value.strip_prefix(b" ").unwrap_or(value)) })
    };
    text.split(|byte| *byte == b'\n').filter_map(named).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let end = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, value) = end.map_or((&[][..], rest), |end| (&rest[..end], &rest[end + 2..]));
    let reading = Reading { envelope: ENVELOPES[usize::from(*first) % ENVELOPES.len()], ..Reading::default() };
    let timestamp = Timestamp::from_millis(1_769_860_800_000);
    let headers = headers(head);
    let record =
        SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, key: None, value: Some(value), headers: &headers };
    let terms = Terms { reading: &reading, max_age: Some(Duration::from_secs(3600)), now: timestamp };
    let verdict = decide(&RULES, &record, &terms);
    assert_eq!(decide(&RULES, &record, &terms), verdict, "the same record has the same verdict");
    match verdict {
        Verdict::Notify(records) => {
            assert!((1..=100).contains(&records.len()));
            for notified in records {
                let bytes = record::encode(&notified).expect("a notification is JSON");
                let version = NotificationRecord::VERSION.to_string();
                let read = record::decode::<NotificationRecord>(Some(version.as_bytes()), &bytes).expect("it reads back");
                assert_eq!(read, notified);
                assert!(read.notification.in_locale(None).locales.is_empty());
            }
        }
        Verdict::Ignore(_) => {}
        Verdict::Bury(burial) => assert!(!burial.message.is_empty() && burial.message.len() <= 4096),
    }
});
