//! The edge: limits of connections and requests, proxies in front, pages of other sites. Each limit is crossed on a socket. Long because
//! there are many.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use openssl::base64::encode_block;
use serde_json::json;
use tidings::cli::Role;
use tidings::config::{Config, ProxyProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::harness::bare::{REFUSED_CONNECTIONS, REFUSED_REQUESTS, asked, count, elsewhere, get, open, said, upgrade};
use crate::harness::client::Client;
use crate::harness::process::Process;
use crate::harness::world::{Running, World, ms, unix_now};
use crate::harness::{HANG, eventually};

/// The listener and the gateway, without waiting for either to be ready.
async fn edge(change: impl FnOnce(&mut Config)) -> (World, Running) {
    let world = World::with(change).await;
    let running = world.start_unready(&[Role::Gateway]).await;
    (world, running)
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_allowed_and_another_one_is_served_meanwhile() {
    let (_world, running) = edge(|config| {
        config.gateway.host = "0.0.0.0".into();
        config.gateway.connections_per_address = 2;
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], running.address.port()));
    let mut first = [open(address).await, open(address).await];
    for stream in &mut first {
        assert!(asked(stream, &get("/health", "")).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(said(open(address).await, get("/health", "").as_bytes()).await, "");
    let metrics = said(elsewhere(address).await, get("/metrics", "Connection: close\r\n").as_bytes()).await;
    assert!(metrics.contains(&format!("{REFUSED_CONNECTIONS}{{reason=\"connections_per_address\"}} 1")), "{metrics}");
    drop(first);
    eventually("a place that was left is taken", async || {
        let answer = said(open(address).await, get("/health", "Connection: close\r\n").as_bytes()).await;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn beyond_all_connections_none_is_served_from_whatever_address_until_one_has_left() {
    let (_world, running) = edge(|config| {
        config.gateway.host = "0.0.0.0".into();
        config.gateway.connections = 2;
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], running.address.port()));
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let mut upgraded = eventually("the gateway is open", async || Client::try_open(address, &query).await).await;
    let health = get("/health", "Connection: close\r\n");
    let last = eventually("one place is free", async || {
        let mut stream = open(address).await;
        stream.write_all(get("/health", "").as_bytes()).await.ok()?;
        (stream.read_u8().await.ok()? == b'H').then_some(stream)
    })
    .await;
    for beyond in [open(address).await, elsewhere(address).await] {
        assert_eq!(said(beyond, health.as_bytes()).await, "");
    }
    assert!(Client::try_open(address, &query).await.is_none(), "nor for an upgrade");
    upgraded.send(json!({"type": "ping"})).await;
    upgraded.frame("pong").await;
    let metrics = said(last, get("/metrics", "Connection: close\r\n").as_bytes()).await;
    assert!(refused(&metrics, "connections") >= 3, "{metrics}");
    eventually("the place that was left is taken", async || {
        said(open(address).await, health.as_bytes()).await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    running.stop().await;
}

/// How many connections were refused for a reason.
fn refused(metrics: &str, reason: &str) -> u32 {
    let sample = format!("{REFUSED_CONNECTIONS}{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn unless_configured_connections_take_three_quarters_of_the_files_that_may_be_open() {
    const FILES: u32 = 400;
    let world = World::with(|config| {
        config.gateway.http_connections_per_address = 10_000;
        config.gateway.header_timeout = ms(3_600_000);
    })
    .await;
    let process = Process::spawn_with_files(&world, FILES, &["gateway"]);
    process.await_ready().await;
    let mut held = Vec::new();
    eventually("all places are taken", async || {
        while held.len() < 300 {
            let mut stream = open(process.address).await;
            // Whoever asked whether it is ready may not have left yet.
            stream.write_all(get("/health", "").as_bytes()).await.ok()?;
            (stream.read_u8().await.ok()? == b'H').then(|| held.push(stream))?;
        }
        Some(())
    })
    .await;
    assert_eq!(said(open(process.address).await, get("/health", "").as_bytes()).await, "", "one more");
    let metrics = said(held.pop().unwrap(), get("/metrics", "Connection: close\r\n").as_bytes()).await;
    assert!(refused(&metrics, "connections") >= 1, "{metrics}");
}

#[tokio::test]
async fn the_websocket_is_at_its_path_and_nowhere_else() {
    let (_world, running) = edge(|config| config.gateway.path = "/live".into()).await;
    running.await_ready().await;
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let answer = async |path: &str| asked(&mut open(running.address).await, &upgrade(&format!("{path}?{query}"), "")).await;
    let upgraded = answer("/live").await;
    assert!(upgraded.starts_with("HTTP/1.1 101 "), "{upgraded}");
    for elsewhere in ["/ws", "/live/more", "/"] {
        let refused = answer(elsewhere).await;
        assert!(refused.starts_with("HTTP/1.1 404 "), "{elsewhere}: {refused}");
    }
    running.stop().await;
}

#[tokio::test]
async fn an_address_holds_few_connections_without_an_upgrade_and_upgraded_ones_are_none_of_them() {
    let (_world, running) = edge(|config| {
        config.gateway.host = "0.0.0.0".into();
        config.gateway.http_connections_per_address = 2;
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], running.address.port()));
    let query = format!("token={}&deviceId=d1", World::token("alice"));
    let mut upgraded = Vec::new();
    for _ in 0..4 {
        upgraded.push(eventually("one more is upgraded", async || Client::try_open(address, &query).await).await);
    }
    let health = get("/health", "Connection: close\r\n");
    let kept = eventually("one place is free", async || {
        let mut stream = open(address).await;
        stream.write_all(get("/health", "").as_bytes()).await.ok()?;
        (stream.read_u8().await.ok()? == b'H').then_some(stream)
    })
    .await;
    let silent = open(address).await;
    eventually("beyond the two it is closed", async || {
        said(open(address).await, health.as_bytes()).await.is_empty().then_some(())
    })
    .await;
    assert!(Client::try_open(address, &query).await.is_none(), "nor for an upgrade");
    let metrics = said(elsewhere(address).await, get("/metrics", "Connection: close\r\n").as_bytes()).await;
    assert!(refused(&metrics, "http_connections_per_address") >= 2, "{metrics}");
    drop((silent, kept));
    eventually("a place that was left is taken", async || {
        said(open(address).await, health.as_bytes()).await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_counted_one_by_one() {
    let (_world, running) = edge(|config| {
        config.gateway.connections_per_address = 1;
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let target = format!("/ws?token={}&deviceId=d1", World::token("alice"));
    let upgrade = |client: &str| upgrade(&target, &format!("X-Forwarded-For: 198.51.100.1, {client}\r\n"));
    let mut first = eventually("the gateway is open", async || {
        let mut stream = open(running.address).await;
        asked(&mut stream, &upgrade("203.0.113.7")).await.starts_with("HTTP/1.1 101").then_some(stream)
    })
    .await;
    let second = asked(&mut open(running.address).await, &upgrade("203.0.113.7")).await;
    assert!(second.starts_with("HTTP/1.1 429"), "{second}");
    let other = asked(&mut open(running.address).await, &upgrade("203.0.113.8")).await;
    assert!(other.starts_with("HTTP/1.1 101"), "{other}");
    assert!(count(&running, REFUSED_REQUESTS, "connections_per_address").await >= 1.0);
    first.shutdown().await.unwrap();
    drop(first);
    eventually("the place that was left is taken", async || {
        asked(&mut open(running.address).await, &upgrade("203.0.113.7")).await.starts_with("HTTP/1.1 101").then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn the_log_names_the_client_that_a_trusted_proxy_names() {
    let mut world = World::new().await;
    world.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let process = Process::spawn(&world);
    process.await_ready().await;
    let request = "X-Forwarded-For: 203.0.113.7\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n";
    let answer = asked(&mut open(process.address).await, &get("/ws", request)).await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    eventually("the log has a line about who was refused", async || {
        let logged = process.logged();
        logged.lines().any(|line| line.contains("connection refused") && line.contains("203.0.113.7")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_the_proxy_protocol_a_connection_names_its_client_first_or_is_closed() {
    let (_world, running) = edge(|config| {
        config.gateway.host = "0.0.0.0".into();
        config.gateway.header_timeout = ms(2_000);
        config.http.proxy_protocol = ProxyProtocol::Required;
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], running.address.port()));
    let request = get("/metrics", "Connection: close\r\n");
    let version_1 = format!("PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n{request}");
    assert!(said(open(address).await, version_1.as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert_eq!(said(open(address).await, request.as_bytes()).await, "", "no header");
    assert_eq!(said(open(address).await, b"PROXY ").await, "", "half a header");
    assert_eq!(said(elsewhere(address).await, version_1.as_bytes()).await, "", "not from a trusted proxy");
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version_2.extend([203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x67, 1, 0xbb]);
    version_2.extend(request.as_bytes());
    let metrics = said(open(address).await, &version_2).await;
    for reason in ["proxy_header", "proxy_header_timeout", "untrusted_proxy"] {
        assert!(metrics.contains(&format!("{REFUSED_CONNECTIONS}{{reason=\"{reason}\"}} 1")), "{reason}: {metrics}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_address_that_a_proxy_header_names_is_the_one_that_is_limited() {
    let (_world, running) = edge(|config| {
        config.gateway.connections_per_address = 1;
        config.http.proxy_protocol = ProxyProtocol::Required;
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let from = |address: &str, last: &str| format!("PROXY TCP4 {address} 127.0.0.1 4711 443\r\n{}", get("/health", last));
    let mut first = open(running.address).await;
    assert!(asked(&mut first, &from("203.0.113.7", "")).await.starts_with("HTTP/1.1 200"));
    let same = from("203.0.113.7", "Connection: close\r\n");
    assert_eq!(said(open(running.address).await, same.as_bytes()).await, "", "the address has its one connection");
    let other = from("203.0.113.8", "Connection: close\r\n");
    assert!(said(open(running.address).await, other.as_bytes()).await.starts_with("HTTP/1.1 200"));
    drop(first);
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_trickles_in_byte_by_byte_is_dropped_in_its_time() {
    let (_world, running) = edge(|config| config.gateway.header_timeout = ms(700)).await;
    let (mut reading, mut writing) = open(running.address).await.into_split();
    let trickle = tokio::spawn(async move {
        for byte in get("/health", &"X: y\r\n".repeat(5_000)).into_bytes() {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(HANG, reading.read_to_end(&mut answer)).await.expect("it was dropped although bytes came");
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    assert!(count(&running, REFUSED_REQUESTS, "header_timeout").await >= 1.0);
    trickle.abort();
    running.stop().await;
}

#[tokio::test]
async fn headers_and_bodies_beyond_their_size_are_refused() {
    let (_world, running) = edge(|config| {
        config.http.header_bytes = NonZeroUsize::new(8192).unwrap();
        config.http.body_bytes = NonZeroUsize::new(1000).unwrap();
    })
    .await;
    let large = said(open(running.address).await, get("/health", &format!("X: {}\r\n", "y".repeat(9000))).as_bytes()).await;
    assert!(large.starts_with("HTTP/1.1 431"), "{large}");
    let many = said(open(running.address).await, get("/health", &"X: y\r\n".repeat(500)).as_bytes()).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
    let body = "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n";
    let refused = said(open(running.address).await, body.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("http.body_bytes"), "{refused}");
    assert!(count(&running, REFUSED_REQUESTS, "header_bytes").await >= 2.0);
    assert!(count(&running, REFUSED_REQUESTS, "body_bytes").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body_and_upgrades_nothing() {
    let (_world, running) = edge(|config| config.gateway.console = true).await;
    running.await_ready().await;
    let admin = World::token_of(&serde_json::json!({"sub": "ops", "roles": ["admin"], "exp": unix_now() + 3600}));
    let head = async |path: &str, headers: &str| {
        let request = get(path, &format!("Authorization: Bearer {admin}\r\nConnection: close\r\n{headers}"));
        let answers = [request.clone(), request.replacen("GET", "HEAD", 1)];
        let [got, headed] = [
            said(open(running.address).await, answers[0].as_bytes()).await,
            said(open(running.address).await, answers[1].as_bytes()).await,
        ];
        let (head, body) = headed.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
        let line = |answer: &str| answer.lines().next().unwrap().to_owned();
        let kind = |answer: &str| answer.lines().find(|line| line.starts_with("content-type:")).map(str::to_owned);
        assert_eq!((line(head), kind(head)), (line(&got), kind(&got)), "{path}");
        line(head)
    };
    for path in ["/health", "/ready", "/metrics", "/console", "/v1/stats", "/v1/users/alice/connections"] {
        assert_eq!(head(path, "").await, "HTTP/1.1 200 OK", "{path}");
    }
    assert_eq!(head("/nowhere", "").await, "HTTP/1.1 404 Not Found");
    assert_eq!(head("/v1/notifications", "").await, "HTTP/1.1 405 Method Not Allowed");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let query = format!("/ws?token={}", World::token("alice"));
    let refused = said(open(running.address).await, get(&query, upgrade).replacen("GET", "HEAD", 1).as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 426"), "{refused}");
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_400_and_counted() {
    let (_world, running) = edge(|_| {}).await;
    let noise = said(open(running.address).await, b"\x16\x03\x01\x02\0\x01\0\r\n\r\n").await;
    assert!(noise.starts_with("HTTP/1.1 400"), "{noise}");
    assert!(count(&running, REFUSED_REQUESTS, "malformed").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn a_thousand_requests_in_one_go_are_answered_in_order_and_nobody_waits_for_them() {
    let (_world, running) = edge(|_| {}).await;
    let requests = [get("/health", "").repeat(999), get("/nowhere", "Connection: close\r\n")].concat();
    let piped = tokio::spawn(said(open(running.address).await, requests.leak().as_bytes()));
    assert_eq!(running.get("/health").await.0, 200);
    let answers = piped.await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 999);
    assert!(answers[answers.rfind("HTTP/1.1").unwrap()..].starts_with("HTTP/1.1 404"), "the last is answered last");
    running.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_asks_and_takes_no_answer_is_given_up_and_its_place_is_free() {
    let (_world, running) = edge(|config| {
        config.gateway.connections = 1;
        config.gateway.write_timeout = ms(500);
        config.gateway.linger = ms(200);
        config.gateway.send_buffer_bytes = NonZeroUsize::new(4096).unwrap();
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut greedy = socket.connect(running.address).await.unwrap();
    greedy.write_all(get("/metrics", "").repeat(200).as_bytes()).await.unwrap();
    // It stays open and reads nothing.
    let given_up = format!("{REFUSED_REQUESTS}{{reason=\"write_timeout\"}} 1");
    let request = get("/metrics", "Connection: close\r\n");
    eventually("the one place is free again", async || {
        said(open(running.address).await, request.as_bytes()).await.contains(&given_up).then_some(())
    })
    .await;
    drop(greedy);
    running.stop().await;
}

#[tokio::test]
async fn connections_that_are_kept_alive_end_with_the_drain() {
    let (_world, running) = edge(|_| {}).await;
    let mut kept = open(running.address).await;
    assert!(asked(&mut kept, &get("/health", "")).await.starts_with("HTTP/1.1 200"));
    running.begin_stop();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(HANG, kept.read_to_end(&mut rest)).await.expect("the kept one is closed");
    running.ended().await.unwrap();
}

#[tokio::test]
async fn one_socket_takes_connections_of_both_families() {
    let (_world, running) = edge(|config| config.gateway.host = "::".into()).await;
    for host in ["127.0.0.1", "[::1]"] {
        let address = format!("{host}:{}", running.address.port()).parse().unwrap();
        let answer = asked(&mut open(address).await, &get("/health", "")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_sites_may_ask_and_connect_and_others_may_not() {
    let (_world, running) = edge(|config| config.http.allowed_origins = vec!["https://*.example.com".parse().unwrap()]).await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /v1/stats HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: authorization\r\n\r\n"
        )
    };
    let allowed = asked(&mut open(running.address).await, &preflight("https://app.example.com")).await;
    assert!(allowed.starts_with("HTTP/1.1 204"), "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com\r\n"), "{allowed}");
    assert!(
        allowed.contains("authorization") && allowed.contains("vary: origin") && !allowed.contains("credentials"),
        "{allowed}"
    );
    let foreign = asked(&mut open(running.address).await, &preflight("https://evil.example")).await;
    assert!(!foreign.contains("access-control-allow-origin"), "{foreign}");

    let headers = "Origin: https://app.example.com\r\n";
    let shared = asked(&mut open(running.address).await, &get("/health", headers)).await;
    assert!(shared.contains("access-control-allow-origin: https://app.example.com\r\n"), "{shared}");

    let key = encode_block(b"sixteen bytes it");
    let upgrade = |origin: &str| {
        let token = World::token("alice");
        let headers = format!(
            "Origin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        get(&format!("/ws?token={token}"), &headers)
    };
    eventually("a page of an allowed site connects", async || {
        let answer = asked(&mut open(running.address).await, &upgrade("https://app.example.com")).await;
        answer.starts_with("HTTP/1.1 101").then_some(())
    })
    .await;
    let refused = asked(&mut open(running.address).await, &upgrade("https://evil.example")).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let query = format!("token={}", World::token("alice"));
    assert!(Client::try_open(running.address, &query).await.is_some(), "no browser, no page");
    running.stop().await;
}
