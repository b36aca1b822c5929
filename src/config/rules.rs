//! Rules as they lie in their folder at one moment.
//!
//! Owns: reading them within the configured limits, and their version. Refuses a folder with any problem, and names all of them.
//! Neighbours: `folder` finds the files, core `rules` reads them, `pipeline` and `replay` decide by them.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tidings_core::fate::Cause;
use tidings_core::rules::{Limits, Problem, RuleSet, shipped};
use tidings_core::time::Delay;

use super::folder::{Folder, FolderError};
use super::{CourierConfig, PipelineConfig};

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

/// Where rules lie, and what they are held to.
#[derive(Debug, Clone)]
pub struct RulesSource {
    /// None: those that tidings ships.
    folder: Option<PathBuf>,
    limits: Limits,
    /// Those that a rule's own ladder may name.
    rungs: Vec<Delay>,
}

impl RulesSource {
    /// The folder, the limits and the rungs of these sections.
    #[must_use]
    pub fn new(pipeline: &PipelineConfig, courier: &CourierConfig) -> Self {
        Self { folder: pipeline.rules_folder(), limits: pipeline.limits(), rungs: courier.ladder.clone() }
    }

    /// The same rules out of another folder, if one is given.
    #[must_use]
    pub fn or_of(self, folder: Option<PathBuf>) -> Self {
        Self { folder: folder.or(self.folder), ..self }
    }

    /// What a notification may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The folder, if it is not the one that tidings ships.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}

impl Edition {
    /// Reads the rules as they lie there now.
    ///
    /// # Errors
    /// If the folder cannot be read, or any rule in it has a problem.
    pub fn read(source: &RulesSource) -> Result<Self, RulesError> {
        let folder = Folder::or_shipped(source.folder(), "toml", shipped())?;
        let files = folder.files();
        let mut hash = Sha256::new();
        for file in &files {
            for part in [file.name, file.text] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let rules = RuleSet::parse(&files, source.limits).map_err(RulesError::Problems)?;
        let unknown = rules.unknown_rungs(&source.rungs);
        if !unknown.is_empty() {
            return Err(RulesError::Problems(unknown));
        }
        Ok(Self { rules, version: digits.chars().take(VERSION_DIGITS).collect() })
    }
}

impl PipelineConfig {
    /// Where the rules are; none for those that tidings ships.
    fn rules_folder(&self) -> Option<PathBuf> {
        Some(PathBuf::from(&self.rules)).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// What a notification may cost.
    fn limits(&self) -> Limits {
        let (output_bytes, receivers) = (self.output_bytes.get(), self.receivers_per_event.get());
        Limits { output_bytes, receivers, ..Limits::default() }
    }
}
