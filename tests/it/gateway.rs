//! The contract with clients, on real sockets. Long because every limit of a connection is crossed once.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidings::cli::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_websockets::Message;

use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::world::{Running, World, ms, payment, unix_now};

async fn close_code_of(address: SocketAddr, query: &str) -> u16 {
    Client::open(address, query).await.close_code().await
}

async fn gateway(world: &World) -> Running {
    world.start_roles(&[Role::Pipeline, Role::Gateway]).await
}

#[tokio::test]
async fn a_connection_is_greeted_with_its_channels_and_positions() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let token = World::token_of(&json!({"sub": "alice", "roles": ["driver"], "exp": unix_now() + 60}));
    let (_alice, greeting) = Client::greeted(running.address, &format!("token={token}&userId=alice&deviceId=phone")).await;
    assert_eq!((&greeting["userId"], &greeting["deviceId"]), (&json!("alice"), &json!("phone")));
    assert_eq!(greeting["heartbeatInterval"], 30_000);
    let channels = greeting["channels"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(channels, ["role-driver", "system-announcements", "user-alice"]);
    running.stop().await;
}

#[tokio::test]
async fn wrong_credentials_are_closed_with_the_code_that_says_which() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let at = running.address;
    let expired = World::token_of(&json!({"sub": "alice", "exp": unix_now() - 3600}));
    let eternal = World::token_of(&json!({"sub": "alice"}));
    let nobody = World::token_of(&json!({"exp": unix_now() + 60}));
    let other_key = jsonwebtoken::EncodingKey::from_secret(b"another secret than the one that counts");
    let claims = json!({"sub": "alice", "exp": unix_now() + 60});
    let forged = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &other_key).unwrap();
    // `{"alg":"none"}` and no signature at all.
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", World::token("alice").split('.').nth(1).unwrap());
    assert_eq!(close_code_of(at, "deviceId=d1").await, 4001);
    for token in [&expired, &eternal, &nobody, &forged, &unsigned, "garbage"] {
        assert_eq!(close_code_of(at, &format!("token={token}")).await, 4002, "{token}");
    }
    assert_eq!(close_code_of(at, &format!("token={}&userId=bob", World::token("alice"))).await, 4003);
    running.stop().await;
}

