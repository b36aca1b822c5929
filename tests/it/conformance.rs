//! RFC 6455 as a client in bytes sees it: each row sends what it says to a fresh connection and names what must come.

use serde_json::json;
use tidings::cli::Role;

use crate::harness::raw::{CLOSE, PING, PONG, Raw, TEXT, header, masked, text};
use crate::harness::world::{Running, World};

const FRAGMENT: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    /// A close frame with this code, and behind it the end.
    Close(u16),
    /// A pong that repeats the payload.
    Echo(Vec<u8>),
    /// The protocol's own frame of this type.
    Says(&'static str),
}

use Answer::{Close, Echo, Says};

/// Sends each row to a connection of its own, whole or byte by byte.
async fn judge(running: &Running, rows: &[(&str, Vec<u8>, Vec<Answer>)], chunk: usize) {
    for (name, bytes, answers) in rows {
        let mut raw = Raw::greeted(running.address, "alice").await;
        for piece in bytes.chunks(chunk) {
            raw.send(piece).await;
        }
        for expected in answers {
            let frame = raw.next().await.unwrap_or_else(|| panic!("{name}: the server has left instead of {expected:?}"));
            let answer = match frame.first {
                CLOSE => Close(frame.code()),
                PONG => Echo(frame.payload.clone()),
                _ => match expected {
                    Says(kind) if frame.json()["type"] == *kind => expected.clone(),
                    _ => panic!("{name}: {} instead of {expected:?}", frame.json()),
                },
            };
            assert_eq!(answer, *expected, "{name}");
        }
        if matches!(answers.last(), Some(Close(_))) {
            assert_eq!(raw.frame().await, None, "{name}: nothing follows a close frame");
        }
    }
}

async fn world() -> (World, Running) {
    let world = World::with(|config| config.gateway.connections_per_user = 1000.try_into().unwrap()).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    (world, running)
}

/// `{"type":"ping"}`, which is answered with `pong`.
fn ask() -> Vec<u8> {
    text(&json!({"type": "ping"}))
}

