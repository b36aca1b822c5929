//! Every envelope, read and refused. Long because each of them meets each kind of harm, side by side.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fate::Cause;
use crate::ids::LIMIT_TYPE_BYTES;

type OwnedHeaders<'a> = Vec<(&'a str, &'a [u8])>;
type Headers<'a> = &'a [(&'a str, &'a [u8])];

fn decode_with(headers: Headers<'_>, value: &[u8], reading: &Reading) -> Result<Event, EventError> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| SourceHeader { name, value: Some(value) }).collect();
    let timestamp = Timestamp::from_millis(1_769_860_800_000);
    let place =
        SourceRecord { topic: "bookings", partition: 3, offset: 42, timestamp, key: None, value: Some(value), headers: &headers };
    decode(&place, reading)
}

fn read(headers: Headers<'_>, value: &str) -> Event {
    decode_with(headers, value.as_bytes(), &Reading::default()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn event(value: &str) -> Event {
    read(&[], value)
}

fn named(source: &str, id: &str) -> Identity {
    Identity::Named { source: source.to_owned(), id: id.parse().unwrap() }
}

const BINARY: [(&str, &[u8]); 4] =
    [("ce_specversion", b"1.0"), ("ce_id", b"e-1"), ("ce_source", b"/bookings"), ("ce_type", b"booking:confirmed")];
const STRUCTURED: &str = r#"{"specversion":"1.0","id":"e-1","source":"/bookings","type":"booking:confirmed","time":"2026-02-01T07:00:00Z","data":{"userId":7}}"#;
const OUTBOX: [(&str, &[u8]); 2] = [("id", b"e-1"), ("eventType", b"booking:confirmed")];

/// The headers `all` with one of them changed, or left out.
fn with<'a>(all: Headers<'a>, name: &str, value: Option<&'a [u8]>) -> Vec<(&'a str, &'a [u8])> {
    all.iter().filter_map(|(key, old)| if *key == name { value.map(|value| (*key, value)) } else { Some((*key, *old)) }).collect()
}

#[test]
fn the_same_event_is_read_out_of_every_envelope() {
    let timed = [BINARY.as_slice(), &[("ce_time", b"2026-02-01T08:00:00+01:00"), ("content-type", b"application/json")]].concat();
    let typed: Headers<'_> = &[("event-type", b"booking:confirmed")];
    let content_type = |text: &'static str| vec![("Content-Type", text.as_bytes())];
    let cases: Vec<(OwnedHeaders<'_>, &str)> = vec![
        (vec![], r#"{"type":"booking:confirmed","data":{"userId":7}}"#),
        (vec![], r#"{"event":"booking:confirmed","data":{"userId":7}}"#),
        (vec![], r#"{"eventType":"booking:confirmed","data":{"userId":7}}"#),
        (vec![], r#"{"schema":{"type":"struct"},"payload":{"type":"booking:confirmed","data":{"userId":7}}}"#),
        (vec![], r#"{"schema":{"type":"string"},"payload":"{\"type\":\"booking:confirmed\",\"data\":{\"userId\":7}}"}"#),
        (typed.to_vec(), r#"{"userId":7}"#),
        (typed.to_vec(), r#"{"data":{"userId":7}}"#),
        (BINARY.to_vec(), r#"{"userId":7}"#),
        (timed, r#"{"userId":7}"#),
        (vec![], STRUCTURED),
        (content_type("application/cloudevents+json"), STRUCTURED),
        (content_type("application/cloudevents+json; charset=UTF-8"), STRUCTURED),
        (content_type("Application/CloudEvents+JSON ;charset=\"utf-8\"; x=y"), STRUCTURED),
        (OUTBOX.to_vec(), r#"{"userId":7}"#),
        (OUTBOX.to_vec(), r#""{\"userId\":7}""#),
        (OUTBOX.to_vec(), r#"{"schema":{"type":"string"},"payload":"{\"userId\":7}"}"#),
        (OUTBOX.to_vec(), r#"{"schema":{"type":"struct"},"payload":{"userId":7}}"#),
        (vec![("id", b"\"e-1\""), ("eventType", b"\"booking:confirmed\"")], r#"{"userId":7}"#),
    ];
    for (headers, value) in cases {
        let event = read(&headers, value);
        assert_eq!(event.kind, "booking:confirmed", "{value}");
        assert_eq!(json!(*event.data), json!({"userId": 7}), "{value}");
        let said = value.contains("\"time\"") || headers.iter().any(|(name, _)| *name == "ce_time");
        assert_eq!(event.time.to_string(), if said { "2026-02-01T07:00:00.000Z" } else { "2026-01-31T12:00:00.000Z" }, "{value}");
    }
}

#[test]
fn the_identity_is_source_and_id_or_the_outboxs_id_or_the_place() {
    assert_eq!(read(&BINARY, "{}").identity, named("/bookings", "e-1"));
    assert_eq!(event(STRUCTURED).identity, named("/bookings", "e-1"));
    assert_eq!(read(&OUTBOX, r#"{"id":"b-1"}"#).identity, named("bookings", "e-1"));
    assert_eq!(event(r#"{"type":"a","id":"e-1","data":{}}"#).identity, named("bookings", "e-1"));
    for (headers, value) in
        [(&[][..], r#"{"type":"a","id":"b-1"}"#), (&[("eventType", &b"a"[..])], r#"{"id":"b-1","eventId":"b"}"#)]
    {
        assert!(matches!(read(headers, value).identity, Identity::Coordinates { .. }), "an id in a flat value is a booking's");
    }
}

#[test]
fn everything_in_a_flat_value_is_data_and_its_time_is_the_services_own() {
    let event = event(r#"{"type":"a","time":"tomorrow","id":7,"userId":"u"}"#);
    assert_eq!(json!(*event.data), json!({"type": "a", "time": "tomorrow", "id": 7, "userId": "u"}));
    assert_eq!(event.time.to_string(), "2026-01-31T12:00:00.000Z");
}

#[test]
fn a_header_that_says_the_type_counts_more_than_a_field_that_may_mean_anything() {
    assert_eq!(read(&[("eventType", b"car:sold")], r#"{"type":"sedan"}"#).kind, "car:sold");
    assert_eq!(read(&[("type", b"car:sold")], r#"{"type":"sedan"}"#).kind, "sedan");
    let reading = Reading { type_header: Some("type".to_owned()), ..Reading::default() };
    assert_eq!(decode_with(&[("type", b"first"), ("type", b"last")], br#"{"type":"sedan"}"#, &reading).unwrap().kind, "last");
}

#[test]
fn a_topics_configuration_decides_on_envelope_type_and_id() {
    let decoded = |envelope, id: Option<&str>, headers: Headers<'_>, value: &str| {
        let reading = Reading { envelope, id: id.map(|id| id.parse().unwrap()), ..Reading::default() };
        decode_with(headers, value.as_bytes(), &reading)
    };
    let flat = decoded(Envelope::Flat, None, &[], r#"{"type":"a","data":"text"}"#).unwrap();
    assert_eq!(flat.data["data"], "text");
    let id = |place, headers: Headers<'_>, value| decoded(Envelope::Detect, Some(place), headers, value).unwrap().identity;
    assert_eq!(id("field:payment.id", &[], r#"{"type":"a","payment":{"id":7}}"#), named("bookings", "7"));
    assert_eq!(id("field:ref", &[], r#"{"type":"a","ref":"r","id":"e","data":{}}"#), named("bookings", "r"));
    assert_eq!(id("header:x-id", &[("x-id", b"h")], r#"{"type":"a","data":{}}"#), named("bookings", "h"));
    assert_eq!(
        id("header:ce_ref", &with(&[BINARY.as_slice(), &[("ce_ref", b"h")]].concat(), "", None), "{}"),
        named("/bookings", "h")
    );
    let refusals = [
        decoded(Envelope::Plain, None, &[], r#"{"type":"a"}"#),
        decoded(Envelope::CloudEvents, None, &[], r#"{"type":"a","data":{}}"#),
        decoded(Envelope::Outbox, None, &[], r#"{"type":"a","data":{}}"#),
        decoded(Envelope::Detect, Some("header:x-id"), &[], r#"{"type":"a","data":{}}"#),
        decoded(Envelope::Detect, Some("field:a.b"), &[], r#"{"type":"a","a":1}"#),
        decoded(Envelope::Detect, Some("field:a"), &[], r#"{"type":"a","a":1.5}"#),
    ];
    let lines = refusals.map(|refused| refused.unwrap_err().to_string());
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("reading_errors", lines.join("\n"));
    });
}

/// What a refusal looks like in a snapshot.
fn refusal(headers: Headers<'_>, value: &[u8]) -> String {
    let error = decode_with(headers, value, &Reading::default()).unwrap_err();
    assert_eq!(error.cause(), Cause::Poison);
    let shown: String = String::from_utf8_lossy(value).chars().take(50).collect();
    let names: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}={} ", String::from_utf8_lossy(value).chars().take(60).collect::<String>()))
        .collect();
    format!("{}{shown:?}\n  {}: {error}", names.concat(), error.class())
}

#[test]
fn every_refusal_says_what_is_wrong_and_where() {
    let long = format!(r#"{{"type":"{}","data":{{}}}}"#, "x".repeat(300));
    let values: [&[u8]; 19] = [
        b"",
        b"{\"type\":\"a\xff\"}",
        b"{\"type\": \"a\",\n \"data\": }",
        b"{\"type\":\"a\",\"data\":{}} trailing",
        b"{\"type\":\"a\",\"data\":{",
        b"null",
        b"[\"a\", {}]",
        b"{}",
        b"{\"type\":null,\"data\":{}}",
        b"{\"type\":7,\"data\":{}}",
        b"{\"type\":\"\",\"data\":{}}",
        long.as_bytes(),
        b"\"{}\"",
        b"{\"type\":\"a\",\"data\":[1]}",
        b"{\"type\":\"a\",\"data\":{},\"id\":{}}",
        b"{\"type\":\"a\",\"data\":{},\"id\":\"\"}",
        b"{\"type\":\"a\",\"data\":{},\"eventId\":1.5}",
        b"{\"type\":\"a\",\"data\":{},\"time\":1769860800}",
        b"{\"type\":\"a\",\"data\":{},\"time\":\"yesterday\"}",
    ];
    let lines: Vec<String> = values.iter().map(|value| refusal(&[], value)).collect();
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("event_errors", lines.join("\n"));
    });
}

#[test]
fn every_refusal_of_an_envelope_names_it_and_what_it_was_recognised_by() {
    let huge = vec![b'x'; 1 << 20];
    let binary = |name: &str, value: Option<&[u8]>| refusal(&with(&BINARY, name, value), b"{}");
    let typed = |text: &'static str| refusal(&[("Content-Type", text.as_bytes())], STRUCTURED.as_bytes());
    let also = |name, value| [BINARY.as_slice(), &[(name, value)]].concat();
    let lines = [
        binary("ce_specversion", Some(b"0.3")),
        binary("ce_specversion", None),
        binary("ce_type", Some(b"")),
        binary("ce_type", Some(&huge)),
        binary("ce_source", Some(&huge)),
        binary("ce_source", None),
        binary("ce_id", Some(b"a\xff")),
        binary("ce_id", None),
        refusal(&also("ce_time", b"yesterday"), b"{}"),
        refusal(&also("content-type", b"application/xml"), b"<a/>"),
        refusal(&BINARY, b"[1]"),
        refusal(&BINARY, b"not json"),
        typed("application/cloudevents-batch+json"),
        typed("application/cloudevents+avro"),
        typed("application/cloudevents+json; charset=utf-16"),
        refusal(&[("content-type", b"application/cloudevents+json")], br#"{"type":"a","data":{}}"#),
        refusal(&[], &STRUCTURED.replace(r#"{"userId":7}"#, "[7]").into_bytes()),
        refusal(&[], &STRUCTURED.replace("\"data\"", "\"data_base64\"").into_bytes()),
        refusal(&[], &STRUCTURED.replace("\"source\":\"/bookings\",", "").into_bytes()),
        refusal(&with(&OUTBOX, "id", Some(&huge)), b"{}"),
        refusal(&with(&OUTBOX, "eventType", Some(b"\xff")), b"{}"),
        refusal(&OUTBOX, br#""{\"userId\": ""#),
        refusal(&OUTBOX, b"7"),
        refusal(&OUTBOX, br#"{"schema":{},"payload":[7]}"#),
        refusal(&[("eventType", b"\xff")], b"{}"),
        refusal(&[("event-type", &huge)], b"{}"),
    ];
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("envelope_errors", lines.join("\n"));
    });
}

#[test]
fn a_wrapper_around_nothing_is_empty() {
    for value in [r#"{"schema":null,"payload":null}"#, r#"{"schema":{"type":"string"},"payload":""}"#] {
        let plain = decode_with(&[], value.as_bytes(), &Reading::default()).unwrap_err();
        let outbox = decode_with(&OUTBOX, value.as_bytes(), &Reading::default()).unwrap_err();
        assert!(plain.is_empty() && outbox.is_empty(), "{plain}; {outbox}");
    }
    assert!(!decode_with(&[], b"null", &Reading::default()).unwrap_err().is_empty());
}

#[test]
fn a_header_that_is_no_text_does_no_harm_where_it_says_nothing() {
    let event = read(&[("content-type", b"\xff"), ("trace", b"\xff\xfe")], r#"{"type":"a","data":{}}"#);
    assert_eq!(event.kind, "a");
}

#[test]
fn a_mebibyte_of_brackets_is_an_error_and_no_overflow() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let half = (1 << 20) / (open.len() + close.len());
        let nested = format!(r#"{{"type":"a","data":{}1{}}}"#, open.repeat(half), close.repeat(half));
        let inside = json!(nested).to_string();
        for (headers, value) in [(&[][..], nested), (&[], open.repeat(1 << 20)), (&OUTBOX, inside)] {
            let error = decode_with(headers, value.as_bytes(), &Reading::default()).unwrap_err();
            assert_eq!(error.class(), "too_deep");
        }
    }
}

#[test]
fn a_record_without_a_value_is_no_event() {
    let timestamp = Timestamp::from_millis(0);
    let tombstone = SourceRecord { topic: "bookings", partition: 0, offset: 0, timestamp, key: None, value: None, headers: &[] };
    assert!(matches!(decode(&tombstone, &Reading::default()), Err(EventError::Empty)));
}

#[test]
fn the_fields_of_the_envelope_become_the_event() {
    let event = event(r#"{"id":"e-1","type":"booking:confirmed","time":"2026-02-01T08:00:00+01:00","data":{"userId":7}}"#);
    assert_eq!((event.kind.as_str(), event.event_id.as_str()), ("booking:confirmed", "e-1"));
    assert_eq!(event.data["userId"], 7);
    assert_eq!(event.time.to_string(), "2026-02-01T07:00:00.000Z");
    assert_eq!(
        event.origin,
        Origin {
            topic: "bookings".to_owned(),
            partition: 3,
            offset: 42,
            timestamp: Some(Timestamp::from_millis(1_769_860_800_000))
        }
    );
}

#[test]
fn without_an_id_the_coordinates_are_shown_and_without_a_time_the_records_counts() {
    for absent in ["", r#","id":null,"eventId":null,"time":null"#] {
        let event = event(&format!(r#"{{"type":"a","data":{{}}{absent}}}"#));
        assert_eq!(event.event_id.as_str(), "bookings:3:42");
        assert_eq!(event.time.to_string(), "2026-01-31T12:00:00.000Z");
        assert!(matches!(event.identity, Identity::Coordinates { offset: 42, .. }));
    }
}

#[test]
fn an_id_is_named_id_or_event_id_and_its_digits_count_whether_quoted_or_not() {
    let ids = [r#""id":7"#, r#""id":"7""#, r#""eventId":7"#, r#""eventId":"7""#, r#""eventId":8,"id":7"#];
    for id in ids {
        let event = event(&format!(r#"{{"type":"a",{id},"data":{{"id":9}}}}"#));
        assert_eq!(event.identity, named("bookings", "7"), "{id}");
    }
}

#[test]
fn an_id_inside_the_data_is_not_the_events() {
    assert!(matches!(event(r#"{"type":"a","data":{"id":"b-1"}}"#).identity, Identity::Coordinates { .. }));
}

#[test]
fn of_a_key_that_stands_twice_the_last_one_counts() {
    assert_eq!(event(r#"{"type":"a","type":"b","data":{}}"#).kind, "b");
}

#[test]
fn what_nests_as_deep_as_allowed_is_read() {
    let (open, close) = ("[".repeat(json::LIMIT_DEPTH - 3), "]".repeat(json::LIMIT_DEPTH - 3));
    assert_eq!(event(&format!(r#"{{"type":"a","data":{{"deep":{open}{close}}}}}"#)).kind, "a");
}

fn name() -> impl Strategy<Value = String> {
    let known = ["ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time", "content-type", "id", "eventType", "event-type"];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), ".{0,8}"]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let known = ["1.0", "a", "/s", "application/cloudevents+json", "application/json", "2026-01-31T12:00:00Z", "\"a\""];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()), any::<Vec<u8>>()]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = [STRUCTURED, "{}", r#""{\"a\":1}""#, r#"{"schema":{},"payload":"{\"a\":1}"}"#, r#"{"type":"a","data":{"b":1}}"#];
    let broken = (prop::sample::select(known.to_vec()), any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        broken.prop_map(|(text, at, byte)| {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        prop::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        any::<Vec<u8>>(),
    ]
}

proptest! {
    #[test]
    fn no_record_makes_the_decoder_panic_and_what_it_reads_is_within_its_limits(
        headers in prop::collection::vec((name(), content()), 0..6),
        value in value(),
        envelope in prop::sample::select(vec![Envelope::Detect, Envelope::CloudEvents, Envelope::Outbox, Envelope::Plain, Envelope::Flat]),
    ) {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        match decode_with(&headers, &value, &Reading { envelope, ..Reading::default() }) {
            Ok(event) => prop_assert!(!event.kind.is_empty() && event.kind.len() <= LIMIT_TYPE_BYTES),
            Err(error) => prop_assert!(!error.to_string().is_empty() && error.to_string().len() < 1024, "{}", error),
        }
    }

    #[test]
    fn in_cloudevents_and_outbox_the_place_of_a_record_is_no_part_of_its_identity(offset in 0..i64::MAX, partition in 0..99_i32, id in "[!-~]{1,40}") {
        prop_assume!(!id.starts_with('"'));
        for (name, headers) in [("ce_id", &BINARY[..]), ("id", &OUTBOX[..])] {
            let headers = with(headers, name, Some(id.as_bytes()));
            let headers: Vec<_> = headers.iter().map(|(name, value)| SourceHeader { name, value: Some(value) }).collect();
            let at = |partition, offset| {
                let timestamp = Timestamp::from_millis(offset % 1_000_000);
                let record = SourceRecord { topic: "t", partition, offset, timestamp, key: None, value: Some(b"{}"), headers: &headers };
                decode(&record, &Reading::default()).unwrap().identity
            };
            prop_assert_eq!(at(partition, offset), at(0, 0));
        }
    }
}

#[test]
fn a_record_without_a_timestamp_has_none_in_what_is_made_of_it() {
    let origin = |millis| {
        let timestamp = Timestamp::from_millis(millis);
        SourceRecord { topic: "t", partition: 0, offset: 1, timestamp, key: None, value: None, headers: &[] }.origin().timestamp
    };
    assert_eq!([-1, 0, 1].map(origin), [None, None, Some(Timestamp::from_millis(1))]);
}

#[test]
fn an_event_with_one_field_of_the_wrapper_is_not_unwrapped() {
    for (field, data) in [("payload", json!({"userId": 7})), ("schema", json!("v2"))] {
        let value = json!({"type": "parcel:sent", field: data});
        assert_eq!(event(&value.to_string()).data.get(field), Some(&data), "{value}");
    }
}

#[test]
fn data_in_binary_mode_is_read_under_every_name_that_json_has() {
    for content_type in ["application/json", "text/json; charset=utf-8", "application/vnd.booking.v1+json", "Application/JSON"] {
        let headers = [BINARY.as_slice(), &[("content-type", content_type.as_bytes())]].concat();
        assert_eq!(read(&headers, r#"{"userId":7}"#).data["userId"], 7, "{content_type}");
    }
}