#[tokio::test]
async fn frames_that_make_no_sense_are_answered_and_the_connection_stays() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    let answers: [(&str, &str); 8] = [
        ("{", "bad_frame"),
        ("[1]", "bad_frame"),
        ("{\"messageId\":\"m\"}", "bad_frame"),
        (r#"{"type":"teleport"}"#, "unknown_type"),
        (r#"{"type":"subscribe"}"#, "bad_frame"),
        (r#"{"type":"subscribe","channel":"user-bob"}"#, "forbidden"),
        (r#"{"type":"subscribe","channel":"role-admin"}"#, "forbidden"),
        (r#"{"type":"ack","notificationIds":["00000000-0000-0000-0000-000000000000"]}"#, "not_found"),
    ];
    for (frame, code) in answers {
        alice.send_text(frame).await;
        assert_eq!(alice.frame("error").await["code"], code, "{frame}");
    }
    alice.send(json!({"type": "teleport", "messageId": "m-7"})).await;
    assert_eq!(alice.frame("error").await["replyTo"], "m-7");
    alice.send(json!({"type": "ping", "messageId": "m-8", "data": {"n": 1}})).await;
    let pong = alice.frame("pong").await;
    assert_eq!((&pong["replyTo"], &pong["data"]), (&json!("m-8"), &json!({"n": 1})));
    running.stop().await;
}

#[tokio::test]
async fn a_mebibyte_of_nested_brackets_in_a_frame_closes_with_1009_and_a_deep_one_is_a_bad_frame() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    alice.send_text(&"[".repeat(60_000)).await;
    assert_eq!(alice.frame("error").await["code"], "bad_frame");
    alice.send_text(&"[".repeat(65_537)).await;
    assert_eq!(alice.close_code().await, 1009);
    running.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_beyond_what_was_sent_is_refused() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    let frame = alice.frame("notification:new").await;
    let (epoch, offset) = frame["position"].as_str().unwrap().split_once(':').unwrap();
    let beyond = format!("{epoch}:{}", offset.parse::<i64>().unwrap() + 1);
    alice.send(json!({"type": "ack", "channel": "user-alice", "position": beyond, "messageId": "a"})).await;
    assert_eq!(alice.frame("error").await["replyTo"], "a");
    for position in ["soon", "-1", "1:-1"] {
        alice.send(json!({"type": "ack", "channel": "user-alice", "position": position})).await;
        assert_eq!(alice.frame("error").await["code"], "bad_frame", "{position}");
    }
    running.stop().await;
}

#[tokio::test]
async fn after_unsubscribe_nothing_of_the_channel_comes() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    alice.subscribe("booking-updates").await;
    alice.send(json!({"type": "unsubscribe", "channel": "booking-updates", "messageId": "u"})).await;
    assert_eq!(alice.frame("unsubscribed").await["replyTo"], "u");
    world.emit(&crate::harness::world::booking("1", "bob")).await;
    world.own_records("notifications", 2).await;
    world.emit(&payment("2", "alice")).await;
    assert_eq!(alice.frame("notification:new").await["channel"], "user-alice");
    running.stop().await;
}

#[tokio::test]
async fn more_channels_than_allowed_are_refused() {
    let open = (0..6).map(|number| format!("open-{number}").parse().unwrap()).collect::<Vec<_>>();
    let world = World::with(|config| {
        config.gateway.open_channels = open;
        config.gateway.channels_per_connection = std::num::NonZeroUsize::new(4).unwrap();
    })
    .await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    // Two of the four are taken from the start: the mailbox and the announcements.
    for number in 0..2 {
        alice.subscribe(&format!("open-{number}")).await;
    }
    alice.send(json!({"type": "subscribe", "channel": "open-2"})).await;
    assert_eq!(alice.frame("error").await["code"], "limit");
    let label = "limit=\"channels_per_connection\"";
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", label).await, 1);
    running.stop().await;
}

/// A client that opens the WebSocket and then neither reads nor answers.
async fn silent(address: SocketAddr, user: &str, first: &[u8]) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /ws?token={}&deviceId=slow HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        World::token(user)
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// A text frame whose mask is zero.
fn masked(frame: &Value) -> Vec<u8> {
    let text = frame.to_string();
    assert!(text.len() < 126);
    [&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0][..], text.as_bytes()].concat()
}

#[tokio::test]
async fn a_slow_reader_is_closed_while_a_hundred_others_receive_everything_in_order() {
    const EVENTS: usize = 600;
    let world = World::with(|config| {
        config.gateway.outbox_bytes = std::num::NonZeroUsize::new(65_536).unwrap();
        config.gateway.send_buffer_bytes = std::num::NonZeroUsize::new(4096).unwrap();
        config.kafka.topics.partitions = 1;
    })
    .await;
    let running = gateway(&world).await;
    let mut others = Vec::new();
    for number in 0..100 {
        let mut client = running.connect(&format!("user-{number}")).await;
        client.subscribe("booking-updates").await;
        others.push(tokio::spawn(read_in_order(client, EVENTS)));
    }
    let mut slow = silent(running.address, "slow", &masked(&json!({"type": "subscribe", "channel": "booking-updates"}))).await;
    eventually("the slow one is open", async || {
        (running.metric("tidings_gateway_open_connections").await >= 101.0).then_some(())
    })
    .await;
    let emitting = async {
        for number in 0..EVENTS {
            let value = crate::harness::world::booking(&number.to_string(), "nobody").to_string();
            world.log.produce(&world.topic, Some("k"), value.as_bytes()).await;
        }
    };
    let ending = async {
        let full = async || running.labelled("tidings_gateway_crossed_limits_total", "limit=\"outbox_bytes\"").await == 1;
        eventually("the slow one's outbox is full", async || full().await.then_some(())).await;
        let mut bytes = Vec::new();
        // The server closes after its linger, so reading ends.
        let _ = tokio::time::timeout(crate::harness::HANG, slow.read_to_end(&mut bytes)).await.unwrap();
        bytes
    };
    let ((), bytes) = tokio::join!(emitting, ending);
    for reading in others {
        reading.await.unwrap();
    }
    let close = [0x0f, 0xa8];
    let at = bytes.windows(2).rposition(|pair| pair == close).expect("4008 was sent");
    assert_eq!(bytes[at - 2], 0x88, "as a close frame");
    running.stop().await;
}

/// Reads the bookings `0..events`, each behind the one before it.
async fn read_in_order(mut client: Client, events: usize) {
    let mut last = None;
    for number in 0..events {
        let frame = client.frame("notification:new").await;
        assert_eq!(frame["notification"]["data"]["booking_id"], format!("b-{number}"));
        let position = frame["position"].as_str().unwrap().split_once(':').unwrap().1.parse::<i64>().unwrap();
        assert!(last.is_none_or(|last| last < position), "positions grow");
        last = Some(position);
    }
}

#[tokio::test]
async fn a_client_that_is_not_heard_of_is_closed_with_4009() {
    let world = World::with(|config| config.gateway.heartbeat_interval = ms(300)).await;
    let running = gateway(&world).await;
    let mut silent = silent(running.address, "alice", &[]).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(crate::harness::HANG, silent.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.windows(2).any(|pair| pair == [0x0f, 0xa9]), "4009 was sent");
    running.stop().await;
}

#[tokio::test]
async fn a_token_that_expires_closes_its_connection() {
    let world = World::with(|config| config.auth.leeway = ms(0)).await;
    let running = gateway(&world).await;
    let token = World::token_of(&json!({"sub": "alice", "exp": unix_now() + 8}));
    let (mut alice, _) = Client::greeted(running.address, &format!("token={token}")).await;
    assert_eq!(alice.close_code().await, 4002);
    running.stop().await;
}

#[tokio::test]
async fn a_goodbye_is_answered_with_1000() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    alice.send_raw(Message::close(Some(tokio_websockets::CloseCode::NORMAL_CLOSURE), "")).await;
    assert!(matches!(alice.hear().await, Heard::Closed(1000)));
    running.stop().await;
}

