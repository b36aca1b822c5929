//! The names of tidings' own topics.
//!
//! Owns: which topics there are and what they are called: those whose positions mean something by names of their epoch, the others by one
//! name for ever. `topics` beside makes and checks them.

use tidings_core::record::meta::EpochRecord;
use tidings_core::time::Delay;

/// Names with the configured prefix.
#[derive(Debug, Clone)]
pub struct TopicNames {
    prefix: String,
    /// What names of the epoch's own topics end with.
    suffix: String,
}

impl TopicNames {
    /// Names that begin with `prefix`, as the first epoch has them.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), suffix: String::new() }
    }

    /// The names of an epoch.
    #[must_use]
    pub fn of_epoch(&self, epoch: &EpochRecord) -> Self {
        Self { suffix: epoch.suffix.clone(), ..self.clone() }
    }

    /// How all of them begin.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Notifications that were asked for.
    #[must_use]
    pub fn requests(&self) -> String {
        self.own("requests")
    }

    /// Rendered notifications, keyed by channel.
    #[must_use]
    pub fn notifications(&self) -> String {
        self.of_this_epoch("notifications")
    }

    /// What devices were offered and have acknowledged; compacted.
    #[must_use]
    pub fn cursors(&self) -> String {
        self.of_this_epoch("cursors")
    }

    /// What users did with notifications, and which of those are withdrawn.
    #[must_use]
    pub fn receipts(&self) -> String {
        self.of_this_epoch("receipts")
    }

    /// Deliveries waiting for `rung`'s delay.
    #[must_use]
    pub fn retry(&self, rung: &Delay) -> String {
        self.of_this_epoch(&format!("retry.{rung}"))
    }

    /// Deliveries that ended without success.
    #[must_use]
    pub fn undelivered(&self) -> String {
        self.own("undelivered")
    }

    /// Records that could not become notifications.
    #[must_use]
    pub fn dlq(&self) -> String {
        self.own("dlq")
    }

    /// What operators did to the log.
    #[must_use]
    pub fn audit(&self) -> String {
        self.own("audit")
    }

    /// Short-lived words to the nodes.
    #[must_use]
    pub fn signals(&self) -> String {
        self.own("signals")
    }

    /// The epoch; compacted.
    #[must_use]
    pub fn meta(&self) -> String {
        self.own("meta")
    }

    fn own(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn of_this_epoch(&self, name: &str) -> String {
        format!("{}{name}{}", self.prefix, self.suffix)
    }
}
