use proptest::prelude::*;

use super::*;

fn problem(text: &str) -> ErrorCode {
    read(text).frame.unwrap_err().code
}

#[test]
fn what_is_no_frame_is_a_bad_frame() {
    for text in ["", "hello", "[]", "7", "{}", r#"{"type":5}"#, r#"{"type":"ack"}"#, r#"{"type":"subscribe"}"#] {
        assert_eq!(problem(text), ErrorCode::BadFrame, "{text}");
    }
    assert_eq!(problem(&"[".repeat(60_000)), ErrorCode::BadFrame);
    assert_eq!(
        problem(r#"{"type":"ack","channel":"c","position":"1:1","notificationIds":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#),
        ErrorCode::BadFrame
    );
}

#[test]
fn an_unknown_type_is_told_apart_and_answered() {
    let said = read(r#"{"type":"dance","messageId":"m-1"}"#);
    assert_eq!(said.message_id.as_deref(), Some("m-1"));
    assert_eq!(said.frame.unwrap_err().code, ErrorCode::UnknownType);
}

#[test]
fn unknown_fields_are_ignored() {
    let said = read(r#"{"type":"heartbeat","messageId":7,"data":{"a":1},"colour":"red"}"#);
    assert_eq!(said.message_id.as_deref(), Some("7"));
    assert_eq!(said.frame, Ok(ClientFrame::Ping { data: Some(serde_json::json!({"a": 1})) }));
}

#[test]
fn one_bad_name_does_not_spoil_the_others() {
    let said = read(r#"{"type":"subscribe","channel":"booking-updates","channels":["user-","notifications"]}"#);
    let Ok(ClientFrame::Subscribe { channels, .. }) = said.frame else { panic!("{:?}", said.frame) };
    assert_eq!(channels.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_frame_names_each_channel_once_and_not_more_than_it_may() {
    let frame = |kind: &str, names: &[String]| serde_json::json!({"type": kind, "channels": names}).to_string();
    let mut names = (0..FRAME_CHANNELS).map(|number| format!("c-{number}")).collect::<Vec<_>>();
    assert!(read(&frame("subscribe", &names)).frame.is_ok());
    names.push("c-0".to_owned());
    for kind in ["subscribe", "unsubscribe"] {
        assert_eq!(problem(&frame(kind, &names)), ErrorCode::Limit);
    }
    let said = read(r#"{"type":"subscribe","channel":"a","channels":["b","a","b"]}"#);
    let channels = vec![Ok("a".parse().unwrap()), Ok("b".parse().unwrap())];
    assert_eq!(said.frame, Ok(ClientFrame::Subscribe { channels, since: Since::default() }));
}

#[test]
fn a_subscription_from_what_is_no_position_is_a_bad_frame() {
    let said = read(r#"{"type":"subscribe","channel":"a","since":"1:7"}"#);
    let Ok(ClientFrame::Subscribe { since, .. }) = said.frame else { panic!("{:?}", said.frame) };
    assert_eq!(since.of(&"a".parse().unwrap()).unwrap().to_string(), "1:7");
    for since in ["soon", "1:-7", "", "1:7:7"] {
        let frame = serde_json::json!({"type": "subscribe", "channel": "a", "since": since});
        assert_eq!(problem(&frame.to_string()), ErrorCode::BadFrame, "{since}");
    }
    let several = r#"{"type":"subscribe","channels":["a","b"],"since":"1:7"}"#;
    assert_eq!(problem(several), ErrorCode::BadFrame);
}

#[test]
fn an_acknowledgement_is_by_position_or_by_ids() {
    let below = read(r#"{"type":"ack","channel":"user-1","position":"1:9","except":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#);
    assert!(matches!(below.frame, Ok(ClientFrame::AckBelow { except, .. }) if except.len() == 1));
    let ids = read(r#"{"type":"ack","notificationIds":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#);
    assert!(matches!(ids.frame, Ok(ClientFrame::AckIds { channel: None, ids }) if ids.len() == 1));
}

#[test]
fn a_hundred_exceptions_or_ids_are_as_many_as_an_acknowledgement_may_name() {
    for more in [0, 1, 2] {
        let ids = vec!["438e828e-0a38-5599-8fb1-76b0e4574c75"; FRAME_IDS + more];
        let below = serde_json::json!({"type": "ack", "channel": "user-1", "position": "1:9", "except": ids}).to_string();
        let single = serde_json::json!({"type": "ack", "notificationIds": ids}).to_string();
        for text in [below, single] {
            let frame = read(&text).frame;
            assert_eq!(frame.err().map(|problem| problem.code), (more > 0).then_some(ErrorCode::Limit), "{more} too many");
        }
    }
}

const ID: &str = "438e828e-0a38-5599-8fb1-76b0e4574c75";

#[test]
fn what_is_marked_as_read_is_one_several_or_all_before_a_position() {
    let id: NotificationId = ID.parse().unwrap();
    let marked = |fields: &str| read(&format!(r#"{{"type":"mark_read",{fields}}}"#)).frame;
    let one = Ok(ClientFrame::MarkRead(Marked::Ids(vec![id])));
    assert_eq!(marked(&format!(r#""notificationId":"{ID}""#)), one);
    assert_eq!(marked(&format!(r#""notificationIds":["{ID}","{ID}"],"channel":"user-1""#)), one);
    let position = "1:7".parse().unwrap();
    for (fields, channel) in [(r#""upTo":"1:7""#, None), (r#""upTo":"1:7","channel":"role-a""#, Some("role-a".parse().unwrap()))]
    {
        assert_eq!(marked(fields), Ok(ClientFrame::MarkRead(Marked::UpTo { channel, position })));
    }
    let both = format!(r#""notificationId":"{ID}","upTo":"1:7""#);
    let none = [r#""a":1"#, r#""notificationIds":[]"#, r#""notificationId":"7""#, r#""upTo":7"#, r#""upTo":"soon""#, &both];
    for fields in none {
        assert_eq!(marked(fields).unwrap_err().code, ErrorCode::BadFrame, "{fields}");
    }
    for (count, code) in [(FRAME_IDS, None), (FRAME_IDS + 1, Some(ErrorCode::Limit)), (10_000, Some(ErrorCode::Limit))] {
        let ids = serde_json::json!({"type": "mark_read", "notificationIds": vec![ID; count]}).to_string();
        assert_eq!(read(&ids).frame.err().map(|problem| problem.code), code, "{count}");
    }
}

#[test]
fn an_action_is_one_of_four() {
    let acted = |action: &str| {
        read(&serde_json::json!({"type": "notification_action", "notificationId": ID, "action": action}).to_string())
    };
    let id: NotificationId = ID.parse().unwrap();
    let known =
        [("read", ReadState::Read), ("unread", ReadState::Unread), ("seen", ReadState::Seen), ("dismiss", ReadState::Dismissed)];
    for (name, state) in known {
        assert_eq!(acted(name).frame, Ok(ClientFrame::Act { id, state }));
    }
    for name in ["dismissed", "READ", "", "delete"] {
        let problem = acted(name).frame.unwrap_err();
        assert_eq!((problem.code, &*problem.message), (ErrorCode::BadFrame, "an `action` is one of read, unread, seen, dismiss"));
    }
    assert_eq!(problem(r#"{"type":"notification_action","action":"read"}"#), ErrorCode::BadFrame);
}

#[test]
fn a_message_id_that_is_too_long_is_not_repeated_to_the_client() {
    for (length, repeated) in [(MESSAGE_ID_BYTES, true), (MESSAGE_ID_BYTES + 1, false)] {
        let said = read(&serde_json::json!({"type": "ping", "messageId": "m".repeat(length)}).to_string());
        assert_eq!((said.message_id.is_some(), said.frame.is_ok()), (repeated, true), "{length} bytes");
    }
}

#[test]
fn a_question_for_presence_names_one_channel_and_a_limit_that_is_a_number() {
    let said = read(r#"{"type":"presence","channel":"booking-updates","limit":7,"after":"alice"}"#);
    let (channel, after) = ("booking-updates".parse().unwrap(), "alice".parse().ok());
    assert_eq!(said.frame, Ok(ClientFrame::Presence { channel, limit: Some(7), after }));
    for hostile in ["-1", "1e99", "0.5", "\"7\"", "[]", "18446744073709551616"] {
        let text = format!(r#"{{"type":"presence","channel":"booking-updates","limit":{hostile}}}"#);
        assert_eq!(problem(&text), ErrorCode::BadFrame, "{hostile}");
    }
    for text in [r#"{"type":"presence"}"#, r#"{"type":"presence","channel":""}"#] {
        assert_eq!(problem(text), ErrorCode::BadFrame, "{text}");
    }
}

#[test]
fn a_token_is_read_and_shown_nowhere() {
    let said = read(r#"{"type":"refresh","token":"a.b.c"}"#);
    let Ok(ClientFrame::Refresh(token)) = &said.frame else { panic!("{:?}", said.frame) };
    assert_eq!(token.reveal(), "a.b.c");
    assert_eq!(format!("{said:?}"), r#"Said { message_id: None, frame: Ok(Refresh((hidden))) }"#);
    for text in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":["a.b.c"]}"#] {
        let problem = read(text).frame.unwrap_err();
        assert_eq!(problem.code, ErrorCode::BadFrame);
        assert!(!problem.message.contains("a.b.c"), "{problem}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text: String) {
        let _ = read(&text);
    }
}
