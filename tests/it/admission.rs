//! Who comes in: every way to prove it, when it may be proved, and what becomes of who does not. Long because every way is tried, right
//! and wrong.

use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::{AuthMode, Config, GrantConfig, Header, KeyAlgorithm, KeyConfig};

use crate::harness::bare::{asked, open, upgrade};
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::keys::{file, key, signed_by};
use crate::harness::process::Process;
use crate::harness::raw::{Raw, TEXT, masked, text};
use crate::harness::world::{Running, World, ms, unix_now};

async fn gateway(change: impl FnOnce(&mut Config)) -> (World, Running) {
    let world = World::with(change).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    (world, running)
}

fn token(user: &str, roles: &[&str], seconds: i64) -> String {
    World::token_of(&json!({"sub": user, "roles": roles, "exp": unix_now() + seconds}))
}

#[tokio::test]
async fn tokens_of_every_configured_key_are_taken_and_those_signed_with_a_public_key_are_not() {
    let (_world, running) = gateway(|config| {
        config.auth.keys = vec![
            key(KeyAlgorithm::Rs256, "", "rsa.pem"),
            key(KeyAlgorithm::Es256, "", "p256.pem"),
            key(KeyAlgorithm::EdDsa, "", "ed25519.pem"),
        ];
    })
    .await;
    for (name, algorithm) in [
        ("rsa", jsonwebtoken::Algorithm::RS256),
        ("p256", jsonwebtoken::Algorithm::ES256),
        ("ed25519", jsonwebtoken::Algorithm::EdDSA),
    ] {
        let (_, greeting) = Client::greeted(running.address, &format!("token={}", signed_by(name, algorithm))).await;
        assert_eq!(greeting["userId"], "alice", "{name}");
    }
    let public = jsonwebtoken::EncodingKey::from_secret(&std::fs::read(file("rsa.pem")).unwrap());
    let claims = json!({"sub": "alice", "exp": unix_now() + 60});
    let confused = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &public).unwrap();
    assert_eq!(Client::open(running.address, &format!("token={confused}")).await.close_code().await, 4002);
    running.connect("bob").await;
    running.stop().await;
}

#[tokio::test]
async fn a_token_may_come_as_a_header_or_as_a_subprotocol_that_is_not_echoed() {
    let (_world, running) = gateway(|_| {}).await;
    let token = World::token("alice");
    let header = format!("Authorization: Bearer {token}\r\n");
    let mut by_header = Raw::open(running.address, "", (&header, &[])).await;
    assert_eq!(by_header.json("connected").await["userId"], "alice");
    assert!(!by_header.head.to_lowercase().contains("sec-websocket-protocol"), "{}", by_header.head);
    let protocols = format!("Sec-WebSocket-Protocol: bearer.{token}, tidings.v1\r\n");
    let mut by_protocol = Raw::open(running.address, "", (&protocols, &[])).await;
    assert_eq!(by_protocol.json("connected").await["userId"], "alice");
    let echoed =
        by_protocol.head.lines().filter(|line| line.to_lowercase().starts_with("sec-websocket-protocol")).collect::<Vec<_>>();
    assert_eq!(echoed.len(), 1, "{}", by_protocol.head);
    assert!(echoed[0].ends_with(": tidings.v1"), "{}", by_protocol.head);
    running.stop().await;
}

#[tokio::test]
async fn a_client_may_prove_who_it_is_by_its_first_frame() {
    let (_world, running) = gateway(|_| {}).await;
    let mut alice = Client::open(running.address, "deviceId=phone&userId=alice").await;
    alice.send(json!({"type": "auth", "token": World::token("alice"), "messageId": "a-1"})).await;
    // It need not wait for the answer.
    alice.send(json!({"type": "subscribe", "channel": "booking-updates"})).await;
    let greeting = alice.frame("connected").await;
    assert_eq!(
        (&greeting["userId"], &greeting["deviceId"], &greeting["replyTo"]),
        (&json!("alice"), &json!("phone"), &json!("a-1"))
    );
    alice.frame("subscribed").await;
    // A frame larger than the first may be.
    alice.send(json!({"type": "ping", "data": "x".repeat(20_000)})).await;
    alice.frame("pong").await;
    alice.send(json!({"type": "auth", "token": World::token("alice")})).await;
    assert_eq!(alice.frame("error").await["code"], "bad_frame");
    running.stop().await;
}

