//! The schemas of frames: whatever the server can say fits the one, and the other takes what the server reads and nothing else. That a running
//! server says nothing else is held in `tests/it`, where every client checks what it hears.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Registry, Validator};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, DeviceId, NotificationId, UserId};
use tidings_core::notification::Notification;
use tidings_core::position::Position;
use tidings_core::presence::Status;
use tidings_core::protocol::client;
use tidings_core::protocol::server::{Counts, ErrorCode, Hole, HoleReason, Problem, Sent, ServerFrame};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, Source};
use tidings_core::time::Timestamp;
use uuid::Uuid;

use crate::any;
use crate::kinds::{files, json, top};
use crate::schema::fits;
use crate::strict::strict;

const BASE: &str = "tidings:///";

fn validator(name: &str, change: fn(&Value) -> Value) -> Validator {
    let mut registry = Registry::new();
    for folder in ["records", "frames"] {
        for path in files(&format!("schemas/{folder}")) {
            let file = path.file_name().unwrap().to_str().unwrap();
            registry = registry.add(format!("{BASE}{folder}/{file}"), change(&json(&path))).unwrap();
        }
    }
    let registry = registry.prepare().unwrap();
    let schema =
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": format!("{BASE}frames/{name}.v1.json")});
    jsonschema::options().should_validate_formats(true).with_registry(&registry).build(&schema).unwrap()
}

/// The types that a schema names.
fn types(name: &str) -> BTreeSet<String> {
    let schema = json(&top().join(format!("schemas/frames/{name}.v1.json")));
    let kinds = schema["$defs"].as_object().unwrap().values().map(|frame| &frame["properties"]["type"]);
    kinds
        .flat_map(|kind| kind["enum"].as_array().cloned().unwrap_or_else(|| vec![kind["const"].clone()]))
        .filter_map(|kind| kind.as_str().map(str::to_owned))
        .collect()
}

/// What frames are made of.
#[derive(Debug)]
struct Parts {
    user: UserId,
    users: Vec<UserId>,
    device: DeviceId,
    connection: ConnectionId,
    channel: Channel,
    position: Position,
    id: NotificationId,
    notification: Notification,
    source: Option<Source>,
    at: Timestamp,
}

fn parts() -> impl Strategy<Value = Parts> {
    let who = (any::users(), any::users(), "[a-z]{1,20}", any::<u128>());
    let what = (any::channel(), any::position(), any::id(), any::notification(), any::source(), any::timestamp());
    (who, what).prop_map(|((one, users, device, connection), (channel, position, id, notification, source, at))| Parts {
        user: one.into_iter().next().unwrap_or_else(|| "42".parse().unwrap()),
        users,
        device: device.parse().unwrap(),
        connection: ConnectionId(Uuid::from_u128(connection)),
        channel,
        position,
        id,
        notification,
        source,
        at,
    })
}

fn of_state(parts: &Parts, items: &[ReceiptItem]) -> Vec<Value> {
    let Parts { channel, position, source, .. } = parts;
    let mut frames = vec![shown(parts, ServerFrame::read_before(channel, *position))];
    if !items.is_empty() {
        frames.push(shown(parts, ServerFrame::read(items)));
    }
    for state in [ReadState::Read, ReadState::Unread, ReadState::Seen, ReadState::Dismissed] {
        frames.extend(items.iter().map(|item| shown(parts, ServerFrame::sync(item, state, source.as_ref()))));
    }
    for state in [MarkState::Read, MarkState::Seen] {
        frames.push(shown(parts, ServerFrame::sync_before(channel, *position, state, source.as_ref())));
    }
    frames
}

/// Every frame that can be made of them.
fn all(parts: &Parts) -> Vec<Value> {
    let Parts { user, users, device, connection, channel, position, id, notification, .. } = parts;
    let (position, shown_notification) = (*position, notification.in_locale(None));
    let counts = Counts { unread: 3, unseen: 1, as_of: position };
    let hole = Hole { from: position, to: position, reason: HoleReason::Retention };
    let connected = |counts| ServerFrame::Connected {
        user_id: user,
        connection_id: *connection,
        device_id: device,
        heartbeat_interval: 30_000,
        channels: BTreeMap::from([(channel.as_str(), position)]),
        counts,
    };
    let new =
        |position, redelivery| ServerFrame::NotificationNew { channel, position, notification: &shown_notification, redelivery };
    let recovered =
        |truncated: Option<Hole>| ServerFrame::Recovered { channel, position, recovered: truncated.is_none(), truncated };
    let presence = |next, partial| ServerFrame::Presence { channel, count: 7, users, next, partial };
    let frames = [
        connected(None),
        connected(Some(counts)),
        ServerFrame::Refreshed { expires_at: parts.at },
        ServerFrame::Pong { data: None },
        ServerFrame::Pong { data: Some(&Value::Null) },
        ServerFrame::Subscribed { channel, position, recovering: true },
        ServerFrame::Truncated { channel, hole },
        recovered(None),
        recovered(Some(hole)),
        ServerFrame::Unsubscribed { channel },
        new(Some(position), None),
        new(None, Some(1)),
        presence(None, false),
        presence(Some(user), true),
        ServerFrame::DeviceStatus { device_id: device, status: Status::Online },
        ServerFrame::DeviceStatus { device_id: device, status: Status::Offline },
        ServerFrame::NotificationWithdrawn { channel, notification_id: *id },
        ServerFrame::Counts(counts),
        ServerFrame::Reconnect { retry_after: 1_250 },
    ];
    let mut frames = frames.into_iter().map(|frame| shown(parts, frame)).collect::<Vec<_>>();
    frames.extend(ErrorCode::ALL.map(|code| shown(parts, Problem::new(code, "m").frame())));
    let known = ReceiptItem { id: *id, channel: Some(channel.clone()), position: Some(position) };
    frames.extend(of_state(parts, &[known, ReceiptItem { id: *id, channel: None, position: None }]));
    frames
}

