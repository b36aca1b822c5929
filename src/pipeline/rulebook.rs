//! The rulebook: the rules in force, and how they change while the pipeline runs.
//!
//! Owns: reading them from their folder, the version of what is in force, and the swap. Refuses a folder with any problem: then
//! the edition in force stays, and log, metrics and health say so. Neighbours: `worker` looks at the edition with each record,
//! `rulebook::changes` hears when the folder changes.

mod changes;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use sha2::{Digest as _, Sha256};
use tidings_core::fate::Cause;
use tidings_core::rules::{Limits, Problem, RuleSet, shipped};
use tokio::sync::watch;

use self::changes::Changes;
use super::meters::{Meters, Reloaded};
use crate::clock::Clock;
use crate::config::PipelineConfig;
use crate::config::folder::{Folder, FolderError};
use crate::telemetry::health::Role;

/// How many hexadecimal digits of the hash make a version.
const VERSION_DIGITS: usize = 12;
/// What health calls the rules.
const NOTE: &str = "rules";

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulebookError {
    /// They cannot be read.
    #[error("the folder of rules cannot be read; mend it or `pipeline.rules`")]
    Folder(#[from] FolderError),
    /// They were read and are wrong.
    #[error("the rules have problems (`tidings check` shows them too):\n{}", lines(.0))]
    Problems(Vec<Problem>),
}

impl RulebookError {
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
pub(super) struct Edition {
    rules: RuleSet,
    /// The beginning of a hash over the files' names and texts: the same files have the same version on every node.
    version: String,
}

/// Where rules come from, and those in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Rulebook {
    /// None: those that tidings ships.
    folder: Option<PathBuf>,
    limits: Limits,
    /// Shared: workers look at it, the pipeline's own task puts new editions in.
    current: Arc<ArcSwap<Edition>>,
}

impl Rulebook {
    /// Reads the rules of the configured folder, or takes the shipped ones.
    ///
    /// # Errors
    /// If the folder cannot be read, or any rule in it has a problem.
    pub fn open(config: &PipelineConfig) -> Result<Self, RulebookError> {
        let folder = Some(PathBuf::from(&config.rules)).filter(|folder| !folder.as_os_str().is_empty());
        let receivers = config.receivers_per_event.get();
        let limits = Limits { output_bytes: config.output_bytes.get(), receivers, ..Limits::default() };
        let current = Arc::new(ArcSwap::from_pointee(read(folder.clone(), limits)?));
        Ok(Self { folder, limits, current })
    }

    /// The rules for one worker.
    pub(super) fn reader(&self) -> Reader {
        let mut cache = Cache::new(Arc::clone(&self.current));
        let edition = Arc::clone(cache.load());
        Reader { cache, rules: edition.rules.clone(), edition }
    }

    /// Reads the rules again with each request and after each change of their folder.
    pub(super) async fn follow(self, mut requests: watch::Receiver<u64>, tell: Tell) -> Infallible {
        tell.in_force(&self.current.load());
        let mut changes = Changes::of(self.folder.as_deref()).await;
        // They may have changed since they were read, which nobody heard: the process may have waited for its brokers for hours.
        if self.have_changed().await {
            self.reload(&tell).await;
        }
        loop {
            tokio::select! {
                // Nobody can ask any more only while the process ends.
                asked = requests.changed() => if asked.is_err() { std::future::pending().await },
                () = changes.settled() => {}
            }
            self.reload(&tell).await;
        }
    }

    /// Whether reading the rules now gives others than those in force, or none.
    async fn have_changed(&self) -> bool {
        let (folder, limits) = (self.folder.clone(), self.limits);
        let version = tokio::task::spawn_blocking(move || read(folder, limits).map(|edition| edition.version)).await;
        !version.is_ok_and(|version| version.is_ok_and(|version| version == self.current.load().version))
    }

    async fn reload(&self, tell: &Tell) {
        let (folder, limits) = (self.folder.clone(), self.limits);
        let Ok(outcome) = tokio::task::spawn_blocking(move || read(folder, limits)).await else {
            // The task has panicked, and its message is in the log.
            return tracing::error!("reading the rules panicked, which is a bug; those in force stay");
        };
        let before = self.current.load();
        match outcome {
            Ok(edition) if edition.version == before.version => tell.outcome(Reloaded::Unchanged, None),
            Ok(edition) => {
                let (rules, version) = (edition.rules.rules().len(), edition.version.clone());
                self.current.store(Arc::new(edition));
                tracing::info!(rules, version, "rules loaded");
                tell.in_force(&self.current.load());
                tell.outcome(Reloaded::Loaded, None);
            }
            Err(error) => {
                let version = &before.version;
                let reason = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(error = reason, version, "the rules were not reloaded; the version in force stays");
                tell.outcome(Reloaded::Refused, Some(format!("version {version} stays in force: {reason}")));
            }
        }
    }
}

fn read(folder: Option<PathBuf>, limits: Limits) -> Result<Edition, RulebookError> {
    let folder = Folder::or_shipped(folder.as_deref(), "toml", shipped())?;
    let files = folder.files();
    let mut hash = Sha256::new();
    for file in &files {
        for part in [file.name, file.text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rules = RuleSet::parse(&files, limits).map_err(RulebookError::Problems)?;
    Ok(Edition { rules, version: digits.chars().take(VERSION_DIGITS).collect() })
}

/// How a rulebook tells what became of it.
pub(super) struct Tell {
    pub(super) clock: Clock,
    pub(super) meters: Meters,
    pub(super) role: Role,
}

impl Tell {
    fn in_force(&self, edition: &Edition) {
        self.meters.rules_in_force(&edition.version, self.clock.now());
    }

    /// What is wrong stays in health until the next reload.
    fn outcome(&self, outcome: Reloaded, wrong: Option<String>) {
        self.meters.reloaded(outcome);
        self.role.note(NOTE, wrong);
    }
}

/// One worker's view of the rules: its own copy, so that workers do not contend for the template engine's lock.
pub(super) struct Reader {
    cache: Cache<Arc<ArcSwap<Edition>>, Arc<Edition>>,
    edition: Arc<Edition>,
    rules: RuleSet,
}

impl Reader {
    /// The rules in force.
    pub(super) fn rules(&mut self) -> &RuleSet {
        let latest = self.cache.load();
        if !Arc::ptr_eq(latest, &self.edition) {
            self.edition = Arc::clone(latest);
            self.rules = self.edition.rules.clone();
        }
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health::Health;

    #[tokio::test]
    async fn rules_that_changed_before_anybody_watched_their_folder_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |title: &str| {
            let text = format!(
                "[[rule]]\nname = \"r\"\nevent = \"t\"\nuser = \"a\"\ntype = \"t\"\ntitle = \"{title}\"\nmessage = \"m\"\n"
            );
            std::fs::write(folder.path().join("a.toml"), text).unwrap();
        };
        rule("before");
        let mut config = crate::config::load(None, &[]).unwrap().pipeline;
        config.rules = folder.path().display().to_string();
        let rulebook = Rulebook::open(&config).unwrap();
        let before = rulebook.current.load().version.clone();
        // The process still waits for its brokers.
        rule("after");
        let (_requests, asked) = watch::channel(0);
        let clock = Clock::start();
        let tell = Tell { clock, meters: Meters::default(), role: Health::new(clock).role("pipeline") };
        let current = Arc::clone(&rulebook.current);
        let swapped = async {
            while current.load().version == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = swapped => {}
            never = rulebook.follow(asked, tell) => match never {},
        }
    }
}
