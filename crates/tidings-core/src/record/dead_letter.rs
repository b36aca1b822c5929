//! The record of `dlq`: the bytes as they came, or what is left of them, and headers that say why they lie here.
//!
//! Owns: what is left of a record that a broker does not take whole. The value and the original headers stay as they were; our own
//! are put behind them, and only ours stay when something has to go: the others are a stranger's, whatever their names.
//! Neighbours: `context` beside has the headers; pipeline, inbox and courier bury.

use sha2::{Digest as _, Sha256};

use super::Header;
use super::context::{Context, LIMIT_KEY_BYTES, text};

/// What is kept of the value of a stub: its first bytes.
pub const STUB_BYTES: usize = 64 * 1024;

/// How much of a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// All of it, with its headers in front of ours.
    Whole,
    /// Key, if it is short, and the beginning of the value.
    Stub,
    /// Only what we say about it.
    Bare,
}

impl Extent {
    /// What is tried if a broker does not take this; nothing if there is no less to write.
    #[must_use]
    pub fn less(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::Stub),
            Self::Stub => Some(Self::Bare),
            Self::Bare => None,
        }
    }

    /// Whether the original headers are written too, in front of ours.
    #[must_use]
    pub fn keeps_headers(self) -> bool {
        self == Self::Whole
    }
}

/// A record that is buried, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Where it lay, with its key, and what is wrong with it.
    pub context: Context<'a>,
    /// Its value, if it had one.
    pub value: Option<&'a [u8]>,
    /// How many headers it had.
    pub headers: usize,
}

/// A dead letter as it is written to `dlq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRecord<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Our own headers.
    pub headers: Vec<Header>,
}

impl<'a> DeadLetter<'a> {
    /// As much of it as `extent` says.
    #[must_use]
    pub fn record(&self, extent: Extent) -> DeadRecord<'a> {
        let Self { context, value, headers } = *self;
        let key = context.original.key;
        // Among its own headers the trace stands already.
        let trace = context.trace.filter(|_| headers == 0 || !extent.keeps_headers());
        let mut headers = Context { trace, ..context }.headers();
        if extent == Extent::Whole {
            return DeadRecord { key, value, headers };
        }
        headers.push(text("tidings-truncated", "true"));
        if let Some(value) = value {
            let digest = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            headers.push(text("tidings-original-bytes", &value.len().to_string()));
            headers.push(text("tidings-original-sha256", &digest));
        }
        if extent == Extent::Bare {
            return DeadRecord { key: None, value: None, headers };
        }
        let key = key.filter(|key| key.len() <= LIMIT_KEY_BYTES);
        DeadRecord { key, value: value.and_then(|value| value.get(..value.len().min(STUB_BYTES))), headers }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{Failure, Original};
    use super::super::trace::TraceContext;
    use super::*;
    use crate::fate::Cause;
    use crate::ids::NodeId;

    fn node() -> NodeId {
        "node-a".parse().unwrap()
    }

    fn letter<'a>(node: &'a NodeId, key: &'a [u8], value: Option<&'a [u8]>) -> DeadLetter<'a> {
        let original = Original { topic: "payments", partition: 2, offset: 17, timestamp: None, key: Some(key) };
        let (stage, class, message) = ("decode", "not_json", "the value is not JSON");
        let failure = Failure { stage, cause: Cause::Poison, class, message, rule: None };
        DeadLetter { context: Context { original, failure, attempt: None, trace: None, node }, value, headers: 0 }
    }

    fn content(record: &DeadRecord<'_>, name: &str) -> Option<String> {
        let found = record.headers.iter().rev().find(|(key, _)| key == name)?;
        Some(String::from_utf8(found.1.clone().unwrap()).unwrap())
    }

    #[test]
    fn what_is_refused_is_cut_to_its_beginning_and_then_to_what_we_say_about_it() {
        let (node, value) = (node(), vec![b'x'; 65_537]);
        let letter = letter(&node, b"42", Some(&value));
        let whole = letter.record(Extent::Whole);
        assert_eq!((whole.key, whole.value, content(&whole, "tidings-truncated")), (Some(&b"42"[..]), Some(&*value), None));
        let stub = letter.record(Extent::Whole.less().unwrap());
        assert_eq!((stub.key, stub.value), (Some(&b"42"[..]), Some(&value[..65_536])));
        let bare = letter.record(Extent::Stub.less().unwrap());
        assert_eq!((bare.key, bare.value), (None, None));
        for cut in [stub, bare] {
            assert_eq!(content(&cut, "tidings-truncated").as_deref(), Some("true"));
            assert_eq!(content(&cut, "tidings-original-bytes").as_deref(), Some("65537"));
            // As `head -c 65537 /dev/zero | tr '\0' x | sha256sum` has it.
            let sha256 = "1abe08ebecf1c18cab71f6fe28aaddf20268f85bad78bb9a72f88ca47c874662";
            assert_eq!(content(&cut, "tidings-original-sha256").as_deref(), Some(sha256));
            assert_eq!(content(&cut, "tidings-original-offset").as_deref(), Some("17"));
        }
        assert_eq!(Extent::Bare.less(), None);
    }

    #[test]
    fn a_strangers_key_does_not_keep_a_stub_from_being_small() {
        let (node, key) = (node(), vec![b'k'; LIMIT_KEY_BYTES + 1]);
        let letter = letter(&node, &key, Some(b"short"));
        assert_eq!(letter.record(Extent::Whole).key, Some(&*key));
        let stub = letter.record(Extent::Stub);
        assert_eq!((stub.key, stub.value), (None, Some(&b"short"[..])));
        assert_eq!(content(&stub, "tidings-original-key"), None);
    }

    #[test]
    fn a_tombstone_stays_one() {
        let node = node();
        let stub = letter(&node, b"42", None).record(Extent::Stub);
        assert_eq!((stub.value, content(&stub, "tidings-original-sha256")), (None, None));
        assert_eq!(content(&stub, "tidings-truncated").as_deref(), Some("true"));
    }

    #[test]
    fn the_trace_is_said_once_and_not_lost_with_the_original_headers() {
        let (node, trace) =
            (node(), TraceContext::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).unwrap());
        let mut letter = letter(&node, b"42", Some(b"short"));
        letter.context.trace = Some(&trace);
        let has = |letter: &DeadLetter<'_>, extent| content(&letter.record(extent), "traceparent").is_some();
        assert!(has(&letter, Extent::Whole), "it had no headers that could say so");
        letter.headers = 1;
        assert_eq!([Extent::Whole, Extent::Stub, Extent::Bare].map(|extent| has(&letter, extent)), [false, true, true]);
    }
}
