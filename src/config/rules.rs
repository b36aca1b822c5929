//! Rules as they lie in their folder at one moment.
//!
//! Owns: reading them within the configured limits, and their version. Refuses a folder with any problem, and names all of them.
//! Neighbours: `folder` finds the files, core `rules` reads them, `pipeline` and `replay` decide by them.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tidings_core::fate::Cause;
use tidings_core::rules::{Limits, Problem, RuleSet, shipped};

use super::PipelineConfig;
use super::folder::{Folder, FolderError};

/// How many hexadecimal digits of the hash make a version.
const VERSION_DIGITS: usize = 12;

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// They cannot be read.
    #[error("the folder of rules cannot be read; mend it or `pipeline.rules`")]
    Folder(#[from] FolderError),
    /// They were read and are wrong.
    #[error("the rules have problems (`tidings check` shows them too):\n{}", lines(.0))]
    Problems(Vec<Problem>),
}

impl RulesError {
    /// Always [`Cause::Refused`]: somebody has to mend the rules.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Refused
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The rules as they were at one moment.
#[derive(Debug)]
pub struct Edition {
    /// The rules.
    pub rules: RuleSet,
    /// The beginning of a hash over the files' names and texts: the same files have the same version on every node.
    pub version: String,
}

impl Edition {
    /// Reads the rules of `folder`, or takes those that tidings ships.
    ///
    /// # Errors
    /// If the folder cannot be read, or any rule in it has a problem.
    pub fn read(folder: Option<&Path>, limits: Limits) -> Result<Self, RulesError> {
        let folder = Folder::or_shipped(folder, "toml", shipped())?;
        let files = folder.files();
        let mut hash = Sha256::new();
        for file in &files {
            for part in [file.name, file.text] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let rules = RuleSet::parse(&files, limits).map_err(RulesError::Problems)?;
        Ok(Self { rules, version: digits.chars().take(VERSION_DIGITS).collect() })
    }
}

impl PipelineConfig {
    /// Where the rules are; none for those that tidings ships.
    #[must_use]
    pub fn rules_folder(&self) -> Option<PathBuf> {
        Some(PathBuf::from(&self.rules)).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// What a notification may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let (output_bytes, receivers) = (self.output_bytes.get(), self.receivers_per_event.get());
        Limits { output_bytes, receivers, ..Limits::default() }
    }
}
