use super::super::context::{Blamed, Context, Failure, Original};
use super::super::dead_letter::{DeadLetter, Extent};
use super::*;
use crate::fate::Cause;

const ID: LetterId = LetterId { partition: 2, offset: 17 };

/// What tidings writes of a record with the headers `before`.
fn written(before: &[(&str, &str)], extent: Extent) -> (Vec<Header>, Option<Vec<u8>>) {
    let blamed = Blamed { rule: "payment-due".into(), line: "rules/payment.toml:7".into() };
    let timestamp = Some(Timestamp::from_millis(1_769_860_800_250));
    let original = Original { topic: "payments", partition: 1, offset: 41, timestamp, key: Some(b"k") };
    let (class, message) = ("template_undefined", "`dueDate` is undefined");
    let failure = Failure { stage: "render", cause: Cause::Poison, class, message, rule: Some(&blamed) };
    let node = "node-a".parse().unwrap();
    let context = Context { original, failure, attempt: None, trace: None, node: &node };
    let dead = DeadLetter { context, value: Some(b"\xff{"), headers: before.len() }.record(extent);
    let before = before.iter().filter(|_| extent.keeps_headers());
    let before = before.map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
    (before.chain(dead.headers).collect(), dead.value.map(<[u8]>::to_vec))
}

fn read(headers: &[Header], value: Option<&[u8]>) -> Result<Letter, LetterError> {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect::<Vec<_>>();
    let appended_at = Timestamp::from_millis(1_769_860_801_000);
    Letter::read(&RawLetter { id: ID, appended_at, key: Some(b"k"), value, headers: &headers, unread_headers: 0 })
}

#[test]
fn what_was_buried_reads_back_as_it_was() {
    let before = [("traceparent", "x"), ("tidings-stage", "forged"), ("tidings-context-version", "1")];
    let (headers, value) = written(&before, Extent::Whole);
    let letter = read(&headers, value.as_deref()).unwrap();
    assert_eq!(letter.original.to_string(), "payments[1]@41");
    assert_eq!(letter.original.timestamp, Some(Timestamp::from_millis(1_769_860_800_250)));
    assert_eq!((letter.diagnosis.stage.as_str(), letter.diagnosis.class.as_str()), ("render", "template_undefined"));
    assert_eq!(letter.diagnosis.line.as_deref(), Some("rules/payment.toml:7"));
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"k"[..]), Some(&b"\xff{"[..])));
    let names = letter.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["traceparent", "tidings-stage", "tidings-context-version"], "forged ones are the original's");
    assert_eq!(letter.truncated, None);
}

#[test]
fn a_stub_says_what_is_missing() {
    let (headers, value) = written(&[("a", "b")], Extent::Stub);
    let letter = read(&headers, value.as_deref()).unwrap();
    let truncated = letter.truncated.unwrap();
    assert_eq!((truncated.bytes, truncated.sha256.unwrap().len(), letter.headers), (Some(2), 64, Vec::new()));
}

#[test]
fn what_tidings_did_not_write_is_refused_with_the_header_that_shows_it() {
    let (headers, _) = written(&[], Extent::Whole);
    let with = |name: &str, value: &[u8]| {
        let mut changed = headers.clone();
        changed.retain(|(found, _)| found != name);
        changed.push((name.to_owned(), Some(value.to_vec())));
        // The version begins what is ours.
        changed.sort_by_key(|(name, _)| name != CONTEXT_VERSION_HEADER);
        read(&changed, None).unwrap_err()
    };
    let told = [
        read(&[], None).unwrap_err(),
        with(CONTEXT_VERSION_HEADER, b"2"),
        with(CONTEXT_VERSION_HEADER, b"one"),
        with("tidings-original-offset", b"-1"),
        with("tidings-original-topic", b"other"),
        with("tidings-original-timestamp", b"yesterday"),
        with("tidings-node", b"\xff"),
    ];
    insta::assert_snapshot!(told.map(|error| format!("{}: {error}", error.class())).join("\n"), @r"
    no_context: it has no header `tidings-context-version`: it was not written by tidings
    newer_version: its context headers are of version 2, this release reads up to 1: use a later release
    header_invalid: its header `tidings-context-version` is missing or does not read
    contradicted: its headers `tidings-original-offset` and `__connect.errors.offset` contradict each other: it was forged or changed
    contradicted: its headers `tidings-original-topic` and `__connect.errors.topic` contradict each other: it was forged or changed
    header_invalid: its header `tidings-original-timestamp` is missing or does not read
    header_invalid: its header `tidings-node` is missing or does not read
    ");
}

#[test]
fn an_id_reads_back_as_written_and_anything_else_is_refused() {
    assert_eq!(ID.to_string().parse(), Ok(ID));
    for text in ["", "2", "@", "2@", "@17", "-1@2", "2@-1", "2@17@3", "99999999999@1", "a@b"] {
        assert!(text.parse::<LetterId>().is_err(), "{text:?}");
    }
}
