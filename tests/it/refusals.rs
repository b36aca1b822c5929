//! Connections that end before a request of theirs is answered: counted by reason, and one line of the log each, but not in a flood.

use std::net::SocketAddr;

use tidings::cli::Role;
use tidings::config::ProxyProtocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::bare::{REFUSED_REQUESTS, asked, count, get, open, said, upgrade};
use crate::harness::certificates::Authority;
use crate::harness::process::Process;
use crate::harness::world::{World, ms};
use crate::harness::{HANG, eventually, world};

const NOISE: &[u8] = b"\x16\x03\x01\x02\0\x01\0\r\n\r\n";

/// The lines about refused connections with this reason.
fn lines(process: &Process, reason: &str) -> Vec<String> {
    let field = format!("reason=\"{reason}\"");
    let logged = process.logged();
    logged.lines().filter(|line| line.contains("connection refused") && line.contains(&field)).map(str::to_owned).collect()
}

async fn until_said(process: &Process, reason: &str) {
    eventually(&format!("{reason} is said in the log"), async || (!lines(process, reason).is_empty()).then_some(())).await;
}

/// Sends, and waits until the server has closed.
async fn turned_away(address: SocketAddr, bytes: &[u8]) {
    said(open(address).await, bytes).await;
}

#[tokio::test]
async fn who_is_turned_away_is_one_line_with_address_and_reason_and_a_flood_is_no_flood_of_lines() {
    let mut tidings = World::new().await;
    tidings.config.gateway.header_timeout = ms(3_000);
    tidings.config.gateway.http_connections_per_address = 3;
    let process = Process::spawn(&tidings);
    process.await_ready().await;
    turned_away(process.address, b"").await;
    until_said(&process, "header_timeout").await;
    for _ in 0..20 {
        turned_away(process.address, NOISE).await;
    }
    let (_, metrics) = world::get(process.address, "/metrics").await;
    assert!(metrics.contains(&format!("{REFUSED_REQUESTS}{{reason=\"malformed\"}} 20")), "{metrics}");
    let held = [open(process.address).await, open(process.address).await, open(process.address).await];
    for _ in 0..5 {
        turned_away(process.address, NOISE).await;
    }
    until_said(&process, "http_connections_per_address").await;
    drop(held);
    for reason in ["header_timeout", "malformed", "http_connections_per_address"] {
        let lines = lines(&process, reason);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("INFO") && lines[0].contains("address=127.0.0.1 "), "{lines:?}");
    }
}

#[tokio::test]
async fn a_wrong_proxy_header_and_a_handshake_that_is_none_are_said_with_whom_they_come_from() {
    let authority = Authority::new();
    let mut world = World::new().await;
    let (certificate, key) = authority.issue((0, 30)).write(world.dir.path());
    world.config.gateway.tls.certificate = certificate.display().to_string();
    world.config.gateway.tls.key = key.display().to_string();
    world.config.http.proxy_protocol = ProxyProtocol::Required;
    world.config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let process = Process::spawn(&world);
    eventually("it listens", async || tokio::net::TcpStream::connect(process.address).await.ok()).await;
    turned_away(process.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until_said(&process, "proxy_header").await;
    turned_away(process.address, b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n\r\n").await;
    until_said(&process, "tls_handshake").await;
    assert!(lines(&process, "tls_handshake")[0].contains("address=203.0.113.7 "), "{}", process.logged());
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_that_has_too_many_connections_is_a_line_with_its_own_address() {
    let mut world = World::new().await;
    world.config.gateway.connections_per_address = 1;
    world.config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let process = Process::spawn(&world);
    process.await_ready().await;
    let query = format!("/ws?token={}&deviceId=d1", World::token("alice"));
    let request = upgrade(&query, "X-Forwarded-For: 203.0.113.7\r\n");
    let mut first = open(process.address).await;
    assert!(asked(&mut first, &request).await.starts_with("HTTP/1.1 101 "));
    assert!(asked(&mut open(process.address).await, &request).await.starts_with("HTTP/1.1 429 "));
    until_said(&process, "connections_per_address").await;
    assert!(lines(&process, "connections_per_address")[0].contains("address=203.0.113.7 "), "{}", process.logged());
}

#[tokio::test]
async fn a_connection_that_idles_after_its_answers_is_no_refusal_and_one_that_trickles_then_is() {
    let world = World::with(|config| config.gateway.header_timeout = ms(2_000)).await;
    let running = world.start_unready(&[Role::Gateway]).await;
    let ends = async |begin: &[u8]| {
        let mut kept = open(running.address).await;
        for _ in 0..2 {
            let request = get("/health", "").replacen("GET", "HEAD", 1);
            assert!(asked(&mut kept, &request).await.starts_with("HTTP/1.1 200"));
        }
        kept.write_all(begin).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(HANG, kept.read_to_end(&mut rest)).await.expect("it is closed in its time");
    };
    ends(b"").await;
    eventually("its end is counted", async || (running.metric("tidings_http_idle_connections_total").await == 1.0).then_some(()))
        .await;
    assert_eq!(count(&running, REFUSED_REQUESTS, "header_timeout").await, 0.0);
    ends(b"GET /he").await;
    eventually("half a request is a refusal", async || {
        (count(&running, REFUSED_REQUESTS, "header_timeout").await == 1.0).then_some(())
    })
    .await;
    let mut both = open(running.address).await;
    both.write_all([get("/health", ""), "GET /he".to_owned()].concat().as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    let _ = tokio::time::timeout(HANG, both.read_to_end(&mut answers)).await.expect("it is closed in its time");
    assert!(answers.starts_with(b"HTTP/1.1 200"));
    eventually("and so is one that came with a whole one before it", async || {
        (count(&running, REFUSED_REQUESTS, "header_timeout").await == 2.0).then_some(())
    })
    .await;
    assert_eq!(running.metric("tidings_http_idle_connections_total").await, 1.0);
    running.stop().await;
}
