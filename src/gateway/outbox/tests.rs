//! The outbox on real sockets: order, the bound, and frames that are never cut.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

/// An outbox and the client at its other end, with small kernel buffers.
async fn pair(limit_bytes: usize) -> (Outbox, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    socket2::SockRef::from(&server).set_send_buffer_size(4096).unwrap();
    server.writable().await.unwrap();
    (Outbox::new(server, limit_bytes, 0), client)
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
async fn read(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    tokio::time::timeout(Duration::from_secs(20), client.read_exact(&mut read)).await.expect("bytes come").unwrap();
    read
}

#[tokio::test]
async fn a_frame_goes_to_the_socket_at_once_if_nothing_waits() {
    let (outbox, mut client) = pair(65_536).await;
    assert_eq!(outbox.push(&frame(1, 100), 5), Pushed::Taken);
    assert_eq!(read(&mut client, 100).await, frame(1, 100));
    assert_eq!(outbox.pulse().waiting_ms.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_waits_leaves_in_order_and_whole() {
    let (outbox, mut client) = pair(64 << 20).await;
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

#[tokio::test]
async fn a_full_outbox_drops_whole_frames_and_ends_with_4008() {
    let (outbox, mut client) = pair(65_536).await;
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

#[tokio::test]
async fn only_the_latest_pong_waits() {
    let (outbox, mut client) = pair(64 << 20).await;
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

#[tokio::test]
async fn nothing_follows_a_close() {
    let (outbox, mut client) = pair(65_536).await;
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
