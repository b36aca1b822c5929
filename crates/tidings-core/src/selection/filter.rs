//! The filter: which letters are meant. Every condition that is given must hold; of several values of one, any.

use std::collections::BTreeSet;
use std::fmt;

use crate::record::letter::{Letter, LetterId};
use crate::time::Timestamp;

/// Which letters are meant; without any condition, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Those with one of these classes of error.
    pub reasons: BTreeSet<String>,
    /// Those that one of these rules could not be rendered for.
    pub rules: BTreeSet<String>,
    /// Those that lay on one of these topics.
    pub topics: BTreeSet<String>,
    /// These.
    pub ids: BTreeSet<LetterId>,
    /// Those buried at this time or later.
    pub since: Option<Timestamp>,
    /// Those buried before this time.
    pub until: Option<Timestamp>,
}

/// A filter that nothing can ever pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing is of {since} or later and before {until}: swap the two times")]
pub struct FilterError {
    since: Timestamp,
    until: Timestamp,
}

impl FilterError {
    /// Refuses times in the wrong order, or the same.
    pub(super) fn check(since: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), Self> {
        match (since, until) {
            (Some(since), Some(until)) if since >= until => Err(Self { since, until }),
            _ => Ok(()),
        }
    }
}

impl LetterFilter {
    /// Refuses what cannot hold for any letter.
    ///
    /// # Errors
    /// If its times are in the wrong order, or the same.
    pub fn check(&self) -> Result<(), FilterError> {
        FilterError::check(self.since, self.until)
    }

    /// Whether any letter passes.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter is meant.
    #[must_use]
    pub fn holds(&self, letter: &Letter) -> bool {
        let any = |wanted: &BTreeSet<String>, found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
        };
        any(&self.reasons, Some(&letter.diagnosis.class))
            && any(&self.rules, letter.diagnosis.rule.as_deref())
            && any(&self.topics, Some(&letter.original.topic))
            && self.may_hold(letter.id, letter.buried_at)
    }

    /// The same as far as it can be told of a record that is no letter: what cannot be told is taken to hold.
    #[must_use]
    pub fn may_hold(&self, id: LetterId, buried_at: Timestamp) -> bool {
        (self.ids.is_empty() || self.ids.contains(&id))
            && self.since.is_none_or(|since| buried_at >= since)
            && self.until.is_none_or(|until| buried_at < until)
    }
}

impl fmt::Display for LetterFilter {
    /// In the words of the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("--all");
        }
        let texts = [("--reason", &self.reasons), ("--rule", &self.rules), ("--topic", &self.topics)];
        let texts = texts.into_iter().flat_map(|(name, values)| values.iter().map(move |value| format!("{name} {value}")));
        let ids = self.ids.iter().map(|id| format!("--id {id}"));
        let times = [("--since", self.since), ("--until", self.until)];
        let times = times.into_iter().filter_map(|(name, time)| Some(format!("{name} {}", time?)));
        f.write_str(&texts.chain(ids).chain(times).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::letter::{Diagnosis, OriginalPlace};

    /// A letter at `offset` of partition 0, of the record at `original` of `payments`, partition 3.
    pub(in crate::selection) fn letter(offset: i64, original: i64, class: &str, rule: Option<&str>) -> Letter {
        let at = |seconds: i64| Timestamp::from_millis(1_769_860_800_000 + seconds * 1000);
        let text = |text: &str| text.to_owned();
        Letter {
            id: LetterId { partition: 0, offset },
            buried_at: at(offset),
            original: OriginalPlace { topic: text("payments"), partition: 3, offset: original, timestamp: Some(at(original)) },
            diagnosis: Diagnosis {
                stage: text("render"),
                cause: text("poison"),
                class: text(class),
                message: text("no"),
                rule: rule.map(text),
                line: None,
            },
            node: text("node-a"),
            attempt: None,
            key: None,
            value: Some(format!("value {original}").into_bytes()),
            headers: Vec::new(),
            unread_headers: 0,
            truncated: None,
        }
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_letter_is_meant_if_every_condition_holds_for_it() {
        let found = letter(7, 70, "not_json", Some("a"));
        let none = LetterFilter::default();
        let holds = |filter: &LetterFilter| filter.holds(&found);
        assert!(holds(&none) && none.is_all());
        assert!(holds(&LetterFilter { reasons: set(&["x", "not_json"]), rules: set(&["a"]), ..none.clone() }));
        assert!(holds(&LetterFilter { since: Some(found.buried_at), ids: BTreeSet::from([found.id]), ..none.clone() }));
        for other in [
            LetterFilter { reasons: set(&["x"]), ..none.clone() },
            LetterFilter { rules: set(&["b"]), ..none.clone() },
            LetterFilter { topics: set(&["bookings"]), reasons: set(&["not_json"]), ..none.clone() },
            LetterFilter { until: Some(found.buried_at), ..none.clone() },
            LetterFilter { ids: BTreeSet::from([LetterId { partition: 1, offset: 7 }]), ..none.clone() },
        ] {
            assert!(!holds(&other), "{other}");
        }
        assert!(!LetterFilter { rules: set(&["a"]), ..none }.holds(&letter(7, 70, "not_json", None)));
    }

    #[test]
    fn its_words_are_those_of_the_command_line() {
        let time = |text: &str| Some(text.parse().unwrap());
        let filter = LetterFilter {
            reasons: set(&["b", "a"]),
            topics: set(&["payments"]),
            ids: BTreeSet::from([LetterId { partition: 1, offset: 2 }]),
            since: time("2026-01-31T12:00:00Z"),
            ..LetterFilter::default()
        };
        insta::assert_snapshot!(filter, @"--reason a --reason b --topic payments --id 1@2 --since 2026-01-31T12:00:00.000Z");
        insta::assert_snapshot!(LetterFilter::default(), @"--all");
    }

    #[test]
    fn times_in_the_wrong_order_are_refused() {
        let time = |text: &str| Some(text.parse().unwrap());
        let (since, until) = (time("2026-01-31T12:00:00Z"), time("2026-01-31T11:00:00Z"));
        let inverted = LetterFilter { since, until, ..LetterFilter::default() };
        insta::assert_snapshot!(inverted.check().unwrap_err(), @"nothing is of 2026-01-31T12:00:00.000Z or later and before 2026-01-31T11:00:00.000Z: swap the two times");
        assert!(LetterFilter { since: until, until: since, ..LetterFilter::default() }.check().is_ok());
    }
}
