//! A condition that somebody gives beside the rules: an expression over an event, as a rule's `when` is, with its limits.

use super::context;
use super::template::{Limits, TemplateError, Templates};
use crate::event::{Event, describe};

/// The name of its template: what stands in a field of this name is evaluated, not printed.
const NAME: &str = "condition/when";

/// An expression, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Condition {
    templates: Templates,
}

/// A text that is no expression, with the place where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression is not understood: {what}\n  {line}\n  {}^", " ".repeat(*.before))]
pub struct ConditionError {
    what: String,
    line: String,
    /// Characters in front of the place.
    before: usize,
}

/// Why a condition says nothing of an event.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// It cannot be evaluated for it.
    #[error("the expression cannot be evaluated: {0}")]
    Failed(#[from] TemplateError),
    /// It gives something else than it must.
    #[error("the expression gives {found}, it must give true or false")]
    WrongType {
        /// What it gives.
        found: &'static str,
    },
}

impl Unjudged {
    /// A short name that does not change between releases.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Failed(_) => "expression_failed",
            Self::WrongType { .. } => "expression_wrong_type",
        }
    }
}

impl Condition {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let mut templates = Templates::new(Limits::default());
        match templates.add_expression(NAME, text) {
            Ok(()) => Ok(Self { templates }),
            Err(error) => {
                let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                Err(ConditionError::at(text, error.range().map_or(text.len(), |range| range.start), what))
            }
        }
    }

    /// Whether it holds for an event.
    ///
    /// # Errors
    /// If it reads what the event does not have, or gives something else than true or false.
    pub fn holds(&self, event: &Event) -> Result<bool, Unjudged> {
        match self.templates.evaluate(NAME, &context::context(event))? {
            serde_json::Value::Bool(holds) => Ok(holds),
            other => Err(Unjudged::WrongType { found: describe(&other) }),
        }
    }
}

impl ConditionError {
    fn at(text: &str, byte: usize, what: String) -> Self {
        let byte = text.floor_char_boundary(byte.min(text.len()));
        let (front, behind) = text.split_at(byte);
        let begin = front.rfind('\n').map_or(0, |newline| newline + 1);
        let end = behind.find('\n').map_or(text.len(), |newline| byte + newline);
        // A tab would put the caret elsewhere.
        let shown = |part: Option<&str>| part.unwrap_or_default().replace(char::is_control, " ");
        let before = shown(text.get(begin..byte)).chars().count();
        Self { what, line: shown(text.get(begin..end)), before }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::event::{Reading, SourceRecord, decode};
    use crate::time::Timestamp;

    fn event(data: &serde_json::Value) -> Event {
        let value = json!({"type": "payment:due", "data": data}).to_string();
        let timestamp = Timestamp::from_millis(0);
        let (partition, offset) = (0, 0);
        let record =
            SourceRecord { topic: "t", partition, offset, timestamp, key: None, value: Some(value.as_bytes()), headers: &[] };
        decode(&record, &Reading::default()).unwrap()
    }

    #[test]
    fn it_sees_what_a_rule_sees() {
        let event = event(&json!({"amount": 120.5, "tags": ["a"], "to": {"city": "Ulm"}}));
        for (text, holds) in [
            ("amount > 100", true),
            ("amount > 100 and to.city == 'Oslo'", false),
            ("'a' in tags", true),
            ("event.type == 'payment:due'", true),
            ("missing is defined", false),
        ] {
            assert_eq!(Condition::parse(text).unwrap().holds(&event).unwrap(), holds, "{text}");
        }
    }

    #[test]
    fn what_an_event_does_not_have_and_what_is_neither_true_nor_false_is_no_answer() {
        let event = event(&serde_json::Value::Object(Map::new()));
        let why = |text: &str| Condition::parse(text).unwrap().holds(&event).unwrap_err();
        assert_eq!(why("amount > 100").class(), "expression_failed");
        assert_eq!(why("'yes'").to_string(), "the expression gives a string, it must give true or false");
    }

    #[test]
    fn what_is_not_understood_is_shown_with_a_caret() {
        let refused = |text: &str| Condition::parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(refused("amount >> 100"), @r"
        the expression is not understood: unexpected `>`
          amount >> 100
                  ^
        ");
        insta::assert_snapshot!(refused("ähnlich ==\n\tamount and )"), @r"
        the expression is not understood: unexpected `)`
           amount and )
                      ^
        ");
        insta::assert_snapshot!(refused("amount >"), @r"
        the expression is not understood: unexpected end of input, expected expression
          amount >
                 ^
        ");
    }
}
