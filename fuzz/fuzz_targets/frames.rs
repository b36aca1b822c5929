//! Frames of clients: whatever they say, the answer names a bounded `messageId` and a problem in words, and no frame names more than it
//! may.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use tidings_core::protocol::client::{ClientFrame, FRAME_CHANNELS, FRAME_IDS, Marked, read};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let said = read(text);
    assert!(said.message_id.is_none_or(|id| id.len() <= input.len().max(400)));
    match said.frame {
        Err(problem) => assert!(!problem.message.is_empty()),
        Ok(ClientFrame::MarkRead(Marked::Ids(ids))) => {
            assert!((1..=FRAME_IDS).contains(&ids.len()));
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        }
        Ok(ClientFrame::AckIds { ids, .. }) => assert!((1..=FRAME_IDS).contains(&ids.len())),
        Ok(ClientFrame::AckBelow { except, .. }) => assert!(except.len() <= FRAME_IDS),
        Ok(ClientFrame::Subscribe { channels, .. } | ClientFrame::Unsubscribe(channels)) => {
            assert!((1..=FRAME_CHANNELS).contains(&channels.len()));
        }
        Ok(_) => {}
    }
});
