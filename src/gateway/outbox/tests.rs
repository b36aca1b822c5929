//! The outbox on real sockets, plain and with TLS: order, the bound, and frames that are never cut.

use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use super::*;

/// The other end of an outbox.
type Client = std::pin::Pin<Box<dyn AsyncRead + Send>>;

const BOTH: [Layer; 2] = [Layer::Plain, Layer::Tls];

/// An outbox and the client at its other end, with small kernel buffers.
async fn pair(layer: Layer, limit_bytes: usize) -> (Outbox, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    socket2::SockRef::from(&server).set_send_buffer_size(4096).unwrap();
    server.writable().await.unwrap();
    let (wire, client): (_, Client) = match layer {
        Layer::Plain => (Wire::Plain(server), Box::pin(client)),
        Layer::Tls => {
            let (server, client) = tokio::join!(TlsAcceptor::from(server_config()).accept(server), shake_hands(client));
            let (stream, session) = server.unwrap().into_inner();
            (Wire::Tls(stream, Box::new(Session::new(session))), Box::pin(client))
        }
    };
    (Outbox::new(wire, limit_bytes, 0), client)
}

fn server_config() -> Arc<ServerConfig> {
    let (certificate, key) = certificate();
    let chain = vec![CertificateDer::from(certificate)];
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A certificate of its own (DER), and its key (PEM).
fn certificate() -> (Vec<u8>, Vec<u8>) {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::{hash::MessageDigest, nid::Nid, pkey::PKey, x509::X509};

    let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let key = PKey::from_ec_key(key).unwrap();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (certificate.build().to_der().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
}

/// A client of another library, to whom any certificate is right.
async fn shake_hands(stream: TcpStream) -> tokio_openssl::SslStream<TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let ssl = connector.build().configure().unwrap().verify_hostname(false).into_ssl("localhost").unwrap();
    let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
    std::pin::Pin::new(&mut stream).connect().await.unwrap();
    stream
}

/// A frame that begins with its number and is told apart from others.
fn frame(number: u8, bytes: usize) -> Bytes {
    let mut frame = vec![number; bytes];
    frame[0] = b'<';
    frame[bytes - 1] = b'>';
    frame.into()
}

async fn flush(outbox: &Outbox) {
    let flushed = std::future::poll_fn(|cx| outbox.poll_flush(cx, 1));
    tokio::time::timeout(Duration::from_secs(20), flushed).await.expect("the client reads").unwrap();
}

/// Reads until `end` bytes have come.
async fn read(client: &mut Client, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    tokio::time::timeout(Duration::from_secs(20), client.read_exact(&mut read)).await.expect("bytes come").unwrap();
    read
}

#[tokio::test]
async fn a_frame_goes_to_the_socket_at_once_if_nothing_waits() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 65_536).await;
        assert_eq!(outbox.push(&frame(1, 100), 5), Pushed::Taken);
        assert_eq!(read(&mut client, 100).await, frame(1, 100));
        assert_eq!(outbox.pulse().waiting_ms.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn what_waits_leaves_in_order_and_whole() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 64 << 20).await;
        let frames: Vec<_> = (0..200_u8).map(|number| frame(number, 10_000)).collect();
        for frame in &frames {
            assert_eq!(outbox.push(frame, 5), Pushed::Taken);
        }
        assert!(outbox.pulse().waiting_ms.load(Ordering::Relaxed) > 0, "the socket took everything at once");
        let reader = tokio::spawn(async move { read(&mut client, 2_000_000).await });
        flush(&outbox).await;
        assert!(reader.await.unwrap() == frames.concat());
        assert_eq!(outbox.pulse().waiting_ms.load(Ordering::Relaxed), 0);
        assert_eq!(outbox.state.lock().waiting.capacity(), 0, "the queue's memory is given back");
    }
}