#[tokio::test]
async fn only_the_first_frame_must_be_short_also_if_more_come_in_one_write_with_it() {
    let (_world, running) = gateway(|_| {}).await;
    let large = text(&json!({"type": "ping", "data": "x".repeat(20_000)}));
    let auth = text(&json!({"type": "auth", "token": World::token("alice")}));
    let mut later = Raw::open(running.address, "", ("", &[])).await;
    later.send(&[auth, large.clone()].concat()).await;
    later.json("pong").await;
    let mut known = Raw::open(running.address, &format!("token={}", World::token("alice")), ("", &large)).await;
    known.json("pong").await;
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", "limit=\"auth_frame_bytes\"").await, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_first_frame_that_proves_nothing_is_closed_with_the_code_that_says_why() {
    let (_world, running) = gateway(|config| config.gateway.auth_timeout = ms(3_000)).await;
    let auth = |token: String| text(&json!({"type": "auth", "token": token}));
    let long = masked(TEXT, &vec![b' '; 8193]);
    for (name, query, frame, code) in [
        ("another frame", "", text(&json!({"type": "ping"})), 4001),
        ("no frame at all", "", Vec::new(), 4001),
        ("a forged token", "", auth("a.b.c".into()), 4002),
        ("an expired token", "", auth(token("alice", &[], -3600)), 4002),
        ("another user", "userId=bob", auth(World::token("alice")), 4003),
        ("binary", "", masked(0x82, b"{}"), 1003),
        ("no text", "", masked(TEXT, b"\xff"), 1007),
        ("a frame that is too large", "", long[..20].to_vec(), 1009),
    ] {
        let mut raw = Raw::open(running.address, query, ("", &frame)).await;
        assert_eq!(raw.close_code().await, code, "{name}");
    }
    let crossed = |limit| running.labelled("tidings_gateway_crossed_limits_total", limit);
    assert_eq!(crossed("limit=\"auth_timeout\"").await, 1);
    assert_eq!(crossed("limit=\"auth_frame_bytes\"").await, 1);
    running.stop().await;
}

/// Two who have not proved who they are may be there and no third one, until one of them has; that is `limit`, and no other one.
async fn expect_two_unproven(limit: &str, change: impl FnOnce(&mut Config)) {
    let (_world, running) = gateway(|config| {
        config.gateway.auth_timeout = ms(60_000);
        change(config);
    })
    .await;
    let mut waiting = [Raw::open(running.address, "", ("", &[])).await, Raw::open(running.address, "", ("", &[])).await];
    for query in ["", "token=forged"] {
        let refused = Raw::asked(running.address, query).await;
        assert!(refused.head.starts_with("HTTP/1.1 429 ") && refused.head.contains("retry-after"), "{}", refused.head);
    }
    for one in ["unauthenticated", "unauthenticated_per_address"] {
        let crossed = running.labelled("tidings_gateway_crossed_limits_total", &format!("limit=\"{one}\"")).await;
        assert_eq!(crossed, if one == limit { 2 } else { 0 }, "{one}");
    }
    running.connect("bob").await;
    waiting[0].send(&text(&json!({"type": "auth", "token": World::token("alice")}))).await;
    waiting[0].json("connected").await;
    Raw::open(running.address, "", ("", &[])).await;
    running.stop().await;
}

#[tokio::test]
async fn clients_that_have_not_proved_who_they_are_are_limited_and_known_ones_are_not() {
    let two = 2.try_into().unwrap();
    expect_two_unproven("unauthenticated_per_address", |config| config.gateway.unauthenticated_per_address = two).await;
}

