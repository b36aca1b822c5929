//! Context headers: which record something is about, what went wrong with it and where.
//!
//! Owns: their names on `retry.<delay>`, `undelivered` and `dlq`, where they are the same, also under the `__connect.errors.` names
//! that Kafka tools show (Kafka Connect, KIP-298). They are for people and tools: whoever may write to a topic can forge them, so no service
//! decides by them. Neighbours: `dead_letter` and `letter` beside; pipeline, inbox and courier say what went wrong.

use super::Header;
use super::trace::TraceContext;
use crate::fate::Cause;
use crate::ids::NodeId;
use crate::time::Timestamp;

/// The version of the context headers as a whole, in the header [`CONTEXT_VERSION_HEADER`].
pub const CONTEXT_VERSION: u32 = 1;

/// The header that says which version of the context headers these are.
pub const CONTEXT_VERSION_HEADER: &str = "tidings-context-version";

/// The header that names the rule in which it went wrong.
pub(super) const RULE_HEADER: &str = "tidings-rule";
/// The header that says the line of that rule, as `FILE:LINE`.
pub(super) const LINE_HEADER: &str = "tidings-rule-line";

/// The most that is kept of a sentence about what went wrong, in bytes.
pub const LIMIT_MESSAGE_BYTES: usize = 4096;

/// The longest key that is kept beside what went wrong, in bytes.
pub const LIMIT_KEY_BYTES: usize = 1024;

/// A record as it lies on its topic, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp there, if it had one.
    pub timestamp: Option<Timestamp>,
    /// Its key, if it had one.
    pub key: Option<&'a [u8]>,
}

/// What went wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The step that failed, for instance `decode`, `render` or `deliver`.
    pub stage: &'static str,
    /// The kind of failure.
    pub cause: Cause,
    /// A short name of the failure, stable across releases, for instance `invalid_utf8`.
    pub class: &'static str,
    /// What is wrong, in a sentence; no more than [`LIMIT_MESSAGE_BYTES`] of it are written.
    pub message: &'a str,
    /// The rule that it went wrong in, if it was one.
    pub rule: Option<&'a Blamed>,
}

/// A rule that could not be rendered, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    /// Its name.
    pub rule: String,
    /// The line to go to, as `FILE:LINE`.
    pub line: String,
}

/// All that is said beside a record that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// What failed.
    pub original: Original<'a>,
    /// How.
    pub failure: Failure<'a>,
    /// How often its delivery was tried, if it is one.
    pub attempt: Option<u32>,
    /// The trace it belongs to, if any.
    pub trace: Option<&'a TraceContext>,
    /// The process that says so.
    pub node: &'a NodeId,
}

impl Context<'_> {
    /// The headers, to be put behind all others: of several of a name the last counts, for Kafka's own clients too.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let Self { original, failure, .. } = self;
        let message = failure.message.get(..failure.message.floor_char_boundary(LIMIT_MESSAGE_BYTES)).unwrap_or_default();
        let (partition, offset) = (original.partition.to_string(), original.offset.to_string());
        let mut headers = vec![
            text(CONTEXT_VERSION_HEADER, &CONTEXT_VERSION.to_string()),
            text("tidings-original-topic", original.topic),
            text("tidings-original-partition", &partition),
            text("tidings-original-offset", &offset),
            text("tidings-stage", failure.stage),
            text("tidings-cause", failure.cause.name()),
            text("tidings-error-class", failure.class),
            text("tidings-error-message", message),
            text("tidings-node", self.node.as_str()),
            text("__connect.errors.topic", original.topic),
            text("__connect.errors.partition", &partition),
            text("__connect.errors.offset", &offset),
            text("__connect.errors.stage", failure.stage),
            text("__connect.errors.exception.class.name", failure.class),
            text("__connect.errors.exception.message", message),
        ];
        headers.extend(
            failure.rule.into_iter().flat_map(|Blamed { rule, line }| [text(RULE_HEADER, rule), text(LINE_HEADER, line)]),
        );
        headers.extend(original.timestamp.map(|timestamp| text("tidings-original-timestamp", &timestamp.to_string())));
        let key = original.key.filter(|key| key.len() <= LIMIT_KEY_BYTES);
        headers.extend(key.map(|key| ("tidings-original-key".to_owned(), Some(key.to_vec()))));
        headers.extend(self.attempt.map(|attempt| text("tidings-attempt", &attempt.to_string())));
        headers.extend(self.trace.map(TraceContext::headers).unwrap_or_default());
        headers
    }
}

pub(super) fn text(name: &str, value: &str) -> Header {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kcat would show of them.
    fn shown(context: &Context<'_>) -> String {
        let lines =
            context.headers().into_iter().map(|(name, value)| format!("{name}={}", String::from_utf8(value.unwrap()).unwrap()));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn node() -> NodeId {
        "node-a".parse().unwrap()
    }

    #[test]
    fn all_that_is_known_of_a_failure_looks_like_this() {
        let trace =
            TraceContext::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(b"congo=t61rcWkgMzE")).unwrap();
        let original = Original {
            topic: "tidings.notifications",
            partition: 2,
            offset: 17,
            timestamp: Some(Timestamp::from_millis(1_769_860_800_000)),
            key: Some(b"user-42"),
        };
        let failure = Failure {
            stage: "deliver",
            cause: Cause::Recipient,
            class: "offline",
            message: "no device of the user had been written to",
            rule: None,
        };
        let context = Context { original, failure, attempt: Some(3), trace: Some(&trace), node: &node() };
        insta::assert_snapshot!(shown(&context));
    }

    #[test]
    fn what_is_not_known_is_left_out_and_what_a_stranger_made_long_is_cut() {
        let (key, message) = (vec![b'k'; LIMIT_KEY_BYTES + 1], "ü".repeat(LIMIT_MESSAGE_BYTES));
        let original = Original { topic: "payments", partition: 0, offset: 0, timestamp: None, key: Some(&key) };
        let failure = Failure { stage: "decode", cause: Cause::Poison, class: "not_json", message: &message, rule: None };
        let context = Context { original, failure, attempt: None, trace: None, node: &node() };
        let headers = context.headers();
        let absent = ["tidings-original-timestamp", "tidings-original-key", "tidings-attempt", "traceparent"];
        assert!(headers.iter().all(|(name, _)| !absent.contains(&name.as_str())), "{headers:?}");
        let bytes = headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        assert!(bytes < 2 * LIMIT_MESSAGE_BYTES + 1024, "{bytes}");
        assert!(headers.contains(&text("tidings-error-message", &"ü".repeat(LIMIT_MESSAGE_BYTES / 2))));
    }
}