fn fragments(parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    let first = |at: usize| (if at == 0 { FRAGMENT } else { MORE }) | (if at == last { LAST } else { 0 });
    parts.iter().enumerate().flat_map(|(at, part)| masked(first(at), part)).collect()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

#[tokio::test]
async fn frames_in_any_number_of_pieces_are_understood() {
    let (_world, running) = world().await;
    let long = vec![b'x'; 125];
    let rows = [
        ("a whole text", ask(), vec![Says("pong")]),
        ("a text without a byte", masked(TEXT, b""), vec![Says("error")]),
        ("three fragments", fragments(&[b"{\"type\":", b"", b"\"ping\"}"]), vec![Says("pong")]),
        (
            "a character over two fragments",
            fragments(&[b"{\"type\":\"ping\",\"data\":\"\xe2\x82", b"\xac\"}"]),
            vec![Says("pong")],
        ),
        (
            "a ping between fragments",
            [masked(FRAGMENT, b"{\"type\":"), masked(PING, b"between"), masked(LAST, b"\"ping\"}")].concat(),
            vec![Echo(b"between".to_vec()), Says("pong")],
        ),
        ("a ping without a payload", masked(PING, b""), vec![Echo(Vec::new())]),
        ("the largest ping", masked(PING, &long), vec![Echo(long)]),
        ("a ping that is no text", masked(PING, b"\xff\xfe\x00"), vec![Echo(b"\xff\xfe\x00".to_vec())]),
        ("several pings", [masked(PING, b"1"), masked(PING, b"2")].concat(), vec![Echo(b"1".to_vec()), Echo(b"2".to_vec())]),
        ("a pong that nobody asked for", [masked(PONG, b"7777"), ask()].concat(), vec![Says("pong")]),
        ("two frames at once", [ask(), ask()].concat(), vec![Says("pong"), Says("pong")]),
    ];
    judge(&running, &rows, usize::MAX).await;
    judge(&running, &rows, 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_breach_of_the_protocol_closes_with_1002() {
    let (_world, running) = world().await;
    let reserved = |bits: u8| (format!("reserved bits {bits:#x}"), masked(TEXT | bits, b"{}"));
    let unknown = |code: u8| (format!("reserved opcode {code:#x}"), masked(0x80 | code, b""));
    let mut breaches = [0x10, 0x20, 0x40, 0x70].map(reserved).to_vec();
    breaches.extend([0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf].map(unknown));
    breaches.extend([
        ("reserved bits of a ping".to_owned(), masked(PING | 0x40, b"")),
        ("a frame without a mask".to_owned(), [header(TEXT, 0, 2), b"{}".to_vec()].concat()),
        ("a ping in fragments".to_owned(), [masked(PING & !0x80, b"a"), masked(LAST, b"b")].concat()),
        ("a ping that is too long".to_owned(), masked(PING, &[b'x'; 126])),
        ("a close that is too long".to_owned(), close(1000, &[b'x'; 124])),
        ("a fragment of nothing".to_owned(), masked(MORE, b"x")),
        ("a last fragment of nothing".to_owned(), masked(LAST, b"x")),
        ("a text within another's fragments".to_owned(), [masked(FRAGMENT, b"{"), ask()].concat()),
        ("a close of one byte".to_owned(), masked(CLOSE, &[3])),
    ]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        breaches.push((format!("a close with {code}"), close(code, b"")));
    }
    let rows = breaches.iter().map(|(name, bytes)| (name.as_str(), bytes.clone(), vec![Close(1002)])).collect::<Vec<_>>();
    judge(&running, &rows, usize::MAX).await;
    running.stop().await;
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007_as_soon_as_a_fragment_shows_it() {
    let (_world, running) = world().await;
    let rows = [
        ("in one frame", masked(TEXT, b"{\"a\":\"\xff\"}"), vec![Close(1007)]),
        ("an overlong form", masked(TEXT, b"\xc0\xaf"), vec![Close(1007)]),
        ("half of a surrogate pair", masked(TEXT, b"\xed\xa0\x80"), vec![Close(1007)]),
        ("beyond the last character", masked(TEXT, b"\xf4\x90\x80\x80"), vec![Close(1007)]),
        ("a character that does not end", masked(TEXT, b"{\xe2\x82"), vec![Close(1007)]),
        ("over two fragments", fragments(&[b"{\xe2\x82", b"\x28}"]), vec![Close(1007)]),
        // The last fragment never comes.
        ("in the first fragment", masked(FRAGMENT, b"{\xff"), vec![Close(1007)]),
        ("in the second of more", [masked(FRAGMENT, b"{\xe2"), masked(MORE, b"\x28")].concat(), vec![Close(1007)]),
        ("in the reason of a close", close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"), vec![Close(1007)]),
    ];
    judge(&running, &rows, usize::MAX).await;
    running.stop().await;
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_behind_it_is() {
    let (_world, running) = world().await;
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999];
    let mut rows = codes.map(|code| ("a close with a code", close(code, b"bye"), vec![Close(code)])).to_vec();
    rows.extend([
        ("a close without a code", masked(CLOSE, b""), vec![Close(1005)]),
        ("a close with the longest reason", close(1000, &[b'x'; 123]), vec![Close(1000)]),
        ("a text behind a close", [close(1000, b""), ask()].concat(), vec![Close(1000)]),
        ("a ping behind a close", [close(1000, b""), masked(PING, b"late")].concat(), vec![Close(1000)]),
        ("a close within fragments", [masked(FRAGMENT, b"{"), close(1000, b"")].concat(), vec![Close(1000)]),
    ]);
    judge(&running, &rows, usize::MAX).await;
    running.stop().await;
}

#[tokio::test]
async fn binary_and_oversize_messages_are_closed_with_their_codes() {
    let (_world, running) = world().await;
    let half = vec![b'x'; 40_000];
    let rows = [
        ("binary", masked(0x82, b"{}"), vec![Close(1003)]),
        ("binary in fragments", [masked(0x02, b"{"), masked(LAST, b"}")].concat(), vec![Close(1003)]),
        ("larger than allowed, by its header alone", header(TEXT, 0x80, 65_537), vec![Close(1009)]),
        ("the largest length there is", [vec![TEXT, 0xff], vec![0x7f; 8]].concat(), vec![Close(1009)]),
        ("fragments that are too large together", fragments(&[&half, &half]), vec![Close(1009)]),
    ];
    judge(&running, &rows[..2], usize::MAX).await;
    // With an empty mask behind the header, so that the codec looks at it.
    let with_mask = |bytes: &[u8]| [bytes, &[0; 4]].concat();
    judge(&running, &[(rows[2].0, with_mask(&rows[2].1), rows[2].2.clone())], usize::MAX).await;
    judge(&running, &[(rows[3].0, with_mask(&rows[3].1), rows[3].2.clone())], usize::MAX).await;
    judge(&running, &rows[4..], usize::MAX).await;
    let crossed = running.labelled("tidings_gateway_crossed_limits_total", "limit=\"frame_bytes\"").await;
    assert_eq!(crossed, 3);
    running.stop().await;
}
