use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::{decode, encode};

fn asked(value: &Value) -> RequestRecord {
    read(value.to_string().as_bytes()).unwrap()
}

#[test]
fn what_was_read_is_written_in_one_form_and_reads_the_same() {
    let requests = [
        json!({"to": {"user": 7}, "message": "m"}),
        json!({"id": 1, "to": {"users": ["a", "b", "a"]}, "exclude": ["c"], "title": "t"}),
        json!({"to": {"role": "driver"}, "type": "shift", "data": {"n": 1}}),
        json!({"to": {"channel": "booking-updates"}, "type": "t", "message": null, "id": null}),
        json!({"to": {"everyone": true}, "title": "t", "message": "m", "priority": "urgent", "actionUrl": "/a", "source": "s",
               "category": "c", "expiresAt": "2026-02-01T08:00:00+01:00", "locales": {"FR-ca": {"message": "bonjour"}}}),
        json!({"event": {"type": "payment:due", "data": {"userId": 1}, "id": 5, "time": "2026-02-01T00:00:00Z"}, "exclude": [1]}),
        json!({"to": {"user": "a"}, "message": "m", "added": "later"}),
    ];
    let lines = requests.map(|value| {
        let request = asked(&value);
        let written = encode(&request).unwrap();
        assert_eq!(decode::<RequestRecord>(Some(b"1"), &written).unwrap(), request);
        String::from_utf8(written).unwrap()
    });
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_fault_is_named_with_its_place() {
    let many = |count: usize| (0..count).collect::<Vec<_>>();
    let long = "x".repeat(LIMIT_TEXT_BYTES + 1);
    let locales = (0..=LIMIT_LOCALES).map(|number| (format!("de-{number:03}"), json!({}))).collect::<Map<_, _>>();
    let requests = [
        json!([]),
        json!({}),
        json!({"to": "alice", "message": "m"}),
        json!({"to": {}, "message": "m"}),
        json!({"to": {"user": "a", "role": "b"}, "message": "m"}),
        json!({"to": {"user": ""}, "message": "m"}),
        json!({"to": {"user": {"a": 1}}, "message": "m"}),
        json!({"to": {"user": 1.5}, "message": "m"}),
        json!({"to": {"users": []}, "message": "m"}),
        json!({"to": {"users": ["a", "", 2.5, null]}, "message": "m"}),
        json!({"to": {"users": many(LIMIT_USERS + 1)}, "message": "m"}),
        json!({"to": {"role": " a"}, "message": "m"}),
        json!({"to": {"channel": "user-"}, "message": "m"}),
        json!({"to": {"everyone": "yes"}, "message": "m"}),
        json!({"to": {"user": "a"}}),
        json!({"to": {"user": "a"}, "title": "", "message": 7, "type": "\u{7}", "data": [1], "priority": "asap", "actionUrl": long,
               "source": "", "category": {}, "expiresAt": "tomorrow", "id": [], "exclude": "b"}),
        json!({"to": {"user": "a"}, "message": "m", "exclude": many(1001)}),
        json!({"to": {"user": "a"}, "message": "m", "locales": {"french/": {}, "de": 1, "fr": {"title": ""}, "FR": {}}}),
        json!({"to": {"user": "a"}, "message": "m", "locales": locales}),
        json!({"to": {"user": "a"}, "data": {"x": "y".repeat(LIMIT_WORDS_BYTES)}, "type": "t"}),
        json!({"event": "payment:due"}),
        json!({"event": {}}),
        json!({"event": {"type": "x".repeat(300), "data": "d", "id": {}, "time": 7}}),
        json!({"event": {"type": "a", "data": {}}, "to": {"user": "a"}, "message": "m"}),
    ];
    let mut lines = requests
        .map(|value| {
            let RequestError::Invalid(faults) = read(value.to_string().as_bytes()).unwrap_err() else { panic!("{value}") };
            let shown = value.to_string().chars().take(100).collect::<String>();
            format!("{shown}\n  {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))
        })
        .to_vec();
    for bytes in [&b"\xff"[..], b"", b"{\"to\":", &[b'['; 100_000]] {
        let error = read(bytes).unwrap_err();
        lines.push(format!("{}: {error}", error.class()));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn of_several_languages_only_the_largest_counts_as_shown() {
    let text = "x".repeat(LIMIT_TEXT_BYTES);
    let locale = |texts: &[&str]| texts.iter().map(|name| ((*name).to_owned(), json!(text))).collect::<Map<_, _>>();
    let asked = |locales: Value| {
        let words = json!({"to": {"user": "a"}, "message": text, "locales": locales});
        read(words.to_string().as_bytes())
    };
    // The three together are more than may be shown, the default words and one of the others are not.
    const { assert!(3 * LIMIT_TEXT_BYTES >= LIMIT_WORDS_BYTES) };
    assert!(asked(json!({"de": locale(&["message"]), "fr": locale(&["message"])})).is_ok());
    let RequestError::Invalid(faults) = asked(json!({"de": locale(&["title", "message"])})).unwrap_err() else { panic!() };
    assert!(faults[0].detail.contains("too large"), "{faults:?}");
}

#[test]
fn as_many_notifications_follow_as_there_are_users_who_are_not_left_out() {
    let least = |value: Value| asked(&value).least();
    assert_eq!(least(json!({"to": {"user": "a"}, "message": "m"})), 1);
    assert_eq!(least(json!({"to": {"users": ["a", "b", "c", "b"]}, "exclude": ["c", "d"], "message": "m"})), 2);
    assert_eq!(least(json!({"to": {"role": "driver"}, "exclude": ["c"], "message": "m"})), 1);
    assert_eq!(least(json!({"event": {"type": "payment:due", "data": {"userId": 1}}})), 1);
}

#[test]
fn the_ids_of_requests_never_change_and_differ_by_caller_and_key() {
    let id = |caller: &str, key: &str| request_id(&caller.parse().unwrap(), key);
    insta::assert_snapshot!(id("billing", "order-7"), @"e3fd96fa-02e1-58dd-aa01-e6c0a6620ddf");
    assert_ne!(id("billing", "order-7"), id("billing", "order-8"));
    // The same letters with the border elsewhere.
    assert_ne!(id("billing", "order-7"), id("billingo", "rder-7"));
}

#[test]
fn requests_for_the_same_audience_have_the_same_key() {
    let key = |value: Value| asked(&value).key();
    assert_eq!(key(json!({"to": {"user": "a"}, "message": "1"})).as_deref(), Some("user-a"));
    assert_eq!(key(json!({"to": {"role": "r"}, "message": "1"})).as_deref(), Some("role-r"));
    assert_eq!(key(json!({"id": "i", "event": {"type": "t", "data": {}}})).as_deref(), Some("i"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(value: Vec<u8>) {
        let _ = read(&value);
    }

    #[test]
    fn no_broken_request_makes_the_reader_panic(at in 0_usize..80, byte: u8) {
        let mut value = br#"{"to":{"users":["a",1]},"exclude":["b"],"message":"m","locales":{"fr":{"title":"t"}}}"#.to_vec();
        value[at] = byte;
        let _ = read(&value);
    }
}
