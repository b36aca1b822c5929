//! Frames of clients: whatever they say, the answer names a bounded `messageId` and a problem in words.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_core::protocol::client::read;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let said = read(text);
    assert!(said.message_id.is_none_or(|id| id.len() <= input.len().max(400)));
    if let Err(problem) = said.frame {
        assert!(!problem.message.is_empty());
    }
});
