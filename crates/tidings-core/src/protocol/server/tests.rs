use serde_json::json;

use super::*;
use crate::position::Epoch;
use crate::record::receipt::{MarkState, ReadState, ReceiptItem, Source};

fn shown(frame: ServerFrame<'_>, reply_to: Option<&str>) -> String {
    let sent = Sent { frame, message_id: "3", reply_to, timestamp: Timestamp::from_millis(1_769_860_800_000) };
    String::from_utf8(sent.encode().unwrap()).unwrap()
}

fn notification() -> Notification {
    serde_json::from_value(json!({
        "id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e-1", "type": "booking_confirmation",
        "createdAt": "2026-01-31T12:00:00Z", "title": "Booking Confirmed", "data": {"booking_id": 7}
    }))
    .unwrap()
}

#[test]
fn the_frames_of_a_connection_look_like_this() {
    let (user, device): (UserId, DeviceId) = ("42".parse().unwrap(), "phone".parse().unwrap());
    let (channel, position) = (Channel::mailbox(&user), Position { epoch: Epoch(1), offset: 8 });
    let connected = ServerFrame::Connected {
        user_id: &user,
        connection_id: ConnectionId(uuid::Uuid::from_u128(7)),
        device_id: &device,
        heartbeat_interval: 30_000,
        channels: BTreeMap::from([(channel.as_str(), position)]),
        counts: None,
    };
    let notification = notification();
    let fresh = ServerFrame::NotificationNew {
        channel: &channel,
        position: Some(position),
        notification: &notification,
        redelivery: None,
    };
    let again =
        ServerFrame::NotificationNew { channel: &channel, position: None, notification: &notification, redelivery: Some(2) };
    let users = ["42".parse().unwrap(), "43".parse().unwrap()];
    let whole = ServerFrame::Presence { channel: &channel, count: 1, users: &users[..1], next: None, partial: false };
    let page = ServerFrame::Presence { channel: &channel, count: 7, users: &users, next: users.last(), partial: true };
    let hole = Hole { from: Position { epoch: Epoch(1), offset: 3 }, to: position, reason: HoleReason::Retention };
    let frames = [
        shown(connected, None),
        shown(ServerFrame::Refreshed { expires_at: Timestamp::from_millis(1_769_864_400_000) }, Some("m-0")),
        shown(ServerFrame::Pong { data: Some(&json!({"n": 1})) }, Some("m-1")),
        shown(ServerFrame::Subscribed { channel: &channel, position, recovering: false }, Some("m-2")),
        shown(ServerFrame::Truncated { channel: &channel, hole }, None),
        shown(ServerFrame::Recovered { channel: &channel, position, recovered: true, truncated: Some(hole) }, None),
        shown(ServerFrame::Recovered { channel: &channel, position, recovered: false, truncated: None }, None),
        shown(ServerFrame::Unsubscribed { channel: &channel }, None),
        shown(fresh, None),
        shown(again, None),
        shown(whole, Some("m-3")),
        shown(page, None),
        shown(ServerFrame::DeviceStatus { device_id: &device, status: Status::Offline }, None),
        shown(ServerFrame::Reconnect { retry_after: 1_250 }, None),
        shown(Problem::new(ErrorCode::UnknownType, "Unknown message type").frame(), Some("m-4")),
        shown(Problem::new(ErrorCode::NotYet, "the brokers are away: try again").frame(), Some("m-5")),
    ];
    insta::assert_snapshot!(frames.join("\n"));
}

#[test]
fn a_code_is_called_the_same_in_frames_and_in_metrics() {
    for code in ErrorCode::ALL {
        assert_eq!(json!(code), json!(code.name()));
    }
}

#[test]
fn the_frames_of_read_state_look_like_this() {
    let (channel, position): (Channel, _) = ("user-42".parse().unwrap(), Position { epoch: Epoch(1), offset: 8 });
    let (id, device): (_, DeviceId) = (notification().id, "phone".parse().unwrap());
    let connection = ConnectionId(uuid::Uuid::from_u128(7));
    let source = Source { device_id: device, connection_id: connection };
    let known = ReceiptItem { id, channel: Some(channel.clone()), position: Some(position) };
    let unseen = ReceiptItem { id, channel: None, position: None };
    let [one, both] = [[known.clone()].to_vec(), [known.clone(), unseen.clone()].to_vec()];
    let counts = Counts { unread: 3, unseen: 1, as_of: position };
    let frames = [
        shown(ServerFrame::read(&one), Some("m-1")),
        shown(ServerFrame::read(&both), None),
        shown(ServerFrame::read_before(&channel, position), None),
        shown(ServerFrame::sync(&known, ReadState::Read, Some(&source)), None),
        shown(ServerFrame::sync(&known, ReadState::Unread, Some(&source)), None),
        shown(ServerFrame::sync(&known, ReadState::Seen, None), None),
        shown(ServerFrame::sync(&unseen, ReadState::Dismissed, None), None),
        shown(ServerFrame::sync_before(&channel, position, MarkState::Seen, None), None),
        shown(ServerFrame::NotificationWithdrawn { channel: &channel, notification_id: id }, None),
        shown(ServerFrame::Counts(counts), None),
    ];
    insta::assert_snapshot!(frames.join("\n"));
}
