//! Positions and acknowledgements that make no sense: each is told so or ignored, and none gives anything away or moves a cursor.

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{
    MAILBOX, back, everywhere, id, outcomes, paid, position, positions, query, returned, told, witness,
};
use crate::harness::rest::answered;
use crate::harness::world::{Running, World, booking, http, payment};

/// The code of the answer to a frame.
async fn refused(client: &mut Client, mut frame: Value) -> String {
    frame["messageId"] = json!("asked");
    client.send(frame).await;
    let error = client.frame("error").await;
    assert_eq!(error["replyTo"], "asked");
    error["code"].as_str().unwrap().to_owned()
}

/// That nothing was answered to what was said before.
async fn nothing_was_answered(client: &mut Client) {
    client.send(json!({"type": "ping", "messageId": "behind"})).await;
    loop {
        let crate::harness::client::Heard::Frame(frame) = client.hear().await else { panic!("the connection ended") };
        assert_ne!(frame["type"], "error", "{frame}");
        if frame["replyTo"] == "behind" {
            return;
        }
    }
}

fn ack(channel: &str, position: &str) -> Value {
    json!({"type": "ack", "channel": channel, "position": position})
}

#[tokio::test]
async fn acknowledgements_that_make_no_sense_are_refused_and_move_no_cursor() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let frames = paid(&world, &mut alice, 0..3).await;
    let many = vec!["00000000-0000-0000-0000-000000000000"; 101];
    let (_, offset) = position(&frames[2]).split_once(':').map(|(epoch, offset)| (epoch.to_owned(), offset.to_owned())).unwrap();
    for (wrong, code) in [
        (ack("booking-updates", "1:1"), "forbidden"),
        (ack("user-bob", "1:1"), "forbidden"),
        (ack(MAILBOX, &format!("999:{offset}")), "forbidden"),
        (ack(MAILBOX, "1:9223372036854775807"), "forbidden"),
        (ack(MAILBOX, "1:9223372036854775808"), "bad_frame"),
        (ack(MAILBOX, "1:-1"), "bad_frame"),
        (ack(MAILBOX, "-1:1"), "bad_frame"),
        (ack(MAILBOX, &"1:".repeat(5_000)), "bad_frame"),
        (ack("", "1:1"), "bad_frame"),
        (json!({"type": "ack", "channel": MAILBOX, "position": 17}), "bad_frame"),
        (json!({"type": "ack", "channel": MAILBOX}), "bad_frame"),
        (json!({"type": "ack", "notificationIds": ["00000000-0000-0000-0000-000000000000"]}), "not_found"),
        (json!({"type": "ack", "notificationIds": ["me"]}), "bad_frame"),
        (json!({"type": "ack", "notificationIds": many}), "limit"),
        (json!({"type": "ack", "channel": MAILBOX, "position": position(&frames[2]), "except": many}), "limit"),
    ] {
        let said = wrong.to_string().chars().take(120).collect::<String>();
        assert_eq!(refused(&mut alice, wrong).await, code, "{said}");
    }
    for (code, count) in [("forbidden", 4), ("bad_frame", 8), ("not_found", 1), ("limit", 2)] {
        assert_eq!(running.labelled("tidings_gateway_refused_frames_total", &format!("code=\"{code}\"")).await, count, "{code}");
    }
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", "limit=\"frame_names\"").await, 2);
    alice.send(ack(MAILBOX, &position(&frames[0]))).await;
    world.until_acknowledged(&id(&frames[0])).await;
    assert_eq!(world.acknowledged("alice").await, [id(&frames[0])]);
    running.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_that_goes_back_is_ignored_and_takes_nothing_back() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let frames = paid(&world, &mut alice, 0..3).await;
    for frame in [&frames[1], &frames[0]] {
        alice.ack(frame).await;
    }
    alice.send(ack(MAILBOX, "1:0")).await;
    nothing_was_answered(&mut alice).await;
    // The shard counts them, whoever answers the ping.
    eventually("both are counted", async || (ignored(&running).await == 2.0).then_some(())).await;
    world.until_acknowledged(&id(&frames[1])).await;
    alice.close().await;
    let mut alice = returned(running.address, "d1").await;
    assert_eq!(told(&mut alice, MAILBOX).await.sent, [position(&frames[2])]);
    running.stop().await;
}

