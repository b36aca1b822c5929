//! What comes before a connection is known: a PROXY header, and the headers and the query of an upgrade. The first byte picks which.

#![no_main]

// The listener's own file: it needs no more of tidings than is here.
#[allow(dead_code)]
#[path = "../../src/http/listener/proxied.rs"]
mod proxied;

use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use tidings_core::channel::Channel;
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::locale::Locale;
use tidings_core::protocol::bearer::{in_authorization, in_subprotocols};
use tidings_core::record::trace::TraceContext;

/// The longest header of either version that is taken.
const HEADER_BYTES: usize = 16 + 4096;

fn proxy_header(input: &[u8]) {
    let mut stream = input;
    // Bytes that are there already are never waited for.
    let named = proxied::read(&mut stream).now_or_never().expect("nothing to wait for");
    let taken = input.len() - stream.len();
    assert!(taken <= HEADER_BYTES, "{taken} bytes were read");
    if let Ok(client) = named {
        // What lies behind the header is not looked at.
        let mut alone = &input[..taken];
        let again = proxied::read(&mut alone).now_or_never().expect("nothing to wait for");
        assert_eq!(again.expect("the same header reads again"), client);
        assert!(alone.is_empty());
    }
}

fn headers(text: &str) {
    let longest = [in_authorization(text), in_subprotocols(text)].into_iter().flatten().map(str::len).max();
    assert!(longest.is_none_or(|bytes| bytes < text.len()), "a token is a part of its header");
    if let Some(token) = in_subprotocols(text) {
        assert!(!token.contains(','), "one that is listed");
    }
    if let Ok(context) = TraceContext::read(text.as_bytes(), Some(text.as_bytes())) {
        let headers = context.headers();
        let values = headers.iter().map(|(_, value)| value.as_deref().unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!(TraceContext::read(values[0], values.get(1).copied()), Ok(context), "it is passed on as it came");
    }
}

/// Whatever stands in a query and is taken is fit for a log line and a frame.
fn query(bytes: &[u8]) {
    for (_, value) in form_urlencoded::parse(bytes) {
        let user = value.parse::<UserId>().ok().map(|user| user.to_string());
        let device = value.parse::<DeviceId>().ok().map(|device| device.to_string());
        let channel = value.parse::<Channel>().ok().map(|channel| channel.to_string());
        for taken in [user, device, channel].into_iter().flatten() {
            assert!(!taken.is_empty() && taken.len() <= 1024 && !taken.chars().any(char::is_control), "{taken:?}");
        }
        if let Ok(locale) = value.parse::<Locale>() {
            assert!(locale.as_str().is_ascii());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    match first % 3 {
        0 => proxy_header(rest),
        1 => std::str::from_utf8(rest).into_iter().for_each(headers),
        _ => query(rest),
    }
});
