//! Encoding: what the gateway says, as WebSocket frames (RFC 6455, section 5.2) of a server: whole and unmasked.
//!
//! Owns: frame headers, and one encoding of a notification for all its connections. Refuses to read frames: that is the
//! codec's.

use bytes::{BufMut, Bytes, BytesMut};
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::Sent;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A frame of text.
pub(super) fn text(sent: &Sent<'_>) -> Result<Bytes, serde_json::Error> {
    Ok(whole(TEXT, &sent.encode()?))
}

/// The ping with this number.
pub(super) fn ping(number: u32) -> Bytes {
    whole(PING, &number.to_be_bytes())
}

/// The number of the ping that a pong answers, if it answers one of ours.
pub(super) fn answered(payload: &[u8]) -> Option<u32> {
    payload.try_into().map(u32::from_be_bytes).ok()
}

/// The last frame of a connection.
pub(super) fn close(code: CloseCode) -> Bytes {
    let mut payload = code.code().to_be_bytes().to_vec();
    payload.extend_from_slice(code.reason().as_bytes());
    whole(CLOSE, &payload)
}

/// What kind of frame the codec wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pong,
    Close,
    Other,
}

/// The kind of a frame, by its first byte.
pub(super) fn kind(frame: &[u8]) -> Kind {
    match frame.first() {
        Some(&PONG) => Kind::Pong,
        Some(&CLOSE) => Kind::Close,
        _ => Kind::Other,
    }
}

fn whole(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frame.put_u8(short),
        (_, Ok(long)) => {
            frame.put_u8(126);
            frame.put_u16(long);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_written_as_short_as_it_can_be() {
        for (length, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = whole(TEXT, &vec![b'x'; length]);
            assert_eq!(frame.get(..header.len()), Some(header), "{length}");
            assert_eq!(frame.len(), header.len() + length);
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(&close(CloseCode::SlowConsumer)[..], b"\x88\x0f\x0f\xa8Slow consumer");
    }

    #[test]
    fn a_pong_is_an_answer_only_if_it_repeats_a_number() {
        assert_eq!(answered(&7_u32.to_be_bytes()), Some(7));
        assert_eq!(answered(b"hello"), None);
    }
}
