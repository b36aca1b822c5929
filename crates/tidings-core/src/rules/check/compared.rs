//! Comparisons: which fields an expression compares with which constants.
//!
//! Owns: the expressions that are nothing but such comparisons, joined by `and`, `or`, `not` and parentheses: whether one holds depends on where each
//! field lies among its constants. Refuses every other expression: filters, arithmetic, calls, a field compared with a field.
//! Neighbours: `domain` makes values of it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands for itself in an expression.
const CONSTANTS: [(&str, Value); 6] = [
    ("true", Value::Bool(true)),
    ("True", Value::Bool(true)),
    ("false", Value::Bool(false)),
    ("False", Value::Bool(false)),
    ("none", Value::Null),
    ("None", Value::Null),
];
const OPERATORS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];
/// Words that make an expression more than comparisons.
const FOREIGN: [&str; 4] = ["if", "else", "loop", "self"];

#[derive(Debug, Clone, PartialEq)]
enum Token<'s> {
    Path(&'s str),
    Constant(Value),
    Operator(&'s str),
    In,
    Is,
    Not,
    /// Whether something is there at all.
    Defined,
    /// `and`, `or`.
    Joint,
    Open,
    Close,
    List,
    ListEnd,
    Comma,
}

/// The constants that each field is compared with.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Compared {
    fields: BTreeMap<String, Vec<Value>>,
    /// Those that come before or behind a text.
    ordered: Vec<String>,
}

impl Compared {
    /// What an expression compares; nothing if it does more.
    pub(super) fn of(source: &str) -> Option<Self> {
        let tokens = tokens(source)?;
        let mut compared = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at..] {
                [Token::Path(path), Token::Operator(operator), Token::Constant(constant), ..]
                | [Token::Constant(constant), Token::Operator(operator), Token::Path(path), ..] => {
                    compared.note(path, operator, constant.clone());
                    3
                }
                [Token::Path(path), Token::Not, Token::In, Token::List, rest @ ..] => 4 + compared.list(path, rest)?,
                [Token::Path(path), Token::In, Token::List, rest @ ..] => 3 + compared.list(path, rest)?,
                [Token::Path(path), Token::Is, Token::Not, Token::Constant(constant), ..] => {
                    compared.note(path, "==", constant.clone());
                    4
                }
                [Token::Path(path), Token::Is, Token::Constant(constant), ..] => {
                    compared.note(path, "==", constant.clone());
                    3
                }
                [Token::Path(path), Token::Is, Token::Not, Token::Defined, ..] => compared.read(path, 4),
                [Token::Path(path), Token::Is, Token::Defined, ..] => compared.read(path, 3),
                [Token::Constant(_), Token::Operator(_), Token::Constant(_), ..] => 3,
                [Token::Joint | Token::Not | Token::Open | Token::Close, ..] => 1,
                _ => return None,
            };
            // Nothing is compared with what was compared.
            if let Some(Token::Operator(_) | Token::In | Token::Is | Token::List) = tokens.get(at) {
                return None;
            }
        }
        Some(compared)
    }

    /// What a field is compared with; nothing if it is not among what was found.
    pub(super) fn with(&self, path: &[&str]) -> Option<&[Value]> {
        self.fields.get(&path.join(".")).map(Vec::as_slice)
    }

    /// Whether it matters where a text lies in the alphabet.
    pub(super) fn is_text_ordered(&self, path: &[&str]) -> bool {
        self.ordered.contains(&path.join("."))
    }

    fn note(&mut self, path: &str, operator: &str, constant: Value) {
        if constant.is_string() && !matches!(operator, "==" | "!=") {
            self.ordered.push(path.to_owned());
        }
        self.fields.entry(path.to_owned()).or_default().push(constant);
    }

    fn read(&mut self, path: &str, tokens: usize) -> usize {
        self.fields.entry(path.to_owned()).or_default();
        tokens
    }

    /// A list of constants; how many tokens it takes.
    fn list(&mut self, path: &str, tokens: &[Token<'_>]) -> Option<usize> {
        let end = tokens.iter().position(|token| *token == Token::ListEnd)?;
        for (index, token) in tokens[..end].iter().enumerate() {
            match token {
                Token::Constant(constant) if index % 2 == 0 => self.note(path, "==", constant.clone()),
                Token::Comma if index % 2 == 1 => {}
                _ => return None,
            }
        }
        Some(self.read(path, end + 1))
    }
}

