//! Where a key was set: which line of the file, or which variable.
//!
//! Owns: the way from a key's path back to the place a person can edit.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// The place that set a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the configuration file, from 1.
    File {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// Nothing that was set: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The line, from 1, of the byte at `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The line of the deepest part of `path` that stands in `text`, if its first part does.
pub(super) fn find_line(text: &str, path: &[String]) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut line = None;
    for (depth, part) in path.iter().enumerate() {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref().as_ref() == part) else { break };
        if depth > 0 || path.len() == 1 || !matches!(value.get_ref(), DeValue::Table(_)) {
            line = Some(line_of(text, key.span().start));
        }
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_key_is_found_in_either_form_of_table() {
        let text = "# first\n[gateway]\nport = 1\n\n[kafka]\nproperties = { \"a.b\" = 2 }\n";
        let line = |parts: &[&str]| find_line(text, &parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["gateway", "port"]), Some(3));
        assert_eq!(line(&["kafka", "properties", "a.b"]), Some(6));
        assert_eq!(line(&["courier", "ladder"]), None);
        assert_eq!(line(&["gateway", "host"]), None);
    }
}