#[tokio::test]
async fn beyond_all_that_may_be_unproven_at_a_time_nobody_comes_in_without_proof_whatever_the_address() {
    expect_two_unproven("unauthenticated", |config| {
        config.gateway.unauthenticated = 2.try_into().unwrap();
        config.gateway.unauthenticated_per_address = 64.try_into().unwrap();
    })
    .await;
}

#[tokio::test]
async fn user_and_roles_are_those_of_the_claims_that_are_configured_and_no_others() {
    let (_world, running) = gateway(|config| {
        config.auth.user_claim = "realm_access.user".into();
        config.auth.roles_claim = "realm_access.groups".into();
    })
    .await;
    let realm = json!({"user": "alice", "groups": ["driver"]});
    let claims = json!({"sub": "mallory", "roles": ["clerk"], "realm_access": realm, "exp": unix_now() + 60});
    let (_, greeting) = Client::greeted(running.address, &format!("token={}", World::token_of(&claims))).await;
    assert_eq!(greeting["userId"], "alice");
    let channels = greeting["channels"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(channels, ["role-driver", "system-announcements", "user-alice"]);
    running.stop().await;
}

#[tokio::test]
async fn a_token_for_later_for_others_or_by_others_is_closed_with_4002_and_clocks_may_differ_by_the_leeway() {
    let (_world, running) = gateway(|config| {
        config.auth.audiences = vec!["tidings".into()];
        config.auth.issuers = vec!["https://id.example".into()];
        config.auth.leeway = ms(600_000);
    })
    .await;
    let now = unix_now();
    let fine = json!({"sub": "alice", "aud": "tidings", "iss": "https://id.example", "nbf": now + 300, "exp": now - 300});
    Client::greeted(running.address, &format!("token={}", World::token_of(&fine))).await;
    for (claim, wrong) in [
        ("nbf", json!(now + 900)),
        ("exp", json!(now - 900)),
        ("aud", json!("shop")),
        ("aud", Value::Null),
        ("iss", json!("https://evil.example")),
    ] {
        let mut claims = fine.clone();
        claims[claim] = wrong;
        let token = World::token_of(&claims);
        assert_eq!(Client::open(running.address, &format!("token={token}")).await.close_code().await, 4002, "{claim}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_refresh_prolongs_the_connection_and_judges_its_subscriptions_anew() {
    let (_world, running) = gateway(|config| {
        config.auth.leeway = ms(0);
        config.gateway.channels = vec![grant("fleet-*", &["driver"])];
    })
    .await;
    let ends = unix_now() + 10;
    let (mut alice, _) = Client::greeted(running.address, &format!("token={}", token("alice", &["driver"], 10))).await;
    alice.subscribe("fleet-7").await;
    alice.subscribe("booking-updates").await;
    let fresh = token("alice", &["clerk"], 3600);
    alice.send(json!({"type": "refresh", "token": fresh, "messageId": "r"})).await;
    let mut lost = [alice.frame("unsubscribed").await["channel"].clone(), alice.frame("unsubscribed").await["channel"].clone()];
    lost.sort_by_key(Value::to_string);
    assert_eq!(lost, [json!("fleet-7"), json!("role-driver")]);
    assert_eq!(alice.frame("subscribed").await["channel"], "role-clerk");
    let refreshed = alice.frame("refreshed").await;
    assert_eq!(refreshed["replyTo"], "r");
    assert!(refreshed["expiresAt"].is_string(), "{refreshed}");
    for (channel, answer) in
        [("fleet-7", "error"), ("role-driver", "error"), ("role-clerk", "subscribed"), ("booking-updates", "subscribed")]
    {
        alice.send(json!({"type": "subscribe", "channel": channel})).await;
        alice.frame(answer).await;
    }
    eventually("the first token has ended", async || (unix_now() > ends).then_some(())).await;
    alice.send(json!({"type": "ping"})).await;
    alice.frame("pong").await;
    running.stop().await;
}

#[tokio::test]
async fn a_refresh_by_a_wrong_token_ends_the_connection() {
    let (_world, running) = gateway(|_| {}).await;
    for (token, code) in [(World::token("bob"), 4003), (token("alice", &[], -3600), 4002), ("a.b.c".to_owned(), 4002)] {
        let mut alice = running.connect("alice").await;
        alice.send(json!({"type": "refresh", "token": token})).await;
        assert_eq!(alice.close_code().await, code);
    }
    running.stop().await;
}

fn grant(pattern: &str, roles: &[&str]) -> GrantConfig {
    GrantConfig { pattern: pattern.parse().unwrap(), roles: roles.iter().map(|role| (*role).to_owned()).collect() }
}

#[tokio::test]
async fn patterns_open_channels_to_roles() {
    let (_world, running) =
        gateway(|config| config.gateway.channels = vec![grant("fleet-*", &["driver"]), grant("*", &["auditor"])]).await;
    for (roles, channel, answer) in [
        (&["driver"][..], "fleet-7", "subscribed"),
        (&["clerk"], "fleet-7", "error"),
        (&["driver"], "ledger", "error"),
        (&["auditor"], "ledger", "subscribed"),
        (&["auditor"], "user-bob", "error"),
        (&["auditor"], "role-driver", "error"),
    ] {
        let (mut client, _) = Client::greeted(running.address, &format!("token={}", token("alice", roles, 60))).await;
        client.send(json!({"type": "subscribe", "channel": channel})).await;
        client.frame(answer).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_proxy_that_is_listed_says_who_its_clients_are() {
    let (_world, running) = gateway(|config| {
        config.auth.mode = AuthMode::Proxy;
        config.auth.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let headers = "X-User-Id: alice\r\nX-User-Roles: driver\r\n";
    let mut alice = Raw::open(running.address, "", (headers, &[])).await;
    let greeting = alice.json("connected").await;
    assert_eq!(greeting["userId"], "alice");
    assert!(greeting["channels"]["role-driver"].is_string(), "{greeting}");
    alice.send(&text(&json!({"type": "refresh", "token": World::token("alice")}))).await;
    assert_eq!(alice.json("error").await["code"], "unsupported");
    let mut nobody = Raw::open(running.address, &format!("token={}", World::token("alice")), ("", &[])).await;
    assert_eq!(nobody.close_code().await, 4001);
    let mut twice = Raw::open(running.address, "", ("X-User-Id: mallory\r\nX-User-Id: alice\r\n", &[])).await;
    assert_eq!(twice.close_code().await, 4002);
    running.stop().await;
    let (_world, running) = gateway(|config| {
        config.auth.mode = AuthMode::Proxy;
        config.auth.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    assert_eq!(Raw::open(running.address, "", (headers, &[])).await.close_code().await, 4001);
    running.stop().await;
}

#[tokio::test]
async fn a_listed_proxy_names_its_clients_by_the_headers_that_are_configured_and_by_no_others() {
    let (_world, running) = gateway(|config| {
        config.auth.mode = AuthMode::Proxy;
        config.auth.proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.auth.user_header = Header("x-forwarded-user".parse().unwrap());
        config.auth.roles_header = Header("x-forwarded-groups".parse().unwrap());
    })
    .await;
    let headers = "X-Forwarded-User: alice\r\nX-Forwarded-Groups: driver\r\nX-User-Id: mallory\r\nX-User-Roles: clerk\r\n";
    let greeting = Raw::open(running.address, "", (headers, &[])).await.json("connected").await;
    assert_eq!(greeting["userId"], "alice");
    let channels = greeting["channels"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(channels, ["role-driver", "system-announcements", "user-alice"]);
    let mut by_default = Raw::open(running.address, "", ("X-User-Id: mallory\r\n", &[])).await;
    assert_eq!(by_default.close_code().await, 4001);
    running.stop().await;
}

#[tokio::test]
async fn behind_the_proxy_protocol_it_is_the_tcp_peer_that_must_be_listed() {
    let ask = |running: &Running| {
        let named = format!("PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\nGET /v1/stats HTTP/1.1\r\nHost: {}", running.address);
        format!("{named}\r\nX-User-Id: ops\r\nX-User-Roles: admin\r\nConnection: close\r\n\r\n")
    };
    for (listed, status) in [("127.0.0.1", "200"), ("203.0.113.7", "401")] {
        let world = World::with(|config| {
            config.auth.mode = AuthMode::Proxy;
            config.auth.proxies = vec![listed.parse().unwrap()];
            config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
            config.http.proxy_protocol = tidings::config::ProxyProtocol::Required;
        })
        .await;
        let running = world.start_unready(&[Role::Pipeline, Role::Gateway]).await;
        crate::harness::eventually(&format!("{status} if {listed} is listed"), async || {
            let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
            let mut answer = String::new();
            tokio::io::AsyncWriteExt::write_all(&mut stream, ask(&running).as_bytes()).await.unwrap();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
            // Until the brokers are there, nobody is asked who they are.
            if answer.starts_with("HTTP/1.1 503") {
                return None;
            }
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{listed}: {answer}");
            Some(())
        })
        .await;
        running.stop().await;
    }
}

#[tokio::test]
async fn without_authentication_the_url_names_the_user() {
    let (_world, running) = gateway(|config| config.auth.mode = AuthMode::None).await;
    let (_, greeting) = Client::greeted(running.address, "userId=alice&roles=driver").await;
    assert!(greeting["channels"]["user-alice"].is_string() && greeting["channels"]["role-driver"].is_string(), "{greeting}");
    assert_eq!(Client::open(running.address, "").await.close_code().await, 4001);
    let passed_on = ("X-Forwarded-For: 203.0.113.7\r\n", &[][..]);
    assert_eq!(Raw::open(running.address, "userId=alice", passed_on).await.close_code().await, 4001, "through a proxy");
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_opened_refused_or_closed_has_one_line_that_says_whose_it_was() {
    let world = World::with(|config| {
        config.log.format = tidings::config::LogFormat::Json;
        config.gateway.connections_per_user = 1.try_into().unwrap();
    })
    .await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let token = World::token("alice");
    let query = format!("token={token}&deviceId=phone");
    let (alice, _) = Client::greeted(process.address, &query).await;
    assert_eq!(Client::open(process.address, &query).await.close_code().await, 4010);
    let mut late = Client::open(process.address, "").await;
    late.send(json!({"type": "auth", "token": format!("{token}x")})).await;
    assert_eq!(late.close_code().await, 4002);
    alice.close().await;
    let lines = eventually("four lines about connections", async || {
        let logged = process.logged();
        let lines = logged.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = lines.filter(|line| line["message"].as_str().is_some_and(|message| message.starts_with("connection ")));
        let lines = lines.collect::<Vec<_>>();
        (lines.len() >= 4).then_some(lines)
    })
    .await;
    let line = |message: &str, code: Value| {
        let found = lines.iter().filter(|line| line["message"] == message && line["code"] == code).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{message} {code}: {lines:#?}");
        found[0].clone()
    };
    let (opened, closed) = (line("connection opened", Value::Null), line("connection closed", json!(1000)));
    let (crowded, forged) = (line("connection refused", json!(4010)), line("connection refused", json!(4002)));
    for line in [&opened, &closed, &crowded] {
        assert_eq!((&line["user"], &line["device"]), (&json!("alice"), &json!("phone")), "{line}");
    }
    for line in [&closed, &crowded, &forged] {
        assert!(line["reason"].is_string() && line["duration_ms"].is_number() && line["address"] == "127.0.0.1", "{line}");
    }
    let signature = token.rsplit('.').next().unwrap();
    assert!(!process.logged().contains(signature), "{}", process.logged());
}

/// Code and reason of each connection that was refused from here, once the log has so many.
async fn until_refused(process: &Process, count: usize) -> Vec<(Value, Value)> {
    eventually(&format!("{count} lines about who was refused"), async || {
        let logged = process.logged();
        let lines = logged.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let refused = lines.filter(|line| line["message"] == "connection refused" && line["address"] == "127.0.0.1");
        let refused = refused.map(|line| (line["code"].clone(), line["reason"].clone())).collect::<Vec<_>>();
        (refused.len() >= count).then_some(refused)
    })
    .await
}

#[tokio::test]
async fn who_comes_before_the_brokers_answer_is_told_to_come_back_and_has_one_line_in_the_log() {
    let mut world = World::new().await;
    world.config.log.format = tidings::config::LogFormat::Json;
    world.config.kafka.brokers = "127.0.0.1:1".into();
    let process = Process::spawn(&world);
    let head = eventually("it listens", async || {
        let mut stream = tokio::net::TcpStream::connect(process.address).await.ok()?;
        Some(asked(&mut stream, &upgrade(&format!("/ws?token={}", World::token("alice")), "")).await)
    })
    .await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after"), "{head}");
    assert_eq!(until_refused(&process, 1).await, [(json!(503), json!("not_open"))]);
}

#[tokio::test]
async fn an_upgrade_that_is_refused_has_one_line_with_its_status_reason_and_address_and_no_token() {
    let world = World::with(|config| {
        config.log.format = tidings::config::LogFormat::Json;
        config.gateway.unauthenticated = 1.try_into().unwrap();
        config.gateway.auth_timeout = ms(60_000);
    })
    .await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let _waiting = Raw::open(process.address, "", ("", &[])).await;
    let token = World::token("alice");
    let foreign = "Origin: https://evil.example\r\n";
    for (status, query, headers) in [
        (429, "token=forged.token.here".to_owned(), ""),
        (403, format!("token={token}"), foreign),
        (400, format!("token={token}&ack=maybe"), ""),
    ] {
        let head = asked(&mut open(process.address).await, &upgrade(&format!("/ws?{query}"), headers)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let told = until_refused(&process, 3).await;
    let expected = [(429, "unproven"), (403, "origin"), (400, "parameter")];
    assert_eq!(told, expected.map(|(status, reason)| (json!(status), json!(reason))));
    let signature = token.rsplit('.').next().unwrap();
    assert!(!process.logged().contains(signature) && !process.logged().contains("forged"), "{}", process.logged());
}

#[tokio::test]
async fn a_key_file_that_changes_is_read_again_and_open_connections_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuer.pem");
    let put = |name: &str| {
        // As a mounted secret changes: at once.
        let fresh = dir.path().join("fresh");
        std::fs::copy(file(name), &fresh).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
    };
    put("rsa.pem");
    let key = KeyConfig { file: path.display().to_string(), ..key(KeyAlgorithm::Rs256, "", "") };
    let (_world, running) = gateway(|config| config.auth.keys = vec![key]).await;
    let (old, new) = (signed_by("rsa", jsonwebtoken::Algorithm::RS256), signed_by("rsa-next", jsonwebtoken::Algorithm::RS256));
    let (mut open, _) = Client::greeted(running.address, &format!("token={old}")).await;
    let taken = async |token: &str| {
        let mut client = Client::open(running.address, &format!("token={token}")).await;
        matches!(client.hear().await, crate::harness::client::Heard::Frame(_))
    };
    assert!(!taken(&new).await);
    put("rsa-next.pem");
    eventually("the new key is in force", async || taken(&new).await.then_some(())).await;
    assert!(!taken(&old).await);
    open.send(json!({"type": "ping"})).await;
    open.frame("pong").await;
    running.stop().await;
}
