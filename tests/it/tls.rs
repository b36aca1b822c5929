//! TLS in the server: `wss://` and `https://` by clients of OpenSSL, certificates that come and go, and what is refused.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use nix::sys::signal::Signal;
use openssl::ssl::{SslOptions, SslVersion};
use serde_json::json;
use tidings::app::{App, Source};
use tidings::cli::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::certificates::{Authority, Pair, shake_hands};
use crate::harness::client::Client;
use crate::harness::process::Process;
use crate::harness::world::{Running, World, booking, ms, payment};
use crate::harness::{HANG, eventually};

/// A world whose gateway speaks TLS with a certificate of `authority`.
async fn world(authority: &Authority, change: impl FnOnce(&mut tidings::config::Config)) -> World {
    let mut world = World::with(change).await;
    speak_tls(&mut world, &authority.issue((0, 30)));
    world
}

fn speak_tls(world: &mut World, pair: &Pair) {
    let (certificate, key) = pair.write(world.dir.path());
    world.config.gateway.tls.certificate = certificate.display().to_string();
    world.config.gateway.tls.key = key.display().to_string();
}

async fn gateway(world: &World, authority: &Authority) -> Running {
    let running = world.start_unready(&[Role::Pipeline, Role::Gateway]).await;
    ready(authority, running.address).await;
    running
}

async fn ready(authority: &Authority, address: SocketAddr) {
    eventually("ready over https", async || (authority.get(address, "/ready").await?.0 == 200).then_some(())).await;
}

async fn connect(authority: &Authority, address: SocketAddr, user: &str) -> Client {
    let query = format!("token={}&deviceId=d1&ack=client", World::token(user));
    let mut client = Client::over(authority.connect(address).await, &query).await;
    client.frame("connected").await;
    client
}

#[tokio::test]
async fn a_fan_out_reaches_every_device_over_wss_in_order_and_acknowledgements_come_back() {
    const EVENTS: usize = 200;
    let authority = Authority::new();
    let world = world(&authority, |config| config.kafka.topics.partitions = 1).await;
    let running = world.start_unready(&[Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier]).await;
    ready(&authority, running.address).await;
    let mut reading = Vec::new();
    for number in 0..20 {
        let mut client = connect(&authority, running.address, &format!("user-{number}")).await;
        client.subscribe("booking-updates").await;
        reading.push(tokio::spawn(async move {
            for number in 0..EVENTS {
                let frame = client.frame("notification:new").await;
                assert_eq!(frame["notification"]["data"]["booking_id"], format!("b-{number}"));
            }
            client
        }));
    }
    emit_bookings(&world, EVENTS).await;
    for client in reading {
        client.await.unwrap();
    }
    let mut alice = connect(&authority, running.address, "alice").await;
    world.emit(&payment("1", "alice")).await;
    let frame = alice.frame("notification:new").await;
    alice.ack(&frame).await;
    world.until_acknowledged(frame["notification"]["id"].as_str().unwrap()).await;
    alice.close().await;
    running.stop().await;
}