#[tokio::test]
async fn names_of_devices_are_bounded_and_positions_are_read_as_nothing_else() {
    let world = World::new().await;
    let running = world.start().await;
    let opens = async |query: &str| {
        let url = format!("{}&{query}", query_of_alice());
        Client::try_open(running.address, &url).await.is_some()
    };
    assert!(opens(&format!("deviceId={}", "d".repeat(64))).await);
    let closed = async || (running.metric("tidings_gateway_open_connections").await == 0.0).then_some(());
    let mut refused = 0;
    let mut refuses = async |name: &str, query: &str| {
        let said = query.chars().take(60).collect::<String>();
        let (status, problem) = upgrade(running.address, &format!("{}&{query}", query_of_alice())).await;
        assert_eq!((status, &problem["status"]), (400, &json!(400)), "{said}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{said}: {problem}");
        refused += 1;
        assert_eq!(running.labelled("tidings_gateway_refused_upgrades_total", "reason=\"parameter\"").await, refused, "{said}");
    };
    for wrong in [format!("deviceId={}", "d".repeat(65)), format!("deviceId={}", "d".repeat(10_000)), "deviceId=a%00b".to_owned()]
    {
        refuses("deviceId", &wrong).await;
    }
    let epochs = ["0:0", "18446744073709551615:9223372036854775807"];
    for strange in epochs {
        assert!(opens(&format!("since={}", positions(&json!({MAILBOX: strange})))).await, "{strange}");
    }
    eventually("those that opened have left", closed).await;
    for wrong in
        ["18446744073709551616:0", "1:9223372036854775808", "1:-1", "1:1e3", "1:0x10", " 1:1", "1:1 ", "one:two", "", "1"]
    {
        refuses("since", &format!("since={}", positions(&json!({MAILBOX: wrong})))).await;
    }
    for wrong in ["soon", "1:2", "%7B", "[]"] {
        refuses("since", &format!("since={wrong}")).await;
    }
    let many = (0..129).map(|number| format!("c-{number}")).collect::<Vec<_>>();
    refuses("since", &format!("since={}", positions(&everywhere(&many, "1:1")))).await;
    assert_eq!(running.metric("tidings_gateway_open_connections").await, 0.0, "none of them is a connection");
    running.stop().await;
}

/// The answer to an upgrade that is refused: status and body.
async fn upgrade(address: std::net::SocketAddr, query: &str) -> (u16, Value) {
    let asked = http().get(format!("http://{address}/ws?{query}"));
    let asked = asked.header("connection", "upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13");
    answered(asked.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")).await
}

fn query_of_alice() -> String {
    format!("token={}&ack=client", World::token("alice"))
}

#[tokio::test]
async fn positions_of_other_epochs_channels_and_times_give_nothing_of_others_away() {
    let world = World::new().await;
    let running = world.start().await;
    let mut bob = running.connect("bob").await;
    bob.subscribe("booking-updates").await;
    world.emit(&payment("bobs", "bob")).await;
    let bobs = position(&bob.frame("notification:new").await);
    world.emit(&booking("b", "carol")).await;
    let public = position(&bob.frame("notification:new").await);
    let mut witness = witness(&running).await;
    let frames = paid(&world, &mut witness, 0..2).await;

    // A position of another channel is an offset like any other: what comes is her own.
    for of_others in [&bobs, &public, &"1:0".to_owned()] {
        let mut alice = back(running.address, &json!({MAILBOX: of_others, "user-bob": "1:0", "booking-updates": "1:0"})).await;
        check_own(&mut alice, &frames).await;
    }
    for (strange, outcome) in [("0:0", "epoch"), ("7:1", "epoch"), ("18446744073709551615:1", "epoch"), ("1:999999999", "beyond")]
    {
        let before = outcomes(&running, outcome).await;
        let mut alice = back(running.address, &json!({MAILBOX: strange})).await;
        let lost = told(&mut alice, MAILBOX).await;
        assert_eq!(lost.recovered["recovered"], false, "{strange}");
        for frame in &frames {
            assert_eq!(position(&alice.frame("notification:new").await), position(frame));
        }
        assert_eq!(outcomes(&running, outcome).await, before + 1, "{strange}");
    }
    assert!(ignored(&running).await >= 6.0);
    running.stop().await;
}

async fn ignored(running: &Running) -> f64 {
    running.metric("tidings_gateway_ignored_positions_total").await
}

/// Whatever her recovery says, she is sent nothing but what is hers.
async fn check_own(alice: &mut Client, frames: &[Value]) {
    let told = told(alice, MAILBOX).await;
    let own = frames.iter().map(id).collect::<Vec<_>>();
    assert!(told.frames.iter().all(|frame| own.contains(&id(frame))), "{told:?}");
    nothing_was_answered(alice).await;
}

#[tokio::test]
async fn a_subscription_with_a_position_that_is_none_is_refused_and_nothing_is_begun() {
    let world = World::new().await;
    let running = world.start().await;
    let (mut alice, _) = Client::greeted(running.address, &query("d1")).await;
    for since in [json!("1:-7"), json!(7), json!(["1:2"]), json!({"booking-updates": "1:99999999999999999999"}), json!("soon")] {
        let frame = json!({"type": "subscribe", "channel": "booking-updates", "since": since});
        assert_eq!(refused(&mut alice, frame).await, "bad_frame", "{since}");
    }
    let frame = json!({"type": "subscribe", "channels": ["booking-updates", "notifications"], "since": "1:2"});
    assert_eq!(refused(&mut alice, frame).await, "bad_frame");
    let frame = json!({"type": "subscribe", "channel": "user-bob", "since": "1:0"});
    assert_eq!(refused(&mut alice, frame).await, "forbidden");
    assert_eq!(refused(&mut alice, ack("booking-updates", "1:0")).await, "forbidden", "it was not subscribed");
    running.stop().await;
}