#[tokio::test]
async fn an_upgrade_from_another_origin_and_requests_that_are_none_are_refused() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let (status, body) = running.get("/ws").await;
    assert!((400..500).contains(&status), "{status} {body}");
    assert_eq!(running.get("/nowhere").await.0, 404);
    let request = |origin: &str| {
        let client = reqwest::Client::new().get(format!("http://{}/ws?token={}", running.address, World::token("alice")));
        let client = client.header("origin", origin).header("connection", "upgrade").header("upgrade", "websocket");
        client.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send()
    };
    assert_eq!(request("https://evil.example").await.unwrap().status(), 403);
    assert_eq!(request(&format!("http://{}", running.address)).await.unwrap().status(), 101);
    running.stop().await;
}

#[tokio::test]
async fn metrics_name_what_happened() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    world.emit(&payment("1", "alice")).await;
    alice.frame("notification:new").await;
    let (status, text) = running.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"));
    assert!(running.metric("tidings_gateway_open_connections").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let mut alice = running.connect("alice").await;
    alice.send_raw(Message::binary(&b"{}"[..])).await;
    assert_eq!(alice.close_code().await, 1003);
    running.stop().await;
}

#[tokio::test]
async fn a_frame_that_stays_unfinished_closes_with_4009() {
    let world = World::with(|config| config.gateway.frame_timeout = ms(300)).await;
    let running = gateway(&world).await;
    let whole = masked(&json!({"type": "ping"}));
    let half = &whole[..whole.len() - 1];
    let mut with_the_request = silent(running.address, "alice", half).await;
    let mut after_the_answer = silent(running.address, "bob", &[]).await;
    assert!(after_the_answer.read(&mut [0; 64]).await.unwrap() > 0);
    after_the_answer.write_all(half).await.unwrap();
    assert!(ends_with_4009(&mut with_the_request).await);
    assert!(ends_with_4009(&mut after_the_answer).await);
    running.stop().await;
}

/// Whether 4009 is said before the server closes.
async fn ends_with_4009(stream: &mut tokio::net::TcpStream) -> bool {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(crate::harness::HANG, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes.windows(4).any(|frame| frame[0] == 0x88 && frame[2..] == [0x0f, 0xa9])
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_dropped() {
    let world = World::with(|config| config.gateway.header_timeout = ms(300)).await;
    let running = gateway(&world).await;
    let mut mute = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(crate::harness::HANG, mute.read_to_end(&mut bytes));
    let _ = reading.await.expect("the silent one was dropped");
    let reason = crate::harness::bare::count(&running, crate::harness::bare::REFUSED_REQUESTS, "header_timeout");
    assert_eq!(reason.await, 1.0);
    running.stop().await;
}
