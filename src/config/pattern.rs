//! An entry of `pipeline.topics`: the name of a topic, or `^` and a regular expression that whole names must match.
//!
//! Owns: what such an expression may be, and that none means a topic of Kafka's own (`__consumer_offsets`). librdkafka (POSIX), brokers (RE2, for `group_protocol = "consumer"`) and this process all
//! judge names by it, so it is held to what they read alike. Neighbours: `ranges` keeps tidings' own topics out.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// How the names of Kafka's own topics begin.
pub const INTERNAL: &str = "__";
const NAME_BYTES: usize = 249;
const EXPRESSION_BYTES: usize = 500;
/// What an expression is made of, beside what names are made of. A backslash only makes one of these plain.
const OPERATORS: &[u8] = b"^$*+?()[]|{},\\";

/// Which topics: one by its name, or all whose names match.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern {
    text: String,
    /// None for a name.
    regex: Option<Regex>,
}

impl TopicPattern {
    /// The topic of this name, which is one.
    #[must_use]
    pub fn named(name: String) -> Self {
        Self { text: name, regex: None }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The topic's name, unless this is an expression.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        if self.regex.is_none() { Some(&self.text) } else { None }
    }

    /// Whether a topic is meant. No expression means one of Kafka's own.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let matches = |regex: &Regex| !topic.starts_with(INTERNAL) && regex.is_match(topic);
        self.regex.as_ref().map_or(self.text == topic, matches)
    }

    /// What a consumer subscribes to: librdkafka by itself would take an expression that matches a name's beginning.
    #[must_use]
    pub fn subscription(&self) -> String {
        match self.text.strip_prefix('^') {
            Some(expression) => whole(expression),
            None => self.text.clone(),
        }
    }
}

impl FromStr for TopicPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start_matches('^').starts_with(INTERNAL) {
            return Err(format!(
                "`{text}` means topics of Kafka's own, whose names begin with `{INTERNAL}`; name only domain topics"
            ));
        }
        let Some(expression) = text.strip_prefix('^') else {
            return if is_name(text) { Ok(Self { text: text.to_owned(), regex: None }) } else { Err(not_a_name(text)) };
        };
        if let Some(foreign) = foreign(expression) {
            return Err(format!("`{text}` is no expression that every broker reads alike: {foreign}"));
        }
        let regex = Regex::new(&whole(expression)).map_err(|error| {
            let last = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("`{text}` is no regular expression: {last}")
        })?;
        Ok(Self { text: text.to_owned(), regex: Some(regex) })
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.text
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

impl PartialOrd for TopicPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By its text.
impl Ord for TopicPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialEq<&str> for TopicPattern {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn whole(expression: &str) -> String {
    format!("^({expression})$")
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(is_topic_byte)
}

fn not_a_name(text: &str) -> String {
    format!(
        "`{text}` is no topic: must be a name of 1 to {NAME_BYTES} letters, digits, `.`, `_` and `-`, or `^` and an expression"
    )
}

/// Whether names of topics may have it.
pub(super) fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// What POSIX, RE2 and this process's library do not read alike, in words.
fn foreign(expression: &str) -> Option<String> {
    if expression.is_empty() || expression.len() > EXPRESSION_BYTES {
        return Some(format!("must be 1 to {EXPRESSION_BYTES} bytes behind the `^`"));
    }
    let bytes = expression.as_bytes();
    if let Some(other) = bytes.iter().find(|byte| !is_topic_byte(**byte) && !OPERATORS.contains(byte)) {
        return Some(format!("`{}` does not occur in names of topics", other.escape_ascii()));
    }
    let mut pairs = bytes.iter().zip(bytes.iter().skip(1).map(Some).chain([None]));
    while let Some((byte, next)) = pairs.next() {
        match (byte, next) {
            (b'\\', Some(next)) if !next.is_ascii_alphanumeric() => {
                pairs.next();
            }
            (b'\\', _) => return Some("`\\` may only stand before `.` and operators".into()),
            (b'(' | b'*' | b'+' | b'?' | b'}', Some(b'?')) => return Some("`?` may only make one thing optional".into()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_means_itself_and_an_expression_every_whole_name_that_matches() {
        assert!(pattern("a.b").matches("a.b") && !pattern("a.b").matches("axb"));
        let either = pattern("^team-[0-9]{1,2}\\.events|orders");
        assert!(either.matches("team-7.events") && either.matches("orders"));
        assert!(!either.matches("team-7.events.old") && !either.matches("my-orders") && !either.matches("team-7xevents"));
        assert_eq!((either.name(), either.subscription().as_str()), (None, "^(team-[0-9]{1,2}\\.events|orders)$"));
    }

    #[test]
    fn no_expression_means_a_topic_of_kafkas_own() {
        let any = pattern("^.*");
        assert!(any.matches("_orders") && any.matches("orders__"));
        assert!(!any.matches("__consumer_offsets") && !pattern("^_.*|x").matches("__transaction_state"));
    }

    #[test]
    fn what_readers_of_expressions_disagree_on_is_refused() {
        let refused = [
            "",
            "a b",
            "a/b",
            "__consumer_offsets",
            "^__.*",
            "^",
            "^a\\d",
            "^a\\",
            "^(?i)a",
            "^a*?",
            "^a b",
            "^(a",
            "^[z-a]",
            "^a{2,1}",
        ];
        let reasons = refused.map(|text| text.parse::<TopicPattern>().unwrap_err());
        insta::assert_snapshot!(reasons.join("\n"));
    }
}
