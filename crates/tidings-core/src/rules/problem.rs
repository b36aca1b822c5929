//! Problems: what is wrong in a file that people write, with the line to go to and what to do there.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A file's name, as problems show it, and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    /// The name, for instance `rules/booking.toml`.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
}

impl File<'_> {
    /// The place at `byte` of the text.
    pub(super) fn place(&self, byte: usize) -> Place {
        let before = self.text.as_bytes().get(..byte).unwrap_or(self.text.as_bytes());
        Place { file: self.name.into(), line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

impl Place {
    /// A rule that is none. What is wrong with it otherwise has a class of its own ([`Problem::of`]).
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            file: Arc::clone(&self.file),
            line: self.line,
            severity: Severity::Error,
            class: "rule_invalid",
            message: message.into(),
            text: None,
            help: RULE_HELP.into(),
        }
    }

    /// The place of the line `line` (from 1) of a text that begins here.
    pub(super) fn inside(&self, line: usize) -> Self {
        Self { file: Arc::clone(&self.file), line: self.line + line.saturating_sub(1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What to do about a rule that is none.
const RULE_HELP: &str = "mend the rule; docs/events.md lists its keys and what each may hold";

/// The most of a line that is shown, in bytes.
const LIMIT_TEXT_BYTES: usize = 300;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Events would be buried, or the file cannot be used.
    Error,
    /// It may be meant.
    Warning,
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// A short name of what is wrong, stable across releases.
    pub class: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The line as it stands there, if whoever found the problem has the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What to do about it.
    pub help: Cow<'static, str>,
}

impl Problem {
    /// The same with a class of its own and what to do about it.
    pub(super) fn of(self, class: &'static str, help: impl Into<Cow<'static, str>>) -> Self {
        Self { class, help: help.into(), ..self }
    }

    /// The same as one that may be meant.
    pub(super) fn mild(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same with its line, if it is one of `files`.
    pub(super) fn quoting(self, files: &[File<'_>]) -> Self {
        let file = files.iter().find(|file| file.name == &*self.file);
        let line = file.and_then(|file| file.text.lines().nth(self.line.saturating_sub(1)));
        let text = line.map(|line| shortened(line.trim())).filter(|line| !line.is_empty());
        Self { text: text.or(self.text), ..self }
    }
}

/// A line that people can read: files that programs write may have one for everything.
fn shortened(line: &str) -> String {
    if line.len() <= LIMIT_TEXT_BYTES {
        return line.to_owned();
    }
    format!("{}…", &line[..line.floor_char_boundary(LIMIT_TEXT_BYTES)])
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}