fn tokens(source: &str) -> Option<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_sign = first == '-' && !matches!(found.last(), Some(Token::Path(_) | Token::Constant(_) | Token::Close));
        let (token, bytes) = if first == '\'' || first == '"' {
            let end = rest[1..].find(first)?;
            let text = &rest[1..=end];
            // What is escaped is left to the engine.
            (Token::Constant((!text.contains('\\')).then_some(text)?.into()), end + 2)
        } else if first.is_ascii_digit() || is_sign {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
            (word(&rest[..end])?, end)
        } else if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            (Token::Operator(operator), operator.len())
        } else {
            let token = match first {
                '(' => Token::Open,
                ')' => Token::Close,
                '[' => Token::List,
                ']' => Token::ListEnd,
                ',' => Token::Comma,
                _ => return None,
            };
            (token, 1)
        };
        found.push(token);
        rest = rest[bytes..].trim_start();
    }
    Some(found)
}

fn word(text: &str) -> Option<Token<'_>> {
    if let Some((_, constant)) = CONSTANTS.iter().find(|(name, _)| *name == text) {
        return Some(Token::Constant(constant.clone()));
    }
    Some(match text {
        "and" | "or" => Token::Joint,
        "not" => Token::Not,
        "in" => Token::In,
        "is" => Token::Is,
        "defined" | "undefined" => Token::Defined,
        foreign if FOREIGN.contains(&foreign) => return None,
        path => Token::Path(path),
    })
}

fn number(text: &str) -> Option<(Token<'_>, usize)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    // `1e3` and `1_000` are rare enough.
    if digits[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let bytes = text.len() - digits.len() + end;
    let written = &text[..bytes];
    let value = written.parse::<i64>().map(Value::from).or_else(|_| written.parse::<f64>().map(Value::from)).ok()?;
    Some((Token::Constant(value), bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(source: &str) -> Option<String> {
        let compared = Compared::of(source)?;
        let fields = compared.fields.iter().map(|(path, constants)| format!("{path}: {}", Value::from(constants.clone())));
        Some(fields.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn comparisons_are_found_however_they_are_joined() {
        for (source, found) in [
            ("a == 'x' and not (b.c > 20 or 3.5 <= b.c)", "a: [\"x\"], b.c: [20,3.5]"),
            ("a in ['x', \"y\"] or b not in [1]", "a: [\"x\",\"y\"], b: [1]"),
            ("a is defined and a is not none and b is undefined", "a: [null], b: []"),
            ("a==-1 or true != a", "a: [-1,true]"),
            ("1 == 2", ""),
            ("état == 'ü'", "état: [\"ü\"]"),
        ] {
            assert_eq!(compared(source).as_deref(), Some(found), "{source}");
        }
        assert!(Compared::of("a > 'x'").unwrap().is_text_ordered(&["a"]));
        assert!(!Compared::of("a > 1 and a == 'x'").unwrap().is_text_ordered(&["a"]));
        assert_eq!(Compared::of("a == 1").unwrap().with(&["a"]), Some(&[json!(1)][..]));
    }

    #[test]
    fn what_is_more_than_comparisons_is_left_alone() {
        for source in [
            "a",
            "not a",
            "a == b",
            "a | length > 3",
            "a + 1 == 2",
            "a - 1 == 2",
            "a[0] == 'x'",
            "a == b[0]",
            "'x' in a",
            "a in b",
            "f(a) == 1",
            "a.f() == 1",
            "a == 'x' if b == 1 else c == 2",
            "a is startingwith('x')",
            "a ~ 'x' == 'xx'",
            "a == 'x\\n'",
            "a == 1e3",
            "(a) == 1",
            "a == 1 == true",
            "a in [b]",
            "a in ['x', ['y']]",
            "a is divisibleby(3)",
            "{'x': a} == 1",
            "a == 'x",
            "[a] == ['x']",
            "a =~ 'x'",
        ] {
            assert_eq!(compared(source), None, "{source}");
        }
    }
}
