//! Which records of a domain topic somebody means. Every condition that is given must hold; of several values of one, any.
//!
//! Owns: what is asked of a record in two steps: what needs no look at its value, and what needs the event in it. Most records are out
//! after the first.

use std::collections::{BTreeMap, HashSet};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::event::Event;
use crate::record::audit::EventSelection;
use crate::rules::{Condition, ConditionError, Unjudged};
use crate::time::Timestamp;

/// What is asked of records.
#[derive(Debug, Clone)]
pub struct EventFilter {
    keys: HashSet<Vec<u8>>,
    /// By name: the values that do; none for any value.
    headers: BTreeMap<String, Option<HashSet<Vec<u8>>>>,
    types: Option<GlobSet>,
    condition: Option<Condition>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// Words that mean no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFilterError {
    /// Its times are in the wrong order, or the same.
    #[error("no record is of {since} or later and before {until}: swap the two times")]
    Times {
        /// The first that is meant.
        since: Timestamp,
        /// The first that is not meant any more.
        until: Timestamp,
    },
    /// A pattern that does not read.
    #[error("`{pattern}` is no type of an event, nor a pattern of types as rules have them: {why}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// The expression is none.
    #[error(transparent)]
    Condition(#[from] ConditionError),
}

impl EventFilter {
    /// Reads the words.
    ///
    /// # Errors
    /// If they are not understood, or nothing can be meant.
    pub fn new(words: &EventSelection) -> Result<Self, EventFilterError> {
        if let (Some(since), Some(until)) = (words.since, words.until)
            && since >= until
        {
            return Err(EventFilterError::Times { since, until });
        }
        let mut headers = BTreeMap::<String, Option<HashSet<Vec<u8>>>>::new();
        for header in &words.headers {
            match header.split_once('=') {
                // That it is there is asked already, and any value does.
                None => drop(headers.insert(header.clone(), None)),
                Some((name, value)) => {
                    if let Some(values) = headers.entry(name.to_owned()).or_insert_with(|| Some(HashSet::new())) {
                        values.insert(value.as_bytes().to_vec());
                    }
                }
            }
        }
        Ok(Self {
            keys: words.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            headers,
            types: if words.types.is_empty() { None } else { Some(patterns(&words.types)?) },
            condition: words.expression.as_deref().map(Condition::parse).transpose()?,
            since: words.since,
            until: words.until,
        })
    }

    /// Whether a record may be meant, by its timestamp, its key and its headers, of which `header` gives the value of the last of a name.
    pub fn may_hold<'h>(&self, at: Timestamp, key: Option<&[u8]>, header: impl Fn(&str) -> Option<&'h [u8]>) -> bool {
        let named = |(name, values): (&String, &Option<HashSet<Vec<u8>>>)| {
            header(name).is_some_and(|found| values.as_ref().is_none_or(|values| values.contains(found)))
        };
        self.since.is_none_or(|since| at >= since)
            && !self.is_past(at)
            && (self.keys.is_empty() || key.is_some_and(|key| self.keys.contains(key)))
            && self.headers.iter().all(named)
    }

    /// Whether all that is meant is older.
    #[must_use]
    pub fn is_past(&self, at: Timestamp) -> bool {
        self.until.is_some_and(|until| at >= until)
    }

    /// Whether the event in a record is asked for, too.
    #[must_use]
    pub fn asks_for_events(&self) -> bool {
        self.types.is_some() || self.condition.is_some()
    }

    /// Whether an event is meant.
    ///
    /// # Errors
    /// If the expression gives no answer.
    pub fn holds(&self, event: &Event) -> Result<bool, Unjudged> {
        let is_of_type = self.types.as_ref().is_none_or(|types| types.is_match(&event.kind));
        if !is_of_type {
            return Ok(false);
        }
        self.condition.as_ref().map_or(Ok(true), |condition| condition.holds(event))
    }
}

fn patterns(types: &[String]) -> Result<GlobSet, EventFilterError> {
    let refused = |pattern: &str, error: &globset::Error| EventFilterError::Pattern {
        pattern: pattern.to_owned(),
        why: error.kind().to_string(),
    };
    let mut builder = GlobSetBuilder::new();
    for pattern in types {
        builder.add(Glob::new(pattern).map_err(|error| refused(pattern, &error))?);
    }
    builder.build().map_err(|error| refused(&types.join(", "), &error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Reading, SourceRecord, decode};

    fn filter(words: EventSelection) -> EventFilter {
        EventFilter::new(&words).unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_record_is_meant_by_time_key_and_header_if_all_that_is_asked_holds() {
        let header = |name: &str| match name {
            "source" => Some(&b"billing"[..]),
            "empty" => Some(&b""[..]),
            _ => None,
        };
        let holds = |words: EventSelection| filter(words).may_hold(at(10), Some(b"alice"), header);
        let none = EventSelection::default();
        assert!(holds(none.clone()));
        assert!(holds(EventSelection {
            keys: texts(&["bob", "alice"]),
            headers: texts(&["source=billing", "empty"]),
            ..none.clone()
        }));
        assert!(holds(EventSelection { headers: texts(&["source=x", "source=billing"]), ..none.clone() }));
        assert!(holds(EventSelection { since: Some(at(10)), until: Some(at(11)), ..none.clone() }));
        for words in [
            EventSelection { keys: texts(&["bob"]), ..none.clone() },
            EventSelection { headers: texts(&["source=x"]), ..none.clone() },
            EventSelection { headers: texts(&["source=billing", "other"]), ..none.clone() },
            EventSelection { since: Some(at(11)), ..none.clone() },
            EventSelection { until: Some(at(10)), ..none.clone() },
        ] {
            assert!(!holds(words.clone()), "{words:?}");
        }
        assert!(!filter(EventSelection { keys: texts(&[""]), ..none }).may_hold(at(10), None, header), "no key is no empty key");
    }

    #[test]
    fn an_event_is_meant_by_its_type_and_what_it_says() {
        let value = json!({"type": "payment:due", "data": {"amount": 5}}).to_string();
        let (partition, offset, timestamp) = (0, 0, at(0));
        let value = Some(value.as_bytes());
        let record = SourceRecord { topic: "t", partition, offset, timestamp, key: None, value, headers: &[] };
        let event = decode(&record, &Reading::default()).unwrap();
        let holds = |types: &[&str], expression: Option<&str>| {
            let expression = expression.map(str::to_owned);
            let filter = filter(EventSelection { types: texts(types), expression, ..EventSelection::default() });
            assert!(filter.asks_for_events());
            filter.holds(&event)
        };
        assert!(holds(&["booking:*", "payment:*"], None).unwrap());
        assert!(holds(&["payment:due"], Some("amount == 5")).unwrap());
        assert!(!holds(&["payment:due"], Some("amount == 6")).unwrap());
        assert!(!holds(&["booking:*"], Some("nothing == 5")).unwrap(), "what is out by its type is not asked");
        assert!(holds(&[], Some("nothing == 5")).is_err());
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let refused = |words: EventSelection| EventFilter::new(&words).unwrap_err().to_string();
        let none = EventSelection::default();
        insta::assert_snapshot!(refused(EventSelection { since: Some(at(5)), until: Some(at(5)), ..none.clone() }), @"no record is of 1970-01-01T00:00:05.000Z or later and before 1970-01-01T00:00:05.000Z: swap the two times");
        insta::assert_snapshot!(refused(EventSelection { types: texts(&["a[b"]), ..none }), @"`a[b` is no type of an event, nor a pattern of types as rules have them: unclosed character class; missing ']'");
    }
}
