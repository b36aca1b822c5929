//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): how they are written, and what came under them.
//!
//! Owns: a bounded memory of this node. That the same key gives the same id holds without it, on every node and over restarts; the
//! memory tells a key that comes with another request. Full: the oldest is forgotten.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::http::problem::Problem;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LIMIT_BYTES: usize = 255;

/// What came under the keys that were used last.
pub(in crate::http::rest) struct Keys {
    limit: usize,
    conflicts: Counter,
    /// Shared by all requests; held for a look-up, never while something is waited for.
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: HashMap<Uuid, Known>,
    /// The oldest first.
    order: VecDeque<Uuid>,
}

struct Known {
    hash: [u8; 32],
    written: bool,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remembered {
    /// Nothing, or that this request was not written yet.
    New,
    /// This request is written.
    Written,
    /// Another request came under it.
    Other,
}

impl Keys {
    pub(in crate::http::rest) fn new(limit: NonZeroUsize) -> Self {
        Self { limit: limit.get(), conflicts: Counter::default(), memory: Mutex::default() }
    }

    pub(in crate::http::rest) fn conflicts(&self) -> Counter {
        self.conflicts.clone()
    }

    /// Remembers that `words` came under the key of `id`.
    pub(super) fn remember(&self, id: Uuid, words: &[u8]) -> Remembered {
        let hash = Sha256::digest(words).into();
        let mut memory = self.memory.lock();
        match memory.known.get(&id) {
            Some(known) if known.hash != hash => {
                self.conflicts.inc();
                Remembered::Other
            }
            Some(Known { written: true, .. }) => Remembered::Written,
            Some(_) => Remembered::New,
            None => {
                memory.known.insert(id, Known { hash, written: false });
                memory.order.push_back(id);
                if memory.order.len() > self.limit
                    && let Some(oldest) = memory.order.pop_front()
                {
                    memory.known.remove(&oldest);
                }
                Remembered::New
            }
        }
    }

    /// Remembers that the brokers have the request.
    pub(super) fn written(&self, id: Uuid) {
        if let Some(known) = self.memory.lock().known.get_mut(&id) {
            known.written = true;
        }
    }

    /// Forgets what came under the key and was not written, so that another request may.
    pub(super) fn forget(&self, id: Uuid) {
        let mut memory = self.memory.lock();
        if memory.known.get(&id).is_some_and(|known| !known.written) {
            memory.known.remove(&id);
            memory.order.retain(|known| *known != id);
        }
    }
}

/// The key of a request, if it has one: a string in quotes, as the draft has it (RFC 9651, section 3.3.3), or bare.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = || {
        let detail = format!("`Idempotency-Key` must stand once, with 1 to {LIMIT_BYTES} printable ASCII characters");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let key = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted).ok_or_else(wrong)?,
        None => text.to_owned(),
    };
    let fine = values.next().is_none() && (1..=LIMIT_BYTES).contains(&key.len());
    if fine { Ok(Some(key)) } else { Err(wrong()) }
}

/// What stands before the closing quote, which must be the last.
fn unquoted(text: &str) -> Option<String> {
    let mut key = String::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(key),
            '\\' => key.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            plain => key.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn key(values: &[&'static str]) -> Result<Option<String>, String> {
        let headers = values.iter().map(|value| (HEADER, HeaderValue::from_static(value))).collect::<HeaderMap>();
        key_of(&headers).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_key_is_the_same_in_quotes_and_bare() {
        assert_eq!(key(&[]), Ok(None));
        for written in ["8e03978e", "\"8e03978e\""] {
            assert_eq!(key(&[written]), Ok(Some("8e03978e".to_owned())));
        }
        assert_eq!(key(&[r#""a\"b\\c""#]), Ok(Some(r#"a"b\c"#.to_owned())));
        for wrong in [&[""][..], &["\"\""], &["\"a"], &["\"a\"b"], &[r#""a\n""#], &["a", "a"]] {
            assert!(key(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_same_key_with_another_request_is_told_until_it_is_forgotten() {
        let keys = Keys::new(NonZeroUsize::new(2).unwrap());
        let id = Uuid::from_u128;
        assert_eq!(keys.remember(id(1), b"a"), Remembered::New);
        assert_eq!(keys.remember(id(1), b"a"), Remembered::New, "it was not written");
        keys.written(id(1));
        assert_eq!(keys.remember(id(1), b"a"), Remembered::Written);
        assert_eq!(keys.remember(id(1), b"b"), Remembered::Other);
        assert_eq!(keys.conflicts().get(), 1, "one was told");
        keys.forget(id(1));
        assert_eq!(keys.remember(id(1), b"b"), Remembered::Other, "what is written stays");
        for other in [2, 3] {
            assert_eq!(keys.remember(id(other), b"a"), Remembered::New);
        }
        assert_eq!(keys.remember(id(1), b"b"), Remembered::New);
    }

    #[test]
    fn a_key_is_free_again_if_what_came_under_it_was_not_written() {
        let keys = Keys::new(NonZeroUsize::new(2).unwrap());
        let id = Uuid::from_u128;
        keys.remember(id(1), b"a");
        keys.forget(id(1));
        assert_eq!(keys.remember(id(1), b"b"), Remembered::New);
        keys.written(id(1));
        keys.remember(id(2), b"a");
        assert_eq!(keys.remember(id(1), b"b"), Remembered::Written, "what was forgotten takes no room");
    }
}
