//! The rulebook: the rules in force, and how they change while the pipeline runs.
//!
//! Owns: the version of what is in force, when it is read again, and the swap. Refuses a folder with any problem: then
//! the edition in force stays, and log, metrics and health say so. Neighbours: `worker` looks at the edition with each record,
//! `rulebook::changes` hears when the folder changes.

mod changes;

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use tidings_core::rules::RuleSet;
use tokio::sync::watch;

use self::changes::Changes;
use super::meters::{Meters, Reloaded};
use crate::clock::Clock;
use crate::config::{Edition, RulesError, RulesSource};
use crate::telemetry::health::Role;

/// What health calls the rules.
const NOTE: &str = "rules";

/// Where rules come from, and those in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Rulebook {
    source: RulesSource,
    /// Shared: workers look at it, the pipeline's own task puts new editions in.
    current: Arc<ArcSwap<Edition>>,
}

impl Rulebook {
    /// Reads the rules of the configured folder, or takes the shipped ones.
    ///
    /// # Errors
    /// If the folder cannot be read, or any rule in it has a problem.
    pub fn open(source: RulesSource) -> Result<Self, RulesError> {
        let current = Arc::new(ArcSwap::from_pointee(Edition::read(&source)?));
        Ok(Self { source, current })
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
        let mut changes = Changes::of(self.source.folder()).await;
        // They may have changed since they were read, which nobody heard: the process may have waited for its brokers for hours.
        if let Some(outcome) = self.read().await.filter(|outcome| !self.is_in_force(outcome)) {
            self.take(outcome, &tell);
        }
        loop {
            tokio::select! {
                // Nobody can ask any more only while the process ends.
                asked = requests.changed() => if asked.is_err() { std::future::pending().await },
                () = changes.settled() => {}
            }
            if let Some(outcome) = self.read().await {
                self.take(outcome, &tell);
            }
        }
    }

    /// The rules as they are now; none, if reading them panicked.
    async fn read(&self) -> Option<Result<Edition, RulesError>> {
        let source = self.source.clone();
        let outcome = tokio::task::spawn_blocking(move || Edition::read(&source)).await.ok();
        if outcome.is_none() {
            // Its message is in the log.
            tracing::error!("reading the rules panicked, which is a bug; those in force stay");
        }
        outcome
    }

    fn is_in_force(&self, outcome: &Result<Edition, RulesError>) -> bool {
        outcome.as_ref().is_ok_and(|edition| edition.version == self.current.load().version)
    }

    /// Puts what was read into force, unless something is wrong with it.
    fn take(&self, outcome: Result<Edition, RulesError>, tell: &Tell) {
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
        let config = crate::config::load(None, &[]).unwrap();
        let source = RulesSource::new(&config.pipeline, &config.courier).or_of(Some(folder.path().to_owned()));
        let rulebook = Rulebook::open(source).unwrap();
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