#[tokio::test]
async fn a_page_waits_for_its_last_frame_and_leaves_at_once() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 65_536).await;
        let frames: Vec<_> = (0..40_u8).map(|number| frame(number, 50)).collect();
        outbox.cork();
        for frame in &frames {
            assert_eq!(outbox.push(frame, 5), Pushed::Taken);
        }
        assert_eq!(outbox.state.lock().waiting.len(), 40);
        outbox.uncork(6);
        assert!(outbox.is_idle());
        assert_eq!(outbox.pulse().waiting_ms.load(Ordering::Relaxed), 0);
        assert!(read(&mut client, 2_000).await == frames.concat());
        assert_eq!(outbox.push(&frame(1, 100), 7), Pushed::Taken);
        assert!(outbox.is_idle(), "what follows goes to the socket at once");
        assert_eq!(read(&mut client, 100).await, frame(1, 100));
    }
}

#[tokio::test]
async fn the_answer_to_an_upgrade_waits_for_the_first_frame_and_leaves_before_it() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 65_536).await;
        outbox.hold(b"HTTP/1.1 101".to_vec());
        assert_eq!(outbox.push(&frame(1, 100), 5), Pushed::Taken);
        assert_eq!(outbox.state.lock().waiting.len(), 2);
        outbox.uncork(6);
        assert!(outbox.is_idle());
        assert_eq!(outbox.state.lock().waiting.capacity(), 0, "the queue's memory is given back");
        assert!(read(&mut client, 112).await == [&b"HTTP/1.1 101"[..], &frame(1, 100)].concat());
    }
}

#[tokio::test]
async fn of_a_page_that_the_socket_does_not_take_the_rest_waits() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 64 << 20).await;
        let frames: Vec<_> = (0..200_u8).map(|number| frame(number, 10_000)).collect();
        outbox.cork();
        frames.iter().for_each(|frame| assert_eq!(outbox.push(frame, 5), Pushed::Taken));
        outbox.uncork(6);
        assert!(!outbox.is_idle(), "the socket took everything at once");
        assert_eq!(outbox.pulse().waiting_ms.load(Ordering::Relaxed), 6);
        let reader = tokio::spawn(async move { read(&mut client, 2_000_000).await });
        flush(&outbox).await;
        assert!(reader.await.unwrap() == frames.concat());
    }
}

#[tokio::test]
async fn a_full_outbox_drops_whole_frames_and_ends_with_4008() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 65_536).await;
        let frame = frame(7, 10_000);
        let mut taken = 0;
        while outbox.push(&frame, 5) == Pushed::Taken {
            taken += 1;
        }
        assert_eq!(outbox.phase(), Phase::Closing(CloseCode::SlowConsumer));
        assert_eq!(outbox.push(&frame, 5), Pushed::Ended);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        flush(&outbox).await;
        drop(outbox);
        let read = reader.await.unwrap();
        let close = frames::close(CloseCode::SlowConsumer);
        let whole = (read.len() - close.len()) / frame.len();
        assert_eq!(read.len(), whole * frame.len() + close.len(), "a frame was cut");
        assert!(read.ends_with(&close));
        assert!(whole < taken, "nothing was dropped");
    }
}

#[tokio::test]
async fn only_the_latest_pong_waits() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 64 << 20).await;
        while outbox.pulse().waiting_ms.load(Ordering::Relaxed) == 0 {
            outbox.push(&frame(7, 10_000), 5);
        }
        let waiting = outbox.state.lock().waiting.len();
        for number in 0..100_u8 {
            outbox.push_of_codec(&[0x8a, 1, number], 5);
        }
        assert_eq!(outbox.state.lock().waiting.len(), waiting);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        flush(&outbox).await;
        drop(outbox);
        assert!(reader.await.unwrap().ends_with(&[b'>', 0x8a, 1, 99]));
    }
}

#[tokio::test]
async fn nothing_follows_a_close() {
    for layer in BOTH {
        let (outbox, mut client) = pair(layer, 65_536).await;
        outbox.close(CloseCode::Draining, 5);
        outbox.close(CloseCode::Internal, 5);
        outbox.push_of_codec(&[0x8a, 0], 5);
        assert_eq!(outbox.push(&frame(1, 10), 5), Pushed::Ended);
        flush(&outbox).await;
        drop(outbox);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, frames::close(CloseCode::Draining));
    }
}