#[tokio::test]
async fn a_frame_of_many_records_goes_both_ways_in_either_version() {
    let authority = Authority::new();
    let world = world(&authority, |_| {}).await;
    let running = gateway(&world, &authority).await;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut connector = authority.connector();
        connector.set_min_proto_version(Some(version)).unwrap();
        connector.set_max_proto_version(Some(version)).unwrap();
        let stream = shake_hands(connector, TcpStream::connect(running.address).await.unwrap()).await.unwrap();
        let query = format!("token={}", World::token("alice"));
        let mut alice = Client::over(stream, &query).await;
        alice.frame("connected").await;
        // More than three records of TLS, and far more than the codec's buffer.
        let data = "x".repeat(60_000);
        alice.send(json!({"type": "ping", "data": data})).await;
        assert_eq!(alice.frame("pong").await["data"], data, "{version:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_slow_reader_over_wss_is_closed_with_4008_and_a_proper_end_while_others_receive_everything() {
    const EVENTS: usize = 600;
    let authority = Authority::new();
    let world = world(&authority, |config| {
        config.gateway.outbox_bytes = NonZeroUsize::new(65_536).unwrap();
        config.gateway.send_buffer_bytes = NonZeroUsize::new(4096).unwrap();
        config.kafka.topics.partitions = 1;
    })
    .await;
    let running = gateway(&world, &authority).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(running.address).await.unwrap();
    let mut slow = shake_hands(authority.connector(), stream).await.unwrap();
    slow.write_all(&upgrade_request("slow")).await.unwrap();
    slow.write_all(b"\x81\xb0\0\0\0\0{\"type\":\"subscribe\",\"channel\":\"booking-updates\"}").await.unwrap();
    let mut quick = connect(&authority, running.address, "quick").await;
    quick.subscribe("booking-updates").await;
    let reading = tokio::spawn(async move {
        for number in 0..EVENTS {
            let frame = quick.frame("notification:new").await;
            assert_eq!(frame["notification"]["data"]["booking_id"], format!("b-{number}"));
        }
    });
    let ending = async {
        let crossed =
            async || authority.metric(running.address, "tidings_gateway_crossed_limits_total", "\"outbox_bytes\"").await;
        eventually("the slow one's outbox is full", async || (crossed().await == 1.0).then_some(())).await;
        let mut bytes = Vec::new();
        // OpenSSL tells an end without a goodbye of TLS apart: that would be an error.
        tokio::time::timeout(HANG, slow.read_to_end(&mut bytes)).await.unwrap().expect("the end is announced");
        bytes
    };
    let ((), bytes) = tokio::join!(emit_bookings(&world, EVENTS), ending);
    reading.await.unwrap();
    let at = bytes.windows(2).rposition(|pair| pair == [0x0f, 0xa8]).expect("4008 was sent");
    assert_eq!(bytes[at - 2], 0x88, "as a close frame");
    running.stop().await;
}

/// Bookings of nobody's, in one partition.
async fn emit_bookings(world: &World, count: usize) {
    for number in 0..count {
        let event = booking(&number.to_string(), "nobody").to_string();
        world.log.produce(&world.topic, Some("k"), event.as_bytes()).await;
    }
}

fn upgrade_request(user: &str) -> Vec<u8> {
    let token = World::token(user);
    format!(
        "GET /ws?token={token}&deviceId=slow HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_client_that_changes_its_keys_is_understood_and_answered_with_new_ones() {
    use rustls_pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let authority = Authority::new();
    let world = world(&authority, |_| {}).await;
    let running = gateway(&world, &authority).await;
    let mut roots = RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13]).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(running.address).await.unwrap();
    // OpenSSL's binding cannot ask for new keys, so here the client is rustls.
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.get_mut().1.refresh_traffic_keys().unwrap();
    let query = format!("token={}", World::token("alice"));
    let mut alice = Client::over(stream, &query).await;
    alice.frame("connected").await;
    for number in 0..3 {
        alice.send(json!({"type": "ping", "data": number})).await;
        assert_eq!(alice.frame("pong").await["data"], number);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_while_old_ones_live_and_a_bad_one_is_not_taken() {
    let (old, new) = (Authority::new(), Authority::new());
    let world = world(&old, |_| {}).await;
    let process = Process::spawn(&world);
    ready(&old, process.address).await;
    let mut alice = connect(&old, process.address, "alice").await;

    new.issue((0, 30)).write(world.dir.path());
    process.signal(Signal::SIGHUP);
    eventually("the new certificate is served", async || new.get(process.address, "/health").await).await;
    assert_eq!(old.get(process.address, "/health").await, None, "the old one is still served");
    world.emit(&payment("1", "alice")).await;
    alice.frame("notification:new").await;

    // The certificate of one pair, the key of another.
    let (certificate, _) = old.issue((0, 30)).write(world.dir.path());
    std::fs::write(world.dir.path().join("key.pem"), new.issue((0, 30)).key).unwrap();
    process.signal(Signal::SIGHUP);
    let kept = "tidings_http_certificate_reloads_total";
    eventually("the bad one is counted", async || (new.metric(process.address, kept, "kept").await >= 1.0).then_some(())).await;
    let logged = process.logged();
    assert!(logged.contains("the one before it stays in use") && logged.contains(certificate.to_str().unwrap()), "{logged}");

    // Used, because a client may still want it, and complained about.
    new.issue((-3, -1)).write(world.dir.path());
    process.signal(Signal::SIGHUP);
    eventually("the expired one is complained about", async || process.logged().contains("has expired").then_some(())).await;
    eventually("clients refuse the expired one", async || new.get(process.address, "/health").await.is_none().then_some(()))
        .await;
    alice.send(json!({"type": "ping"})).await;
    alice.frame("pong").await;
}

#[tokio::test]
async fn an_older_version_another_protocol_and_plain_http_are_refused_and_counted() {
    let authority = Authority::new();
    let world = world(&authority, |_| {}).await;
    let running = gateway(&world, &authority).await;
    let handshakes = async |outcome: &str| {
        authority.metric(running.address, "tidings_http_tls_handshakes_total", &format!("\"{outcome}\"")).await
    };
    let mut old = authority.connector();
    old.set_security_level(0);
    old.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    old.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    old.clear_options(SslOptions::NO_TLSV1_1 | SslOptions::NO_TLSV1);
    let refused = shake_hands(old, TcpStream::connect(running.address).await.unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("alert"), "the server says so: {refused}");
    let mut h2 = authority.connector();
    h2.set_alpn_protos(b"\x02h2").unwrap();
    let refused = shake_hands(h2, TcpStream::connect(running.address).await.unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("no application protocol"), "{refused}");
    assert!(handshakes("failed").await >= 2.0);

    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The server reads on until the client has nothing more to say.
    plain.shutdown().await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
    assert!(handshakes("plain_http").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_gives_its_place_back() {
    let authority = Authority::new();
    let world = world(&authority, |config| {
        config.gateway.connections = 1;
        config.gateway.tls.handshake_timeout = ms(2_000);
    })
    .await;
    let running = world.start_unready(&[Role::Gateway]).await;
    let mut mute = TcpStream::connect(running.address).await.unwrap();
    // The beginning of a handshake that goes on for ever.
    mute.write_all(&[22, 3, 1]).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(HANG, mute.read_to_end(&mut bytes)).await.expect("the silent one was dropped");
    let metric = eventually("its place is free", async || {
        authority.get(running.address, "/health").await?;
        Some(authority.metric(running.address, "tidings_http_tls_handshakes_total", "timeout").await)
    });
    assert!(metric.await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn files_that_do_not_work_are_refused_at_the_start_with_their_names() {
    let authority = Authority::new();
    let world = world(&authority, |_| {}).await;
    let files = world.config.gateway.tls.clone();
    let refusal = async |certificate: &str, key: &str| {
        let mut config = world.config.clone();
        certificate.clone_into(&mut config.gateway.tls.certificate);
        key.clone_into(&mut config.gateway.tls.key);
        format!("{:#}", App::prepare(config, &[Role::Gateway], Source::Configured).await.err().expect("it starts"))
    };
    let missing = refusal("/nowhere/certificate.pem", &files.key).await;
    assert!(missing.contains("gateway.tls.certificate") && missing.contains("/nowhere/certificate.pem"), "{missing}");
    let swapped = refusal(&files.key, &files.certificate).await;
    assert!(swapped.contains("holds no certificate"), "{swapped}");
    let keyless = refusal(&files.certificate, &files.certificate).await;
    assert!(keyless.contains("holds no private key"), "{keyless}");
    let foreign = tempfile::tempdir().unwrap();
    let (_, other) = authority.issue((0, 30)).write(foreign.path());
    let mismatch = refusal(&files.certificate, other.to_str().unwrap()).await;
    assert!(mismatch.contains("is not the one of the first certificate"), "{mismatch}");
    std::fs::write(&other, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let garbage = refusal(other.to_str().unwrap(), &files.key).await;
    assert!(garbage.contains("is no certificate"), "{garbage}");
}
