//! Problems: what is wrong in a file that people write, with the line to go to.

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
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { file: Arc::clone(&self.file), line: self.line, message: message.into() }
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

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}