fn shown(parts: &Parts, frame: ServerFrame<'_>) -> Value {
    let reply_to = parts.source.as_ref().map(|_| "m-1");
    serde_json::from_slice(&Sent { frame, message_id: "3", reply_to, timestamp: parts.at }.encode().unwrap()).unwrap()
}

#[test]
fn whatever_the_server_says_fits_its_schema_which_names_every_field_and_type() {
    let validator = validator("server", strict);
    let said = std::cell::RefCell::new(BTreeSet::new());
    proptest!(|(parts in parts())| {
        for frame in all(&parts) {
            fits(&validator, "a server frame", &frame);
            said.borrow_mut().insert(frame["type"].as_str().unwrap().to_owned());
        }
    });
    assert_eq!(said.into_inner(), types("server"), "every type that is described is said, and the other way round");
}

#[test]
fn a_server_frame_without_what_clients_need_does_not_fit() {
    let validator = validator("server", Value::clone);
    for name in ["type", "messageId", "timestamp", "channel", "notification", "position"] {
        let mut frame = json!({
            "type": "notification:new", "messageId": "1", "timestamp": "2026-01-31T12:00:00.000Z", "channel": "user-42", "position": "1:2",
            "notification": {"id": Uuid::nil(), "eventId": "e", "type": "t", "createdAt": "2026-01-31T12:00:00.000Z", "priority": "low"}
        });
        assert!(validator.is_valid(&frame));
        frame.as_object_mut().unwrap().remove(name);
        assert!(!validator.is_valid(&frame), "without {name}");
    }
}

/// Frames that a client may send, one of each kind at least.
fn said() -> Vec<Value> {
    let id = Uuid::nil();
    vec![
        json!({"type": "auth", "token": "t", "messageId": "m"}),
        json!({"type": "refresh", "token": "t", "messageId": 7}),
        json!({"type": "ping", "data": {"n": 1}}),
        json!({"type": "heartbeat"}),
        json!({"type": "subscribe", "channel": "booking-updates", "since": "1:17"}),
        json!({"type": "subscribe", "channels": ["a", "b"], "since": {"a": "1:17"}}),
        json!({"type": "unsubscribe", "channels": ["a"]}),
        json!({"type": "ack", "channel": "user-42", "position": "1:17", "except": [id]}),
        json!({"type": "ack", "notificationIds": [id]}),
        json!({"type": "presence", "channel": "a", "limit": 10, "after": "42"}),
        json!({"type": "mark_read", "notificationId": id}),
        json!({"type": "mark_read", "notificationIds": [id]}),
        json!({"type": "mark_read", "upTo": "1:17", "channel": "role-driver"}),
        json!({"type": "notification_action", "notificationId": id, "action": "dismiss"}),
    ]
}

/// The frame with each field left out, and with another value in its place.
fn spoiled(frame: &Value) -> Vec<Value> {
    let fields = frame.as_object().unwrap();
    let others = [json!(7), json!(true), json!("x"), json!([]), json!(["1:2"]), json!({}), json!("1:2"), json!(Uuid::nil())];
    let spoil = |name: &String| {
        let mut without = fields.clone();
        without.remove(name);
        let replaced = others.iter().map(|value| {
            let mut other = fields.clone();
            other.insert(name.clone(), value.clone());
            Value::Object(other)
        });
        replaced.chain([Value::Object(without)]).collect::<Vec<_>>()
    };
    // What is no id of a frame is left out of the answer, and the frame is read.
    fields.keys().filter(|name| *name != "messageId").flat_map(spoil).collect()
}

#[test]
fn the_schema_of_client_frames_takes_what_the_server_reads_and_refuses_what_it_refuses() {
    let validator = validator("client", Value::clone);
    let (mut taken, mut refused) = (0, 0);
    for frame in said().iter().flat_map(|frame| spoiled(frame).into_iter().chain([frame.clone()])) {
        let read = client::read(&frame.to_string()).frame;
        let is_read = match &read {
            Ok(client::ClientFrame::Subscribe { channels, .. } | client::ClientFrame::Unsubscribe(channels)) => {
                channels.iter().all(Result::is_ok)
            }
            read => read.is_ok(),
        };
        let faults = validator.iter_errors(&frame).map(|fault| fault.to_string()).collect::<Vec<_>>();
        assert_eq!(is_read, faults.is_empty(), "{frame}: {read:?}, {faults:?}");
        if is_read { taken += 1 } else { refused += 1 }
    }
    assert!(taken > said().len() && refused > taken, "{taken} taken, {refused} refused");
    for frame in said() {
        fits(&super::frames::validator("client", strict), "a client frame", &frame);
    }
    let named = said().iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(named, types("client"));
}

/// The frames that a document shows: lines of its blocks `json client` and `json server`, and what stands in a sentence.
fn examples(name: &str) -> Vec<Value> {
    let document = std::fs::read_to_string(top().join("docs/protocol.md")).unwrap();
    let opening = format!("```json {name}\n");
    let blocks = document.split(&opening).skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines());
    let inline = document.split('`').filter(|code| name == "client" && code.starts_with("{\"type\""));
    blocks.chain(inline).map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn every_frame_of_the_document_fits_its_schema_and_every_type_is_shown() {
    for name in ["client", "server"] {
        let validator = validator(name, strict);
        let shown = examples(name);
        for frame in &shown {
            fits(&validator, "docs/protocol.md", frame);
            assert!(name == "server" || client::read(&frame.to_string()).frame.is_ok(), "{frame}");
        }
        let kinds = shown.iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(kinds, types(name), "{name}");
    }
}
